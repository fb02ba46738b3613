"""Measures of probabilities for ordered classes."""

from typing import Any

import numpy as np

from classify.errors import InputError
from classify.metrics.labelled import labelled_proba

__all__ = ["ranked_probability_score"]


def ranked_probability_score(
    y_true: Any, y_proba: Any, *, classes: Any = None
) -> float:
    """Ranked probability score: how far probabilities are from an ordered truth.

    The mean over texts of::

        1 / (n_labels - 1) * sum_k (P_k - [the true label is among the first k])^2

    with P_k the probability of the first k labels, k from 1 to n_labels - 1. 0 is
    perfect, 1 the worst; of two classes it is the mean of (p - [true])^2. Unlike the
    Brier score it costs more to miss by two places than by one.

    Parameters
    ----------
    y_true : array-like, shape (n_texts,)
        Class names; without `classes`, numbers of columns of `y_proba`.
    y_proba : array-like of float, shape (n_texts, n_labels)
        Probabilities, the columns in the order of the classes; rows sum to 1.
    classes : array-like, shape (n_labels,), default=None
        The class of each column; needed if `y_true` holds names.

    Returns
    -------
    float

    References
    ----------
    Epstein, "A scoring system for probability forecasts of ranked categories" (1969).

    Examples
    --------
    >>> ranked_probability_score([2, 2], [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    0.75
    """
    codes, proba = labelled_proba(y_true, y_proba, classes)
    n_labels = proba.shape[1]
    if n_labels < 2:
        raise InputError(
            "A ranked probability score needs at least two classes. Got one column."
        )
    reached = proba.cumsum(axis=1)[:, :-1]
    true = codes[:, None] <= np.arange(n_labels - 1)
    return float(((reached - true) ** 2).sum(axis=1).mean() / (n_labels - 1))
