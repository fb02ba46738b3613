"""How far probabilities are from frequencies: in bins of confidence, or smoothed."""

from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.fft import dct, idct
from scipy.optimize import brentq

from classify.errors import ConfigError
from classify.metrics.labelled import FloatArray, labelled_proba, text_weights

__all__ = [
    "ReliabilityBins",
    "calibration_error",
    "reliability_bins",
    "smooth_calibration_error",
]

Strategy: TypeAlias = Literal["uniform", "quantile"]
_NORMS = ("l1", "l2", "max")
_STRATEGIES = ("uniform", "quantile")
_KINDS = ("top_label", "classwise")
# Cells of [0, 1] that residuals are summed in: results are good to about 1e-4.
_N_CELLS = 2**14


class ReliabilityBins(NamedTuple):
    """Confidence and accuracy in the bins that hold a text.

    Attributes
    ----------
    lower, upper : ndarray of float64, shape (n_bins,)
        A bin holds the confidences in (lower, upper]; the lowest one also 0.
    confidence : ndarray of float64, shape (n_bins,)
        Mean confidence in the bin.
    accuracy : ndarray of float64, shape (n_bins,)
        Share of the texts in the bin that are right.
    weight : ndarray of float64, shape (n_bins,)
        Share of all texts that is in the bin; they sum to 1.
    n_texts : ndarray of int64, shape (n_bins,)
        Texts in the bin.
    """

    lower: FloatArray
    upper: FloatArray
    confidence: FloatArray
    accuracy: FloatArray
    weight: FloatArray
    n_texts: npt.NDArray[np.int64]


def calibration_error(
    y_true: Any,
    y_proba: Any,
    *,
    norm: Literal["l1", "l2", "max"] = "l1",
    n_bins: int = 15,
    strategy: Strategy = "uniform",
    kind: Literal["top_label", "classwise"] = "top_label",
    classes: Any = None,
    sample_weight: Any = None,
) -> float:
    """Binned calibration error.

    With w_b the share of texts in bin b::

        gap_b = |accuracy_b - mean confidence_b|

        l1:  sum_b w_b * gap_b          "ECE"
        l2:  sqrt(sum_b w_b * gap_b^2)
        max: max over bins with a text of gap_b

    The value depends on bins and norm, and is biased upwards for few texts: with a
    hundred texts a perfectly calibrated model shows several points. Report it with
    `n_bins`, `strategy`, the number of texts and a `bootstrap_interval`, after log loss
    or Brier score.

    Parameters
    ----------
    y_true : array-like, shape (n_texts,)
        Class names; without `classes`, numbers of columns of `y_proba`.
    y_proba : array-like of float, shape (n_texts, n_labels)
        Probabilities; rows sum to 1.
    norm : {"l1", "l2", "max"}, default="l1"
        How gaps are combined. "l2" is the root, not the square.
    n_bins : int, default=15
        Maximum number of bins.
    strategy : {"uniform", "quantile"}, default="uniform"
        "uniform": bins (i / n_bins, (i + 1) / n_bins], the first with 0 in it, as in
        [1]_. "quantile": the upper edge of the i-th bin is the smallest confidence
        that at least a share i / n_bins of the texts does not exceed; equal
        confidences are never put into different bins, so that there may be fewer bins.
    kind : {"top_label", "classwise"}, default="top_label"
        "top_label": confidence is the greatest probability, and a text is right if that
        label, the first if tied, is the true one. "classwise" [2]_: for each class,
        confidence is its probability and "right" means that it is the true label; the
        mean of the classes' errors, each class counting the same.
    classes : array-like, shape (n_labels,), default=None
        The class of each column; needed if `y_true` holds names.
    sample_weight : array-like of float, shape (n_texts,), default=None

    Returns
    -------
    float
        In [0, 1].

    References
    ----------
    .. [1] Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks,
       ICML 2017, section 2.
    .. [2] Kull et al.: Beyond temperature scaling, NeurIPS 2019.

    Examples
    --------
    >>> y_proba = [[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.4, 0.6]]
    >>> round(calibration_error([0, 0, 1, 0], y_proba), 3)
    0.1
    """
    _check_options(norm=norm, n_bins=n_bins, strategy=strategy, kind=kind)
    texts = labelled_proba(y_true, y_proba, classes)
    weights = text_weights(sample_weight, len(texts.codes))
    if kind == "top_label":
        pairs = [(texts.confidence, texts.correct)]
    else:
        pairs = [(p, texts.codes == at) for at, p in enumerate(texts.proba.T)]
    errors = [
        _norm_of_gaps(
            reliability_bins(
                confidence, correct, weights, n_bins=n_bins, strategy=strategy
            ),
            norm,
        )
        for confidence, correct in pairs
    ]
    return float(np.mean(errors))


