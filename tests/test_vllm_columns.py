"""Tracked columns of whole batches against one row after the other in plain Python."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from classify.engines.vllm.columns import TrackingState
from classify.engines.vllm.cpu_faults import expanded
from classify.engines.vllm.wire import Wanted, encode_tree
from classify.tracking import TokenTree

VOCAB = 13
END = VOCAB - 1  # stands in no tree's paths
CPU = torch.device("cpu")
# One seed is drawn: an example makes more choices than Hypothesis keeps count of.
RANDOM = st.randoms(use_true_random=True)


class Slow:
    """What one request wants, and the tokens it has generated, one row at a time."""

    def __init__(self, wanted, paths=(), start=(), *, marker=True):
        self.wanted, self.marker = wanted, marker
        self.paths = paths
        self.walked = start
        self.n_generated = 0

    def children(self, drafts):
        at = (*self.walked, *drafts)
        return sorted(
            {
                path[len(at)]
                for path in self.paths
                if len(path) > len(at) and path[: len(at)] == at
            }
        )

    def allowed(self, drafts):
        position = self.n_generated + len(drafts)
        if position < len(self.wanted.forced):
            return [self.wanted.forced[position]]
        masked = self.children(drafts) if self.wanted.masked else []
        return masked or range(VOCAB)

    def columns(self, row, chosen, drafts):
        """(token, value) of each column in use; the number of tokens as likely."""
        log_sum = math.log(sum(math.exp(value) for value in row))
        top = sorted(range(VOCAB), key=lambda token: -row[token])[: self.wanted.top]
        wanted = self.wanted
        tracked = self.children(drafts) if wanted.children else wanted.token_ids
        columns = [(chosen, row[chosen] - log_sum)]
        if self.marker:
            columns += [(wanted.top, 0.0)]
        columns += [(token, row[token] - log_sum) for token in top]
        columns += [(VOCAB, math.nan)] * (wanted.top - len(top))
        columns += [(token, row[token] - log_sum) for token in tracked]
        return columns, sum(value >= row[chosen] for value in row)

    def advance(self, tokens):
        self.walked = (*self.walked, *tokens)
        self.n_generated += len(tokens)


def random_request(random):
    """A Slow and the Wanted that describes the same, or None: tracks nothing."""
    kind = random.choice(["nothing", "ids", "ids", "unmarked", "tree", "tree", "tree"])
    if kind == "nothing":
        return None
    ids = tuple(random.sample(range(VOCAB), random.randint(0, 5)))
    if kind == "unmarked":
        return Slow(Wanted(ids or (3,)), marker=False)
    top = random.choice([0, 1, 2, 3, VOCAB, VOCAB + 2])
    forced = tuple(random.choices(range(VOCAB), k=random.choice([0, 0, 1, 3])))
    if kind == "ids":
        return Slow(Wanted(ids, top=top, forced=forced))
    return tree_request(random, ids, top, forced)


def tree_request(random, ids, top, forced):
    tree = TokenTree(
        {
            (*random.choices(range(5), k=random.randint(0, 3)), random.randint(6, 8))
            for _ in range(random.randint(1, 8))
        }
    )
    closed = random.random() < 0.5
    paths = [(*path, END) if closed else path for path in tree.paths]
    node = random.choice([0, random.choice(tree.inner_nodes.tolist())])
    if forced:
        # Mostly down the tree, as reads force their way.
        ahead = [path[tree.depths[node] :] for path in paths]
        below = [
            some
            for some, path in zip(ahead, paths, strict=True)
            if path[: tree.depths[node]] == tree.path(node)
        ]
        forced = random.choice([forced, random.choice(below)[: len(forced)]])
    wanted = Wanted(
        ids,
        top=top,
        tree=encode_tree(tree, end=END) if closed else encode_tree(tree),
        node=node,
        children=random.random() < 0.5,
        masked=random.random() < 0.5,
        forced=forced,
    )
    return Slow(wanted, paths, tree.path(node))


def random_drafts(random, request, most):
    """Drafts that mostly follow what is allowed, as good ones do."""
    drafts = ()
    for _ in range(random.randint(0, most)):
        likely = request.allowed(drafts) if request is not None else range(VOCAB)
        drafts = (*drafts, random.choice([*likely, random.randrange(VOCAB)]))
    return drafts


def check_step(random, state, requests, *, most_drafts, dtype=torch.float32):
    """Run one step of some of the requests, and compare every row."""
    batch = random.sample(sorted(requests), random.randint(1, len(requests)))
    drafts = [random_drafts(random, requests[slot], most_drafts) for slot in batch]
    n_rows = np.array([len(some) + 1 for some in drafts])
    logits = 3 * torch.randn(
        int(n_rows.sum()),
        VOCAB,
        generator=torch.Generator().manual_seed(random.randrange(1 << 30)),
    )
    logits = logits.to(dtype)
    fed = torch.tensor([token for some in drafts for token in (99, *some)])
    # An unknown slot tracks nothing.
    slots = np.array([slot if slot < 90 else -1 for slot in batch])
    step = state.step(slots, n_rows, (lambda: fed) if most_drafts else None)
    before = logits.clone()
    masked = step.mask(logits)
    rows = [
        (requests[slot], some[:ahead])
        for slot, some in zip(batch, drafts, strict=True)
        for ahead in range(len(some) + 1)
    ]
    chosen = [
        random.choice([token for token in range(VOCAB) if row[token] > -math.inf])
        for row in masked.tolist()
    ]
    columns = step.columns(logits, torch.tensor(chosen))
    assert torch.equal(logits, before)
    check_mask(rows, before, masked)
    check_columns(rows, before, chosen, columns, step)
    accept(random, requests, batch, drafts, chosen, step, n_rows)


def check_mask(rows, logits, masked):
    for at, (request, drafts) in enumerate(rows):
        allowed = request.allowed(drafts) if request is not None else range(VOCAB)
        for token in range(VOCAB):
            expected = logits[at, token] if token in allowed else -math.inf
            assert masked[at, token] == expected


def check_columns(rows, logits, chosen, columns, step):
    tracking = [at for at, (request, _) in enumerate(rows) if request is not None]
    assert step.rows.tolist() == tracking
    assert step.all_rows == (len(tracking) == len(rows))
    for row, at in enumerate(tracking):
        request, drafts = rows[at]
        expected, rank = request.columns(logits[at].tolist(), chosen[at], drafts)
        n_used = len(expected)
        assert columns.ranks[row] == rank
        assert columns.token_ids[row, :n_used].tolist() == [t for t, _ in expected]
        np.testing.assert_allclose(
            columns.values[row, :n_used], [v for _, v in expected], rtol=0, atol=1e-5
        )
        assert not columns.token_ids[row, n_used:].any()
        assert columns.values[row, n_used:].isneginf().all()


def accept(random, requests, batch, drafts, chosen, step, n_rows):
    """Accept some of the drafts and a token of the sampler's, or nothing."""
    n_steps = int(n_rows.max())
    tokens = torch.zeros((len(batch), n_steps), dtype=torch.int64)
    accepted = torch.zeros((len(batch), n_steps), dtype=torch.bool)
    starts = np.cumsum(n_rows) - n_rows
    for row, (slot, some) in enumerate(zip(batch, drafts, strict=True)):
        n_right = random.randint(0, len(some))
        taken = [*some[:n_right], chosen[starts[row] + n_right]]
        if random.random() < 0.1:
            taken = []  # its prompt was not read to the end yet
        tokens[row, : len(taken)] = torch.tensor(taken, dtype=torch.int64)
        accepted[row, : len(taken)] = True
        if requests[slot] is not None:
            requests[slot].advance(taken)
    step.advance(tokens, accepted)


