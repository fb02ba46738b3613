"""Labels in a tree: probabilities of nodes, and the deepest one that is sure enough."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from classify.decision.posteriors import Posteriors
from classify.labels.tree import LabelTree
from classify.scoring import LabelBounds
from classify.scoring.bounds import is_exact

if TYPE_CHECKING:
    from classify.tables import ResultKind

__all__ = ["Tree", "deepest_sure", "node_log_proba"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


def node_log_proba(leaves: npt.ArrayLike, tree: LabelTree) -> FloatArray:
    """Return the log-probability of each node: the sum of what is below it.

    Parameters
    ----------
    leaves : array-like of float, shape (n_texts, n_leaves)
        Normalised log-probabilities, in the order of `LabelTree.leaves`.
    tree : LabelTree

    Returns
    -------
    ndarray of float64, shape (n_texts, n_nodes)
        At most 0.

    Examples
    --------
    >>> from classify import LabelSet
    >>> tree = LabelTree.of(LabelSet.parse(["pet/dog", "pet/cat", "car"]))
    >>> nodes = node_log_proba(np.log([[0.5, 0.25, 0.25]]), tree)
    >>> dict(zip(tree.names, np.exp(nodes[0]).round(2).tolist()))
    {'pet': 0.75, 'pet/dog': 0.5, 'pet/cat': 0.25, 'car': 0.25}
    """
    values = np.asarray(leaves, dtype=np.float64)
    nodes = np.full((len(values), len(tree.parents)), -np.inf)
    nodes[:, list(tree.leaves)] = values
    # Children come after their parents.
    for node in reversed(range(len(tree.parents))):
        above = tree.parents[node]
        if above >= 0:
            nodes[:, above] = np.logaddexp(nodes[:, above], nodes[:, node])
    # Rounding may leave a sum above 1.
    return np.asarray(np.minimum(nodes, 0.0))


def deepest_sure(nodes: npt.ArrayLike, tree: LabelTree, level: float) -> IntArray:
    """Return the deepest node of at least some probability; -1 where there is none.

    Of several that are equally deep, which takes a level of at most 0.5, it is the
    most likely.

    Parameters
    ----------
    nodes : array-like of float, shape (n_texts, n_nodes)
        What `node_log_proba` returns.
    tree : LabelTree
    level : float
        A probability above 0.

    Returns
    -------
    ndarray of int64, shape (n_texts,)

    Examples
    --------
    >>> from classify import LabelSet
    >>> tree = LabelTree.of(LabelSet.parse(["pet/dog", "pet/cat", "car"]))
    >>> nodes = node_log_proba(np.log([[0.5, 0.3, 0.2], [0.3, 0.3, 0.4]]), tree)
    >>> [tree.names[at] if at >= 0 else None for at in deepest_sure(nodes, tree, 0.7)]
    ['pet', None]
    """
    values = np.asarray(nodes, dtype=np.float64)
    depths = np.array([len(tree.path(at)) for at in range(len(tree.parents))])
    sure = values >= np.log(level)
    # Depths are whole numbers, and a probability is at most 1.
    rank = np.where(sure, depths + np.exp(values) / 2, 0.0)
    return np.where(sure.any(axis=1), rank.argmax(axis=1), -1)


@dataclass(frozen=True)
class Tree:
    """The kind of question whose labels are the leaves of a tree.

    Attributes
    ----------
    tree : LabelTree
    level : float
        The probability from which on a node is sure enough.
    """

    tree: LabelTree
    level: float = 0.8

    @property
    def columns(self) -> "dict[str, ResultKind]":
        """Result columns besides the label and its probability, with their types."""
        return {"node": "str", "node_probability": "float"}

    @property
    def bounds(self) -> "dict[str, ResultKind]":
        """Further columns where bounds are asked for: none."""
        return {}

    def to_dict(self) -> dict[str, Any]:
        """Return what the columns depend on, in types that JSON has."""
        nodes = [self.tree.names, self.tree.parents]
        return {"tree": nodes, "level": self.level}

    def leaf_columns(self, classes: Sequence[str]) -> list[int]:
        """Return the position of each leaf's name among columns of probabilities."""
        at = {name: column for column, name in enumerate(classes)}
        return [at[self.tree.names[leaf]] for leaf in self.tree.leaves]

    def results(self, posteriors: Posteriors) -> dict[str, npt.NDArray[Any]]:
        """Return these columns; None and NaN where no node is sure enough.

        Where not everything is known, the least that a node can have must be enough.

        Examples
        --------
        >>> from classify import LabelSet
        >>> labels = LabelSet.parse(["pet/dog", "pet/cat", "car"])
        >>> kind = Tree(LabelTree.of(labels), level=0.7)
        >>> classes = np.array(["car", "pet/dog", "pet/cat"])
        >>> found = kind.results(Posteriors(np.log([[0.2, 0.3, 0.5]]), classes, None))
        >>> found["node"].tolist(), found["node_probability"].round(2).tolist()
        (['pet'], [0.8])
        """
        assert posteriors.classes is not None, "of labels"
        columns = self.leaf_columns(posteriors.classes.tolist())
        nodes = node_log_proba(posteriors.log_proba[:, columns], self.tree)
        least = self._least(posteriors.bounds, columns, nodes)
        deepest = deepest_sure(least, self.tree, self.level)
        names = np.array([*self.tree.names, None], dtype=object)
        reached = np.append(nodes, np.full((len(nodes), 1), np.nan), axis=1)
        return {
            "node": names[deepest],
            "node_probability": np.exp(reached[np.arange(len(nodes)), deepest]),
        }

    def _least(
        self, known: LabelBounds | None, columns: Sequence[int], nodes: FloatArray
    ) -> FloatArray:
        """Return the least that the log-probability of each node can be."""
        if known is None:
            return nodes
        below: list[list[int]] = [[] for _ in self.tree.parents]
        for leaf, column in zip(self.tree.leaves, columns, strict=True):
            for node in self.tree.path(leaf):
                below[node].append(column)
        least = np.stack([known.sum_of(each).lower for each in below], axis=1)
        return np.where(is_exact(known)[:, None], nodes, np.minimum(least, nodes))