def reliability_bins(
    confidence: FloatArray,
    correct: npt.NDArray[np.bool_],
    weights: FloatArray,
    *,
    n_bins: int,
    strategy: Strategy,
) -> ReliabilityBins:
    """Sort texts into bins of confidence; see `calibration_error` for the edges.

    Parameters
    ----------
    confidence : ndarray of float64, shape (n_texts,)
        Values in [0, 1].
    correct : ndarray of bool, shape (n_texts,)
    weights : ndarray of float64, shape (n_texts,)
        Not negative; they sum to 1.
    n_bins : int
    strategy : {"uniform", "quantile"}

    Returns
    -------
    ReliabilityBins
        Bins without weight are left out.

    Examples
    --------
    >>> confidence, correct = np.array([0.2, 0.6, 0.7]), np.array([False, True, True])
    >>> thirds = np.full(3, 1 / 3)
    >>> bins = reliability_bins(
    ...     confidence, correct, thirds, n_bins=2, strategy="uniform"
    ... )
    >>> bins.confidence.tolist(), bins.accuracy.tolist(), bins.n_texts.tolist()
    ([0.2, 0.65], [0.0, 1.0], [1, 2])
    """
    edges = np.arange(n_bins + 1) / n_bins
    if strategy == "quantile":
        order = np.argsort(confidence, kind="stable")
        # The slack lets a share that is i / n_bins but for rounding be enough.
        wanted = edges[1:-1] * (1.0 - 1e-12)
        at = np.searchsorted(weights[order].cumsum(), wanted)
        edges = np.unique(np.concatenate([[0.0], confidence[order][at], [1.0]]))
    # side="left" counts the edges below a value, so that an edge closes its bin.
    bin_of = np.searchsorted(edges[1:-1], confidence, side="left")
    weight = np.asarray(np.bincount(bin_of, weights, len(edges) - 1), np.float64)
    kept = weight > 0.0
    mean_confidence, accuracy = (
        np.bincount(bin_of, weights * values, len(edges) - 1)[kept] / weight[kept]
        for values in (confidence, correct)
    )
    return ReliabilityBins(
        lower=edges[:-1][kept],
        upper=edges[1:][kept],
        confidence=mean_confidence,
        accuracy=accuracy,
        weight=weight[kept],
        n_texts=np.bincount(bin_of, minlength=len(edges) - 1)[kept],
    )


def _norm_of_gaps(bins: ReliabilityBins, norm: str) -> float:
    gaps = np.abs(bins.accuracy - bins.confidence)
    if norm == "max":
        return float(gaps.max())
    power = 1 if norm == "l1" else 2
    return float((bins.weight @ gaps**power) ** (1 / power))


def _check_options(*, norm: str, n_bins: int, strategy: str, kind: str) -> None:
    for name, value, allowed in (
        ("norm", norm, _NORMS),
        ("strategy", strategy, _STRATEGIES),
        ("kind", kind, _KINDS),
    ):
        if value not in allowed:
            raise ConfigError(
                f"{name} must be one of {', '.join(map(repr, allowed))}. Got {value!r} "
                "instead."
            )
    if n_bins < 1:
        raise ConfigError(f"n_bins must be at least 1. Got {n_bins!r} instead.")


def smooth_calibration_error(
    y_true: Any, y_proba: Any, *, classes: Any = None, sample_weight: Any = None
) -> float:
    """Smooth calibration error of the most likely label, smECE.

    With f the confidence of a text, and c = 1 if its most likely label is true, else 0,
    the residual r = c - f is smoothed over confidence with a Gaussian of width s that
    is reflected at 0 and 1::

        E(s)  = integral from 0 to 1 of |mean over texts of K_s(t, f) * r| dt
        smECE = the s with E(s) = s

    E falls with s, so that there is one such s: the data choose their own bandwidth.
    Unlike binned errors it has no bins to choose, and moves little when confidences
    move little. It lies between a half of, and about twice the root of, the distance to
    the nearest calibrated prediction.

    Parameters
    ----------
    y_true : array-like, shape (n_texts,)
        Class names; without `classes`, numbers of columns of `y_proba`.
    y_proba : array-like of float, shape (n_texts, n_labels)
        Probabilities; rows sum to 1.
    classes : array-like, shape (n_labels,), default=None
        The class of each column; needed if `y_true` holds names.
    sample_weight : array-like of float, shape (n_texts,), default=None

    Returns
    -------
    float
        In [0, 1], right to about 1e-4.

    References
    ----------
    Błasiok, Nakkiran: Smooth ECE: Principled Reliability Diagrams via Kernel
    Smoothing, arXiv 2309.12236, section 3.

    Examples
    --------
    >>> round(smooth_calibration_error([0, 0, 0, 1], [[0.9, 0.1]] * 4), 3)
    0.15
    """
    texts = labelled_proba(y_true, y_proba, classes)
    weights = text_weights(sample_weight, len(texts.codes))
    confidence = texts.confidence
    residuals = weights * (texts.correct - confidence)
    waves = dct(_spread(confidence, residuals))
    n_half_turns = np.arange(_N_CELLS)

    def smoothed(width: float) -> float:
        # Reflected Gaussians damp the waves cos(pi k t), and leave them apart.
        damping = np.exp(-0.5 * (np.pi * n_half_turns * width) ** 2)
        return float(np.abs(idct(waves * damping)).sum())

    narrowest = 1.0 / _N_CELLS
    if smoothed(narrowest) <= narrowest:
        return smoothed(narrowest)
    return float(brentq(lambda s: smoothed(s) - s, narrowest, 2.0, xtol=1e-7))


def _spread(confidence: FloatArray, residuals: FloatArray) -> FloatArray:
    """Sum residuals in cells, each shared by the two nearest centres, shape (cells,).

    Sharing in proportion to nearness keeps the mean position of what is summed.
    """
    position = confidence * _N_CELLS - 0.5
    left = np.floor(position).astype(np.int64)
    share = position - left
    last = _N_CELLS - 1
    return np.asarray(
        np.bincount(left.clip(0, last), residuals * (1.0 - share), _N_CELLS)
        + np.bincount((left + 1).clip(max=last), residuals * share, _N_CELLS)
    )
