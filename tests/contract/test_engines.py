"""What every engine must do; expected values come from uncached forward passes."""

import re

import numpy as np
import pytest
from sklearn.base import clone

from classify.engines import BaseEngine, Engine, generate, read
from classify.engines.protocol import Finding, with_defaults
from classify.engines.sharing import open_line
from classify.engines.speculation import SpeculationFigures
from classify.errors import InputError
from classify.tracking import ReadRequest, TokenTree, TrackedRequest
from tests.tiny_models import VOCAB, random_prompt, random_tree

PROMPT = random_prompt(9)
CLOSE = {"atol": 2e-5, "rtol": 0.0}


def one(engine, request):
    [[generation]] = generate(engine, [request])
    return generation


def assert_tracked(got, expected):
    assert got.keys() == expected.keys()
    for token, values in expected.items():
        np.testing.assert_allclose(got[token], values, **CLOSE)


def assert_edges(got, expected):
    known = ~np.isnan(expected)
    np.testing.assert_allclose(got[known], expected[known], **CLOSE)


# The whole protocol


def test_is_an_engine(engine):
    assert isinstance(engine, Engine)
    assert isinstance(engine, BaseEngine)
    assert with_defaults(engine) is engine
    assert engine.vocab_size == VOCAB
    assert engine.window >= 1
    assert engine.asynchronous in (True, False)
    assert engine.closed is False
    assert clone(engine) is engine


def test_says_what_runs_and_finds_nothing_wrong(engine):
    facts = engine.describe()
    assert facts["context"] == f"{engine.context_length:,} tokens"
    assert all(type(value) is str and value for value in facts.values())
    findings = engine.findings()
    assert {type(finding) for finding in findings} <= {Finding}
    assert [finding for finding in findings if finding.is_fault] == []


def test_figures_of_speculation_are_counts_or_none(engine):
    one(engine, TrackedRequest(PROMPT, max_tokens=2))
    figures = engine.speculation_figures()
    if figures is not None:
        assert isinstance(figures, SpeculationFigures)
        assert 0 <= figures.n_accepted_tokens <= figures.n_draft_tokens


def test_freeing_memory_changes_no_value(engine, reference):
    tree = random_tree(n_paths=15)
    rounds = [(0,), tuple(tree.inner_nodes[1:].tolist())]
    for nodes in rounds:
        [edges] = read(engine, [ReadRequest(PROMPT, tree, nodes)])
        assert_edges(edges, reference.edges(PROMPT, tree, nodes))
        engine.free_memory()


def test_a_line_gives_up_what_it_likes(engine, reference):
    line, tree = open_line(engine), random_tree()
    assert line.asynchronous is engine.asynchronous
    prompts = [random_prompt(5, n) for n in range(4)]
    waiting = {line.submit(ReadRequest(each, tree, (0,))): each for each in prompts}
    for ticket in line.withdraw({max(waiting)}):
        del waiting[ticket]
    while waiting:
        done = line.poll()
        assert done
        for ticket, edges in done:
            prompt = waiting.pop(ticket)
            assert_edges(edges, reference.edges(prompt, tree, (0,)))
    assert line.poll() == []
    line.forget_reads()
    line.submit(ReadRequest(PROMPT, tree, (0,)))
    line.close()
    line.close()
    [edges] = read(engine, [ReadRequest(PROMPT, tree, (0,))])
    assert_edges(edges, reference.edges(PROMPT, tree, (0,)))


# Tracking


def test_tracked_ids_at_every_step_whatever_their_rank(engine, reference):
    request = TrackedRequest(PROMPT, range(VOCAB), max_tokens=6, stop_token_ids=())
    generation = one(engine, request)
    assert len(generation.token_ids) == 6
    assert generation.finish_reason == "length"
    assert_tracked(
        generation.tracked_logprobs,
        reference.tracked(PROMPT, generation.token_ids, range(VOCAB)),
    )
    # The whole vocabulary was tracked, so each step sums to one.
    table = np.array(list(generation.tracked_logprobs.values()))
    np.testing.assert_allclose(np.exp(table).sum(0), 1.0, atol=1e-5)


def test_greedy_takes_the_likeliest(engine, reference):
    generation = one(engine, TrackedRequest(PROMPT, max_tokens=5, stop_token_ids=()))
    for step, token in enumerate(generation.token_ids):
        row = reference.logprobs((*PROMPT, *generation.token_ids[:step]))
        assert row[token] == pytest.approx(row.max(), abs=1e-5)


