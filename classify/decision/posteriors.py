"""Class log-probabilities, on which decisions are based."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from classify.errors import InputError, LabelError
from classify.labels.values import check_column_names
from classify.metrics.labelled import check_classes, check_log_proba
from classify.scoring import Interval, LabelBounds, LabelLogprobs
from classify.scoring.bounds import is_exact, is_open

__all__ = ["ClassPosteriors", "LabelPosteriors", "Posteriors", "posteriors_of"]

FloatArray = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@runtime_checkable
class ClassPosteriors(Protocol):
    """Anything that knows its classes, such as `LabelLogprobs`."""

    @property
    def log_proba(self) -> FloatArray:
        """Shape (n_texts, n_labels): normalised log-probabilities."""

    @property
    def classes(self) -> npt.NDArray[Any]:
        """Shape (n_labels,): the class of each column."""

    @property
    def label_mass(self) -> FloatArray:
        """Shape (n_texts,): how probable it was that a label is the answer."""


class Calibration(Protocol):
    """Corrects label scores, as `LabelCalibrator` does."""

    def transform(self, label_logprobs: LabelLogprobs) -> FloatArray:
        """Return calibrated log-probabilities."""

    def bounds(self, label_logprobs: LabelLogprobs) -> LabelBounds:
        """Return what is known of them."""


class Known(NamedTuple):
    """Bounds of the most likely class of each text, and of its probability.

    Attributes
    ----------
    lower, upper : ndarray of float64, shape (n_texts,)
        Bounds of the probability.
    certain : ndarray of bool, shape (n_texts,)
        Whether no other class can be more likely.
    """

    lower: FloatArray
    upper: FloatArray
    certain: npt.NDArray[np.bool_]


class Posteriors(NamedTuple):
    """Checked log-probabilities.

    Attributes
    ----------
    log_proba : ndarray of float64, shape (n_texts, n_labels)
        Natural logarithms; the probabilities of a row sum to 1. Estimates where not
        everything is known.
    classes : ndarray, shape (n_labels,), or None
        The class of each column; None if it is not known.
    label_mass : ndarray of float64, shape (n_texts,), or None
        None for a bare array.
    bounds : LabelBounds or None
        What is known of the labels' scores; None: `log_proba` is exact.
    resolved_mass : ndarray of float64, shape (n_texts,), or None
        What the label mass is at least; None: `label_mass` is exact.
    is_open : ndarray of bool, shape (n_texts,), or None
        Whether decisions go by the bounds, since more than `MAX_UNRESOLVED` is not
        resolved; None: nowhere.
    """

    log_proba: FloatArray
    classes: npt.NDArray[Any] | None
    label_mass: FloatArray | None
    bounds: LabelBounds | None = None
    resolved_mass: FloatArray | None = None
    is_open: npt.NDArray[np.bool_] | None = None

    @classmethod
    def of(
        cls, scores: LabelLogprobs, calibration: Calibration | None = None
    ) -> "Posteriors":
        """Return the probabilities that scores give labels, calibrated or not."""
        source, bounds = calibration, None
        log_proba = scores.log_proba if source is None else source.transform(scores)
        # Bounds cost ten times what the rest does: only those of texts that need them.
        partly = ~is_exact(scores)
        if partly.any():
            some = scores[partly]
            of_some = some.bounds if source is None else source.bounds(some)
            bounds = of_some.among(partly, log_proba)
        return cls(
            log_proba,
            scores.classes,
            scores.label_mass,
            bounds,
            scores.resolved_mass,
            is_open(scores),
        )

    @property
    def around(self) -> Interval:
        """Bounds of `log_proba`, which lies between them."""
        if self.bounds is None:
            return Interval(self.log_proba, self.log_proba)
        return self.bounds.around(self.log_proba)

    @property
    def interval(self) -> Interval:
        """Bounds of `log_proba` to decide by, which lies between them.

        They are equal to it for texts that are not open. A calibration may widen the
        bounds of scores that are known well enough, and withholding answers because of
        that would not help: the threshold was fitted to scores that are as good.
        """
        if self.is_open is None or not self.is_open.any():
            return Interval(self.log_proba, self.log_proba)
        lower, upper = self.around
        is_open = self.is_open[:, None]
        return Interval(
            np.where(is_open, lower, self.log_proba),
            np.where(is_open, upper, self.log_proba),
        )

    def known(self, tolerance: float) -> Known:
        """Return the bounds; another class may be more likely by the tolerance."""
        n_texts = len(self.log_proba)
        if not n_texts:  # then there may be no column either
            return Known(np.empty(0), np.empty(0), np.empty(0, dtype=np.bool_))
        certain, best = np.ones(n_texts, dtype=np.bool_), self.best
        if self.bounds is not None:
            certain = self.bounds.is_certain(best, tolerance)
        lower, upper = self.around
        of_best = np.arange(n_texts), best
        return Known(np.exp(lower[of_best]), np.exp(upper[of_best]), certain)

    @property
    def best(self) -> npt.NDArray[np.int64]:
        """Shape (n_texts,): column of the most likely class, the first if tied."""
        return np.asarray(self.log_proba.argmax(axis=1))


class LabelPosteriors(NamedTuple):
    """p(label applies) for each label, and its bounds.

    Attributes
    ----------
    proba : ndarray of float64, shape (n_texts, n_labels)
        Estimates where not everything is known.
    lower, upper : ndarray of float64, shape (n_texts, n_labels)
        Bounds, both inclusive; equal to `proba` where everything is known.
    least, most : ndarray of float64, shape (n_texts, n_labels)
        Bounds to decide by; see `Posteriors.interval`.
    """

    proba: FloatArray
    lower: FloatArray
    upper: FloatArray
    least: FloatArray
    most: FloatArray

    @classmethod
    def of(
        cls,
        scores: LabelLogprobs,
        labels: Sequence[str],
        calibrations: Mapping[str, Calibration] | None = None,
    ) -> "LabelPosteriors":
        """Return the probabilities from the answers about labels, calibrated or not.

        Parameters
        ----------
        scores : LabelLogprobs
            Of the answers no and yes: a row for each label of each text, text by text.
        labels : sequence of str, length n_labels
        calibrations : mapping of str to Calibration, default=None
            By label.
        """
        if not len(scores):  # then there may be no column either
            return cls.exact(np.empty((0, len(labels))))
        found = [
            Posteriors.of(scores[at :: len(labels)], (calibrations or {}).get(label))
            for at, label in enumerate(labels)
        ]
        of_labels = [(each.log_proba, *each.around, *each.interval) for each in found]
        return cls(
            *(
                np.exp(np.stack([answers[:, 1] for answers in each], axis=1))
                for each in zip(*of_labels, strict=True)
            )
        )

    @classmethod
    def exact(cls, proba: FloatArray) -> "LabelPosteriors":
        """Return probabilities that are known."""
        return cls(proba, proba, proba, proba, proba)

    def given(self, thresholds: FloatArray) -> Flags:
        """Return which labels certainly reach their thresholds."""
        return np.asarray(self.least >= thresholds)

    def uncertain(self, thresholds: FloatArray) -> Flags:
        """Return which labels may reach their thresholds, but not certainly."""
        return np.asarray(self.most >= thresholds) & ~self.given(thresholds)


def posteriors_of(X: Any, classes: Any = None) -> Posteriors:
    """Read posteriors out of an object that has them, or of an array.

    Parameters
    ----------
    X : ClassPosteriors or array-like of float, shape (n_texts, n_labels)
        In an array, rows of probabilities that sum to 1, or of their natural
        logarithms. It cannot be mistaken which: two or more log-probabilities have one
        below 0 among them, and probabilities have none.
    classes : array-like, shape (n_labels,), default=None
        The class of each column; must be those of `X` if it says them.

    Returns
    -------
    Posteriors

    Examples
    --------
    >>> posteriors_of([[0.5, 0.5], [1.0, 0.0]]).log_proba.round(2).tolist()
    [[-0.69, -0.69], [0.0, -inf]]
    """
    if isinstance(X, ClassPosteriors):
        named = np.asarray(X.classes)
        if classes is not None and named.tolist() != np.asarray(classes).tolist():
            raise LabelError(
                f"The classes of X are {_listed(named)}, but {_listed(classes)} were "
                "expected: give posteriors of the same classes, in the same order."
            )
        return Posteriors(
            _log_proba(X.log_proba),
            named,
            np.asarray(X.label_mass),
            getattr(X, "bounds", None),
            getattr(X, "resolved_mass", None),
            is_open(X) if isinstance(X, LabelLogprobs) else getattr(X, "is_open", None),
        )
    log_proba = _log_proba(X)
    if classes is not None:
        classes = check_classes(classes, log_proba.shape[1])
        check_column_names(X, classes, "X")
    return Posteriors(log_proba, classes, None)


def _log_proba(X: Any) -> FloatArray:
    values = np.asarray(X, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] < 2:
        raise InputError(
            "X must have a row for each text and a column for each of 2 or more "
            f"classes. Its shape is {values.shape}."
        )
    if not (values < 0.0).any():
        with np.errstate(divide="ignore"):
            values = np.log(values)
    check_log_proba(
        values,
        "X",
        "Give probabilities that sum to 1 in each row, or their natural logarithms.",
    )
    return values


def _listed(classes: Any) -> str:
    return ", ".join(map(repr, np.asarray(classes).tolist()))
