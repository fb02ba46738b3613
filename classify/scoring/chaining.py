"""The leaves of a tree from what is known on each level: the chain rule.

A leaf is as probable as the first label on its path, times each further label given the
one above it: p(leaf | x) = p(top | x) * prod p(child | x, parent). Below the top, what
is read is normalised among siblings. The label mass is that of the first level.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from classify.errors import AnswerError
from classify.labels.tree import LabelTree
from classify.trie import LabelMass

__all__ = ["chained_mass"]

FloatArray = npt.NDArray[np.float64]


def chained_mass(masses: Sequence[LabelMass], tree: LabelTree) -> LabelMass:
    """Return what is known of the leaves.

    Parameters
    ----------
    masses : sequence of LabelMass
        Of the labels below each node, in the order of `LabelTree.questions`.
    tree : LabelTree

    Returns
    -------
    LabelMass
        In the order of `LabelTree.leaves`.

    Raises
    ------
    AnswerError
        No label below a node has any probability.
    """
    of_node: dict[int, FloatArray] = {}
    for at, (node, mass) in enumerate(zip(tree.questions, masses, strict=True)):
        joint = np.array([mass.estimate, mass.lower, mass.upper])
        values = _given_parent(joint, tree, node) if at else joint
        of_node |= zip(tree.children(node), values.T, strict=True)
    nothing = np.zeros(3)  # the only child of its parent
    leaves = np.array(
        [
            sum((of_node.get(node, nothing) for node in tree.path(leaf)), nothing)
            for leaf in tree.leaves
        ]
    ).T
    return LabelMass(leaves[0], leaves[1], leaves[2], masses[0].unresolved)


def _given_parent(joint: FloatArray, tree: LabelTree, node: int) -> FloatArray:
    """Return the estimate and bounds of log p(child | parent)."""
    estimate, lower, upper = joint
    total = np.logaddexp.reduce(estimate)
    if np.isneginf(total):
        raise AnswerError(
            f"None of the labels below {tree.names[node]!r} has any probability."
        )
    found = [estimate - total]
    for own, others in ((lower, upper), (upper, lower)):
        # A child has the least share where it is at its bound and its siblings at
        # theirs.
        rest = np.array(
            [np.logaddexp.reduce(np.delete(others, at)) for at in range(len(own))]
        )
        known = ~np.isneginf(own)
        bound = np.full(len(own), -np.inf)
        bound[known] = own[known] - np.logaddexp(own[known], rest[known])
        found.append(bound)
    return np.array(found)
