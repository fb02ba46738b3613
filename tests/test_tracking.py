"""Token trees, by example and for any paths."""

import re

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from classify.tracking import TokenTree

PATHS = st.lists(
    st.lists(st.integers(0, 3), min_size=1, max_size=5), min_size=1, max_size=12
)


def is_prefix_free(paths):
    unique = {tuple(path) for path in paths}
    return not any(a != b and b[: len(a)] == a for a in unique for b in unique)


@given(PATHS)
def test_a_tree_holds_its_paths(paths):
    assume(is_prefix_free(paths))
    tree = TokenTree(paths)
    assert [tree.path(int(leaf)) for leaf in tree.leaves] == [tuple(p) for p in paths]
    assert tree.n_nodes == 1 + len(
        {tuple(path[:n]) for path in paths for n in range(1, len(path) + 1)}
    )
    assert not tree.n_children[tree.leaves].any()
    assert set(tree.leaves) | set(tree.inner_nodes) == set(range(tree.n_nodes))
    assert tree.max_depth == max(map(len, paths))


@given(PATHS)
def test_parents_come_first_and_children_are_a_slice(paths):
    assume(is_prefix_free(paths))
    tree = TokenTree(paths)
    assert (tree.parents[1:] < np.arange(1, tree.n_nodes)).all()
    assert (np.diff(tree.depths) >= 0).all()
    for node in range(tree.n_nodes):
        children = tree.children(node)
        assert list(children) == np.flatnonzero(tree.parents == node).tolist()
        for child in children:
            assert tree.path(child) == (*tree.path(node), tree.tokens[child])
            assert tree.child_by_token(node, int(tree.tokens[child])) == child
        assert tree.child_by_token(node, 99) is None


@given(PATHS)
def test_the_mask_shows_ancestors(paths):
    assume(is_prefix_free(paths))
    tree = TokenTree(paths)
    for node in range(tree.n_nodes):
        line, above = {node}, node
        while above > 0:
            above = int(tree.parents[above])
            line.add(above)
        assert set(np.flatnonzero(tree.ancestor_mask[node])) == line


@given(PATHS)
def test_a_prefix_of_another_path_is_an_error(paths):
    if is_prefix_free(paths):
        TokenTree(paths)
    else:
        with pytest.raises(ValueError, match="is a prefix of path"):
            TokenTree(paths)


def test_the_error_names_both_paths():
    message = "Path (5,) is a prefix of path (5, 6): add an end token to every path."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        TokenTree([(5, 6), (5,)])


@pytest.mark.parametrize("paths", [[], [()], [(1,), ()]])
def test_paths_have_tokens(paths):
    message = r"^A TokenTree needs paths of at least one token each\.$"
    with pytest.raises(ValueError, match=message):
        TokenTree(paths)


def test_equal_paths_share_a_leaf():
    tree = TokenTree([(5, 7), (5, 7), (9,)])
    assert tree.leaves.tolist() == [3, 3, 2]
    assert repr(tree) == "TokenTree(2 paths, 4 nodes, 2 inner)"
