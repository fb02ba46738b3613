"""The labels that apply to texts, as in `Y`: a column for each, 0 or 1."""

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from classify.cells import is_missing, shown
from classify.errors import DataError, LabelError
from classify.labels.label_set import LabelSet
from classify.labels.names import plain

__all__ = ["LabelIndicators", "indicators_of"]


class LabelIndicators(NamedTuple):
    """The contents of `Y`.

    Attributes
    ----------
    labels : LabelSet
        As declared, or the sorted names in `Y`.
    values : ndarray of int64, shape (n_texts, n_labels), or None
        Whether each label, sorted by name, applies to each text; None without `Y`.
    """

    labels: LabelSet
    values: npt.NDArray[np.int64] | None


def indicators_of(declared: LabelSet | None, Y: Any, n_texts: int) -> LabelIndicators:
    """Read `Y` together with the labels that were declared.

    Parameters
    ----------
    declared : LabelSet or None
        None: the labels are those that `Y` names.
    Y : array-like, shape (n_texts, n_labels); sequence of lists of names; or None
        0 or 1 for each label in sorted order, or as the columns of a DataFrame are
        named; or the names of the labels that apply to each text.
    n_texts : int

    Raises
    ------
    LabelError
        There are no labels at all, `Y` names one that is not declared, or holds
        something that is neither 0 nor 1.
    DataError
        `Y` has another shape than the texts and labels have.

    Examples
    --------
    >>> labels = LabelSet.parse(["shipping", "billing"])
    >>> indicators_of(labels, [["shipping"], []], 2).values
    array([[0, 1],
           [0, 0]])
    """
    if Y is None:
        if declared is None:
            raise LabelError(
                "No labels: give `labels=[…]` to the classifier, or `Y` to fit."
            )
        return LabelIndicators(declared, None)
    if hasattr(Y, "toarray"):
        Y = Y.toarray()  # sparse
    columns = getattr(Y, "columns", None)
    rows = list(np.asarray(Y)) if columns is not None else list(Y)
    if len(rows) != n_texts:
        raise DataError(
            f"Y must have one row for each of the {n_texts} texts. Got {len(rows)} "
            "instead."
        )
    if columns is None and _has_names(rows):
        return _of_names(declared, rows)
    if columns is not None:
        names = [plain(name) for name in columns]
    elif declared is not None:
        names = sorted(declared.names)
    else:
        raise LabelError(
            "Y holds no names, and no labels are declared: give `labels=[…]` to the "
            "classifier, or Y as lists of names."
        )
    labels = LabelSet.parse(sorted(names)) if declared is None else declared
    values = np.zeros((n_texts, len(labels)), dtype=np.int64)
    places = _places(labels, names)
    _check_columns(labels, names, places)
    for at, row in enumerate(rows):
        values[at, places] = _flags(row, at, len(names))
    return LabelIndicators(labels, values)


def _has_names(rows: Sequence[Any]) -> bool:
    """Whether rows list names: one of them holds a string, or nothing."""
    has_names = False
    for at, row in enumerate(rows):
        if isinstance(row, str) or not isinstance(row, Collection | np.ndarray):
            hint = f" Write [{row!r}]." if isinstance(row, str) else ""
            kind = "is missing" if is_missing(row) else f"is {shown(row)}"
            raise LabelError(
                f"Row {at} of Y {kind}: each row must be a list of label names, or a 0 "
                f"or 1 for each label.{hint}"
            )
        has_names = has_names or any(isinstance(plain(value), str) for value in row)
    return has_names or not all(len(row) for row in rows)


def _of_names(declared: LabelSet | None, rows: Sequence[Any]) -> LabelIndicators:
    named = [[plain(name) for name in row] for row in rows]
    for at, names in enumerate(named):
        odd = next((name for name in names if not isinstance(name, str)), None)
        if odd is not None:
            raise LabelError(
                f"Row {at} of Y holds {odd!r} in a list of label names: give every "
                "label as a string."
            )
    found = sorted({name for names in named for name in names})
    labels = LabelSet.parse(found) if declared is None else declared
    values = np.zeros((len(rows), len(labels)), dtype=np.int64)
    place_of = dict(zip(found, _places(labels, found), strict=True))
    for at, names in enumerate(named):
        values[at, [place_of[name] for name in names]] = 1
    return LabelIndicators(labels, values)


def _places(labels: LabelSet, names: Sequence[Any]) -> list[int]:
    """Return the column of each name."""
    order = sorted(labels.names)
    places = []
    for name in names:
        known = labels.find(name)
        if known is None:
            raise LabelError(f"In Y, {labels.unknown(name)}")
        places.append(order.index(known))
    return places


def _check_columns(
    labels: LabelSet, names: Sequence[Any], places: Sequence[int]
) -> None:
    """Raise unless each label has exactly one column."""
    for at, place in enumerate(places):
        if place in places[:at]:
            raise LabelError(f"Y has more than one column {names[at]!r}: remove one.")
    for place, name in enumerate(sorted(labels.names)):
        if place not in places:
            raise DataError(
                f"Y has no column for the label {name!r}: give one for each label."
            )


def _flags(row: Any, at: int, n_labels: int) -> list[int]:
    values = [plain(value) for value in row]
    if len(values) != n_labels:
        raise DataError(
            f"Y must have a column for each of the {n_labels} labels. Row {at} has "
            f"{len(values)} instead."
        )
    for value in values:
        is_gap = is_missing(value)  # pandas' NA can be compared with nothing
        if is_gap or value not in (0, 1):
            what = "a missing value" if is_gap else repr(value)
            raise LabelError(
                f"Row {at} of Y holds {what}: give 1 where a label applies and 0 where "
                "it does not, or lists of label names."
            )
    return [int(value) for value in values]