def test_tracking_off_gives_none(engine):
    assert one(engine, TrackedRequest(PROMPT)).tracked_logprobs is None


def test_tracking_nothing_gives_an_empty_dict(engine):
    assert one(engine, TrackedRequest(PROMPT, [])).tracked_logprobs == {}


def test_order_and_duplicates_do_not_matter(engine):
    first = one(engine, TrackedRequest(PROMPT, [9, 4, 9, 30]))
    second = one(engine, TrackedRequest(PROMPT, (30, 4, 9)))
    assert first.tracked_logprobs.keys() == {4, 9, 30}
    assert_tracked(first.tracked_logprobs, second.tracked_logprobs)


def test_values_are_lists_of_python_floats_by_python_ints(engine):
    tracked = one(
        engine,
        TrackedRequest(PROMPT, np.array([3, 8]), max_tokens=2, stop_token_ids=()),
    ).tracked_logprobs
    assert {type(token) for token in tracked} == {int}
    assert {type(values) for values in tracked.values()} == {list}
    assert {type(value) for values in tracked.values() for value in values} == {float}


# Top-k beside it


def test_top_logprobs_are_the_likeliest_in_order(engine, reference):
    generation = one(
        engine,
        TrackedRequest(PROMPT, max_tokens=3, top_logprobs=4, stop_token_ids=()),
    )
    assert len(generation.top_logprobs) == 3
    for step, top in enumerate(generation.top_logprobs):
        row = reference.logprobs((*PROMPT, *generation.token_ids[:step]))
        np.testing.assert_allclose(list(top.values()), np.sort(row)[::-1][:4], **CLOSE)
        np.testing.assert_allclose(list(top.values()), row[list(top)], **CLOSE)


def test_no_top_logprobs_are_empty_dicts(engine):
    request = TrackedRequest(PROMPT, [3], max_tokens=2, stop_token_ids=())
    assert one(engine, request).top_logprobs == ({}, {})


def test_top_logprobs_leave_tracked_values_alone(engine):
    plain = one(engine, TrackedRequest(PROMPT, [5, 50], max_tokens=3))
    beside = one(engine, TrackedRequest(PROMPT, [5, 50], max_tokens=3, top_logprobs=7))
    assert plain.token_ids == beside.token_ids
    assert_tracked(beside.tracked_logprobs, plain.tracked_logprobs)


# Stopping


def test_a_stop_token_ends_and_is_part_of_it(engine):
    free = one(engine, TrackedRequest(PROMPT, max_tokens=5, stop_token_ids=()))
    stop = free.token_ids[2]
    stopped = one(
        engine, TrackedRequest(PROMPT, [stop], max_tokens=5, stop_token_ids=(stop,))
    )
    n_steps = free.token_ids.index(stop) + 1
    assert stopped.token_ids == free.token_ids[:n_steps]
    assert stopped.finish_reason == "stop"
    assert len(stopped.tracked_logprobs[stop]) == n_steps


def test_the_models_own_stop_token_is_the_default(engine, reference):
    [end] = reference.stop_token_ids
    draws = [
        TrackedRequest(
            random_prompt(4, seed), max_tokens=60, temperature=1.5, seed=seed
        )
        for seed in range(8)
    ]
    stopped = [g for [g] in generate(engine, draws) if g.finish_reason == "stop"]
    assert stopped
    assert all(g.token_ids.index(end) == len(g.token_ids) - 1 for g in stopped)


# Sampling


def test_a_seed_gives_the_same_tokens_and_another_seed_others(engine):
    def draw(seed):
        return one(
            engine,
            TrackedRequest(
                PROMPT, max_tokens=12, temperature=1.0, seed=seed, stop_token_ids=()
            ),
        ).token_ids

    assert draw(3) == draw(3)
    assert len({draw(seed) for seed in range(4)}) > 1


def test_draws_differ_and_the_first_is_that_of_n_1(engine):
    def draw(n):
        request = TrackedRequest(
            PROMPT, max_tokens=12, temperature=1.0, n=n, seed=5, stop_token_ids=()
        )
        [generations] = generate(engine, [request])
        return [generation.token_ids for generation in generations]

    drawn = draw(4)
    assert len(drawn) == 4
    assert len(set(drawn)) > 1
    assert drawn[:1] == draw(1)


