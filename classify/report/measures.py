"""The numbers that a report leads with, each with its interval."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from classify.metrics import bootstrap_interval, log_loss_from_log_proba
from classify.metrics.calibration_error import reliability_bins
from classify.metrics.labelled import text_weights
from classify.metrics.reliability_display import wilson_interval

__all__ = [
    "CONFIDENCE_LEVEL",
    "N_BINS",
    "N_RESAMPLES",
    "BeforeAfter",
    "Measure",
    "Quality",
    "confusion_counts",
    "macro_f1",
    "quality_of",
    "share_of",
    "with_doubts",
    "with_interval",
]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
_Assessment = TypeVar("_Assessment")

CONFIDENCE_LEVEL = 0.95
N_RESAMPLES = 1000
N_BINS = 15


class Measure(NamedTuple):
    """A number with its interval, or the reason why there is none.

    Attributes
    ----------
    value : float or None
        None if it is not defined; may be inf.
    low, high : float or None
        Ends of the 95 % interval; None if there is none.
    reason : str
        Why the value or the interval is missing, as a clause; "" if neither is.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str = ""


class Quality(NamedTuple):
    """How good the probabilities of labelled texts are.

    Attributes
    ----------
    log_loss : Measure
        Mean of -log p(true label), in nats.
    brier : Measure
        Mean over texts of sum_k (p_k - [k is the true label])^2, from 0 to 2.
    accuracy : Measure
        Share of texts whose most likely label, the first if tied, is true.
    macro_f1 : Measure
        See `macro_f1`.
    ece : Measure
        `calibration_error` with its defaults: top label, l1, 15 bins of equal width.
    n_infinite : int
        Texts whose true label has probability 0.
    """

    log_loss: Measure
    brier: Measure
    accuracy: Measure
    macro_f1: Measure
    ece: Measure
    n_infinite: int


class BeforeAfter(Generic[_Assessment]):
    """Figures of raw probabilities, and of calibrated ones if there are any."""

    before: _Assessment
    after: _Assessment | None

    @property
    def final(self) -> _Assessment:
        """The calibrated probabilities if there are any, else the raw ones."""
        return self.before if self.after is None else self.after

    @property
    def assessments(self) -> dict[str, _Assessment]:
        """The assessments there are: "before" and, with a calibration, "after"."""
        found = {"before": self.before}
        return found if self.after is None else found | {"after": self.after}


def with_doubts(
    facts: Mapping[str, str] | None, n_uncertain: int, n_texts: int, doubt: str
) -> dict[str, str]:
    """Return facts, and with them that labels are not certain, if some are not."""
    if not n_uncertain:
        return dict(facts or {})
    told = f"{n_uncertain:,} of {n_texts:,} texts may have {doubt}"
    return {**(facts or {}), "Not certain": told}


def quality_of(codes: IntArray, log_proba: FloatArray) -> Quality:
    """Measure probabilities, with 95 % intervals.

    That of accuracy is Wilson's, the others are percentile bootstrap ones over texts.

    Parameters
    ----------
    codes : ndarray of int64, shape (n_texts,)
        Column of the true label.
    log_proba : ndarray of float64, shape (n_texts, n_labels)
        Natural logarithms of probabilities.

    Returns
    -------
    Quality

    Examples
    --------
    >>> quality = quality_of(np.array([0, 1]), np.log([[0.9, 0.1], [0.6, 0.4]]))
    >>> round(quality.log_loss.value, 3), quality.accuracy.value
    (0.511, 0.5)
    """
    n_texts, n_labels = log_proba.shape
    loss = log_loss_from_log_proba(codes, log_proba)
    if n_labels == 1:
        nothing = Measure(None, reason="there is one label only, of probability 1")
        return Quality(nothing, nothing, nothing, nothing, nothing, n_infinite=0)
    at = np.arange(n_texts)
    proba = np.exp(log_proba)
    predicted = log_proba.argmax(axis=1)
    true = np.zeros_like(proba)
    true[at, codes] = 1.0
    correct = predicted == codes

    def resampled_f1(codes: IntArray, predicted: IntArray) -> float:
        count = partial(np.bincount, minlength=n_labels)
        marginals = count(codes) + count(predicted)
        return macro_f1(count(codes[codes == predicted]), marginals)

    return Quality(
        log_loss=(
            Measure(math.inf, reason=_why_infinite(loss.n_infinite, n_texts))
            if loss.n_infinite
            else with_interval(np.mean, -log_proba[at, codes])
        ),
        brier=with_interval(np.mean, ((proba - true) ** 2).sum(axis=1)),
        # Resamples of texts that are all right show no doubt; Wilson's interval does.
        accuracy=share_of(int(correct.sum()), n_texts, nothing="there is no text"),
        macro_f1=with_interval(resampled_f1, codes, predicted),
        ece=with_interval(_top_label_error, proba.max(axis=1), correct),
        n_infinite=loss.n_infinite,
    )


