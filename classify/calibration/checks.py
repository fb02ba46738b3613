"""Checks of a calibrator's arguments, and their conversion to arrays."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from classify.calibration.rows import FloatArray
from classify.errors import ConfigError, DataError, InputError, LabelError
from classify.labels.names import positions, suggestion
from classify.labels.values import check_column_names, label_values
from classify.scoring import LabelLogprobs
from classify.scoring.bounds import MAX_UNRESOLVED, is_open
from classify.wording import parameter

__all__ = [
    "CalibrationWarning",
    "as_logprobs",
    "checked_weights",
    "class_names",
    "codes_of",
    "target_prior",
    "warn_of_bounds",
]

# A prior of 0 would need an infinite shift.
_MIN_SHARE = 1e-6
# From so many rows on it is no accident that all of them sum to 1.
_TELLING_ROWS = 5
_MAX_LISTED = 8


class CalibrationWarning(UserWarning):
    """A calibration succeeded, but its result may be unreliable."""


def as_logprobs(
    values: Any, *, what: str, classes: npt.NDArray[Any] | None = None
) -> FloatArray:
    """Return the log-probabilities that were passed, as C-contiguous float64.

    Parameters
    ----------
    values : LabelLogprobs or array-like of float, shape (n_texts, n_labels)
    what : str
        The name of the argument, for messages.
    classes : ndarray, shape (n_labels,), default=None
        The labels of the columns, where they are known.

    Returns
    -------
    ndarray of float64, shape (n_texts, n_labels)

    Raises
    ------
    InputError
        NaN or +inf, a row of -inf only, a wrong shape, or probabilities.
    LabelError
        A `LabelLogprobs` of other labels.
    """
    if isinstance(values, LabelLogprobs):
        if classes is not None:
            _check_same_labels(values, classes, what)
        values = values.values
    try:
        array = np.ascontiguousarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(
            f"{what} must be a LabelLogprobs or an array of log-probabilities. Got "
            f"{type(values).__name__} instead, which contains something that is not a "
            "number."
        ) from None
    if array.ndim != 2 or array.shape[1] < 2:
        raise InputError(
            f"{what} must have a row for each text and a column for each of at least "
            f"two labels. Got shape {np.shape(values)} instead."
        )
    if classes is not None and array.shape[1] != len(classes):
        raise InputError(
            f"{what} has {array.shape[1]} columns, but there are {len(classes)} "
            f"classes: {listed(classes)}. Pass one column for each, in this order."
        )
    check_column_names(values, classes, what)
    _check_cells(array, what)
    return array


def _check_same_labels(
    scores: LabelLogprobs, classes: npt.NDArray[Any], what: str
) -> None:
    if scores.classes.tolist() != classes.tolist():
        raise LabelError(
            f"{what} has the labels {listed(scores.classes)}, but the calibrator is "
            f"for {listed(classes)}. Score with the same labels, or fit another "
            "calibrator."
        )


def _check_cells(array: FloatArray, what: str) -> None:
    wrong = np.argwhere(np.isnan(array) | np.isposinf(array))
    if wrong.size:
        row, column = wrong[0]
        raise InputError(
            f"{what} holds {array[row, column]} in row {row}, column {column}. "
            "Log-probabilities are finite, or -inf for an impossible label: leave out "
            "the texts that could not be scored."
        )
    hopeless = np.flatnonzero(np.isneginf(array).all(axis=1))
    if hopeless.size:
        raise InputError(
            f"Row {hopeless[0]} of {what} is -inf for every label: no label is "
            "possible there. Leave the text out, or check its candidates and the label "
            "words."
        )
    if (
        len(array) >= _TELLING_ROWS
        and array.min() >= 0.0
        and np.allclose(array.sum(axis=1), 1.0, rtol=0.0, atol=1e-6)
    ):
        raise InputError(
            f"{what} holds probabilities: its rows sum to 1. Log-probabilities are "
            "needed: pass the LabelLogprobs, or predict_log_proba(texts)."
        )


def class_names(values: Any, given: Any, y: Any, n_columns: int) -> npt.NDArray[Any]:
    """Return the label of each column.

    Parameters
    ----------
    values : LabelLogprobs or array of shape (n_texts, n_labels)
        A `LabelLogprobs` brings its own.
    given : sequence of str or int, or None
        The labels as declared, in the order of the columns.
    y : sequence of str or int, or None
        Names the columns of an array, if nothing else does: by its sorted values if
        there is one for each column, or as numbers of columns.
    n_columns : int

    Raises
    ------
    LabelError
        Labels repeat, do not fit the columns, or differ from those of the scores.
    """
    declared = None if given is None else _declared(given)
    if isinstance(values, LabelLogprobs):
        if declared is not None and set(declared) != set(values.classes.tolist()):
            raise LabelError(
                f"classes names {listed(declared)}, but the scores are for "
                f"{listed(values.classes)}. Leave classes out: scores bring their own."
            )
        return values.classes
    if declared is not None:
        if len(declared) != n_columns:
            raise LabelError(
                f"classes names {len(declared)} labels, but there are {n_columns} "
                "columns: name one for each, in their order."
            )
        check_column_names(values, declared, "label_logprobs")
        return np.array(declared)
    if y is None:
        return np.arange(n_columns)
    found = _classes_of_y(y, n_columns)
    check_column_names(values, found, "label_logprobs")
    return found


def _declared(given: Any) -> list[Any]:
    if isinstance(given, str) or np.ndim(given) != 1:
        raise LabelError(
            f"classes must be a list of labels, one for each column. Got {given!r} "
            "instead."
        )
    names = label_values(given, "classes")
    twice = sorted({str(name) for name in names if names.count(name) > 1})
    if twice:
        raise LabelError(
            f"classes names {listed(twice)} more than once: each column has a label of "
            "its own."
        )
    return names


def _classes_of_y(y: Any, n_columns: int) -> npt.NDArray[Any]:
    found = np.unique(label_values(y))
    if len(found) == n_columns:
        return found
    is_number = np.issubdtype(found.dtype, np.integer)
    if is_number and found.size and found[0] >= 0 and found[-1] < n_columns:
        return np.arange(n_columns)
    raise LabelError(
        f"y holds {len(found)} labels, but there are {n_columns} columns, so it is "
        "not clear which is which: pass classes=[…] in the order of the columns."
    )


def codes_of(y: Any, classes: npt.NDArray[Any], n_texts: int) -> npt.NDArray[np.int64]:
    """Return the column of each true label, shape (n_texts,).

    Raises
    ------
    DataError
        `y` has another length than there are texts.
    LabelError
        It holds a label that is none of the classes.
    """
    true = label_values(y)
    if len(true) != n_texts:
        raise DataError(
            f"y must hold one label for each of the {n_texts} texts. Got shape "
            f"({len(true)},) instead."
        )
    codes = positions(true, classes.tolist())
    if None in codes:
        row = codes.index(None)
        name = true[row]
        hint = suggestion(name, list(map(str, classes.tolist())))
        raise LabelError(
            f"Text {row} has the label {name!r} in y, which is none of the classes: "
            f"{listed(classes)}.{hint} Correct the label, or leave the text out."
        )
    return np.array(codes, dtype=np.int64)


def checked_weights(weights: Any, n_texts: int) -> FloatArray:
    """Return sample weights, shape (n_texts,); ones if None.

    Raises
    ------
    DataError
        Their number is not that of the texts, or one is negative or not finite, or all
        are 0.
    """
    if weights is None:
        return np.ones(n_texts)
    array = np.asarray(weights, dtype=np.float64)
    if array.shape != (n_texts,):
        raise DataError(
            f"sample_weight must hold one weight for each of the {n_texts} texts. Got "
            f"shape {array.shape} instead."
        )
    if not np.isfinite(array).all() or array.min() < 0.0 or not array.any():
        raise DataError(
            "sample_weight must be finite and at least 0, and not 0 throughout. Got "
            f"values from {array.min()} to {array.max()} instead."
        )
    return array


def target_prior(
    prior: Any, classes: npt.NDArray[Any], shares: FloatArray | None
) -> FloatArray:
    """Return the share that each label should have, positive and of sum 1.

    Parameters
    ----------
    prior : {"uniform", "labels"}, mapping of label to share, or sequence of float
    classes : ndarray, shape (n_labels,)
    shares : ndarray of float64, shape (n_labels,), or None
        Of the true labels, for "labels".

    Returns
    -------
    ndarray of float64, shape (n_labels,)

    Raises
    ------
    ConfigError
        It is none of these, has no share for a class, or does not sum to 1.
    """
    if isinstance(prior, str):
        values = _named_prior(prior, len(classes), shares)
    elif isinstance(prior, Mapping):
        if set(prior) != set(classes.tolist()):
            raise ConfigError(
                f"{parameter('prior')} names {listed(list(prior))}, but the "
                f"classes are {listed(classes)}. Give a share for each of them."
            )
        values = np.array([prior[name] for name in classes.tolist()], dtype=np.float64)
    else:
        values = np.asarray(prior, dtype=np.float64)
    if values.shape != classes.shape:
        raise ConfigError(
            f"{parameter('prior')} must have a share for each of the "
            f"{len(classes)} classes. Got shape {values.shape} instead."
        )
    if not (values >= 0.0).all() or abs(values.sum() - 1.0) > 1e-6:
        raise ConfigError(
            f"{parameter('prior')} must hold shares from 0 to 1 that sum to 1. Got "
            f"{values.tolist()} instead, of sum {values.sum():g}."
        )
    values = np.maximum(values, _MIN_SHARE)
    return np.asarray(values / values.sum(), dtype=np.float64)


def _named_prior(name: str, n_labels: int, shares: FloatArray | None) -> FloatArray:
    if name == "uniform":
        return np.full(n_labels, 1.0 / n_labels)
    if name != "labels":
        raise ConfigError(
            f"{parameter('prior')} must be 'uniform', 'labels', a share for each class "
            f"in a list, or a mapping of classes to shares. Got {name!r} instead."
        )
    if shares is None:
        raise ConfigError(
            f"{parameter('prior', 'labels')} takes the shares of the true labels, and "
            f"there are none: give {parameter('y')}, or the shares themselves."
        )
    return shares


def listed(names: Sequence[Any] | npt.NDArray[Any]) -> str:
    """Return names for a message; of many the first few."""
    shown = [repr(name) for name in np.asarray(names).tolist()[:_MAX_LISTED]]
    left = len(names) - len(shown)
    return ", ".join(shown) + (f", … ({left} more)" if left else "")


def warn_of_bounds(values: Any, what: str, *, stacklevel: int) -> None:
    """Warn of scores that are fitted to as estimates, since they are not known."""
    if not isinstance(values, LabelLogprobs):
        return
    coarse = is_open(values)
    if coarse.any():
        warnings.warn(
            f"{what} is fitted to estimates: for {int(coarse.sum())} of the "
            f"{len(values)} texts, more than {MAX_UNRESOLVED:.0%} of the label mass is "
            "unknown. The guarantees of thresholds and sets still hold, but "
            "probabilities may be worse than the figures say. Use an engine that shows "
            f"every token, {parameter('strategy', 'exact')} and no shortlist.",
            CalibrationWarning,
            stacklevel=stacklevel + 1,
        )