def test_draws_of_seeds_side_by_side_have_nothing_in_common(engine):
    draws = [
        TrackedRequest(
            PROMPT, max_tokens=12, temperature=1.0, n=4, seed=seed, stop_token_ids=()
        )
        for seed in (5, 6)
    ]
    first, second = (
        {each.token_ids for each in drawn} for drawn in generate(engine, draws)
    )
    assert not first & second


def test_draws_are_independent_of_their_neighbours(engine):
    request = TrackedRequest(
        PROMPT, [7], max_tokens=10, temperature=0.8, n=3, seed=11, stop_token_ids=()
    )
    others = [
        TrackedRequest(random_prompt(n, n), max_tokens=n, temperature=1.0, seed=11)
        for n in (2, 5, 14)
    ]
    [alone] = generate(engine, [request])
    among = generate(engine, [*others[:2], request, others[2]])[2]
    assert [g.token_ids for g in alone] == [g.token_ids for g in among]


def test_sampled_values_stay_raw(engine, reference):
    generation = one(
        engine,
        TrackedRequest(
            PROMPT, [1, 2], max_tokens=4, temperature=0.3, seed=1, stop_token_ids=()
        ),
    )
    assert_tracked(
        generation.tracked_logprobs,
        reference.tracked(PROMPT, generation.token_ids, [1, 2]),
    )


def test_frequencies_are_the_models_probabilities(engine, reference):
    n = 400
    request = TrackedRequest(PROMPT, max_tokens=1, temperature=2.0, n=n, seed=0)
    [generations] = generate(engine, [request])
    counts = np.bincount([g.token_ids[0] for g in generations], minlength=VOCAB)
    heated = np.exp(reference.logprobs(PROMPT) / 2.0)
    heated /= heated.sum()
    # Within five standard deviations, for every token.
    spread = np.sqrt(n * heated * (1 - heated))
    assert np.all(np.abs(counts - n * heated) <= 5 * spread + 1)


# Allowed paths


def test_allowed_paths_bind_and_end_at_a_leaf(engine, reference):
    tree = random_tree()
    for temperature in (0.0, 2.0):
        generation = one(
            engine,
            TrackedRequest(
                PROMPT,
                range(VOCAB),
                max_tokens=10,
                allowed=tree,
                temperature=temperature,
                seed=0,
            ),
        )
        assert generation.token_ids in tree.paths
        assert generation.finish_reason == "stop"
        assert_tracked(
            generation.tracked_logprobs,
            reference.tracked(PROMPT, generation.token_ids, range(VOCAB)),
        )


def test_allowed_paths_go_over_the_models_own_stop_token(engine, reference):
    [end] = reference.stop_token_ids
    tree = TokenTree([(end, 5, 6), (end, 5, 7)])
    generation = one(engine, TrackedRequest(PROMPT, [6], max_tokens=9, allowed=tree))
    assert generation.token_ids in tree.paths
    assert generation.finish_reason == "stop"
    stopped = one(
        engine,
        TrackedRequest(PROMPT, [6], max_tokens=9, allowed=tree, stop_token_ids=(end,)),
    )
    assert stopped.token_ids == (end,)


def test_allowed_paths_may_be_cut_by_max_tokens(engine):
    tree = TokenTree([(5, 6, 7), (5, 6, 8)])
    generation = one(engine, TrackedRequest(PROMPT, max_tokens=2, allowed=tree))
    assert generation.token_ids == (5, 6)
    assert generation.finish_reason == "length"


def test_the_likeliest_allowed_child_is_taken(engine, reference):
    tree = TokenTree([(token,) for token in (4, 17, 23, 42)])
    generation = one(engine, TrackedRequest(PROMPT, max_tokens=3, allowed=tree))
    row = reference.logprobs(PROMPT)
    assert generation.token_ids == (max((4, 17, 23, 42), key=row.__getitem__),)


# Reads


def test_reads_are_exact_at_every_node(engine, reference):
    tree = random_tree(n_paths=15)
    inner = tuple(tree.inner_nodes.tolist())
    prompts = [random_prompt(n, n) for n in (1, 2, 7, 20, 33)]
    answers = read(engine, [ReadRequest(prompt, tree, inner) for prompt in prompts])
    for prompt, edges in zip(prompts, answers, strict=True):
        assert edges.dtype == np.float64
        assert edges.shape == (tree.n_nodes,)
        assert np.isnan(edges[0])
        assert_edges(edges, reference.edges(prompt, tree, inner))


