"""Scores of one text put together: averages, chains down a tree, shortlists.

Averaged are probabilities, not their logarithms: p(label) = 1/n * sum over i of
p_i(label) is the probability of the label when one of n chains of thought, or prompts,
is drawn at random. Bounds and unresolved mass are averaged too: every p_i lies between
its bounds, so the average of the p_i lies between the averages of the bounds.

A leaf of a tree is as probable as the first label on its path, times each further label
given the one above it: p(leaf | x) = p(top | x) * prod p(child | x, parent). Below the
top, what is read is normalised among siblings. The label mass is that of the first
level.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from classify.errors import AnswerError
from classify.labels.tree import LabelTree
from classify.scoring.bounds import LabelBounds
from classify.trie import LabelMass, unresolved_of

__all__ = [
    "agreement",
    "average_masses",
    "average_shares",
    "chained_mass",
    "log_mean_exp",
    "shortlisted_mass",
]

FloatArray = npt.NDArray[np.float64]


def log_mean_exp(values: npt.ArrayLike) -> FloatArray:
    """Return the logarithm of the mean of probabilities, over the first axis.

    Parameters
    ----------
    values : array-like of float, shape (n, …)
        Log-probabilities in nats; -inf is a probability of 0.

    Returns
    -------
    ndarray of float64, shape (…)

    Examples
    --------
    >>> np.exp(log_mean_exp(np.log([[0.2, 0.8], [0.4, 0.6]]))).round(3).tolist()
    [0.3, 0.7]
    """
    stacked = np.asarray(values, dtype=np.float64)
    total = np.logaddexp.reduce(stacked, axis=0)
    return np.asarray(total - np.log(len(stacked)), dtype=np.float64)


def average_masses(masses: Sequence[LabelMass]) -> LabelMass:
    """Return the average of label masses, in probability.

    Parameters
    ----------
    masses : sequence of LabelMass
        At least one; of the same labels, in the same order.
    """
    if len(masses) == 1:
        return masses[0]
    return LabelMass(
        log_mean_exp([mass.estimate for mass in masses]),
        log_mean_exp([mass.lower for mass in masses]),
        log_mean_exp([mass.upper for mass in masses]),
        float(np.mean([mass.unresolved for mass in masses])),
    )


def average_shares(masses: Sequence[LabelMass]) -> LabelMass:
    """Return the average of labels' shares of the label mass, of prompts that differ.

    p(label) = m * mean over i of p_i(label) / m_i, with m_i the label mass of prompt i
    and m their mean. A prompt without any mass is left out.

    Parameters
    ----------
    masses : sequence of LabelMass
        At least one; of the same labels, in the same order.

    Examples
    --------
    >>> mass = np.log([[0.06, 0.02], [0.1, 0.3]])
    >>> averaged = average_shares([LabelMass(each, each, each, 0.0) for each in mass])
    >>> np.exp(averaged.estimate).round(3).tolist()
    [0.12, 0.12]
    """
    good = [each for each in masses if np.isfinite(each.estimate).any()] or masses[:1]
    shares = [_shares(each) for each in good]
    estimate, lower, upper = (
        log_mean_exp([share[at] for share in shares])
        + log_mean_exp([np.logaddexp.reduce(each[at]) for each in masses])
        for at in range(3)
    )
    # Where everything was read they differ by rounding alone.
    lower, upper = np.minimum(lower, estimate), np.maximum(upper, estimate)
    upper = np.minimum(upper, 0.0)
    most = float(np.mean([mass.most for mass in masses]))
    return LabelMass(estimate, lower, upper, unresolved_of(lower, upper, most))


def _shares(mass: LabelMass) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return log p(label) / label mass, and its bounds."""
    total = np.logaddexp.reduce(mass.estimate)
    if not np.isfinite(total):
        return mass.estimate, mass.lower, mass.upper
    lower, upper = LabelBounds.of_mass(mass).log_proba()
    return mass.estimate - total, lower[0], upper[0]


