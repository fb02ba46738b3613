"""Labels with numbers: the expected value of a text, its spread and its quantiles."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from classify.decision.posteriors import Posteriors
from classify.labels import LabelSet
from classify.scoring import Interval

if TYPE_CHECKING:
    from classify.tables import ResultKind

__all__ = ["Ordinal", "expected_value", "quantiles", "standard_deviation"]

FloatArray = npt.NDArray[np.float64]

_LEVELS = {"q10": 0.1, "q50": 0.5, "q90": 0.9}
# Sums of probabilities miss a level by rounding.
_SLACK = 1e-12


def expected_value(proba: npt.ArrayLike, values: npt.ArrayLike) -> FloatArray:
    """Return sum_k p_k v_k of each text, shape (n_texts,).

    Parameters
    ----------
    proba : array-like of float, shape (n_texts, n_labels)
        Probabilities; rows sum to 1.
    values : array-like of float, shape (n_labels,)
        The number of each label.

    Examples
    --------
    >>> expected_value([[0.5, 0.25, 0.25]], [1, 2, 4]).tolist()
    [2.0]
    """
    shares, low, span = _on_scale(values)
    return low + span * _mean(proba, shares)


def standard_deviation(proba: npt.ArrayLike, values: npt.ArrayLike) -> FloatArray:
    """Return sqrt(sum_k p_k (v_k - expected value)^2) of each text, shape (n_texts,).

    Parameters are those of `expected_value`.

    Examples
    --------
    >>> standard_deviation([[0.5, 0.0, 0.5], [1.0, 0.0, 0.0]], [1, 2, 3]).tolist()
    [1.0, 0.0]
    """
    shares, _, span = _on_scale(values)
    distances = shares - _mean(proba, shares)[:, None]
    return np.asarray(span * np.sqrt((np.asarray(proba) * distances**2).sum(axis=1)))


def quantiles(
    proba: npt.ArrayLike, values: npt.ArrayLike, levels: Sequence[float]
) -> FloatArray:
    """Return the least value that is not exceeded with each probability.

    Parameters
    ----------
    proba, values
        Those of `expected_value`.
    levels : sequence of float
        From 0 to 1.

    Returns
    -------
    ndarray of float64, shape (n_texts, n_levels)
        Values of labels.

    Examples
    --------
    >>> quantiles([[0.2, 0.5, 0.3]], [1, 2, 3], [0.1, 0.5, 0.9]).tolist()
    [[1.0, 2.0, 3.0]]
    """
    numbers = np.asarray(values, dtype=np.float64)
    order = np.argsort(numbers, kind="stable")
    below = np.asarray(proba, dtype=np.float64)[:, order].cumsum(axis=1)
    # What is beyond the last label by rounding belongs to it.
    reached = below[:, None, :-1] < np.asarray(levels)[None, :, None] - _SLACK
    return np.asarray(numbers[order][reached.sum(axis=2)])


@dataclass(frozen=True)
class Ordinal:
    """The kind of question whose labels are numbers on a scale.

    Attributes
    ----------
    values : dict of str to float
        The number of each label.
    """

    values: dict[str, float]

    @classmethod
    def of(cls, labels: LabelSet) -> "Ordinal":
        """Return the kind for labels with values."""
        values = (labels.values or {}).items()
        return cls({name: float(value) for value, name in values})

    @property
    def columns(self) -> "dict[str, ResultKind]":
        """Result columns besides the label and its probability, with their types."""
        names = ("expected", "standard_deviation", *_LEVELS)
        return dict.fromkeys(names, "float")

    @property
    def bounds(self) -> "dict[str, ResultKind]":
        """Further columns where bounds are asked for."""
        return {"expected_lower": "float", "expected_upper": "float"}

    def to_dict(self) -> dict[str, Any]:
        """Return what the columns depend on, in types that JSON has."""
        return {"ordinal": self.values}

    def results(self, posteriors: Posteriors) -> dict[str, npt.NDArray[np.float64]]:
        """Return these columns.

        Examples
        --------
        >>> kind = Ordinal.of(LabelSet.parse({1: "bad", 2: "fair", 4: "good"}))
        >>> classes = np.array(["bad", "fair", "good"])
        >>> posteriors = Posteriors(np.log([[0.5, 0.25, 0.25]]), classes, None)
        >>> kind.results(posteriors)["expected"].tolist()
        [2.0]
        """
        assert posteriors.classes is not None, "of labels"
        proba = np.exp(posteriors.log_proba)
        values = [self.values[name] for name in posteriors.classes.tolist()]
        cut = quantiles(proba, values, list(_LEVELS.values()))
        expected = expected_value(proba, values)
        least, greatest = _expected_bounds(posteriors.around, values)
        return {
            "expected": expected,
            "standard_deviation": standard_deviation(proba, values),
            **{name: cut[:, at] for at, name in enumerate(_LEVELS)},
            # Of exact probabilities they differ by rounding alone.
            "expected_lower": np.minimum(least, expected),
            "expected_upper": np.maximum(greatest, expected),
        }


def _expected_bounds(interval: Interval, values: Sequence[float]) -> Interval:
    """Return the least and greatest expected value of probabilities with sum 1."""
    lower, upper = (np.exp(each) for each in interval)
    order = np.argsort(values, kind="stable")
    # All have their lower bounds; what is left goes to the least, or greatest, values.
    left = (1.0 - lower.sum(axis=1, keepdims=True)).clip(0.0)
    found = []
    for which in (order, order[::-1]):
        room = (upper - lower)[:, which]
        taken = np.minimum((left - room.cumsum(axis=1) + room).clip(0.0), room)
        proba = lower[:, which] + taken
        found.append(expected_value(proba, np.asarray(values)[which]))
    return Interval(*found)


def _on_scale(values: npt.ArrayLike) -> tuple[FloatArray, float, float]:
    """Return values as shares of the way from the least to the greatest, and these.

    So that squares of large numbers do not overflow.
    """
    numbers = np.asarray(values, dtype=np.float64)
    low, span = float(numbers.min()), float(numbers.max() - numbers.min())
    return (numbers - low) / (span or 1.0), low, span


def _mean(proba: npt.ArrayLike, shares: FloatArray) -> FloatArray:
    # A row may exceed a sum of 1 by rounding.
    return np.asarray((np.asarray(proba) @ shares).clip(0.0, 1.0))