def test_probabilities_of_paths_sum_to_at_most_one(engine):
    tree = random_tree(n_paths=40)
    inner = tuple(tree.inner_nodes.tolist())
    [edges] = read(engine, [ReadRequest(PROMPT, tree, inner)])
    paths = np.zeros(tree.n_nodes)
    for node in range(1, tree.n_nodes):
        paths[node] = paths[tree.parents[node]] + edges[node]
    assert 0.0 < np.exp(paths[tree.leaves]).sum() <= 1.0 + 1e-6


def test_the_whole_vocabulary_as_a_tree_sums_to_one(engine):
    tree = TokenTree([(token,) for token in range(VOCAB)])
    [edges] = read(engine, [ReadRequest(PROMPT, tree, (0,))])
    assert np.exp(edges[1:]).sum() == pytest.approx(1.0, abs=1e-5)


def test_what_was_not_read_is_nan_or_right(engine, reference):
    tree = random_tree(n_paths=15)
    asked = int(tree.inner_nodes[3])
    [edges] = read(engine, [ReadRequest(PROMPT, tree, (asked,))])
    full = reference.edges(PROMPT, tree, tree.inner_nodes)
    assert not np.isnan(edges[list(tree.children(asked))]).any()
    told = ~np.isnan(edges)
    np.testing.assert_allclose(edges[told], full[told], **CLOSE)


def test_reads_in_rounds_equal_reads_at_once(engine, reference):
    tree = random_tree(n_paths=15)
    inner = tree.inner_nodes.tolist()
    rounds = [(0,), tuple(inner[1:3]), tuple(inner[2:6]), tuple(inner[6:]), (0,)]
    prompts = [random_prompt(n, 50 + n) for n in (4, 9, 9, 21)]
    for i, nodes in enumerate(rounds):
        # Rows leave from round to round, as they do in a best-first walk.
        going = prompts[: len(prompts) - i % 3]
        answers = read(engine, [ReadRequest(p, tree, nodes) for p in going])
        for prompt, edges in zip(going, answers, strict=True):
            assert_edges(edges, reference.edges(prompt, tree, nodes))


def test_reads_may_ask_again_beside_new_nodes(engine, reference):
    tree = random_tree(n_paths=15)
    inner = tree.inner_nodes.tolist()
    prompts = [random_prompt(n, 70 + n) for n in (5, 8, 13)]
    read(engine, [ReadRequest(prompt, tree, tuple(inner[:3])) for prompt in prompts])
    for again, new in zip(prompts, inner[3:], strict=False):
        # One text has all its nodes, in whichever row it stands; the others do not.
        requests = [
            ReadRequest(
                prompt, tree, (*inner[1:3], inner[0] if prompt is again else new)
            )
            for prompt in prompts
        ]
        for request, edges in zip(requests, read(engine, requests), strict=True):
            nodes = request.nodes
            full = reference.edges(request.prompt_token_ids, tree, nodes)
            assert_edges(edges, full)


def test_reads_equal_generations_at_the_same_nodes(engine):
    tree = random_tree()
    generation = one(
        engine, TrackedRequest(PROMPT, range(VOCAB), max_tokens=10, allowed=tree)
    )
    [edges] = read(
        engine, [ReadRequest(PROMPT, tree, tuple(tree.inner_nodes.tolist()))]
    )
    node = 0
    for step, token in enumerate(generation.token_ids):
        for child in tree.children(node):
            tracked = generation.tracked_logprobs[int(tree.tokens[child])][step]
            assert edges[child] == pytest.approx(tracked, abs=2e-5)
        node = tree.child_by_token(node, token)


def test_a_read_equals_a_first_step(engine):
    tree = TokenTree([(token,) for token in (3, 9, 27)])
    [edges] = read(engine, [ReadRequest(PROMPT, tree, (0,))])
    tracked = one(engine, TrackedRequest(PROMPT, [3, 9, 27])).tracked_logprobs
    np.testing.assert_allclose(
        edges[1:], [tracked[int(token)][0] for token in tree.tokens[1:]], **CLOSE
    )


def test_reading_no_node_is_answered(engine):
    [edges] = read(engine, [ReadRequest(PROMPT, random_tree(), ())])
    assert edges.shape == (random_tree().n_nodes,)


