"""How far probabilities are from frequencies, without bins."""

from typing import Any

import numpy as np
from scipy.fft import dct, idct
from scipy.optimize import brentq

from classify.metrics.labelled import FloatArray, labelled_proba, text_weights

__all__ = ["smooth_calibration_error"]

# Cells of [0, 1] that residuals are summed in: results are good to about 1e-4.
_N_CELLS = 2**14


def smooth_calibration_error(
    y_true: Any, y_proba: Any, *, classes: Any = None, sample_weight: Any = None
) -> float:
    """Smooth calibration error of the likeliest label, smECE.

    With f the confidence of a text, and r = (1 if its likeliest label is true, else 0)
    - f, the residual is smoothed over confidence with a Gaussian of width s that is
    reflected at 0 and 1::

        E(s)  = integral from 0 to 1 of |mean over texts of K_s(t, f) * r| dt
        smECE = the s with E(s) = s

    E falls with s, so that there is one such s: the data choose their own bandwidth.
    Unlike binned errors it has no bins to choose, and moves little when confidences
    move little. It lies between a half of, and about twice the root of, the distance to
    the nearest calibrated prediction.

    Parameters
    ----------
    y_true : array-like, shape (n_texts,)
        Class names, or integer codes: columns of `y_proba`.
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
