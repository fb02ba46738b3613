import re
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classify import LabelSet
from classify.errors import LabelError
from classify.tracking import TokenTree
from classify.trie import LabelTrie, WordPath
from tests.toy_model import hashed_logprobs, slow_label_logprobs

VOCAB = 6
PROMPT = (1, 2)


@st.composite
def word_paths(draw):
    """Paths of 2 to 5 labels over a tiny vocabulary, prefix-free by an end token."""
    paths = draw(
        st.lists(
            st.lists(st.integers(0, VOCAB - 2), min_size=1, max_size=4).map(tuple),
            min_size=2,
            max_size=12,
            unique=True,
        )
    )
    n_labels = draw(st.integers(2, min(5, len(paths))))
    owners = [
        at if at < n_labels else draw(st.integers(0, n_labels - 1))
        for at in range(len(paths))
    ]
    return [
        WordPath(owner, str(path), (*path, VOCAB - 1))
        for owner, path in zip(owners, paths, strict=True)
    ]


def labels_of(paths):
    return LabelSet.parse(
        [f"label {at}" for at in range(max(p.label for p in paths) + 1)]
    )


def all_edges(tree):
    next_logprobs = hashed_logprobs(VOCAB)
    edges = np.full(tree.n_nodes, np.nan)
    for node in tree.inner_nodes.tolist():
        logprobs = next_logprobs((*PROMPT, *tree.path(node)))
        for child in tree.children(node):
            edges[child] = logprobs[tree.tokens[child]]
    return edges


