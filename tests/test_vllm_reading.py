"""From reads to chains of nodes, and from their answers back to edges."""

import gc
import re
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classify.engines.vllm.reading import (
    Chain,
    PackedTree,
    Waiting,
    add_edges,
    chains_of,
)
from classify.engines.vllm.wire import Wanted, decode_tree, encode_tree, token_outside
from classify.errors import AnswerError
from classify.tracking import ReadRequest, TokenTree, TrackedRequest

TREE = TokenTree([(1, 2, 3), (1, 2, 4), (1, 5, 6), (7,)])


@st.composite
def trees(draw):
    stems = st.lists(st.integers(0, 3), max_size=4)
    # The last token ends a path, so that none begins another.
    return TokenTree(
        {(*stem, 9) for stem in draw(st.lists(stems, min_size=1, max_size=12))}
    )


@st.composite
def reads(draw):
    tree = draw(trees())
    inner = tree.inner_nodes.tolist()
    return tree, draw(st.lists(st.sampled_from(inner), max_size=2 * len(inner)))


@given(reads())
def test_chains_hold_each_node_once_and_go_down_a_token_at_a_time(read):
    tree, nodes = read
    chains = chains_of(tree, nodes)
    found = [node for chain in chains for node in chain.nodes]
    assert sorted(found) == sorted(set(nodes))
    for chain in chains:
        for above, below in zip(chain.nodes, chain.nodes[1:], strict=False):
            assert tree.parents[below] == above


@given(reads())
def test_no_fewer_chains_would_do(read):
    tree, nodes = read
    wanted = set(nodes)
    # A chain leaves a node for one child at most: all other children begin chains.
    beginnings = sum(int(tree.parents[node]) not in wanted for node in wanted)
    forks = sum(
        max(0, sum(child in wanted for child in tree.children(node)) - 1)
        for node in wanted
    )
    assert len(chains_of(tree, nodes)) == beginnings + forks


def test_no_nodes_are_no_chains():
    assert chains_of(TREE, []) == []


@given(trees(), st.sampled_from([-1, 8]))
def test_a_packed_tree_says_the_same(tree, end):
    tokens, first, count = decode_tree(encode_tree(tree, end=end))
    for node in range(tree.n_nodes):
        below = range(first[node], first[node] + count[node])
        if tree.n_children[node]:
            assert list(below) == list(tree.children(node))
            assert tokens[below[0] : below[-1] + 1].tolist() == [
                tree.tokens[child] for child in tree.children(node)
            ]
        else:
            assert tokens[list(below)].tolist() == [end] * (end >= 0)
    assert len(tokens) == tree.n_nodes + (end >= 0) * len(set(tree.leaves.tolist()))


@given(trees())
def test_the_token_outside_is_on_no_path(tree):
    outside = token_outside(tree)
    assert outside >= 0
    assert all(outside not in path for path in tree.paths)


def test_a_generation_on_paths_ends_at_tokens_that_end_every_path_they_are_on():
    # 3 ends one path and leads on in another; 0 is the first token on no path.
    packed = PackedTree(TokenTree([(1, 3), (3, 4), (2,)]), vocab_size=9)
    assert packed.stop_token_ids == (2, 4, 0)


def test_a_tree_of_the_whole_vocabulary_has_no_token_to_end_with():
    tree = TokenTree([(token,) for token in range(4)])
    packed = PackedTree(tree, vocab_size=4)
    assert packed.stop_token_ids == (0, 1, 2, 3)
    assert packed.allowed((1,), 0).tree == encode_tree(tree)


@pytest.mark.slow
def test_a_chain_forces_the_tokens_between_its_nodes():
    pytest.importorskip("vllm")
    packed = PackedTree(TREE, vocab_size=9)
    [deepest] = [node for node in TREE.inner_nodes if TREE.path(node) == (1, 2)]
    chain = Chain((0, 1, int(deepest)))
    options = packed.read_parameters(chain, follow=False, room=9)
    wanted = Wanted.from_extra_args(options.extra_args)
    assert wanted.forced == (1, 2)
    assert (wanted.node, wanted.children, wanted.masked) == (0, True, False)
    assert (options.max_tokens, options.logprobs) == (3, 1 + 2)
    assert not options.stop_token_ids
    # Followed to a leaf, unless there is no room.
    for room, n_tokens in ((9, 2), (1, 1)):
        options = packed.read_parameters(Chain((1,)), follow=True, room=room)
        assert options.max_tokens == n_tokens
        assert options.stop_token_ids == [*packed.stop_token_ids]
        assert Wanted.from_extra_args(options.extra_args).masked


