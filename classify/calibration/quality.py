"""How good predictions are, before and after."""

import numpy as np

from classify.calibration.labelled import LabelledTexts
from classify.calibration.rows import FloatArray
from classify.metrics.calibration_error import calibration_error

__all__ = ["quality_of"]

_N_BINS = 15


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
