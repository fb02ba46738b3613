"""The labels of texts, as in `y`: plain values, without missing ones."""

import logging
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from classify.cells import is_missing
from classify.errors import DataError, LabelError
from classify.labels.label_set import Labels, LabelSet
from classify.labels.names import plain

__all__ = [
    "LabelValue",
    "LabelsOfY",
    "check_column_names",
    "known_labels",
    "label_values",
    "labels_of_y",
]

logger = logging.getLogger(__name__)

LabelValue: TypeAlias = str | int | float

_MAX_LISTED = 8


def label_values(y: Any, name: str = "y") -> list[LabelValue]:
    """Return the label of each text as Python has it.

    Parameters
    ----------
    y : array-like of str, int, bool, float or Enum, shape (n_texts,)
    name : str, default="y"
        What messages call it.

    Returns
    -------
    list of str, int or float, length n_texts

    Raises
    ------
    LabelError
        A label is missing (None, NaN, NA, NaT, masked) or of another type, strings and
        numbers are mixed, or there is more than one dimension.

    Examples
    --------
    >>> label_values(np.array(["a", "b"])), label_values([0, 1])
    (['a', 'b'], [0, 1])
    """
    array = np.asarray(y, dtype=object)
    if array.ndim != 1:
        raise LabelError(
            f"{name} must hold one label for each text, in one dimension. Got shape "
            f"{array.shape} instead."
        )
    values = [plain(value) for value in array.tolist()]
    is_masked = isinstance(y, np.ma.MaskedArray)
    masked = np.broadcast_to(y.mask if is_masked else False, array.shape)
    _check_present(values, masked, name)
    for at, value in enumerate(values):
        if not isinstance(value, LabelValue):
            raise LabelError(
                f"{name} holds {value!r} of type {type(value).__name__} in row {at}: "
                "give labels as strings."
            )
    n_strings = sum(isinstance(value, str) for value in values)
    if 0 < n_strings < len(values):
        odd = next(value for value in values if not isinstance(value, str))
        raise LabelError(
            f"{name} holds strings and numbers, such as {odd!r}: give every label as a "
            "string, or every label as a number."
        )
    return values


def check_column_names(values: Any, classes: Any, what: str) -> None:
    """Raise LabelError where a DataFrame has columns of these names in another order.

    Values are taken by position. Columns may be called ``p(label)``; names that are
    none of the classes say nothing.
    """
    columns = list(getattr(values, "columns", ()))
    if classes is None or not all(isinstance(name, str) for name in columns):
        return
    names = [re.sub(r"^p\((.*)\)$", r"\1", name, flags=re.DOTALL) for name in columns]
    known = [str(name) for name in classes]
    if names != known and not set(names).isdisjoint(known):
        raise LabelError(
            f"{what} has the columns {', '.join(map(repr, columns))}, but must have "
            f"one for each class, in this order: {', '.join(map(repr, known))}."
        )


class LabelsOfY(NamedTuple):
    """The contents of `y`.

    Attributes
    ----------
    labels : LabelSet
        With the values that stand for them in `y`, where these are numbers.
    names : list of str, length n_texts, or None
        The label of each text; None without `y`.
    """

    labels: LabelSet
    names: list[str] | None


def labels_of_y(declared: LabelSet | None, y: Any, n_texts: int) -> LabelsOfY:
    """Read `y`, given the labels that were declared.

    Scikit-learn's meta-estimators (stacking, voting, ``cross_val_predict`` of
    probabilities) replace the labels of `y` by their positions in sorted order. Where
    `y` holds exactly the numbers from 0 to n_labels - 1, they are read as that.

    Parameters
    ----------
    declared : LabelSet or None
        None: the labels are those in `y`.
    y : array-like, shape (n_texts,), or None
    n_texts : int

    Raises
    ------
    LabelError
        There are no labels at all; `y` holds numbers that no label is declared for, or
        a label that is not declared.
    DataError
        `y` has another length than there are texts.
    """
    if y is None:
        if declared is None:
            raise LabelError(
                "No labels: give `labels=[…]` to the classifier, or `y` to fit."
            )
        return LabelsOfY(declared, None)
    values = label_values(y)
    if len(values) != n_texts:
        raise DataError(
            f"y must hold one label for each of the {n_texts} texts. Got {len(values)} "
            "instead."
        )
    if declared is not None and declared.values is None:
        values = [declared.find(value) or value for value in values]
    labels = _labels(declared, sorted(set(values)))
    known: Mapping[Any, str] | None = labels.values
    names = [str(value) if known is None else known[value] for value in values]
    return LabelsOfY(labels, names)


