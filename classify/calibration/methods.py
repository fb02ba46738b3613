"""The methods by name, and what each needs."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import numpy as np

from classify.calibration.by_count import temperature_by_count
from classify.calibration.cross_fitting import Fit
from classify.calibration.labelled import LabelledTexts
from classify.calibration.matrix import matrix
from classify.calibration.rows import FloatArray
from classify.calibration.scaling import (
    Affine,
    Penalty,
    affine,
    bias,
    isotonic,
    temperature,
    vector,
)
from classify.calibration.shifts import (
    MatchedShift,
    batch_shift,
    content_free_shift,
    domain_shift,
    pmi_shift,
    prior_matching_shift,
)

__all__ = [
    "BY_COUNT",
    "LABELLED_METHODS",
    "METHODS",
    "PROBE_METHODS",
    "SHIFT_METHODS",
    "Setting",
    "candidates",
    "fit_of",
    "min_matrix_labels",
    "required_tolerance",
]

_PROBED: Final = {
    "content_free": content_free_shift,
    "domain": domain_shift,
    "pmi": pmi_shift,
}
_BIASED: Final = {"bias": bias, "affine": affine, "vector": vector}

PROBE_METHODS = tuple(_PROBED)
SHIFT_METHODS = ("prior_matching", "batch", *PROBE_METHODS)
# Does not depend on which labels there are, so it holds for any.
BY_COUNT = "temperature_by_count"
LABELLED_METHODS = ("temperature", BY_COUNT, *_BIASED, "matrix", "isotonic")
METHODS = ("none", *SHIFT_METHODS, *LABELLED_METHODS, "auto")

# From 200 labels on a full matrix was seen to overtake prior matching with a
# temperature, on four classes; it has n_labels² numbers to learn.
_MIN_MATRIX_LABELS = 200
_MIN_MATRIX_LABELS_A_CLASS = 10


@dataclass(frozen=True, eq=False)
class Setting:
    """What a fit needs besides labelled texts.

    Attributes
    ----------
    pool : ndarray of float64, shape (n_pool, n_labels)
        Normalised log-probabilities of texts whose labels are not looked at.
    pool_weights : ndarray of float64, shape (n_pool,)
    prior : callable
        From labelled texts, or None, to the target share of each label.
    probes : ndarray of float64, shape (n_probes, n_labels), or None
        Joint log-probabilities of probe texts.
    floor : float
    penalty : Penalty
    bias_init : {"prior_matching", "zero"}
        Where the prior of a fitted shift is centred.
    """

    pool: FloatArray
    pool_weights: FloatArray
    prior: Callable[[LabelledTexts | None], FloatArray]
    probes: FloatArray | None
    floor: float
    penalty: Penalty
    bias_init: str
    _matched: dict[bytes, MatchedShift] = field(default_factory=dict)

    def matched(self, texts: LabelledTexts | None) -> MatchedShift:
        """Return the prior-matching shift of the pool; found once for each prior."""
        prior = self.prior(texts)
        key = prior.tobytes()
        if key not in self._matched:
            self._matched[key] = prior_matching_shift(
                self.pool, prior, self.pool_weights
            )
        return self._matched[key]

    def shift_map(self, method: str, texts: LabelledTexts | None) -> Affine:
        """Return the map of a method that looks at no text's label."""
        if method == "none":
            return Affine.shift(np.zeros(self.pool.shape[1]))
        return Affine.shift(self._shift(method, texts))

    def _shift(self, method: str, texts: LabelledTexts | None) -> FloatArray:
        if method == "prior_matching":
            return self.matched(texts).bias
        prior = self.prior(texts)
        if method == "batch":
            return batch_shift(
                self.pool, prior, floor=self.floor, weights=self.pool_weights
            )
        assert self.probes is not None, "checked before"
        return _PROBED[method](self.probes, prior, floor=self.floor)

    def bias_start(self, texts: LabelledTexts) -> FloatArray:
        """Return b0 of the methods that fit a shift."""
        if self.bias_init == "zero":
            return np.zeros(texts.n_labels)
        return self.matched(texts).bias


def fit_of(method: str, setting: Setting) -> Fit:
    """Return the function that fits a method to labelled texts.

    Parameters
    ----------
    method : str
        One of `METHODS`, but "auto".
    setting : Setting
    """
    penalty = setting.penalty
    if method == "none" or method in SHIFT_METHODS:
        return partial(setting.shift_map, method)
    if method == "temperature":
        return partial(temperature, penalty=penalty)
    if method == BY_COUNT:
        return partial(temperature_by_count, penalty=penalty)
    if method == "matrix":
        return partial(matrix, penalty=penalty)
    if method == "isotonic":
        return isotonic
    fit = _BIASED[method]
    return lambda texts: fit(texts, start=setting.bias_start(texts), penalty=penalty)


def candidates(setting: Setting, n_labelled: int) -> dict[str, Fit]:
    """Return what `auto` weighs: the fits that so many labels allow, by name."""
    penalty = setting.penalty
    allowed: dict[str, Fit] = {
        "none": fit_of("none", setting),
        "temperature": fit_of("temperature", setting),
        "prior_matching+temperature": lambda texts: temperature(
            texts, bias=setting.matched(texts).bias, penalty=penalty
        ),
        "affine to zero": partial(affine, penalty=penalty),
        "affine to prior_matching": lambda texts: affine(
            texts, start=setting.matched(texts).bias, penalty=penalty
        ),
    }
    if n_labelled >= min_matrix_labels(setting.pool.shape[1]):
        allowed["matrix"] = fit_of("matrix", setting)
    return allowed


def min_matrix_labels(n_labels: int) -> int:
    """Return how many labelled texts `auto` needs to weigh a matrix of n_labels."""
    return max(_MIN_MATRIX_LABELS, _MIN_MATRIX_LABELS_A_CLASS * n_labels)


def required_tolerance(method: str, n_labels: int) -> float:
    """Return the tolerance at which texts must be scored for a method.

    A tolerance bounds the error of a probability, not of its logarithm, and shifts are
    made of logarithms. This is the tolerance at which a label of probability q is still
    known to a tenth of itself, q / 10, where q is the smallest probability that matters
    to the method: a tenth of an even share (1 / (10 n_labels)) for a logarithm of
    means, 1e-4 for a mean of logarithms, 1e-2 for a log loss.

    Parameters
    ----------
    method : str
        One of `METHODS`.
    n_labels : int

    Returns
    -------
    float
        For `ZeroShotClassifier(tolerance=…)`. 1: any tolerance will do.

    Examples
    --------
    >>> required_tolerance("prior_matching", 5), required_tolerance("batch", 5)
    (0.001, 1e-05)
    """
    if method == "none":
        return 1.0
    if method in ("batch", "pmi"):
        return 1e-5
    if method in ("temperature", BY_COUNT, "isotonic"):
        return 1e-3
    return min(1e-3, 0.01 / n_labels)