def test_trees_differ_from_row_to_row(engine, reference):
    trees = [random_tree(n_paths=n, seed=n) for n in (1, 4, 12)]
    requests = [
        ReadRequest(random_prompt(5 + i, i), tree, tuple(tree.inner_nodes.tolist()))
        for i, tree in enumerate([*trees, trees[0]])
    ]
    for request, edges in zip(requests, read(engine, requests), strict=True):
        assert_edges(
            edges,
            reference.edges(request.prompt_token_ids, request.tree, request.nodes),
        )


def test_two_trees_on_one_prompt(engine, reference):
    first, second = random_tree(seed=1), random_tree(seed=2)
    requests = [
        ReadRequest(PROMPT, first, (0,)),
        ReadRequest(PROMPT, second, (0,)),
        ReadRequest(PROMPT, first, tuple(first.inner_nodes.tolist())),
        ReadRequest(PROMPT, second, tuple(second.inner_nodes[1:].tolist())),
    ]
    for asked in (requests, requests[2:], requests[3:]):
        for request, edges in zip(asked, read(engine, asked), strict=True):
            assert_edges(edges, reference.edges(PROMPT, request.tree, request.nodes))


# Batches


def test_order_and_duplicates_in_a_batch_change_nothing(engine):
    tree = random_tree()
    inner = tuple(tree.inner_nodes.tolist())
    prompts = [random_prompt(n, n) for n in (3, 8, 13, 8, 5, 3)]
    requests = [ReadRequest(prompt, tree, inner) for prompt in prompts]
    alone = [read(engine, [request])[0] for request in requests]
    for order in (range(6), [5, 4, 3, 2, 1, 0], [0, 0, 2, 1, 2, 0]):
        answers = read(engine, [requests[i] for i in order])
        for i, edges in zip(order, answers, strict=True):
            np.testing.assert_allclose(edges, alone[i], atol=1e-5, rtol=0)


def test_answers_do_not_share_memory(engine):
    tree = random_tree()
    first, second = read(engine, [ReadRequest(PROMPT, tree, (0,))] * 2)
    [third] = read(engine, [ReadRequest(PROMPT, tree, (0,))])
    expected = second.copy()
    first[:] = 7.0
    third[:] = 8.0
    [fourth] = read(engine, [ReadRequest(PROMPT, tree, (0,))])
    np.testing.assert_array_equal(second, expected)
    np.testing.assert_allclose(fourth[1:4], expected[1:4], atol=1e-5)


def test_reads_and_generations_of_all_kinds_at_once(engine, reference):
    tree = random_tree()
    inner = tuple(tree.inner_nodes.tolist())
    requests = [
        TrackedRequest(random_prompt(3, 1), [4, 5], max_tokens=7, stop_token_ids=()),
        ReadRequest(random_prompt(6, 2), tree, inner),
        TrackedRequest(random_prompt(12, 3), None, max_tokens=2, stop_token_ids=()),
        TrackedRequest(random_prompt(5, 4), [9], max_tokens=9, allowed=tree),
        ReadRequest(random_prompt(11, 5), tree, (0,)),
        TrackedRequest(
            random_prompt(7, 6), [], max_tokens=3, temperature=1.0, n=2, top_logprobs=1
        ),
    ]
    tickets = [engine.submit(request) for request in requests]
    assert len(set(tickets)) == len(tickets)
    answers = {}
    while len(answers) < len(tickets):
        done = engine.poll()
        assert done
        answers.update(done)
    assert engine.poll() == []
    assert sorted(answers) == sorted(tickets)
    for ticket, request in zip(tickets, requests, strict=True):
        prompt = request.prompt_token_ids
        if isinstance(request, ReadRequest):
            assert_edges(answers[ticket], reference.edges(prompt, tree, request.nodes))
            continue
        assert len(answers[ticket]) == request.n
        for generation in answers[ticket]:
            if request.track_token_ids:
                assert_tracked(
                    generation.tracked_logprobs,
                    reference.tracked(
                        prompt, generation.token_ids, request.track_token_ids
                    ),
                )


def test_nothing_to_do_is_answered_with_nothing(engine):
    assert engine.poll() == []
    assert read(engine, []) == []
    assert generate(engine, []) == []


# Errors, before anything is computed

TREE = TokenTree([(5, 7), (5, 8), (9,)])


def outside(what, token):
    return (
        f"{what} holds {token}, which is outside the vocabulary of 61 tokens: ids must "
        "be in [0, 61)."
    )


