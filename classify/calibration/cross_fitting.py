"""Cross-fitted predictions, and measures of their quality."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from classify.calibration.labelled import LabelledTexts
from classify.calibration.rows import FloatArray, RowMap
from classify.metrics.calibration_error import calibration_error

__all__ = ["Fit", "folds_of", "held_out", "quality_of"]

Fit: TypeAlias = Callable[[LabelledTexts], RowMap]
Folds: TypeAlias = Sequence[npt.NDArray[np.int64]]
_N_BINS = 15


def folds_of(
    codes: npt.NDArray[np.int64], *, n_folds: int, random_state: int | None = None
) -> list[npt.NDArray[np.int64]]:
    """Deal texts out into folds, label by label, so that each has its share of all.

    Unlike scikit-learn's ``StratifiedKFold`` this takes labels of fewer texts than
    there are folds, and does not depend on the order of the columns.

    Parameters
    ----------
    codes : ndarray of int, shape (n_texts,)
    n_folds : int
        At most n_texts.
    random_state : int or None, default=None
        Seed of the order in which texts are dealt. None: in their order.

    Returns
    -------
    list of ndarray of int, length n_folds
        The rows of each fold, ascending.

    Examples
    --------
    >>> folds = folds_of(np.array([0, 0, 0, 0, 1, 1]), n_folds=2)
    >>> [fold.tolist() for fold in folds]
    [[0, 2, 4], [1, 3, 5]]
    """
    order = np.arange(len(codes))
    if random_state is not None:
        order = np.random.default_rng(random_state).permutation(len(codes))
    _, first, inverse = np.unique(codes[order], return_index=True, return_inverse=True)
    dealt = order[np.argsort(first[inverse], kind="stable")]
    return [np.sort(dealt[start::n_folds]) for start in range(n_folds)]


def held_out(fit: Fit, texts: LabelledTexts, folds: Folds) -> FloatArray:
    """Return log-probabilities of every text, from a fit on the other folds.

    Parameters
    ----------
    fit : callable
        From labelled texts to the map that they give.
    texts : LabelledTexts
    folds : sequence of ndarray of int
        Rows of each fold; together all rows.

    Returns
    -------
    ndarray of float64, shape (n_texts, n_labels)
    """
    predicted = np.empty_like(texts.log_proba)
    for fold in folds:
        others = np.ones(len(texts), dtype=np.bool_)
        others[fold] = False
        fitted = fit(texts[others])
        predicted[fold] = fitted.transform(texts.log_proba[fold])
    return predicted


def quality_of(texts: LabelledTexts, log_proba: FloatArray) -> dict[str, float]:
    """Return log loss, Brier score, accuracy and calibration error of predictions.

    Parameters
    ----------
    texts : LabelledTexts
    log_proba : ndarray of float64, shape (n_texts, n_labels)
        Predictions for them.

    Returns
    -------
    dict of str to float
        ``log_loss`` in nats, from log-probabilities (`LabelledTexts.losses`);
        ``brier``: mean_i sum_k (p_ik - [y_i = k])², from 0 to 2; ``accuracy``;
        ``ece``: of the top label, 15 bins of equal width. All of them weigh the texts
        as `texts` does.
    """
    proba = np.exp(log_proba)
    true = np.zeros_like(proba)
    true[np.arange(len(texts)), texts.codes] = 1.0
    squared = ((proba - true) ** 2).sum(axis=1)
    hits = log_proba.argmax(axis=1) == texts.codes
    error = calibration_error(
        texts.codes, proba, n_bins=_N_BINS, sample_weight=texts.weights
    )
    return {
        "log_loss": texts.log_loss(log_proba),
        "brier": float(np.average(squared, weights=texts.weights)),
        "accuracy": float(np.average(hits, weights=texts.weights)),
        "ece": error,
    }
