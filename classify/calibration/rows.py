"""Rows of label log-probabilities: what every calibration method works on.

A row is normalised, in nats and float64. -inf means *impossible*: the label is no
candidate for that text, or the model rules it out. It stays -inf through every method,
and counts for nothing in a fit. Scales and shifts with labels are fitted on values as
they are, so that the optimum is that of the map in use. Where a fit takes means of
logarithms ("batch" and probes), or the map itself takes no -inf ("matrix", "isotonic":
at fit and at predict time alike), values are raised to `floor` below their row's
greatest.
"""

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from scipy.special import log_softmax

from classify.scoring import Interval, LabelBounds

__all__ = ["FloatArray", "RowMap", "filled", "filled_bounds", "normalised", "raised"]

FloatArray = npt.NDArray[np.float64]


class RowMap(Protocol):
    """The result of a fit: a function of one row, independent of other rows."""

    def transform(self, log_proba: FloatArray) -> FloatArray:
        """Return calibrated log-probabilities, (n_texts, n_labels) to the same."""

    def bounds(self, known: LabelBounds) -> LabelBounds:
        """Return what is known after calibration, from what is known of the scores."""


def normalised(values: Any) -> FloatArray:
    """Return log p_k - log sum_j p_j of each row, shape (n_texts, n_labels).

    Examples
    --------
    >>> normalised(np.array([[-3.0, -3.0, -np.inf]])).round(3).tolist()
    [[-0.693, -0.693, -inf]]
    """
    return np.asarray(log_softmax(values, axis=1), dtype=np.float64)


def raised(log_proba: FloatArray, floor: float) -> FloatArray:
    """Return max(s_k, max_j s_j + floor), with -inf left as it is.

    Examples
    --------
    >>> raised(np.array([[0.0, -99.0, -np.inf]]), -30.0).tolist()
    [[0.0, -30.0, -inf]]
    """
    return np.where(np.isneginf(log_proba), log_proba, filled(log_proba, floor))


def filled(log_proba: FloatArray, floor: float) -> FloatArray:
    """Return max(s_k, max_j s_j + floor), with -inf raised too: all finite.

    Examples
    --------
    >>> filled(np.array([[0.0, -99.0, -np.inf]]), -30.0).tolist()
    [[0.0, -30.0, -30.0]]
    """
    least = log_proba.max(axis=1, keepdims=True) + floor
    return np.asarray(np.maximum(log_proba, least), dtype=np.float64)


def filled_bounds(shares: Interval, floor: float) -> Interval:
    """Return bounds of what `filled` returns, from bounds of log-probabilities."""
    # The greatest of K probabilities is at least 1 / K.
    greatest = -np.log(shares.lower.shape[1])
    least = np.maximum(shares.lower.max(axis=1, keepdims=True), greatest) + floor
    return Interval(np.maximum(shares.lower, least), filled(shares.upper, floor))