def known_labels(declared: Labels | None, fitted: LabelSet | None) -> LabelSet | None:
    """Return the labels of an estimator: those declared, else those of `y`.

    `fit` may have given the declared ones the values that stand for them in `y`.
    """
    if declared is None:
        return fitted
    labels = LabelSet.parse(declared)
    is_same = fitted is not None and labels == fitted.with_values(None)
    return fitted if is_same else labels


def _labels(declared: LabelSet | None, found: Sequence[LabelValue]) -> LabelSet:
    if declared is None:
        if not found or isinstance(found[0], str):
            return LabelSet.parse(found)
        raise LabelError(
            f"y holds {_listed(found)}, which means nothing to a language model: give "
            f"{_mapping_hint(found)}, with a name for each value. Where scikit-learn "
            "numbered the labels (stacking, voting, cross_val_predict), give "
            "labels=[…], the names that it numbered."
        )
    known = declared.names if declared.values is None else declared.values
    unknown = [value for value in found if value not in known]
    if not unknown:
        return declared
    if declared.values is not None:
        raise LabelError(
            f"y holds {unknown[0]!r}, which is none of the values that the labels are "
            f"for: {_listed(list(declared.values))}. Correct y, or add the value and "
            "its name to labels."
        )
    if isinstance(unknown[0], str):
        raise LabelError(f"In y, {declared.unknown(unknown[0])}")
    return declared.with_values(_numbered(declared, found))


def _numbered(declared: LabelSet, found: Sequence[LabelValue]) -> dict[int, str]:
    """Return the names by their positions in sorted order, if `y` holds just these."""
    names = sorted(declared.names)
    if list(found) != list(range(len(names))) or isinstance(found[0], bool | float):
        raise LabelError(
            f"y holds {_listed(found)}, but the labels are {_listed(names)}. Give y as "
            f"names, or say which value is which: {_mapping_hint(found)}. "
            "Scikit-learn's own numbers (stacking, voting, cross_val_predict) are "
            f"accepted where y holds all of them, 0 to {len(names) - 1}."
        )
    if names != list(declared.names):
        _warn_of_order(tuple(names))
    return dict(enumerate(names))


@cache
def _warn_of_order(names: tuple[str, ...]) -> None:
    """Log, once, which number was read as which label."""
    logger.warning(
        "y holds numbers, which are read as scikit-learn numbers labels, in sorted "
        "order: %s. If y numbers them otherwise, give labels={0: …, 1: …}.",
        ", ".join(f"{at} is {name!r}" for at, name in enumerate(names)),
    )


def _check_present(
    values: Sequence[Any], masked: npt.NDArray[np.bool_], name: str
) -> None:
    missing = [at for at, value in enumerate(values) if masked[at] or is_missing(value)]
    if not missing:
        return
    rows = ", ".join(map(str, missing[:_MAX_LISTED]))
    left = len(missing) - _MAX_LISTED
    more = f", … ({left} more)" if left > 0 else ""
    raise LabelError(
        f"{name} has no label in row{'s' * (len(missing) > 1)} {rows}{more}: it is "
        f"missing (None, NaN, NA or masked). Fill it in, or leave the text out of X "
        f"and {name}."
    )


def _listed(values: Sequence[Any]) -> str:
    shown = ", ".join(map(repr, values[:_MAX_LISTED]))
    left = len(values) - _MAX_LISTED
    return f"{shown}, … ({left} more)" if left > 0 else shown


def _mapping_hint(values: Sequence[Any]) -> str:
    keys = [
        int(value) if value == int(value) and not isinstance(value, bool) else value
        for value in values[:2]
    ]
    first = ", ".join(f"{key!r}: '…'" for key in keys)
    return f"labels={{{first}{', …' * (len(values) > 2)}}}"
