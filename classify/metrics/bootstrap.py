"""Intervals of any metric, from resampled texts."""

import warnings
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from classify.errors import ConfigError, InputError
from classify.metrics.labelled import check_lengths

__all__ = ["BootstrapInterval", "bootstrap_interval"]

_METHODS = {"percentile": "percentile", "bca": "BCa"}
_MAX_INDICES = 4_000_000  # 32 MB


class BootstrapInterval(NamedTuple):
    """An interval of a metric.

    Attributes
    ----------
    low, high : float
        Ends of the interval.
    value : float
        The metric of all texts.
    """

    low: float
    high: float
    value: float


def bootstrap_interval(
    metric: Callable[..., float],
    *arrays: Any,
    confidence_level: float = 0.95,
    n_resamples: int = 1000,
    random_state: int = 0,
    method: Literal["percentile", "bca"] = "percentile",
) -> BootstrapInterval:
    """Bootstrap interval of a metric, resampling texts.

    A resample draws as many texts as there are, with replacement, and takes their rows
    in all arrays jointly.

    Parameters
    ----------
    metric : callable
        Takes the arrays, returns a number. Options are bound with a lambda or
        ``functools.partial``; give `classes` that way, since a resample may lack one.
    *arrays : array-like, each of n_texts rows
    confidence_level : float, default=0.95
    n_resamples : int, default=1000
    random_state : int, default=0
        Seed: the same one gives the same interval.
    method : {"percentile", "bca"}, default="percentile"
        "percentile": quantiles of the resampled values. "bca": corrected for bias and
        skewness, at the price of n_texts more calls of `metric`.

    Returns
    -------
    BootstrapInterval

    References
    ----------
    Efron, Tibshirani: An Introduction to the Bootstrap, 1993, chapters 13 and 14.

    Examples
    --------
    >>> from sklearn.metrics import accuracy_score
    >>> y_true, y_pred = [0, 1] * 20, [0, 0] * 5 + [0, 1] * 15
    >>> interval = bootstrap_interval(accuracy_score, y_true, y_pred)
    >>> interval.low < interval.value == 0.875 < interval.high
    True
    """
    if method not in _METHODS:
        raise ConfigError(
            f"method must be 'percentile' or 'bca'. Got {method!r} instead."
        )
    if not 0.0 < confidence_level < 1.0:
        raise ConfigError(
            f"confidence_level must lie between 0 and 1. Got {confidence_level!r} "
            "instead."
        )
    if not arrays:
        raise InputError("Give the arrays that the metric takes after the metric.")
    rows = [np.asarray(array) for array in arrays]
    check_lengths(**{f"array {at}": array for at, array in enumerate(rows)})
    if len(rows[0]) < 2:
        raise InputError(
            "An interval needs at least 2 texts to resample. There is only 1."
        )

    # scipy.stats takes half a second to load.
    from scipy.stats import DegenerateDataWarning, bootstrap

    def resampled(drawn: npt.NDArray[np.int64]) -> float:
        return float(metric(*(array[drawn] for array in rows)))

    # Where there is no interval its ends are NaN, which is told below.
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        warnings.simplefilter("ignore", DegenerateDataWarning)
        found = bootstrap(
            (np.arange(len(rows[0])),),
            resampled,
            vectorized=False,
            confidence_level=confidence_level,
            n_resamples=n_resamples,
            # All at once would hold n_resamples times n_texts indices.
            batch=max(1, _MAX_INDICES // len(rows[0])),
            method=_METHODS[method],
            rng=np.random.default_rng(random_state),
        ).confidence_interval
    if np.isnan([found.low, found.high]).any():
        raise InputError(
            f"The {method} interval does not exist here: the metric is NaN, or the "
            'same, in too many resamples. Use method="percentile" and a metric that '
            "is defined for every resample."
        )
    return BootstrapInterval(
        float(found.low), float(found.high), resampled(np.arange(len(rows[0])))
    )