def confusion_counts(
    codes: IntArray, predicted: IntArray, n_labels: int
) -> npt.NDArray[np.int64]:
    """Count the texts of each true label (rows) and predicted label (columns).

    Parameters
    ----------
    codes, predicted : ndarray of int64, shape (n_texts,)
    n_labels : int

    Returns
    -------
    ndarray of int64, shape (n_labels, n_labels)

    Examples
    --------
    >>> confusion_counts(np.array([0, 1, 1]), np.array([0, 0, 1]), 2).tolist()
    [[1, 0], [1, 1]]
    """
    cells = np.bincount(codes * n_labels + predicted, minlength=n_labels**2)
    return cells.reshape(n_labels, n_labels)


def macro_f1(hits: npt.NDArray[Any], marginals: npt.NDArray[Any]) -> float:
    """Mean over labels of F1, each label counting the same.

    With n the texts of a label, m the texts predicted as it, and r those in both::

        F1 = 2 r / (n + m)

    Labels that no text has and no text is predicted as are left out.

    Parameters
    ----------
    hits, marginals : ndarray of int64, shape (n_labels,)
        r and n + m.

    Returns
    -------
    float

    Examples
    --------
    >>> round(macro_f1(np.array([1, 1, 0]), np.array([3, 3, 0])), 3)
    0.667
    """
    met = marginals > 0
    return float((2 * hits[met] / marginals[met]).mean())


def share_of(n_hits: int, n_texts: int, *, nothing: str) -> Measure:
    """Return a share with its 95 % Wilson interval; not defined for no texts.

    Parameters
    ----------
    n_hits, n_texts : int
    nothing : str
        The reason to give if `n_texts` is 0.

    Returns
    -------
    Measure

    Examples
    --------
    >>> share_of(0, 0, nothing="no text is answered").reason
    'no text is answered'
    """
    if not n_texts:
        return Measure(None, reason=nothing)
    low, high = wilson_interval(np.array([n_hits]), n_texts, CONFIDENCE_LEVEL)
    # Rounding may put an end outside [0, 1].
    return Measure(n_hits / n_texts, max(float(low[0]), 0.0), min(float(high[0]), 1.0))


def with_interval(metric: Callable[..., Any], *arrays: npt.NDArray[Any]) -> Measure:
    """Return a metric of texts with its bootstrap interval, if there are several."""
    if len(arrays[0]) < 2:
        value = float(metric(*arrays))
        return Measure(value, reason="an interval needs 2 or more texts")
    found = bootstrap_interval(
        metric, *arrays, confidence_level=CONFIDENCE_LEVEL, n_resamples=N_RESAMPLES
    )
    return Measure(found.value, found.low, found.high)


def _top_label_error(confidence: FloatArray, correct: npt.NDArray[np.bool_]) -> float:
    weights = text_weights(None, len(confidence))
    bins = reliability_bins(
        confidence, correct, weights, n_bins=N_BINS, strategy="uniform"
    )
    return float(bins.weight @ np.abs(bins.accuracy - bins.confidence))


def _why_infinite(n_infinite: int, n_texts: int) -> str:
    return f"the true label of {n_infinite:,} of {n_texts:,} texts has probability 0"
