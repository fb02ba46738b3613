"""The token paths of all label words as one tree, and the mass that flows down it.

Notation: x is the prompt, v a node, and c a child of v that the token t_c leads to.

    mass(root) = 1
    mass(c)    = mass(v) * p(t_c | x, path(v))
    p(l | x)   = sum of mass(leaf) over the leaves of label l

Everything is kept as natural logarithms.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from classify.errors import LabelError
from classify.labels import LabelSet
from classify.tracking import EdgeBounds, EdgeLogprobs, TokenTree

__all__ = [
    "LabelMass",
    "LabelTrie",
    "NodeMasses",
    "PathMasses",
    "WordPath",
    "begin_another",
    "unresolved_of",
]

FloatArray = npt.NDArray[np.float64]


class WordPath(NamedTuple):
    """A label word in context: whose it is, its spelling, its tokens."""

    label: int
    word: str
    token_ids: tuple[int, ...]


class LabelMass(NamedTuple):
    """Bounds of the label probabilities of one text, in nats.

    Attributes
    ----------
    estimate : ndarray of float64, shape (n_labels,)
        log p(label | prompt). Mass that stopped at an unread node is divided evenly
        among the leaves below it, and what a list of most likely tokens leaves over
        among the tokens that it leaves out; where there is neither, this is exact.
    lower, upper : ndarray of float64, shape (n_labels,)
        Bounds: lower <= log p(label | prompt) <= upper. Lower counts resolved leaves
        only and is -inf where there are none.
    unresolved : float
        The greatest probability that all labels can have together, less that of the
        resolved leaves. Where no list leaves a token out: p(unread nodes).
    """

    estimate: FloatArray
    lower: FloatArray
    upper: FloatArray
    unresolved: float

    @property
    def most(self) -> float:
        """The greatest probability that all labels can have together."""
        return float(np.exp(self.lower).sum()) + self.unresolved


def unresolved_of(lower: FloatArray, upper: FloatArray, most: float) -> float:
    """Return the unresolved mass if all labels together have at most `most`."""
    if (lower == upper).all():
        return 0.0
    return max(0.0, most - float(np.exp(lower).sum()))


class NodeMasses(NamedTuple):
    """Bounds of the mass of each node of a trie, in nats.

    Attributes
    ----------
    estimate, lower, upper : ndarray of float64, shape (n_nodes,)
        log mass(node) and its bounds, the same array where everything read is exact;
        NaN below an unread node.
    bounds : EdgeBounds or None
        The edges that they come from; None where these are exact.
    """

    estimate: FloatArray
    lower: FloatArray
    upper: FloatArray
    bounds: EdgeBounds | None


class PathMasses(NamedTuple):
    """What is known of the mass of each path of a trie, in nats.

    Attributes
    ----------
    estimate, upper : ndarray of float64, shape (n_paths,)
        In the order of `LabelTrie.leaves`. The mass of an unread node is divided evenly
        among the paths below it, and each of them may have all of it.
    """

    estimate: FloatArray
    upper: FloatArray


class LabelTrie:
    """Token paths of all label words, and which label each leaf belongs to.

    Parameters
    ----------
    paths : sequence of WordPath
        At least one path for each label.
    labels : LabelSet
        The labels that the paths' indices point to.

    Raises
    ------
    LabelError
        Two labels share a path, a label has none, or a path is a proper prefix of
        another (every path needs an end token then).

    Attributes
    ----------
    tree : TokenTree
    leaves, leaf_labels : ndarray of int64, shape (n_paths,)
        The leaf at which each path ends, and its label; sorted by label.
    n_leaves : ndarray of int64, shape (n_nodes,)
        How many paths lead through each node.
    """

    def __init__(self, paths: Sequence[WordPath], labels: LabelSet) -> None:
        owner: dict[tuple[int, ...], WordPath] = {}
        for path in paths:
            other = owner.setdefault(path.token_ids, path)
            if other.label != path.label:
                raise LabelError(
                    f"The word {other.word!r} of label {labels.names[other.label]!r} "
                    f"and the word {path.word!r} of label {labels.names[path.label]!r} "
                    f"have the same tokens {list(path.token_ids)}: the model cannot "
                    "tell them apart. Give one of them another word."
                )
        missing = set(range(len(labels))) - {path.label for path in paths}
        if missing:
            names = ", ".join(repr(labels.names[at]) for at in sorted(missing))
            raise LabelError(f"No token path for {names}: give each label a word.")
        for begun, longer in begin_another(owner):
            raise LabelError(
                f"The tokens {list(begun)} of the word {owner[begun].word!r} begin "
                f"those of the word {owner[longer].word!r}: every path needs an end "
                "token."
            )
        self.labels = labels
        self.n_labels = len(labels)
        self.tree = TokenTree(owner)
        leaf_labels = np.array([path.label for path in owner.values()], dtype=np.int64)
        # Leaves sorted by label, so that sums over the words of a label are slices.
        order = np.argsort(leaf_labels, kind="stable")
        self.leaves = self.tree.leaves[order]
        self.leaf_labels = leaf_labels[order]
        self._starts = np.searchsorted(self.leaf_labels, np.arange(self.n_labels))
        depths = self.tree.depths
        edges = np.searchsorted(depths, np.arange(1, int(depths[-1]) + 2))
        self._levels = [slice(int(start), int(stop)) for start, stop in pairwise(edges)]
        n_leaves = np.zeros(self.tree.n_nodes, dtype=np.int64)
        n_leaves[self.tree.leaves] = 1
        for node in range(self.tree.n_nodes - 1, 0, -1):
            n_leaves[self.tree.parents[node]] += n_leaves[node]
        self.n_leaves = n_leaves
        self._log_n_leaves = np.log(n_leaves)
        # Made when asked for: all those of a long word have the square of its length.
        self._chains: dict[int, tuple[int, ...]] = {}

    def __repr__(self) -> str:
        return f"LabelTrie({self.n_labels} labels, {self.tree!r})"

    def log_masses(self, edges: EdgeLogprobs | EdgeBounds) -> NodeMasses:
        """Return the mass of each node, as far as it was read."""
        if isinstance(edges, EdgeBounds):
            values, lower, upper = map(self._summed, edges[:3])
            return NodeMasses(values, lower, upper, edges)
        values = self._summed(edges)
        return NodeMasses(values, values, values, None)

    def _summed(self, edge_logprobs: EdgeLogprobs) -> FloatArray:
        masses = np.array(edge_logprobs, dtype=np.float64)
        masses[0] = 0.0
        for level in self._levels:
            masses[level] += masses[self.tree.parents[level]]
        return masses

    def with_chain(self, node: int) -> tuple[int, ...]:
        """Return `node` and the inner nodes below it as long as there is one way on."""
        if node not in self._chains:
            n_children, first_child = self.tree.n_children, self.tree.first_child
            chain = [node]
            while n_children[chain[-1]] == 1 and n_children[first_child[chain[-1]]]:
                chain.append(int(first_child[chain[-1]]))
            self._chains[node] = tuple(chain)
        return self._chains[node]

    def labels_of_tokens(self) -> dict[int, tuple[str, ...]]:
        """Return the tokens of all words, sorted, and the labels that use each."""
        owners: dict[int, set[int]] = {}
        pairs = zip(self.leaves.tolist(), self.leaf_labels.tolist(), strict=True)
        for leaf, label in pairs:
            for token in self.tree.path(leaf):
                owners.setdefault(token, set()).add(label)
        names = self.labels.names
        return {
            token: tuple(names[at] for at in sorted(owners[token]))
            for token in sorted(owners)
        }

    def parting_tokens(self) -> set[int]:
        """Return the tokens of the first step at which not all words have the same."""
        children = self.tree.children(self.with_chain(0)[-1])
        return set(self.tree.tokens[children.start : children.stop].tolist())

    def known_leaves(self, masses: NodeMasses) -> npt.NDArray[np.int64]:
        """Return the leaves whose way was read."""
        leaves: npt.NDArray[np.int64] = self.leaves[
            ~np.isnan(masses.lower[self.leaves])
        ]
        return leaves

    def frontier(self, masses: NodeMasses) -> npt.NDArray[np.int64]:
        """Return the unread nodes that the way to was read, heaviest first."""
        inner = self.tree.inner_nodes
        mass = masses.estimate
        is_unread = np.isnan(mass[self.tree.first_child[inner]])
        nodes = inner[is_unread & ~np.isnan(mass[inner])]
        heaviest_first = np.argsort(-mass[nodes], kind="stable")
        frontier: npt.NDArray[np.int64] = nodes[heaviest_first]
        return frontier

    def label_mass(self, masses: NodeMasses) -> LabelMass:
        """Add the leaves up into labels, with bounds for what is not known."""
        leaf_known = ~np.isnan(masses.lower[self.leaves])
        resolved = np.where(leaf_known, masses.lower[self.leaves], -np.inf)
        lower = np.logaddexp.reduceat(resolved, self._starts)
        frontier = self.frontier(masses)
        if masses.bounds is None:
            unresolved = float(np.exp(masses.upper[frontier]).sum())
        else:
            unresolved = max(0.0, self._most(masses.bounds) - np.exp(resolved).sum())
        if not frontier.size and masses.bounds is None:
            return LabelMass(lower, lower, lower, 0.0)
        paths = self.path_masses(masses)
        estimate = np.logaddexp.reduceat(paths.estimate, self._starts)
        upper = np.logaddexp.reduceat(paths.upper, self._starts)
        # Two words below one unread node cannot both have all of its mass.
        touched = upper > lower
        limit = np.logaddexp(lower, np.log(unresolved)) if unresolved > 0 else lower
        upper = np.where(touched, np.minimum(upper, limit), upper)
        return LabelMass(np.minimum(estimate, upper), lower, upper, float(unresolved))

    def path_masses(self, masses: NodeMasses) -> PathMasses:
        """Return what is known of the mass of each path."""
        share = self._from_above(masses.estimate - self._log_n_leaves)
        above = self._from_above(masses.upper)
        return PathMasses(share[self.leaves], above[self.leaves])

    def _from_above(self, values: FloatArray) -> FloatArray:
        """Give each node below an unread one the value of that."""
        found = values.copy()
        for level in self._levels:
            above = found[self.tree.parents[level]]
            found[level] = np.where(np.isnan(found[level]), above, found[level])
        return found

    def _most(self, bounds: EdgeBounds) -> float:
        """Return the most that all labels together can have, as a probability."""
        tree = self.tree
        most = np.ones(tree.n_nodes)  # of a node's mass, what may reach a leaf
        for node in tree.inner_nodes[::-1].tolist():
            if np.isnan(bounds.rest[node]):
                continue  # unread: all of it may
            children = slice(
                int(tree.first_child[node]),
                int(tree.first_child[node] + tree.n_children[node]),
            )
            reached = most[children]
            at_most = np.exp(bounds.upper[children]) * reached
            left_out = bounds.lower[children] != bounds.upper[children]
            total = at_most[~left_out].sum()
            if left_out.any():
                rest = float(np.exp(bounds.rest[node])) * reached[left_out].max()
                total += min(at_most[left_out].sum(), rest)
            most[node] = min(1.0, total)
        return float(most[0])


def begin_another(
    paths: Iterable[tuple[int, ...]],
) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Return the paths that are a proper prefix of another, each with one of those.

    Examples
    --------
    >>> begin_another([(1, 2), (3,), (1,)])
    [((1,), (1, 2))]
    """
    # In sorted order a prefix stands right before one of the paths that it begins.
    ordered = sorted(set(paths))
    return [
        (path, after) for path, after in pairwise(ordered) if after[: len(path)] == path
    ]
