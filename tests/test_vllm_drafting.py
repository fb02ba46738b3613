"""What the drafter of labels drafts; it imports vLLM, so these tests are slow."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classify.engines.vllm.wire import Wanted, encode_tree
from classify.tracking import TokenTree

pytestmark = pytest.mark.slow

# (1, 2, 3), (1, 2, 4, 5, 6), (7, 8, 9): after 7 all is sure, after (1, 2) it is not.
TREE = TokenTree([(1, 2, 3), (1, 2, 4, 5, 6), (7, 8, 9)])


@pytest.fixture(scope="module")
def drafting():
    pytest.importorskip("vllm")
    from classify.engines.vllm import drafting

    return drafting


def walk(paths, tokens):
    node = 0
    for token in tokens:
        node = paths.child(node, token)
    return node


# Tails


def test_what_is_sure_is_drafted_and_what_is_not_is_not(drafting):
    paths = drafting.LabelPaths(encode_tree(TREE))
    assert paths.tail(0, 5) == []
    assert paths.tail(walk(paths, [1]), 5) == [2]
    assert paths.tail(walk(paths, [7]), 5) == [8, 9]
    assert paths.tail(walk(paths, [7]), 1) == [8]
    assert paths.tail(walk(paths, [1, 2, 4]), 5) == [5, 6]
    assert paths.tail(walk(paths, [7, 8, 9]), 5) == []


def test_of_several_the_one_taken_most_is_drafted(drafting):
    paths = drafting.LabelPaths(encode_tree(TREE))
    for tokens, times in (([1], 3), ([1, 2], 3), ([1, 2, 3], 1), ([1, 2, 4], 2)):
        for _ in range(times):
            paths.take(walk(paths, tokens))
    assert paths.tail(0, 9) == [1, 2, 4, 5, 6]
    paths.take(walk(paths, [1, 2, 3]))
    paths.take(walk(paths, [1, 2, 3]))
    assert paths.tail(0, 9) == [1, 2, 3]


@given(
    st.lists(st.lists(st.integers(0, 3), max_size=4), min_size=1, max_size=9),
    st.lists(st.integers(0, 8), max_size=6),
    st.integers(1, 6),
)
def test_a_tail_always_stays_on_a_path(drafting, stems, taken, most):
    tree = TokenTree({(*stem, 9) for stem in stems})
    paths = drafting.LabelPaths(encode_tree(tree))
    for node in taken:
        paths.take(node % tree.n_nodes)
    for node in range(tree.n_nodes):
        drafted = (*tree.path(node), *paths.tail(node, most))
        assert any(path[: len(drafted)] == drafted for path in tree.paths)
        assert len(drafted) <= tree.depths[node] + most


def test_the_beginning_of_a_label_in_free_text(drafting):
    paths = drafting.LabelPaths(encode_tree(TREE))
    assert paths.tail_after([5, 5, 7], 5) == [8, 9]
    assert paths.tail_after([5, 1, 2, 4], 5) == [5, 6]
    assert paths.tail_after([5, 1, 2], 5) == []
    assert paths.tail_after([], 5) == []
    assert paths.tail_after([3, 3, 3], 5) == []


# The drafter as vLLM calls it


class Batch:
    """A runner with requests: for each its prompt, what came after it, its wishes."""

    def __init__(self, drafting, rows, *, most=4):
        self.requests = {
            str(at): SimpleNamespace(
                sampling_params=SimpleNamespace(
                    extra_args=None if wanted is None else wanted.to_extra_args()
                )
            )
            for at, (_, _, wanted) in enumerate(rows)
        }
        self.input_batch = SimpleNamespace(
            req_ids=list(self.requests),
            num_prompt_tokens=np.array([len(prompt) for prompt, _, _ in rows]),
        )
        self.tokens = np.zeros((len(rows), 64), dtype=np.int32)
        for row, (prompt, generated, _) in zip(self.tokens, rows, strict=True):
            row[: len(prompt) + len(generated)] = [*prompt, *generated]
        self.n_tokens = np.array([len(p) + len(g) for p, g, _ in rows], dtype=np.int32)
        self.sampled = [list(generated[-1:]) for _, generated, _ in rows]
        self.drafter = drafting.LabelDrafter(
            SimpleNamespace(
                speculative_config=SimpleNamespace(num_speculative_tokens=most),
                model_config=SimpleNamespace(max_model_len=64),
                scheduler_config=SimpleNamespace(max_num_seqs=8),
                parallel_config=SimpleNamespace(tensor_parallel_size=1),
            )
        )

    def propose(self):
        return self.drafter.propose(self.sampled, self.n_tokens, self.tokens)


def test_each_request_gets_what_it_is_likely_to_say(drafting):
    tree = encode_tree(TREE)
    batch = Batch(
        drafting,
        [
            ([20], [7], Wanted(tree=tree, masked=True)),
            ([20], [1], Wanted(tree=tree, forced=(1, 2, 4))),
            ([20], [30], Wanted((1,), forced=(30, 31))),
            ([40, 41, 42, 43, 44, 40], [41], None),
            ([20, 21], [22, 7], None),
            ([20, 21], [22, 23], Wanted((5,))),
            ([50, 51], [], Wanted(tree=tree)),
        ],
    )
    # Before it knows the runner, it drafts nothing.
    assert batch.propose() == [[]] * 7
    batch.drafter.follow(batch)
    assert batch.propose() == [
        [8, 9],  # the path's sure tail
        [2, 4, 5, 6],  # forced, and then sure
        [31],  # forced
        [42, 43, 44, 40],  # a repeat of the prompt
        [8, 9],  # a label of another request, begun in free text
        [],
        [],  # its prompt is not read yet
    ]


def test_tokens_are_followed_from_call_to_call(drafting):
    batch = Batch(drafting, [([20], [1], Wanted(tree=encode_tree(TREE)))])
    batch.drafter.follow(batch)
    assert batch.propose() == [[2]]
    for token, drafted in ((2, []), (4, [5, 6]), (9, [])):
        batch.tokens[0, batch.n_tokens[0]] = token
        batch.n_tokens[0] += 1
        batch.sampled = [[token]]
        assert batch.propose() == [drafted]
