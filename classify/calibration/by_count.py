"""A temperature that depends on how many labels a text may get.

Where each text has candidates of its own, it predicts softmax(s / T(n)) with

    T(n) = a + b ln n

and n the number of labels that are possible for the text. It does not depend on which
labels these are, so it also holds for labels that no text of the fit had.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp

from classify.calibration.labelled import LabelledTexts
from classify.calibration.rows import FloatArray, normalised
from classify.calibration.scaling import MAX_LOG_SCALE, Penalty
from classify.scoring import LabelBounds

__all__ = ["CountTemperature", "temperature_by_count"]

_MIN_TEMPERATURE = float(np.exp(-MAX_LOG_SCALE))


@dataclass(frozen=True)
class CountTemperature:
    """The map s -> log softmax(s / T(n)), T(n) = max(a + b ln n, e^-5).

    Attributes
    ----------
    intercept, slope : float
        a and b.

    Examples
    --------
    >>> hotter = CountTemperature(intercept=1.0, slope=1.0)
    >>> two, three = np.log([[0.8, 0.2]]), np.log([[0.8, 0.1, 0.1]])
    >>> [np.exp(hotter.transform(s)).round(2).tolist() for s in (two, three)]
    [[[0.69, 0.31]], [[0.57, 0.21, 0.21]]]
    """

    intercept: float
    slope: float

    def transform(self, log_proba: FloatArray) -> FloatArray:
        """Return calibrated log-probabilities; -inf stays -inf, and is not counted."""
        return normalised(log_proba / self._temperatures(log_proba)[:, None])

    def bounds(self, known: LabelBounds) -> LabelBounds:
        """Return what is known after calibration."""
        scales = 1.0 / self._temperatures(known.upper)
        return known.scaled(scales, np.zeros(known.upper.shape[1]))

    def _temperatures(self, log_proba: FloatArray) -> FloatArray:
        found = self.intercept + self.slope * _log_counts(log_proba)
        return np.asarray(np.maximum(found, _MIN_TEMPERATURE))


def temperature_by_count(texts: LabelledTexts, *, penalty: Penalty) -> CountTemperature:
    """Fit a temperature that grows or falls with the logarithm of the number of labels.

    With m the mean of ln n and T(n) = t + b (ln n - m), it minimises the log loss,
    summed, plus l2_log_scale / 2 * ((log t)² + b²). Where all texts have as many
    labels, b is 0 and it is `temperature`.

    Parameters
    ----------
    texts : LabelledTexts
    penalty : Penalty

    Returns
    -------
    CountTemperature

    Examples
    --------
    >>> sure = np.log([[0.99, 0.01], [0.99, 0.01], [0.99, 0.01], [0.01, 0.99]])
    >>> texts = LabelledTexts(sure, np.array([0, 0, 1, 1]), np.ones(4), floor=-30.0)
    >>> fitted = temperature_by_count(texts, penalty=Penalty())
    >>> fitted.intercept > 1, fitted.slope
    (True, 0.0)
    """
    values = texts.for_fit
    possible = np.isfinite(values)
    finite = np.where(possible, values, 0.0)  # 0 * -inf is nan
    true = (np.arange(len(texts)), texts.codes)
    weights, total = texts.weights, texts.weights.sum()
    log_counts = _log_counts(texts.log_proba)
    mean = float(weights @ log_counts / total)
    distances = log_counts - mean

    def objective(free: FloatArray) -> tuple[float, FloatArray]:
        log_middle, slope = free
        found = np.exp(log_middle) + slope * distances
        scales = 1.0 / np.maximum(found, _MIN_TEMPERATURE)
        logits = np.where(possible, finite * scales[:, None], -np.inf)
        log_sums = logsumexp(logits, axis=1)
        residual = np.exp(logits - log_sums[:, None])
        residual[true] -= 1.0
        of_each = -weights * (residual * finite).sum(axis=1) * scales**2
        of_each[found < _MIN_TEMPERATURE] = 0.0
        gradient = penalty.log_scale * free
        gradient += np.exp(log_middle) * of_each.sum(), of_each @ distances
        loss = weights @ (log_sums - logits[true])
        value = loss + penalty.log_scale / 2 * free @ free
        return float(value / total), gradient / total

    fitted = minimize(
        objective,
        np.zeros(2),
        jac=True,
        method="L-BFGS-B",
        bounds=[(-MAX_LOG_SCALE, MAX_LOG_SCALE), (None, None)],
        options={"maxiter": 1000, "maxfun": 5000, "ftol": 1e-15, "gtol": 1e-10},
    )
    log_middle, slope = fitted.x.tolist()
    return CountTemperature(float(np.exp(log_middle)) - slope * mean, slope)


def _log_counts(log_proba: FloatArray) -> FloatArray:
    counts = np.isfinite(log_proba).sum(axis=1)
    return np.asarray(np.log(counts.astype(np.float64)))