@given(word_paths())
def test_all_nodes_read_give_the_sum_over_paths(paths):
    trie = LabelTrie(paths, labels_of(paths))
    mass = trie.label_mass(trie.log_masses(all_edges(trie.tree)))
    expected = slow_label_logprobs(hashed_logprobs(VOCAB), PROMPT, paths, trie.n_labels)
    np.testing.assert_allclose(mass.estimate, expected, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(mass.lower, mass.upper)
    assert mass.unresolved == 0.0
    assert np.exp(mass.estimate).sum() <= 1 + 1e-12


@given(word_paths(), st.data())
def test_truth_lies_within_the_bounds_whatever_was_read(paths, data):
    trie = LabelTrie(paths, labels_of(paths))
    tree = trie.tree
    edges = all_edges(tree)
    unread = data.draw(st.sets(st.sampled_from(tree.inner_nodes.tolist())))
    for node in unread:
        edges[list(tree.children(node))] = np.nan
    mass = trie.label_mass(trie.log_masses(edges))
    truth = slow_label_logprobs(hashed_logprobs(VOCAB), PROMPT, paths, trie.n_labels)
    assert (mass.lower <= truth + 1e-12).all()
    assert (truth <= mass.upper + 1e-12).all()
    assert (mass.lower <= mass.estimate + 1e-12).all()
    assert (mass.estimate <= mass.upper + 1e-12).all()
    width = np.exp(mass.upper) - np.exp(mass.lower)
    assert (width <= mass.unresolved + 1e-12).all()


@given(word_paths(), st.randoms())
def test_order_of_paths_does_not_matter(paths, random):
    shuffled = list(paths)
    random.shuffle(shuffled)
    results = []
    for some in (paths, shuffled):
        trie = LabelTrie(some, labels_of(some))
        results.append(trie.label_mass(trie.log_masses(all_edges(trie.tree))).estimate)
    np.testing.assert_allclose(*results, rtol=0, atol=1e-12)


@given(word_paths())
def test_tree_is_breadth_first_and_holds_every_path(paths):
    tree = TokenTree([path.token_ids for path in paths])
    assert [tree.path(leaf) for leaf in tree.leaves] == [p.token_ids for p in paths]
    assert (tree.parents[1:] < np.arange(1, tree.n_nodes)).all()
    assert (np.diff(tree.depths) >= 0).all()
    for node in range(tree.n_nodes):
        assert [tree.parents[child] for child in tree.children(node)] == [node] * len(
            tree.children(node)
        )
        seen = {node}
        while node > 0:
            node = int(tree.parents[node])
            seen.add(node)
        assert set(np.flatnonzero(tree.ancestor_mask[max(seen)])) == seen


def test_frontier_is_heaviest_first():
    paths = [WordPath(0, "a", (1, 2)), WordPath(1, "b", (3, 4)), WordPath(1, "c", (5,))]
    trie = LabelTrie(paths, LabelSet.parse(["x", "y"]))
    edges = np.full(trie.tree.n_nodes, np.nan)
    edges[1:4] = np.log([0.2, 0.5, 0.1])
    masses = trie.log_masses(edges)
    assert trie.frontier(masses).tolist() == [2, 1]
    assert trie.known_leaves(masses).tolist() == [3]
    mass = trie.label_mass(masses)
    np.testing.assert_allclose(np.exp(mass.lower), [0, 0.1])
    np.testing.assert_allclose(np.exp(mass.upper), [0.2, 0.6])
    np.testing.assert_allclose(mass.unresolved, 0.7)


def test_chains_are_read_together():
    paths = [WordPath(0, "a", (1, 2, 3, 4)), WordPath(1, "b", (1, 2, 3, 5))]
    trie = LabelTrie(paths, LabelSet.parse(["x", "y"]))
    assert trie.with_chain(0) == (0, 1, 2, 3)
    assert trie.with_chain(3) == (3,)


def test_a_word_of_many_tokens_takes_no_more_than_its_length():
    n = 4_000
    paths = [WordPath(0, "a", tuple(range(n))), WordPath(1, "b", (1,))]
    tracemalloc.start()
    trie = LabelTrie(paths, LabelSet.parse(["x", "y"]))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 4000 * n  # of n * n / 2 * 8 for all chains
    assert len(trie.with_chain(1)) == n - 1
    assert trie.tree.path(int(trie.leaves[0])) == tuple(range(n))


def test_an_impossible_token_is_minus_infinity():
    paths = [WordPath(0, "a", (1,)), WordPath(1, "b", (2,))]
    trie = LabelTrie(paths, LabelSet.parse(["x", "y"]))
    mass = trie.label_mass(trie.log_masses(np.array([np.nan, -np.inf, np.log(0.5)])))
    assert mass.estimate.tolist() == [-np.inf, np.log(0.5)]


def test_equal_paths_of_two_labels_are_an_error():
    paths = [WordPath(0, "AI", (1, 2)), WordPath(1, "A.I.", (1, 2))]
    message = (
        "The word 'AI' of label 'x' and the word 'A.I.' of label 'y' have the same "
        "tokens [1, 2]: the model cannot tell them apart. Give one of them another "
        "word."
    )
    with pytest.raises(LabelError, match=r"^" + re.escape(message) + "$"):
        LabelTrie(paths, LabelSet.parse(["x", "y"]))


def test_equal_paths_of_one_label_count_once():
    paths = [WordPath(0, "a", (1,)), WordPath(0, "A", (1,)), WordPath(1, "b", (2,))]
    trie = LabelTrie(paths, LabelSet.parse(["x", "y"]))
    mass = trie.label_mass(trie.log_masses(np.log([1.0, 0.25, 0.5])))
    np.testing.assert_allclose(np.exp(mass.estimate), [0.25, 0.5])


def test_a_label_without_a_path():
    with pytest.raises(
        LabelError, match=r"^No token path for 'y': give each label a word"
    ):
        LabelTrie([WordPath(0, "a", (1,))], LabelSet.parse(["x", "y"]))


def test_a_path_must_not_begin_another():
    with pytest.raises(ValueError, match=r"^Path \(1,\) is a prefix of path \(1, 2\)"):
        TokenTree([(1,), (1, 2)])
