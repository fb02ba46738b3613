"""Isotonic calibration: one rising step function for each label."""

from dataclasses import dataclass

import numpy as np
from sklearn.isotonic import IsotonicRegression

from classify.calibration.labelled import LabelledTexts
from classify.calibration.rows import FloatArray, filled, normalised

__all__ = ["MIN_ISOTONIC_LABELS", "Isotonic", "isotonic"]

# Below about so many labels its log loss is far above that of doing nothing.
MIN_ISOTONIC_LABELS = 1000


@dataclass(frozen=True, eq=False)
class Isotonic:
    """The map s_k -> f_k(s_k), normalised, with f_k linear between thresholds.

    Attributes
    ----------
    thresholds : tuple of ndarray of float64, length n_labels
        Ascending log-probabilities of each label, in nats.
    values : tuple of ndarray of float64, length n_labels
        The probability at each threshold, ascending.
    floor : float
        What s is raised to, below its row's greatest, in nats.
    """

    thresholds: tuple[FloatArray, ...]
    values: tuple[FloatArray, ...]
    floor: float

    def transform(self, log_proba: FloatArray) -> FloatArray:
        """Return calibrated log-probabilities; -inf stays -inf."""
        features = filled(log_proba, self.floor)
        columns = zip(features.T, self.thresholds, self.values, strict=True)
        fitted = np.column_stack([np.interp(*column) for column in columns])
        return normalised(np.where(np.isneginf(log_proba), -np.inf, np.log(fitted)))


def isotonic(texts: LabelledTexts) -> Isotonic:
    """Fit p_k = f_k(s_k) / sum_j f_j(s_j), with each f_k rising.

    f_k is scikit-learn's ``IsotonicRegression`` of "the label is k" on s_k. It is held
    above 1 / (2 (n + 1)), half a text in n + 1, since the fit says 0 wherever it saw no
    text of the label, and one such text later would cost an infinite log loss.

    Parameters
    ----------
    texts : LabelledTexts

    Returns
    -------
    Isotonic

    References
    ----------
    Zadrozny and Elkan, "Transforming classifier scores into accurate multiclass
    probability estimates" (2002).

    Examples
    --------
    >>> s = np.log([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.1, 0.9]])
    >>> texts = LabelledTexts(s, np.array([0, 1, 1, 1]), np.ones(4), floor=-30.0)
    >>> np.exp(isotonic(texts).transform(s[::2])).round(2).tolist()
    [[0.5, 0.5], [0.09, 0.91]]
    """
    features = filled(texts.log_proba, texts.floor)
    least = 0.5 / (len(texts) + 1)
    thresholds, values = [], []
    for column in range(texts.n_labels):
        model = IsotonicRegression(y_min=least, y_max=1.0)
        model.fit(features[:, column], texts.codes == column, texts.weights)
        thresholds.append(np.asarray(model.X_thresholds_, dtype=np.float64))
        values.append(np.asarray(model.y_thresholds_, dtype=np.float64))
    return Isotonic(tuple(thresholds), tuple(values), texts.floor)