ERRORS = {
    "empty prompt": (
        TrackedRequest(()),
        "prompt_token_ids is empty: a prompt needs at least one token.",
    ),
    "prompt out of vocabulary": (
        TrackedRequest((3, 61)),
        outside("prompt_token_ids", 61),
    ),
    "negative id": (
        ReadRequest((-1,), TREE, (0,)),
        outside("prompt_token_ids", -1),
    ),
    "text as a prompt": (
        TrackedRequest("hi"),
        "prompt_token_ids must hold token ids, integers in [0, 61). Got 'h' instead.",
    ),
    "tracked out of vocabulary": (
        TrackedRequest((3,), [5, 99]),
        outside("track_token_ids", 99),
    ),
    "tracked text": (
        TrackedRequest((3,), ["yes"]),
        "track_token_ids must hold token ids, integers in [0, 61). Got 'yes' instead.",
    ),
    "stop out of vocabulary": (
        TrackedRequest((3,), stop_token_ids=(61,)),
        outside("stop_token_ids", 61),
    ),
    "tree out of vocabulary": (
        ReadRequest((3,), TokenTree([(70,)]), (0,)),
        outside("the token tree", 70),
    ),
    "allowed out of vocabulary": (
        TrackedRequest((3,), allowed=TokenTree([(70,)])),
        outside("the allowed paths", 70),
    ),
    "a leaf": (
        ReadRequest((3,), TREE, (2,)),
        "Node 2 of TokenTree(3 paths, 5 nodes, 2 inner) has no children to read.",
    ),
    "no node": (
        ReadRequest((3,), TREE, (5,)),
        "Node 5 of TokenTree(3 paths, 5 nodes, 2 inner) has no children to read.",
    ),
    "no tokens": (
        TrackedRequest((3,), max_tokens=0),
        "max_tokens must be at least 1. Got 0 instead.",
    ),
    "no draws": (TrackedRequest((3,), n=0), "n must be at least 1. Got 0 instead."),
    "negative seed": (
        TrackedRequest((3,), temperature=1.0, seed=-1),
        "seed must be at least 0. Got -1 instead.",
    ),
    "negative top": (
        TrackedRequest((3,), top_logprobs=-1),
        "top_logprobs must be at least 0. Got -1 instead.",
    ),
    "top beyond the vocabulary": (
        TrackedRequest((3,), top_logprobs=62),
        "top_logprobs must be at most the vocabulary size, 61. Got 62 instead.",
    ),
    "negative temperature": (
        TrackedRequest((3,), temperature=-0.5),
        "temperature must be 0 (greedy) or above. Got -0.5 instead.",
    ),
    "NaN as temperature": (
        TrackedRequest((3,), temperature=float("nan")),
        "temperature must be 0 (greedy) or above. Got nan instead.",
    ),
    "greedy draws": (
        TrackedRequest((3,), n=2),
        (
            "n is 2 at temperature 0: every generation would be the same. Set a "
            "temperature above 0, or n=1."
        ),
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_a_wrong_request_is_refused(engine, case):
    request, message = ERRORS[case]
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        engine.submit(request)
    assert engine.poll() == []


def test_a_request_longer_than_the_model_is_refused(engine):
    longest = engine.context_length
    if longest > 1000:
        pytest.skip("this model has no positions to run out of")
    message = (
        f"The request needs {longest + 1} tokens of context ({longest - 1} of them the "
        f"prompt), but the model takes {longest}: shorten the prompt."
    )
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        engine.submit(TrackedRequest((3,) * (longest - 1), max_tokens=3))
    tree = TokenTree([(4, 5, 6)])
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        engine.submit(ReadRequest((3,) * (longest - 1), tree, (0, 2)))


def test_a_request_as_long_as_the_model_is_answered(engine, reference):
    if engine.context_length > 1000:
        pytest.skip("this model has no positions to run out of")
    tree = TokenTree([(4, 5, 6)])
    prompt = random_prompt(engine.context_length - 2)
    [edges] = read(engine, [ReadRequest(prompt, tree, (0, 1, 2))])
    assert_edges(edges, reference.edges(prompt, tree, (0, 1, 2)))
    generation = one(
        engine, TrackedRequest(prompt, [4], max_tokens=3, stop_token_ids=())
    )
    assert_tracked(
        generation.tracked_logprobs,
        reference.tracked(prompt, generation.token_ids, [4]),
    )
