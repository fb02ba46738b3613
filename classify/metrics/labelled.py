"""Labels and probabilities, checked, as integer codes and float64 columns."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp

from classify.errors import InputError, LabelError
from classify.labels.names import positions, suggestion
from classify.labels.values import LabelValue, check_column_names, label_values

__all__ = [
    "LabelledProba",
    "check_classes",
    "check_lengths",
    "check_log_proba",
    "check_proba",
    "label_codes",
    "labelled_proba",
    "text_weights",
]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

# Rows in float32 or from a text file miss 1 by rounding; more is another quantity.
_SUM_TOLERANCE = 1e-4


class LabelledProba(NamedTuple):
    """Probabilities with the true label of each row.

    Attributes
    ----------
    codes : ndarray of int64, shape (n_texts,)
        Column of the true label.
    proba : ndarray of float64, shape (n_texts, n_labels)
        Rows sum to 1.
    """

    codes: IntArray
    proba: FloatArray

    @property
    def confidence(self) -> FloatArray:
        """Shape (n_texts,): probability of the most likely label."""
        return np.asarray(self.proba.max(axis=1))

    @property
    def correct(self) -> npt.NDArray[np.bool_]:
        """Shape (n_texts,): whether the most likely label (first if tied) is true."""
        return np.asarray(self.proba.argmax(axis=1) == self.codes)


def labelled_proba(y_true: Any, y_proba: Any, classes: Any = None) -> LabelledProba:
    """Check labels and probabilities, once, at the edge.

    Parameters
    ----------
    y_true : array-like, shape (n_texts,)
        Class names; without `classes`, numbers of columns of `y_proba`.
    y_proba : array-like of float, shape (n_texts, n_labels)
        Probabilities; rows sum to 1.
    classes : array-like, shape (n_labels,), default=None
        The class of each column; needed if `y_true` holds names.

    Returns
    -------
    LabelledProba

    Examples
    --------
    >>> labelled_proba(["no", "yes"], [[0.9, 0.1], [0.2, 0.8]], ["no", "yes"]).codes
    array([0, 1])
    """
    proba = check_proba(y_proba, "y_proba")
    codes = label_codes(y_true, classes, proba.shape[1], "y_true")
    check_column_names(y_proba, classes, "y_proba")
    check_lengths(y_true=codes, y_proba=proba)
    return LabelledProba(codes, proba)


def check_proba(values: Any, name: str) -> FloatArray:
    """Return probabilities as float64, shape (n_texts, n_labels), rows summing to 1."""
    proba = np.asarray(values, dtype=np.float64)
    if proba.ndim != 2 or 0 in proba.shape:
        raise InputError(
            f"{name} must have a row for each text and a column for each class, at "
            f"least one of both. Its shape is {proba.shape}."
        )
    sums = proba.sum(axis=1)
    # NaN fails both comparisons.
    good = (proba >= 0.0).all(axis=1) & (np.abs(sums - 1.0) <= _SUM_TOLERANCE)
    if not good.all():
        row = int(np.flatnonzero(~good)[0])
        raise InputError(
            f"Row {row} of {name} is not a probability distribution: its values go "
            f"from {proba[row].min():.6g} to {proba[row].max():.6g} and sum to "
            f"{sums[row]:.6g}. Give probabilities: at least 0, with sum 1 in each row."
        )
    return proba


def check_log_proba(log_proba: FloatArray, name: str, advice: str) -> None:
    """Raise InputError if the probabilities of a row do not sum to 1."""
    totals = logsumexp(log_proba, axis=1)
    # NaN fails the comparison.
    good = np.abs(totals) <= _SUM_TOLERANCE
    if not good.all():
        row = int(np.flatnonzero(~good)[0])
        raise InputError(
            f"Row {row} of {name} is not a probability distribution: its probabilities "
            f"sum to {np.exp(totals[row]):.6g}. {advice}"
        )


def label_codes(labels: Any, classes: Any, n_classes: int, name: str) -> IntArray:
    """Return the column of each label, shape (n_texts,).

    Integers are columns where classes have no names. Where they have, a number could
    also be a value that stands for a label, as in ``labels={0: …, 1: …}``.
    """
    values = label_values(labels, name)
    known = _known_labels(values, classes, n_classes, name)
    codes = positions(values, known.tolist())
    if None in codes:
        row = codes.index(None)
        hint = suggestion(values[row], list(map(str, known.tolist())))
        raise LabelError(
            f"{name}[{row}] is {values[row]!r}, which is not one "
            f"of the classes: {', '.join(map(repr, known.tolist()))}.{hint} Correct "
            "the label, or add a class and its column of probabilities."
        )
    return np.array(codes, dtype=np.int64)


def check_classes(classes: Any, n_classes: int) -> npt.NDArray[Any]:
    """Return the classes as an array: as many as there are columns, all different."""
    known = np.array(label_values(classes, "classes"))
    if len(known) != n_classes:
        raise InputError(
            f"classes must name each of the {n_classes} columns. Its shape is "
            f"{known.shape}."
        )
    if len(set(known.tolist())) < n_classes:
        raise LabelError(
            "classes must be different from each other. Got "
            f"{', '.join(map(repr, known.tolist()))}."
        )
    return known


def check_lengths(**arrays: Any) -> None:
    """Raise an InputError unless all arrays have the same number of rows, and some."""
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1 or 0 in lengths.values():
        found = ", ".join(f"{name} has {n}" for name, n in lengths.items())
        raise InputError(f"All arrays must have a value for each text: {found}.")


def text_weights(sample_weight: Any, n_texts: int) -> FloatArray:
    """Return the weight of each text, shape (n_texts,), with sum 1."""
    if sample_weight is None:
        return np.full(n_texts, 1.0 / n_texts)
    weights = np.asarray(sample_weight, dtype=np.float64)
    if (
        weights.shape != (n_texts,)
        or not (weights >= 0.0).all()
        or not 0.0 < weights.sum() < np.inf
    ):
        raise InputError(
            f"sample_weight must hold {n_texts} finite numbers, at least 0 and not all "
            f"0. Got {weights!r} instead."
        )
    return np.asarray(weights / weights.sum())


def _known_labels(
    values: Sequence[LabelValue], classes: Any, n_classes: int, name: str
) -> npt.NDArray[Any]:
    integers = all(isinstance(value, int) for value in values)
    if classes is None:
        if not integers:
            raise InputError(
                f"{name} holds {values[0]!r}, which is not a column of the "
                f"probabilities: give classes, the names of the {n_classes} columns in "
                "their order."
            )
        return np.arange(n_classes)
    known = check_classes(classes, n_classes)
    if values and integers and known.dtype.kind not in "iub":
        raise LabelError(
            f"{name} holds {values[0]!r}, but the classes are names: "
            f"{', '.join(map(repr, known.tolist()))}. Give the names, so that no "
            "number is taken for another label."
        )
    return known
