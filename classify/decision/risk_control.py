"""A confidence threshold above which the risk stays below a target.

The threshold is found by testing "the risk among accepted texts is above the target"
for larger and larger sets of accepted texts, going on while that is rejected: fixed
sequence testing with several starts, as in Learn then Test (Angelopoulos, Bates,
Candès, Jordan, Lei, arXiv 2110.01052). Each start has an equal share of the error
probability. How many texts a walk begins with depends only on how many are labelled.

Why a walk ends at a risk above the target with a probability of at most its share, for
texts drawn independently from any distribution: let R(t) be the risk among texts with
confidence above t, ties being broken at random. R exceeds the target in intervals, and
equals it at their upper and lower ends (the topmost may have no upper end).

1. The walk begins within such an interval, at the place t below its first k texts.
   Given t, and how many of the k lie above the interval, those are wrong with the
   target's probability and the others with a higher one: their errors are at least
   binomial, and the first test passes with a probability of at most the share.
2. It begins outside; the next interval below has its upper end at e. To end in it or
   further down, the set of all texts above e must pass. Let x be the lower end of the
   interval before, if there is one: whether the walk begins between x and e depends on
   the numbers of texts above x and above e only. Given these numbers, errors above x
   and errors between x and e are binomial at the target, since R equals it at x and at
   e. So is their sum, and the test passes with a probability of at most the share.

Within a tie R only rises or only falls, so that its end is what has to be tested; only
where a walk begins is a tie cut.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import bdtr, betaincinv

__all__ = ["CertifiedThreshold", "certified_threshold", "n_texts_needed"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


class CertifiedThreshold(NamedTuple):
    """A threshold, and what was seen above it.

    Attributes
    ----------
    threshold : float
        Texts with confidence >= threshold are accepted: inf for none, 0 for all.
    n_accepted, n_errors : int
        Labelled texts accepted, and how many of them are wrong.
    risk_upper : float
        Clopper-Pearson upper bound of the risk, at the share of the error probability
        that the test had; 1 if nothing is accepted. At most the target otherwise, which
        is what is guaranteed.
    """

    threshold: float
    n_accepted: int
    n_errors: int
    risk_upper: float


class _Sets(NamedTuple):
    """The sets {confidence >= c}, smallest first; each shape (n_distinct,)."""

    lowest: FloatArray
    n_texts: IntArray
    n_errors: IntArray

    @classmethod
    def of(cls, confidence: FloatArray, wrong: npt.NDArray[np.bool_]) -> "_Sets":
        distinct, tie = np.unique(-confidence, return_inverse=True)
        n_errors = np.bincount(tie[wrong], minlength=len(distinct))
        return cls(-distinct, np.bincount(tie).cumsum(), n_errors.cumsum())


def certified_threshold(
    confidence: FloatArray,
    wrong: npt.NDArray[np.bool_],
    *,
    target_risk: float,
    confidence_level: float,
) -> CertifiedThreshold:
    """Find the lowest threshold that is certified to keep the target.

    Parameters
    ----------
    confidence : ndarray of float64, shape (n_texts,)
        Not negative.
    wrong : ndarray of bool, shape (n_texts,)
    target_risk : float
        In (0, 1).
    confidence_level : float
        In (0, 1): probability that the risk at the threshold is at most the target.

    Returns
    -------
    CertifiedThreshold

    Examples
    --------
    >>> confidence = np.linspace(0.99, 0.5, 200)
    >>> wrong = confidence < 0.6
    >>> found = certified_threshold(
    ...     confidence, wrong, target_risk=0.1, confidence_level=0.95
    ... )
    >>> round(found.threshold, 2), found.n_accepted, found.n_errors
    (0.58, 168, 9)
    """
    starts = _starts(len(confidence), target_risk, 1.0 - confidence_level)
    none = CertifiedThreshold(math.inf, 0, 0, 1.0)
    if not starts:
        return none
    share = (1.0 - confidence_level) / len(starts)
    sets = _Sets.of(confidence, wrong)
    passed = bdtr(sets.n_errors, sets.n_texts, target_risk) <= share
    ends = [
        _end_of_walk(sets, passed, start)
        for start in starts
        if bdtr(_errors_at_start(sets, start), start, target_risk) <= share
    ]
    last = max(ends, default=-1)
    if last < 0:
        return none
    n_texts, n_errors = int(sets.n_texts[last]), int(sets.n_errors[last])
    everything = last == len(passed) - 1
    return CertifiedThreshold(
        0.0 if everything else float(np.nextafter(sets.lowest[last + 1], np.inf)),
        n_texts,
        n_errors,
        float(betaincinv(n_errors + 1, n_texts - n_errors, 1.0 - share)),
    )


def n_texts_needed(
    confidence: FloatArray,
    wrong: npt.NDArray[np.bool_],
    *,
    target_risk: float,
    confidence_level: float,
) -> int | None:
    """Estimate how many labelled texts would certify some threshold.

    If a share c of the texts has risk r below the target, errors as rare as that have a
    probability of at most exp(-n c KL(r, target)) at the target (Chernoff).

    Parameters
    ----------
    confidence, wrong, target_risk, confidence_level
        As for `certified_threshold`.

    Returns
    -------
    int or None
        None if the risk is above the target at every threshold, so that more texts of
        the same kind would not help.
    """
    smallest = _fewest_texts(target_risk, 1.0 - confidence_level)
    if not len(confidence):
        return smallest
    sets = _Sets.of(confidence, wrong)
    risk = sets.n_errors / sets.n_texts
    with np.errstate(divide="ignore", invalid="ignore"):
        divergence = np.where(
            risk > 0.0, risk * np.log(risk / target_risk), 0.0
        ) + np.where(
            risk < 1.0, (1.0 - risk) * np.log((1.0 - risk) / (1.0 - target_risk)), 0.0
        )
    usable = risk < target_risk
    if not usable.any():
        return None
    gain = float((sets.n_texts / len(confidence) * divergence)[usable].max())
    estimate = math.ceil(-math.log(1.0 - confidence_level) / gain)
    # With as many as could be enough, chance or the sharing among walks was against it.
    n_texts = len(confidence)
    return max(smallest, estimate, 2 * n_texts if n_texts >= smallest else 0)


def _starts(n_texts: int, target_risk: float, error: float) -> list[int]:
    """Return sizes of the sets that walks begin with: halves, quarters, … of the texts.

    None is so small that even without errors it could not pass.
    """
    for n_starts in range(max(1, n_texts.bit_length()), 0, -1):
        starts = [n_texts >> at for at in range(1, n_starts + 1)]
        if starts[-1] >= _fewest_texts(target_risk, error / n_starts):
            return starts
    fewest = _fewest_texts(target_risk, error)
    return [fewest] if fewest <= n_texts else []


def _fewest_texts(target_risk: float, error: float) -> int:
    """Return the least n with (1 - target)^n <= error: so many, all of them right."""
    return math.ceil(math.log(error) / math.log1p(-target_risk))


def _end_of_walk(sets: _Sets, passed: npt.NDArray[np.bool_], start: int) -> int:
    """Return the last set of an unbroken run that passed, or -1."""
    first = int(np.searchsorted(sets.n_texts, start))
    failed = np.flatnonzero(~passed[first:])
    run = int(failed[0]) if len(failed) else len(passed) - first
    return first + run - 1 if run else -1


def _errors_at_start(sets: _Sets, start: int) -> int:
    """Return the errors among the first texts, drawn at random from a tie that is cut.

    The seed is fixed and only counts are drawn: the same texts in any order give the
    same number.
    """
    at = int(np.searchsorted(sets.n_texts, start))
    n_before, errors_before = (
        (int(sets.n_texts[at - 1]), int(sets.n_errors[at - 1])) if at else (0, 0)
    )
    n_tied = int(sets.n_texts[at]) - n_before
    wrong_tied = int(sets.n_errors[at]) - errors_before
    drawn = np.random.default_rng(0).hypergeometric(
        wrong_tied, n_tied - wrong_tied, start - n_before
    )
    return errors_before + int(drawn)
