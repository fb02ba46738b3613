"""Bounds on the probabilities of labels that are only partly known.

A label's score z is known as an interval, and p(label | text) = e^z / sum of e^z. So a
label has the least probability where its score is at its lower bound and those of all
others are at their upper bounds; if it is the most likely even there, it is for
certain.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from classify.trie import LabelMass

__all__ = ["MAX_UNRESOLVED", "Interval", "LabelBounds", "is_exact", "is_open"]

FloatArray = npt.NDArray[np.float64]

# Smaller differences are rounding: a tie of scores read in full is not a doubt.
_ROUNDING = 1e-9

# As a share of what is resolved; above, scores are estimates.
MAX_UNRESOLVED = 0.01


def is_exact(known: Any) -> npt.NDArray[np.bool_]:
    """Return which texts have all scores known, up to rounding, (n_texts,)."""
    reached = known.lower + _ROUNDING >= known.upper
    return np.asarray(reached.all(axis=1))


def is_open(scores: Any) -> npt.NDArray[np.bool_]:
    """Return which texts have too much unresolved label mass, (n_texts,).

    The scores of the others are used as they are.
    """
    return np.asarray(scores.unresolved > MAX_UNRESOLVED * scores.resolved_mass)


class Interval(NamedTuple):
    """Bounds, both inclusive.

    Attributes
    ----------
    lower, upper : ndarray of float64, shape (n_texts, n_labels)
    """

    lower: FloatArray
    upper: FloatArray


@dataclass(frozen=True, eq=False)
class LabelBounds:
    """Bounds of the scores of labels, and of the sum of e^score.

    Attributes
    ----------
    lower, upper : ndarray of float64, shape (n_texts, n_labels)
        Of each label's score, in nats; both -inf where it is impossible.
    least, most : ndarray of float64, shape (n_texts,)
        Bounds of log sum over labels of e^score. `most` is below that
        sum of the upper bounds where not all scores can reach theirs at once.

    Examples
    --------
    >>> lower, upper = np.log([[0.6, 0.1]]), np.log([[0.6, 0.3]])
    >>> scores = LabelBounds.of(lower, upper, most=np.log([0.9]))
    >>> lower, upper = scores.log_proba()
    >>> np.exp(lower).round(3).tolist(), np.exp(upper).round(3).tolist()
    ([[0.667, 0.143]], [[0.857, 0.333]])
    >>> scores.is_certain(np.array([0])).tolist()
    [True]
    """

    lower: FloatArray
    upper: FloatArray
    least: FloatArray
    most: FloatArray

    @classmethod
    def of(
        cls, lower: FloatArray, upper: FloatArray, most: FloatArray | None = None
    ) -> "LabelBounds":
        """Return bounds of scores, and of their sum as far as it follows from these."""
        greatest = _log_sum(upper)
        if most is not None:
            greatest = np.minimum(greatest, most)
        return cls(lower, upper, _log_sum(lower), greatest)

    @classmethod
    def of_mass(cls, mass: LabelMass) -> "LabelBounds":
        """Return the bounds of one text, n_texts = 1."""
        most = np.array([mass.most])
        return cls.at_most(mass.lower[None], mass.upper[None], most)

    @classmethod
    def at_most(
        cls, lower: FloatArray, upper: FloatArray, mass: FloatArray
    ) -> "LabelBounds":
        """Return bounds of scores that together have at most a mass, (n_texts,)."""
        with np.errstate(divide="ignore"):
            return cls.of(lower, upper, np.log(mass))

    @classmethod
    def of_proba(cls, interval: Interval) -> "LabelBounds":
        """Return bounds of log-probabilities, whose sum is known to be 1."""
        one = np.zeros(len(interval.lower))
        return cls(*interval, one, one)

    def among(
        self, rows: npt.NDArray[np.bool_], log_proba: FloatArray
    ) -> "LabelBounds":
        """Return these for some texts, among others whose probabilities are known.

        Parameters
        ----------
        rows : ndarray of bool, shape (n_all_texts,)
            Which texts these are.
        log_proba : ndarray of float64, shape (n_all_texts, n_labels)
        """
        one = np.zeros(len(log_proba))
        wider = LabelBounds(log_proba.copy(), log_proba.copy(), one, one.copy())
        for name in ("lower", "upper", "least", "most"):
            getattr(wider, name)[rows] = getattr(self, name)
        return wider

    def __getitem__(self, columns: npt.NDArray[np.int64] | list[int]) -> "LabelBounds":
        """Return the labels in another order."""
        own = self.lower[:, columns], self.upper[:, columns]
        return LabelBounds(*own, self.least, self.most)

    def log_proba(self) -> Interval:
        """Return bounds of log p(label | text)."""
        most = np.minimum(
            self.most[:, None], np.logaddexp(self.lower, _sum_of_others(self.upper))
        )
        least = np.maximum(
            self.least[:, None], np.logaddexp(self.upper, _sum_of_others(self.lower))
        )
        return Interval(_share(self.lower, most), _share(self.upper, least))

    def sum_of(self, columns: Sequence[int] | npt.NDArray[np.int64]) -> Interval:
        """Return bounds of log p(any of some labels | text), each (n_texts,)."""
        chosen = np.zeros(self.lower.shape[1], dtype=np.bool_)
        chosen[np.asarray(columns)] = True
        own, others = (
            [_log_sum(each[:, which]) for each in (self.lower, self.upper)]
            for which in (chosen, ~chosen)
        )
        most = np.minimum(self.most, np.logaddexp(own[0], others[1]))
        least = np.maximum(self.least, np.logaddexp(own[1], others[0]))
        return Interval(_share(own[0], most), _share(own[1], least))

    def around(self, log_proba: FloatArray) -> Interval:
        """Return bounds of log p(label | text) with the estimate between them.

        Where everything is known they are equal to it, and differ by no rounding.
        """
        known = is_exact(self)[:, None]
        if known.all():
            return Interval(log_proba, log_proba)
        lower, upper = self.log_proba()
        return Interval(
            np.where(known, log_proba, np.minimum(lower, log_proba)),
            np.where(known, log_proba, np.maximum(upper, log_proba)),
        )

    def is_certain(
        self, best: npt.NDArray[np.int64], tolerance: float = 0.0
    ) -> npt.NDArray[np.bool_]:
        """Shape (n_texts,): whether no other label can be more probable than one.

        Parameters
        ----------
        best : ndarray of int64, shape (n_texts,)
            The column of a label of each text.
        tolerance : float, default=0.0
            By how much another one may be more likely, as a share of all labels' mass.
        """
        others = np.where(self._is_open, self.upper, self.upper - _ROUNDING)
        np.put_along_axis(others, best[:, None], -np.inf, axis=1)
        own = np.take_along_axis(self.lower, best[:, None], axis=1)[:, 0]
        with np.errstate(divide="ignore"):
            slack = np.log(tolerance) + self.least
        highest = others.max(axis=1, initial=-np.inf)
        return np.asarray(highest < np.logaddexp(own, slack))

    def scaled(self, scale: FloatArray | float, bias: FloatArray) -> "LabelBounds":
        """Return bounds of a (z + b), with one scale a > 0 for all labels of a text.

        Parameters
        ----------
        scale : float, or ndarray of float64, shape (n_texts,)
        bias : ndarray of float64, shape (n_labels,)
        """
        each = np.broadcast_to(np.asarray(scale, dtype=np.float64), len(self.lower))
        column = each[:, None]
        lower, upper = column * (self.lower + bias), column * (self.upper + bias)
        added = np.where(
            each < 1.0,
            self._added_by_power(np.minimum(column, 1.0), bias),
            self._added_by_chord(np.maximum(column, 1.0), bias),
        )
        return LabelBounds.of(lower, upper, np.logaddexp(_log_sum(lower), added))

    # With v = e^z at its least, d >= 0 what is not resolved of it and w = e^(a b),
    # sum w (v + d)^a exceeds sum w v^a by no more than if all of sum d went where it
    # adds most.

    def _added_by_power(self, a: FloatArray, bias: FloatArray) -> FloatArray:
        """For a <= 1: (v + d)^a <= v^a + d^a, and sum w d^a is what Hölder allows."""
        rest = 1.0 - a
        weights = a * bias / np.where(rest > 0.0, rest, 1.0)
        weights = np.where(self._is_open, weights, -np.inf)
        weights[~self._is_open.any(axis=1)] = 0.0  # nothing can be added
        return np.asarray(a[:, 0] * self._log_open + rest[:, 0] * _log_sum(weights))

    def _added_by_chord(self, a: FloatArray, bias: FloatArray) -> FloatArray:
        """For a >= 1: z^a lies below its chord between the bounds of z."""
        upper = np.where(self._is_open, self.upper, 0.0)
        gap = np.where(self._is_open, self.lower, -np.inf) - upper
        slopes = a * bias + (a - 1.0) * upper
        slopes += np.log1p(-np.exp(a * gap)) - np.log1p(-np.exp(gap))
        slopes = np.where(self._is_open, slopes, -np.inf)
        return np.asarray(self._log_open + slopes.max(axis=1, initial=-np.inf))

    @property
    def _is_open(self) -> npt.NDArray[np.bool_]:
        return np.asarray(self.upper > self.lower)

    @property
    def _log_open(self) -> FloatArray:
        """The log of what is not resolved, shape (n_texts,)."""
        most = np.where(np.isneginf(self.most), 0.0, self.most)
        with np.errstate(divide="ignore"):
            share = np.log1p(-np.exp(np.minimum(_log_sum(self.lower) - most, 0.0)))
        return np.where(np.isneginf(self.most), -np.inf, most + share)


def _log_sum(values: FloatArray) -> FloatArray:
    # The initial -inf gives empty rows a sum of 0.
    found = np.logaddexp.reduce(values, axis=1, initial=-np.inf)
    return np.asarray(found, dtype=np.float64)


def _sum_of_others(values: FloatArray) -> FloatArray:
    """Return log sum of e^value over all other columns, small ones not lost."""
    edge = ((0, 0), (1, 1))
    padded = np.pad(values, edge, constant_values=-np.inf)
    before = np.logaddexp.accumulate(padded, axis=1)[:, :-2]
    behind = np.logaddexp.accumulate(padded[:, ::-1], axis=1)[:, ::-1][:, 2:]
    return np.asarray(np.logaddexp(before, behind))


def _share(own: FloatArray, total: FloatArray) -> FloatArray:
    """Return own - total, -inf where there is nothing."""
    nothing = np.isneginf(own)
    return np.where(nothing, -np.inf, own - np.where(nothing, 0.0, total))
