"""Calibration without labels: each method is a shift of the log-probabilities.

With s_k = log p(label k | text), normalised over the labels, all of them predict
softmax(s + b). They differ in where the shift b comes from, and divide out what the
model answers regardless of the text. A shift is determined up to a constant, which is
chosen so that its mean over the labels is 0. `prior` is the share that each label
should have, written pi; uniform unless something else is known.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp

from classify.calibration.rows import FloatArray, normalised, raised

__all__ = [
    "MatchedShift",
    "batch_shift",
    "centred",
    "content_free_shift",
    "domain_shift",
    "pmi_shift",
    "prior_matching_shift",
]

# Largest difference between a mean probability and its target, and the most steps to
# get there: Newton's takes about ten, and the cap is for inputs with no more entropy
# than rounding leaves them.
_TOLERANCE = 1e-10
_MAX_STEPS = 5000


class MatchedShift(NamedTuple):
    """A shift that makes mean probabilities equal a prior.

    Attributes
    ----------
    bias : ndarray of float64, shape (n_labels,)
        In nats.
    gap : float
        Largest |mean probability - target| that is left.
    n_steps : int
        Steps that it took.
    """

    bias: FloatArray
    gap: float
    n_steps: int


def centred(bias: FloatArray) -> FloatArray:
    """Return b - mean(b): the representative of all shifts that predict the same."""
    return np.asarray(bias - bias.mean(), dtype=np.float64)


def prior_matching_shift(
    log_proba: FloatArray, prior: FloatArray, weights: FloatArray | None = None
) -> MatchedShift:
    """Find the b for which mean_i softmax(s_i + b) = pi.

    It minimises the convex function mean_i logsumexp(s_i + b) - pi·b, whose gradient is
    the difference of the two sides. Each step is Newton's, unless the fixed-point step
    b + log pi - log mean_i softmax(s_i + b), which always descends, gets lower.

    A text that has only some of the labels as candidates asks for the prior among
    those: the target is mean_i pi restricted to the candidates of text i, and pi itself
    where all are candidates.

    Parameters
    ----------
    log_proba : ndarray of float64, shape (n_texts, n_labels)
        Normalised log-probabilities of texts whose labels need not be known.
    prior : ndarray of float64, shape (n_labels,)
        Positive, sums to 1.
    weights : ndarray of float64, shape (n_texts,), default=None
        None: equal ones.

    Returns
    -------
    MatchedShift

    References
    ----------
    Estienne et al., "Unsupervised calibration through prior adaptation" (UCPA, 2023);
    Liusie et al., "Mitigating word bias in zero-shot prompt-based classifiers" (2023).
    The published code takes ten fixed-point steps; this goes to 1e-10.

    Examples
    --------
    >>> s = np.log([[0.9, 0.1], [0.7, 0.3], [0.98, 0.02]])
    >>> found = prior_matching_shift(s, np.array([0.5, 0.5]))
    >>> bool(np.allclose(np.exp(normalised(s + found.bias)).mean(axis=0), 0.5))
    True
    """
    weights = np.ones(len(log_proba)) if weights is None else weights
    weights = weights / weights.sum()
    bias = np.zeros(len(prior))
    # A label that is no text's candidate has no effect, and keeps 0.
    known = np.isfinite(log_proba[weights > 0]).any(axis=0)
    values = log_proba[weights > 0][:, known]
    dual = _Dual(values, prior[known], weights[weights > 0])
    at = dual.point(np.zeros(int(known.sum())))
    n_steps = 0
    while at.gap > _TOLERANCE and n_steps < _MAX_STEPS:
        fixed = dual.point(dual.fixed_point_step(at))
        newton = dual.point(dual.newton_step(at))
        # Rounding of the values, near the minimum, must not turn Newton's step down.
        slack = 1e-13 * (1.0 + abs(fixed.value))
        at = newton if newton.value <= fixed.value + slack else fixed
        n_steps += 1
    bias[known] = at.bias
    return MatchedShift(centred(bias), at.gap, n_steps)


class _Point(NamedTuple):
    """A shift, what it predicts, the dual's value and gradient there, and the gap."""

    bias: FloatArray
    posterior: FloatArray
    log_mean: FloatArray
    value: float
    gradient: FloatArray
    gap: float


class _Dual:
    """b -> mean_i logsumexp(s_i + b) - target·b, and steps towards its minimum."""

    def __init__(
        self, values: FloatArray, prior: FloatArray, weights: FloatArray
    ) -> None:
        self.values = values
        self.weights = weights
        allowed = np.isfinite(values) * prior
        self.target = weights @ (allowed / allowed.sum(axis=1, keepdims=True))

    def point(self, bias: FloatArray) -> _Point:
        bias = centred(bias)
        shifted = self.values + bias
        log_sums = logsumexp(shifted, axis=1)
        log_posterior = shifted - log_sums[:, None]
        # In log space, so that a mean of e^-1000 still says how far to go.
        log_mean = logsumexp(log_posterior + np.log(self.weights)[:, None], axis=0)
        gradient = np.exp(log_mean) - self.target
        return _Point(
            bias=bias,
            posterior=np.exp(log_posterior),
            log_mean=log_mean,
            value=float(self.weights @ log_sums - self.target @ bias),
            gradient=gradient,
            gap=float(np.abs(gradient).max()),
        )

    def fixed_point_step(self, at: _Point) -> FloatArray:
        step = np.log(self.target) - at.log_mean
        return np.asarray(at.bias + step, dtype=np.float64)

    def newton_step(self, at: _Point) -> FloatArray:
        weighted = self.weights[:, None] * at.posterior
        hessian = np.diag(np.exp(at.log_mean)) - at.posterior.T @ weighted
        # Least squares: the constant direction, and any flat one, is left alone.
        step = np.linalg.lstsq(hessian, -at.gradient)[0]
        return np.asarray(at.bias + step, dtype=np.float64)


