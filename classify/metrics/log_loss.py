"""Log loss and mutual information, computed from log-probabilities."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import entr

from classify.errors import InputError
from classify.labels.values import check_column_names
from classify.metrics.labelled import check_lengths, check_log_proba, label_codes

__all__ = ["LogLoss", "log_loss_from_log_proba", "mutual_information"]


class LogLoss(NamedTuple):
    """Log loss, and what made it infinite.

    Attributes
    ----------
    value : float
        Mean over texts of -log p(true label), in nats; inf if `n_infinite` is not 0.
    n_infinite : int
        Texts whose true label has probability 0.
    """

    value: float
    n_infinite: int


def log_loss_from_log_proba(
    y_true: Any, log_proba: Any, *, classes: Any = None
) -> LogLoss:
    """Mean of -log p(true label), without clipping.

    scikit-learn's ``log_loss`` clips probabilities to the rounding unit of their type:
    a label of probability 0 costs 36 nats in float64 and 16 in float32. Here it costs
    inf, and is counted.

    Parameters
    ----------
    y_true : array-like, shape (n_texts,)
        Class names; without `classes`, numbers of columns of `log_proba`.
    log_proba : array-like of float, shape (n_texts, n_labels)
        Natural logarithms of probabilities that sum to 1 in each row; -inf is allowed.
    classes : array-like, shape (n_labels,), default=None
        The class of each column; needed if `y_true` holds names.

    Returns
    -------
    LogLoss

    Examples
    --------
    >>> log_loss_from_log_proba([0, 1], [[-1e-50, -115.0], [-115.0, -1e-50]])
    LogLoss(value=1e-50, n_infinite=0)
    """
    values = np.asarray(log_proba, dtype=np.float64)
    if values.ndim != 2 or 0 in values.shape:
        raise InputError(
            "log_proba must have a row for each text and a column for each class, at "
            f"least one of both. Its shape is {values.shape}."
        )
    advice = "Give natural logarithms of probabilities that sum to 1 in each row."
    check_log_proba(values, "log_proba", advice)
    codes = label_codes(y_true, classes, values.shape[1], "y_true")
    check_column_names(log_proba, classes, "log_proba")
    check_lengths(y_true=codes, log_proba=values)
    losses = -values[np.arange(len(codes)), codes]
    return LogLoss(float(losses.mean()), int(np.isposinf(losses).sum()))


def mutual_information(proba: npt.NDArray[np.float64]) -> float:
    """Return I(label; text) = H(mean of p) - mean of H(p), in nats.

    Zero if every text gets the same probabilities; log(n_labels) if every text gets one
    label with probability 1, and all labels are equally frequent.

    Parameters
    ----------
    proba : ndarray of float64, shape (n_texts, n_labels)
        p(label | text); rows sum to 1.

    References
    ----------
    Sorensen et al., "An Information-theoretic Approach to Prompt Engineering Without
    Ground Truth Labels", ACL 2022, choose prompts by it.

    Examples
    --------
    >>> round(mutual_information(np.array([[1.0, 0.0], [0.0, 1.0]])), 6)
    0.693147
    >>> round(mutual_information(np.array([[0.9, 0.1], [0.9, 0.1]])), 6)
    0.0
    """
    return float(entr(proba.mean(axis=0)).sum() - entr(proba).sum(axis=1).mean())