def begin(random, state, requests, slot):
    request = random_request(random)
    requests[slot] = request
    if slot < 90:
        wanted = None if request is None else request.wanted
        state.add(slot, wanted, marker=request is None or request.marker)
    else:
        requests[slot] = None


@settings(max_examples=100)
@given(RANDOM, st.integers(0, 4))
def test_every_row_of_every_step_is_as_in_plain_python(random, most_drafts):
    state, requests = TrackingState(CPU), {}
    for slot in random.sample([*range(12), 90, 91], random.randint(1, 6)):
        begin(random, state, requests, slot)
    for _ in range(random.randint(1, 6)):
        check_step(random, state, requests, most_drafts=most_drafts)
        if random.random() < 0.4:  # a request ends, another takes its place
            begin(random, state, requests, random.choice(sorted(requests)))


@settings(max_examples=30)
@given(RANDOM)
def test_half_precision_logits_give_values_in_full_precision(random):
    state = TrackingState(CPU)
    requests = {0: Slow(Wanted(tuple(range(VOCAB)))), 1: None}
    state.add(0, requests[0].wanted)
    for _ in range(3):
        check_step(random, state, requests, most_drafts=2, dtype=torch.bfloat16)


def wide_tree(n_leaves, seed):
    """A packed tree of one level, wider than any test could spell out."""
    tokens = np.concatenate([[-1], seed + np.arange(n_leaves)])
    first = np.zeros_like(tokens)
    count = np.zeros_like(tokens)
    first[0], count[0] = 1, n_leaves
    return np.stack([tokens, first, count]).astype("<i8").tobytes()


