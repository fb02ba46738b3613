"""Risk and coverage: the gain from answering only if confidence is high."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from classify.errors import InputError
from classify.labels.values import label_values
from classify.metrics.labelled import FloatArray, check_lengths

__all__ = [
    "RiskCoverageCurve",
    "augrc_score",
    "aurc_score",
    "eaurc_score",
    "risk_coverage_curve",
]


class RiskCoverageCurve(NamedTuple):
    """Error rates of the most confident texts, a point for each distinct confidence.

    Attributes
    ----------
    coverage : ndarray of float64, shape (n_points,)
        Share of the texts with confidence >= threshold; ascending, the last is 1.
    risk : ndarray of float64, shape (n_points,)
        Share of wrong predictions among them.
    thresholds : ndarray of float64, shape (n_points,)
        The distinct confidences, descending.
    """

    coverage: FloatArray
    risk: FloatArray
    thresholds: FloatArray


def risk_coverage_curve(y_true: Any, y_pred: Any, confidence: Any) -> RiskCoverageCurve:
    """Risk among the accepted texts at every threshold of confidence.

    Texts of the same confidence are accepted together, so that there is no point within
    a tie::

        coverage(t) = share of texts with confidence >= t
        risk(t)     = share of those whose prediction is wrong

    Parameters
    ----------
    y_true : array-like, shape (n_texts,)
        True labels.
    y_pred : array-like, shape (n_texts,)
        Predicted labels, of the same type.
    confidence : array-like of float, shape (n_texts,)
        Higher means more confident, on any scale.

    Returns
    -------
    RiskCoverageCurve

    References
    ----------
    El-Yaniv, Wiener: On the Foundations of Noise-free Selective Classification,
    JMLR 11, 2010.

    Examples
    --------
    >>> curve = risk_coverage_curve([0, 1, 1], [0, 0, 1], [0.9, 0.8, 0.8])
    >>> [values.round(2).tolist() for values in curve]
    [[0.33, 1.0], [0.0, 0.33], [0.9, 0.8]]
    """
    blocks = _blocks(y_true, y_pred, confidence)
    n_accepted = blocks.n_texts.cumsum()
    return RiskCoverageCurve(
        coverage=n_accepted / n_accepted[-1],
        risk=blocks.n_errors.cumsum() / n_accepted,
        thresholds=blocks.confidence,
    )


def aurc_score(y_true: Any, y_pred: Any, confidence: Any) -> float:
    """Area under the risk-coverage curve.

    With texts sorted by confidence, highest first, and err_i 1 if text i is wrong::

        risk(k) = mean(err_1 … err_k)
        AURC    = mean over k = 1 … n of risk(k)

    Ties count as their expectation over all orders. The lower, the better: both fewer
    errors and errors of lower confidence lower it.

    Parameters
    ----------
    y_true, y_pred : array-like, shape (n_texts,)
        True and predicted labels, of the same type.
    confidence : array-like of float, shape (n_texts,)
        Higher means more confident, on any scale.

    Returns
    -------
    float
        In [0, 1].

    References
    ----------
    Geifman, Uziel, El-Yaniv: Bias-Reduced Uncertainty Estimation for Deep Neural
    Classifiers, ICLR 2019.

    Examples
    --------
    >>> round(aurc_score([0, 1, 1], [0, 0, 1], [0.9, 0.8, 0.7]), 3)
    0.278
    """
    return _area(_expected_errors(_blocks(y_true, y_pred, confidence)))


def eaurc_score(y_true: Any, y_pred: Any, confidence: Any) -> float:
    """Excess area under the risk-coverage curve: what better ordering could save.

    E-AURC = AURC - AURC with the same number of errors, all of them sorted last. The
    best order is taken exactly, not by the approximation of the paper.

    Parameters
    ----------
    y_true, y_pred : array-like, shape (n_texts,)
        True and predicted labels, of the same type.
    confidence : array-like of float, shape (n_texts,)
        Higher means more confident, on any scale.

    Returns
    -------
    float
        At least 0; 0 if every error has lower confidence than every right text.

    References
    ----------
    Geifman, Uziel, El-Yaniv: Bias-Reduced Uncertainty Estimation for Deep Neural
    Classifiers, ICLR 2019.

    Examples
    --------
    >>> round(eaurc_score([0, 1, 1], [0, 0, 1], [0.9, 0.8, 0.7]), 3)
    0.167
    """
    blocks = _blocks(y_true, y_pred, confidence)
    n_errors = int(blocks.n_errors.sum())
    best = np.zeros(int(blocks.n_texts.sum()))
    best[len(best) - n_errors :] = 1.0
    return _area(_expected_errors(blocks)) - _area(best)


def augrc_score(y_true: Any, y_pred: Any, confidence: Any) -> float:
    """Area under the generalized risk-coverage curve.

    With texts sorted by confidence, highest first, and err_i 1 if text i is wrong::

        AUGRC = mean over k = 1 … n of (err_1 + … + err_k) / n

    the mean probability of an error that is not held back, over all coverages. Unlike
    AURC it does not weigh the few most confident texts more than the others. Ties count
    as their expectation over all orders.

    Parameters
    ----------
    y_true, y_pred : array-like, shape (n_texts,)
        True and predicted labels, of the same type.
    confidence : array-like of float, shape (n_texts,)
        Higher means more confident, on any scale.

    Returns
    -------
    float
        At least 0; about half the error rate if confidence is uninformative.

    References
    ----------
    Traub et al.: Overcoming Common Flaws in the Evaluation of Selective Classification
    Systems, NeurIPS 2024.

    Examples
    --------
    >>> round(augrc_score([0, 1, 1], [0, 0, 1], [0.9, 0.8, 0.7]), 3)
    0.222
    """
    errors = _expected_errors(_blocks(y_true, y_pred, confidence))
    return float(errors.cumsum().mean() / len(errors))


class _Blocks(NamedTuple):
    """Texts of the same confidence, highest first; each shape (n_blocks,)."""

    confidence: FloatArray
    n_texts: npt.NDArray[np.int64]
    n_errors: FloatArray


def _blocks(y_true: Any, y_pred: Any, confidence: Any) -> _Blocks:
    true = np.array(label_values(y_true, "y_true"))
    predicted = np.array(label_values(y_pred, "y_pred"))
    values = np.asarray(confidence, dtype=np.float64)
    arrays = {"y_true": true, "y_pred": predicted, "confidence": values}
    for name, array in arrays.items():
        if array.ndim != 1:
            raise InputError(
                f"{name} must hold one value for each text. Its shape is {array.shape}."
            )
    check_lengths(**arrays)
    if (true.dtype.kind in "UO") != (predicted.dtype.kind in "UO"):
        raise InputError(
            f"y_true holds {true[:1].tolist()[0]!r} and y_pred holds "
            f"{predicted[:1].tolist()[0]!r}: give names in both, or codes in both."
        )
    if np.isnan(values).any():
        row = int(np.flatnonzero(np.isnan(values))[0])
        raise InputError(f"confidence[{row}] is NaN: give a number for each text.")
    distinct, block = np.unique(-values, return_inverse=True)
    return _Blocks(
        confidence=-distinct,
        n_texts=np.bincount(block),
        n_errors=np.asarray(np.bincount(block, true != predicted), np.float64),
    )


def _expected_errors(blocks: _Blocks) -> FloatArray:
    """Return the expectation of err_i over all orders of tied texts, (n_texts,)."""
    return np.repeat(blocks.n_errors / blocks.n_texts, blocks.n_texts)


def _area(errors: FloatArray) -> float:
    return float((errors.cumsum() / np.arange(1, len(errors) + 1)).mean())