def batch_shift(
    log_proba: FloatArray,
    prior: FloatArray,
    *,
    floor: float,
    weights: FloatArray | None = None,
) -> FloatArray:
    """Return b_k = log pi_k - mean_i s_ik: batch calibration, in log space.

    The mean is over the texts that have the label as a candidate, of values raised to
    `floor` below their row's greatest, since the least rules a mean of logarithms.

    Parameters
    ----------
    log_proba : ndarray of float64, shape (n_texts, n_labels)
    prior : ndarray of float64, shape (n_labels,)
    floor : float
        In nats, negative.
    weights : ndarray of float64, shape (n_texts,), default=None

    Returns
    -------
    ndarray of float64, shape (n_labels,)

    References
    ----------
    Zhou et al., "Batch calibration" (2023), equation 4. Subtracting the mean
    *probability* instead is another reading, which ruins probabilities.

    Examples
    --------
    >>> s = np.log([[0.9, 0.1], [0.7, 0.3]])
    >>> batch_shift(s, np.array([0.5, 0.5]), floor=-30.0).round(3).tolist()
    [-0.761, 0.761]
    """
    values = raised(log_proba, floor)
    weights = np.ones(len(values)) if weights is None else weights
    counted = np.isfinite(values) * weights[:, None]
    total = counted.sum(axis=0)
    sums = (np.where(np.isfinite(values), values, 0.0) * counted).sum(axis=0)
    means = np.divide(sums, total, out=np.zeros_like(sums), where=total > 0)
    # A label that is no text's candidate takes the middle of the others.
    means[total == 0] = means[total > 0].mean()
    return centred(np.log(prior) - means)


def content_free_shift(
    probes: FloatArray, prior: FloatArray, *, floor: float
) -> FloatArray:
    """Return b_k = log pi_k - log mean_c p_k(c), over content-free texts c.

    The paper multiplies probabilities by diag(mean_c p(c))^-1 and adds no bias, which
    in log space is this shift. Its texts are "N/A", "[MASK]" and the empty one.

    Parameters
    ----------
    probes : ndarray of float64, shape (n_probes, n_labels)
        log p(label | prompt of the probe); normalised here.
    prior : ndarray of float64, shape (n_labels,)
    floor : float
        Least log-probability below a row's greatest, in nats; -inf is raised to it.

    Returns
    -------
    ndarray of float64, shape (n_labels,)

    References
    ----------
    Zhao et al., "Calibrate before use" (2021), section 4.

    Examples
    --------
    >>> probes = np.log([[0.8, 0.2], [0.6, 0.4]])
    >>> shift = content_free_shift(probes, np.array([0.5, 0.5]), floor=-30.0)
    >>> np.exp(shift).round(3).tolist()  # proportional to 1 / 0.7 and 1 / 0.3
    [0.655, 1.528]
    """
    return _against_probes(normalised(probes), prior, floor)


def domain_shift(probes: FloatArray, prior: FloatArray, *, floor: float) -> FloatArray:
    """Return b_k = log pi_k - log mean_t p_k(t), over texts t of random domain words.

    The rule of `content_free_shift`, with other probes: 20 texts of as many words as
    the texts of the domain have on average, drawn from them.

    Parameters and result are those of `content_free_shift`.

    References
    ----------
    Fei et al., "Mitigating label biases for in-context learning" (2023), section 4.

    Examples
    --------
    >>> probes = np.log([[0.8, 0.2], [0.6, 0.4]])
    >>> domain_shift(probes, np.array([0.5, 0.5]), floor=-30.0).round(3).tolist()
    [-0.424, 0.424]
    """
    return _against_probes(normalised(probes), prior, floor)


def pmi_shift(probes: FloatArray, prior: FloatArray, *, floor: float) -> FloatArray:
    """Return b_k = log pi_k - log mean_c p(label k | premise c), not normalised.

    The score is then log p(label | text) - log p(label | premise): how much more likely
    the text makes the label's words (pointwise mutual information). With one premise,
    normalising would change nothing; several weigh by their label mass.

    Parameters
    ----------
    probes : ndarray of float64, shape (n_probes, n_labels)
        *Joint* log p(label | prompt of the premise).
    prior, floor
        Those of `content_free_shift`, as is the result.

    References
    ----------
    Holtzman et al., "Surface form competition" (2021), section 3 (PMI_DC).

    Examples
    --------
    >>> premise = np.log([[1e-3, 1e-6]])
    >>> pmi_shift(premise, np.array([0.5, 0.5]), floor=-30.0).round(3).tolist()
    [-3.454, 3.454]
    """
    return _against_probes(probes, prior, floor)


def _against_probes(values: FloatArray, prior: FloatArray, floor: float) -> FloatArray:
    log_mean = logsumexp(values, axis=0)
    return centred(np.log(prior) - np.maximum(log_mean, log_mean.max() + floor))