def agreement(values: npt.ArrayLike) -> float:
    """Return the share of rows whose most likely label is that of their average.

    Parameters
    ----------
    values : array-like of float, shape (n, n_labels)
        Log-probabilities in nats.

    Examples
    --------
    >>> agreement(np.log([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7]])) == 2 / 3
    True
    """
    best = log_mean_exp(values).argmax()
    return float((np.asarray(values).argmax(axis=1) == best).mean())


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
        values = _given_parent(mass, tree, node) if at else joint
        of_node |= zip(tree.children(node), values.T, strict=True)
    nothing = np.zeros(3)  # the only child of its parent
    leaves = np.array(
        [
            sum((of_node.get(node, nothing) for node in tree.path(leaf)), nothing)
            for leaf in tree.leaves
        ]
    ).T
    estimate, lower, upper = leaves
    unresolved = unresolved_of(lower, upper, masses[0].most)
    return LabelMass(estimate, lower, upper, unresolved)


def shortlisted_mass(
    first: LabelMass, second: LabelMass, columns: Sequence[int]
) -> LabelMass:
    """Return what is known of all labels where some of them, S, were listed.

    With p1 of the first prompt, which lists none and chooses S, p2 of the second, which
    lists S, and r the share that the first prompt gives to the labels left out:

        r    = sum over l not in S of p1(l | x) / sum over all l of p1(l | x)
        m2   = sum over l in S of p2(l | x, S)
        p(l) = (1 - r) p2(l | x, S)                              for l in S
        p(l) = m2 p1(l | x) / sum over all l of p1(l | x)        for other l

    So p(l) / m2 is p1(S) p2(l | S) for a listed label and p1(l) for another, each
    normalised. r is another prompt's opinion of labels that the second was not asked
    about, and no chance that the right label was left out. Bounds hold for any share
    from 0 to r that the labels left out may have together, divided in any way:

        (1 - r) p2(l | x, S) <= p(l) <= p2(l | x, S)             for l in S
        0                    <= p(l) <= r m2                     for other l

    `unresolved` is r m2. Where not all was read, r, m2 and p2 are bounds themselves.

    Parameters
    ----------
    first : LabelMass
        Of all labels.
    second : LabelMass
        Of those that were listed.
    columns : sequence of int
        Where these are among all.

    Examples
    --------
    >>> first, second = np.log([0.6, 0.2, 0.2]), np.log([0.1, 0.8])
    >>> found = shortlisted_mass(
    ...     LabelMass(first, first, first, 0.0),
    ...     LabelMass(second, second, second, 0.0),
    ...     [0, 2],
    ... )
    >>> np.exp(found.estimate).round(3).tolist()
    [0.08, 0.18, 0.64]
    >>> np.exp(found.lower).round(3).tolist(), np.exp(found.upper).round(3).tolist()
    ([0.08, 0.0, 0.64], [0.1, 0.18, 0.8])
    """
    listed = np.array(columns, dtype=np.int64)
    others = np.delete(np.arange(len(first.estimate)), listed)
    share = first.estimate - np.logaddexp.reduce(first.estimate)
    known = LabelBounds.of_mass(first)
    estimate = share + np.logaddexp.reduce(second.estimate)
    estimate[listed] = np.logaddexp.reduce(share[listed]) + second.estimate
    lower = np.full(len(share), -np.inf)
    lower[listed] = known.sum_of(listed).lower[0] + second.lower
    with np.errstate(divide="ignore"):  # the second may give nothing
        left_out = known.sum_of(others).upper[0] + np.log(second.most)
    upper = np.full(len(share), left_out)
    upper[listed] = second.upper
    # Where everything was read they differ by rounding alone.
    lower, upper = np.minimum(lower, estimate), np.maximum(upper, estimate)
    return LabelMass(estimate, lower, upper, unresolved_of(lower, upper, second.most))


def _given_parent(mass: LabelMass, tree: LabelTree, node: int) -> FloatArray:
    """Return the estimate and bounds of log p(child | parent)."""
    if not np.isfinite(mass.estimate).any():
        raise AnswerError(
            f"None of the labels below {tree.names[node]!r} has any probability."
        )
    return np.array(_shares(mass))