@settings(max_examples=10)
@given(RANDOM)
def test_trees_that_nobody_uses_make_room_while_others_are_walked(random):
    state, requests = TrackingState(CPU), {}
    for seed in range(4):
        for slot in [0, 1, 20, 2, 3]:
            if slot == 20:
                # Labels of a text of its own, a third of what the table may hold.
                state.add(20, Wanted(tree=wide_tree(200_000, seed), children=True))
                continue
            requests.setdefault(slot, None)
            if random.random() < 0.6:
                requests[slot] = tree_request(random, (1,), 1, ())
                state.add(slot, requests[slot].wanted)
        check_step(random, state, requests, most_drafts=2)
        state.remove(20)


def test_a_tree_in_use_outlasts_the_room_for_it():
    state = TrackingState(CPU)
    for slot in range(4):
        state.add(slot, Wanted(tree=wide_tree(200_000, slot), children=True))
    tree = encode_tree(TokenTree([(3, 4), (3, 5)]))
    state.add(4, Wanted(tree=tree, node=1, children=True))
    step = state.step(np.array([4]), np.array([1]))
    columns = step.columns(torch.zeros(1, VOCAB), torch.tensor([0]))
    assert columns.token_ids.tolist() == [[0, 0, 4, 5]]


def test_a_token_outside_the_vocabulary_has_no_value():
    state = TrackingState(CPU)
    state.add(0, Wanted((VOCAB, 3, 10**6)))
    columns = state.step(np.array([0]), np.array([1])).columns(
        torch.zeros(1, VOCAB), torch.tensor([1])
    )
    assert columns.token_ids.tolist() == [[1, 0, VOCAB, 3, 10**6]]
    assert columns.values[0].isnan().tolist() == [False, False, True, False, True]


def test_only_slots_that_track_are_said_to():
    state = TrackingState(CPU)
    assert state.tracks(np.array([-1, 0, 5])).tolist() == [False] * 3
    state.add(2, Wanted((1,)))
    state.add(3, None)
    slots = np.array([2, -1, 3, 700, 1])
    assert state.tracks(slots).tolist() == [True, False, False, False, False]
    state.remove(2)
    assert not state.tracks(slots).any()


def test_a_slot_used_again_begins_empty():
    state = TrackingState(CPU)
    logits = torch.zeros(1, VOCAB)
    for _ in range(2):
        state.add(0, Wanted((5,), forced=(7, 8)))
        for forced in (7, 8):
            step = state.step(np.array([0]), np.array([1]))
            allowed = step.mask(logits)[0].isfinite().nonzero().flatten().tolist()
            assert allowed == [forced]
            step.advance(torch.tensor([[forced]]), torch.tensor([[True]]))


@pytest.mark.parametrize(
    "wanted",
    [
        Wanted(),
        Wanted((1, 2, 300), top=4, forced=(7,)),
        Wanted(tree=b"tree", node=2, children=True, masked=True),
    ],
)
def test_what_is_wanted_travels_unchanged(wanted):
    assert Wanted.from_extra_args(wanted.to_extra_args()) == wanted
    assert Wanted.from_extra_args({"others": 1} | wanted.to_extra_args()) == wanted


def test_requests_of_others_want_nothing():
    assert Wanted.from_extra_args(None) is None
    assert Wanted.from_extra_args({"others": 1}) is None


@given(st.lists(st.integers(0, 4), min_size=1, max_size=6), st.integers(-1, 2))
def test_values_of_requests_are_repeated_for_their_tokens(n_tokens, replaced):
    values = [0.5 * at for at in range(len(n_tokens))]
    found = expanded(
        torch.tensor(values),
        torch.tensor(n_tokens).cumsum(0),
        sum(n_tokens),
        replace_from=replaced,
        replace_to=7,
    )
    expected = [
        7.0 if value == replaced else value
        for value, n in zip(values, n_tokens, strict=True)
        for _ in range(n)
    ]
    assert found.dtype == torch.float32
    assert found.tolist() == expected
