"""Calibration with labels: scales and shifts fitted by maximum posterior.

All methods here predict softmax(a ∘ (s + b)), with s the normalised log-probabilities,
a > 0 one scale for all labels or one for each, and b of mean 0. They minimise

    - sum_i w_i log softmax(a ∘ (s_i + b))[y_i]
    + l2_log_scale / 2 * |log a|² + l2_bias / 2 * |b - b0|²

over log a in [-5, 5] and b: the log loss, summed, with normal priors of precision l2
around a = 1 and b = b0. The priors decide where there are few labels, and fade as they
grow in number; a maximum of the likelihood alone explodes below about 50 labels.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp
from sklearn.isotonic import IsotonicRegression

from classify.calibration.labelled import LabelledTexts
from classify.calibration.rows import FloatArray, filled, filled_bounds, normalised
from classify.calibration.shifts import centred
from classify.scoring import LabelBounds

__all__ = [
    "MAX_LOG_SCALE",
    "MIN_ISOTONIC_LABELS",
    "Affine",
    "Isotonic",
    "Penalty",
    "affine",
    "bias",
    "isotonic",
    "temperature",
    "vector",
]

# On sets that a scale separates the optimum is at infinity: e^5 is as good as that.
MAX_LOG_SCALE = 5.0
# Below about so many labels its log loss is far above that of doing nothing.
MIN_ISOTONIC_LABELS = 1000


@dataclass(frozen=True, eq=False)
class Affine:
    """The map s -> log softmax(a ∘ (s + b)).

    Attributes
    ----------
    scale, bias : ndarray of float64, shape (n_labels,)
        a > 0, and b in nats.

    Examples
    --------
    >>> flat = Affine(np.full(2, 0.5), np.zeros(2))  # temperature 2
    >>> np.exp(flat.transform(np.log([[0.8, 0.2]]))).round(3).tolist()
    [[0.667, 0.333]]
    """

    scale: FloatArray
    bias: FloatArray

    @classmethod
    def shift(cls, bias: FloatArray) -> "Affine":
        """Return the map that only shifts."""
        return cls(np.ones(len(bias)), bias)

    def transform(self, log_proba: FloatArray) -> FloatArray:
        """Return calibrated log-probabilities; -inf stays -inf, since a > 0."""
        return normalised(self.scale * (log_proba + self.bias))

    def bounds(self, known: LabelBounds) -> LabelBounds:
        """Return what is known after calibration."""
        if (self.scale == self.scale[0]).all():
            return known.scaled(float(self.scale[0]), self.bias)
        # Scores of different scales are compared as they are normalised.
        of_each = (self.scale * (each + self.bias) for each in known.log_proba())
        return LabelBounds.of(*of_each)


@dataclass(frozen=True)
class Penalty:
    """Precisions of the normal priors of log a and b."""

    log_scale: float = 1.0
    bias: float = 1.0


def temperature(
    texts: LabelledTexts, *, bias: FloatArray | None = None, penalty: Penalty
) -> Affine:
    """Fit one scale a = 1/T, and keep the shift: p = softmax((s + b) / T).

    Without a shift it keeps every ranking, and so every predicted label.

    Parameters
    ----------
    texts : LabelledTexts
    bias : ndarray of float64, shape (n_labels,), default=None
        A shift that is known, such as that of prior matching. None: none.
    penalty : Penalty

    Returns
    -------
    Affine

    References
    ----------
    Guo et al., "On calibration of modern neural networks" (2017), section 4.2; without
    the prior on log T.

    Examples
    --------
    >>> sure = np.log([[0.99, 0.01], [0.99, 0.01], [0.99, 0.01], [0.01, 0.99]])
    >>> texts = LabelledTexts(sure, np.array([0, 0, 1, 1]), np.ones(4), floor=-30.0)
    >>> bool(temperature(texts, penalty=Penalty()).scale[0] < 1)  # one in four is wrong
    True
    """
    start = np.zeros(texts.n_labels) if bias is None else bias
    return _Fit(texts, start, penalty, n_scales=1, n_biases=0).solve()


def bias(
    texts: LabelledTexts, *, start: FloatArray | None = None, penalty: Penalty
) -> Affine:
    """Fit one shift for each label: p = softmax(s + b).

    Parameters
    ----------
    texts : LabelledTexts
    start : ndarray of float64, shape (n_labels,), default=None
        b0, where the prior of b is centred. None: 0. Labels that no text has stay close
        to it.
    penalty : Penalty

    Returns
    -------
    Affine

    References
    ----------
    Alexandari et al., "Maximum likelihood with bias-corrected calibration is
    hard-to-beat at label shift adaptation" (2020), section 3 (no-scale case of BCTS).

    Examples
    --------
    >>> even = np.log(np.full((100, 2), 0.5))
    >>> codes = np.repeat([0, 1], [80, 20])
    >>> texts = LabelledTexts(even, codes, np.ones(100), floor=-30.0)
    >>> fitted = bias(texts, penalty=Penalty(bias=0.0))
    >>> np.exp(fitted.transform(even[:1])).round(3).tolist()
    [[0.8, 0.2]]
    """
    start = np.zeros(texts.n_labels) if start is None else start
    return _Fit(texts, start, penalty, n_scales=0, n_biases=texts.n_labels).solve()


def affine(
    texts: LabelledTexts, *, start: FloatArray | None = None, penalty: Penalty
) -> Affine:
    """Fit one scale for all labels and a shift for each: p = softmax(a (s + b)).

    Parameters and result are those of `bias`.

    References
    ----------
    Alexandari et al. (2020), section 3: bias-corrected temperature scaling (BCTS); here
    with priors.

    Examples
    --------
    >>> texts = LabelledTexts(
    ...     np.log([[0.99, 0.01]] * 4), np.array([0, 1, 0, 1]), np.ones(4), floor=-30.0
    ... )
    >>> fitted = affine(texts, penalty=Penalty(log_scale=1.0, bias=0.1))
    >>> np.exp(fitted.transform(texts.log_proba[:1])).round(1).tolist()
    [[0.6, 0.4]]
    """
    start = np.zeros(texts.n_labels) if start is None else start
    return _Fit(texts, start, penalty, n_scales=1, n_biases=texts.n_labels).solve()


def vector(
    texts: LabelledTexts, *, start: FloatArray | None = None, penalty: Penalty
) -> Affine:
    """Fit a scale and a shift for each label: p = softmax(a ∘ (s + b)).

    Parameters and result are those of `bias`.

    References
    ----------
    Guo et al. (2017), section 4.2: vector scaling; here with priors.

    Examples
    --------
    >>> texts = LabelledTexts(
    ...     np.log([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 1]), np.ones(2), floor=-30.0
    ... )
    >>> vector(texts, penalty=Penalty()).scale.shape
    (2,)
    """
    n_labels = texts.n_labels
    start = np.zeros(n_labels) if start is None else start
    return _Fit(texts, start, penalty, n_scales=n_labels, n_biases=n_labels).solve()


class _Fit:
    """The posterior of some scales (0, 1 or n_labels) and biases (0 or n_labels)."""

    def __init__(
        self,
        texts: LabelledTexts,
        start: FloatArray,
        penalty: Penalty,
        *,
        n_scales: int,
        n_biases: int,
    ) -> None:
        values = texts.for_fit
        self.possible = np.isfinite(values)
        self.values = np.where(self.possible, values, 0.0)  # 0 * -inf is nan
        self.true = (np.arange(len(texts)), texts.codes)
        self.weights = texts.weights
        self.start = centred(start)
        self.penalty = penalty
        self.n_scales = n_scales
        self.n_biases = n_biases

    def solve(self) -> Affine:
        free = np.zeros(self.n_scales + self.n_biases)
        bounds = [(-MAX_LOG_SCALE, MAX_LOG_SCALE)] * self.n_scales
        found = minimize(
            self.objective,
            free,
            jac=True,
            method="L-BFGS-B",
            bounds=bounds + [(None, None)] * self.n_biases,
            options={"maxiter": 1000, "maxfun": 5000, "ftol": 1e-15, "gtol": 1e-10},
        )
        log_scale, bias = self.unpack(found.x)
        scale = np.exp(np.broadcast_to(log_scale, self.start.shape))
        return Affine(np.array(scale, dtype=np.float64), bias)

    def unpack(self, free: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return log a, shape (1,) or (n_labels,), and b; free biases are b - b0."""
        log_scale = free[: self.n_scales] if self.n_scales else np.zeros(1)
        if not self.n_biases:
            return log_scale, self.start
        return log_scale, self.start + centred(free[self.n_scales :])

    def objective(self, free: FloatArray) -> tuple[float, FloatArray]:
        """Return the penalised log loss, and its gradient, per unit of weight."""
        log_scale, bias = self.unpack(free)
        scale, moved = np.exp(log_scale), bias - self.start
        shifted = self.values + bias
        logits = np.where(self.possible, scale * shifted, -np.inf)
        log_sums = logsumexp(logits, axis=1)
        loss = self.weights @ (log_sums - logits[self.true])
        residual = np.exp(logits - log_sums[:, None])  # (n_texts, n_labels)
        residual[self.true] -= 1.0
        residual *= self.weights[:, None]
        of_scale = scale * (residual * shifted).sum(axis=0)
        gradient = np.empty_like(free)
        if self.n_scales == 1:
            of_scale = of_scale.sum(keepdims=True)
        if self.n_scales:
            gradient[: self.n_scales] = of_scale + self.penalty.log_scale * log_scale
        if self.n_biases:
            of_bias = scale * residual.sum(axis=0) + self.penalty.bias * moved
            gradient[self.n_scales :] = centred(of_bias)
        value = (
            loss
            + self.penalty.log_scale / 2 * log_scale @ log_scale
            + self.penalty.bias / 2 * moved @ moved
        )
        total = self.weights.sum()
        return float(value / total), gradient / total


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
        fitted = self._fitted(filled(log_proba, self.floor))
        return normalised(np.where(np.isneginf(log_proba), -np.inf, fitted))

    def bounds(self, known: LabelBounds) -> LabelBounds:
        """Return what is known after calibration."""
        shares = known.log_proba()
        pairs = zip(shares, filled_bounds(shares, self.floor), strict=True)
        of_each = (
            np.where(np.isneginf(share), -np.inf, self._fitted(each))
            for share, each in pairs
        )
        return LabelBounds.of(*of_each)

    def _fitted(self, features: FloatArray) -> FloatArray:
        """Return log f_k of each column."""
        columns = zip(features.T, self.thresholds, self.values, strict=True)
        fitted = np.column_stack([np.interp(*column) for column in columns])
        return np.asarray(np.log(fitted))


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