def test_what_is_packed_does_not_keep_the_tree():
    tree = TokenTree([(1, 2), (1, 3)])
    packed, seen = PackedTree(tree, vocab_size=9), weakref.ref(tree)
    del tree
    gc.collect()
    assert seen() is None
    assert packed.stop_token_ids == (2, 3, 0)


def answer(tree, path, *, node=0, tokens_of=None):
    """What vLLM sends along a path: the token's column, a marker, the children."""
    token_ids, logprobs, starts, ends = [], [], [], []
    for token in path:
        children = [] if node is None else [*tree.children(node)]
        starts.append(len(token_ids))
        found = [int(tree.tokens[child]) for child in children]
        token_ids += [token, 0, *(tokens_of or found)]
        logprobs += [-0.5, 0.0, *(-float(child) for child in children)]
        ends.append(len(token_ids))
        node = None if node is None else tree.child_by_token(node, token)
    flat = SimpleNamespace(
        token_ids=token_ids, logprobs=logprobs, start_indices=starts, end_indices=ends
    )
    return SimpleNamespace(token_ids=path, logprobs=flat)


def test_edges_are_those_of_the_nodes_on_the_way():
    edges = np.full(TREE.n_nodes, np.nan)
    add_edges(edges, TREE, Chain((0,)), answer(TREE, (1, 5)))
    told = [node for node in range(TREE.n_nodes) if not np.isnan(edges[node])]
    assert {TREE.path(node) for node in told} == {(1,), (7,), (1, 2), (1, 5)}
    assert all(edges[node] == -node for node in told)


def test_what_comes_after_a_leaf_or_beside_the_tree_is_left_out():
    for path in ((7, 8, 8), (2, 8)):
        edges = np.full(TREE.n_nodes, np.nan)
        add_edges(edges, TREE, Chain((0,)), answer(TREE, path))
        assert np.flatnonzero(~np.isnan(edges)).tolist() == [*TREE.children(0)]


OTHER_TOKENS = (
    "vLLM answered a read of node 0 of TokenTree(4 paths, 8 nodes, 4 inner) with "
    "tokens other than those of its children, so this text gets no label."
)


def test_other_tokens_than_the_children_are_an_error():
    with pytest.raises(AnswerError, match=f"^{re.escape(OTHER_TOKENS)}$"):
        add_edges(
            np.full(TREE.n_nodes, np.nan),
            TREE,
            Chain((0,)),
            answer(TREE, (1,), tokens_of=[1, 8]),
        )


def test_a_wrong_answer_is_the_error_of_its_text_alone():
    nodes = tuple(TREE.inner_nodes.tolist())
    first, second = chains_of(TREE, nodes)
    for wrong in ([1, 8], None):
        waiting = Waiting(
            ReadRequest((0,), TREE, nodes),
            2,
            {"0": first, "1": second},
            np.full(TREE.n_nodes, np.nan),
        )
        answers = {
            "0": answer(TREE, (1, 2, 3), tokens_of=wrong),
            "1": answer(TREE, (6,), node=second.nodes[0]),
        }
        finished = [
            waiting.take(SimpleNamespace(request_id=name, outputs=[each]))
            for name, each in answers.items()
        ]
        assert finished == [False, True]
        if wrong is None:
            assert not np.isnan(waiting.answer[1:]).any()
        else:
            assert isinstance(waiting.answer, AnswerError)
            assert str(waiting.answer) == OTHER_TOKENS


def test_a_generation_that_leaves_its_paths_is_the_error_of_its_text_alone():
    request = TrackedRequest((0,), max_tokens=3, allowed=TREE)
    waiting = Waiting(request, 1)
    assert waiting.take(SimpleNamespace(outputs=[answer(TREE, (2, 8))]))
    assert isinstance(waiting.answer, AnswerError)
    assert str(waiting.answer) == (
        "vLLM generated [2, 8], which is not on the allowed paths, so this text gets "
        "no label."
    )
