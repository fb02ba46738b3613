"""Rows and candidate labels from the cells that a user passed."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from classify.cells import (
    is_missing,
    no_text,
    shown,
    split_names,
    text_of,
    texts_list,
)
from classify.errors import DataError, InputError
from classify.rows.encoding import Row

__all__ = ["candidates_of_cells", "rows_of_cells", "rows_of_texts"]


def rows_of_texts(texts: Any, fields: Sequence[str]) -> list[Row | InputError]:
    """Return a row for each text; its error where the text is missing or empty.

    Parameters
    ----------
    texts : list, tuple, Series or array of str
    fields : sequence of str
        What the prompt needs; only ``("text",)`` can be had from bare texts.

    Raises
    ------
    InputError
        `texts` is a single string, has more than one dimension, or holds something
        that is not a string; or the prompt needs further columns.
    """
    values = texts_list(texts)
    if tuple(fields) != ("text",):
        others = ", ".join(repr(name) for name in fields if name != "text")
        raise InputError(
            f"The prompt needs the columns {others}: pass a DataFrame that has them."
        )
    for at, value in enumerate(values):
        if not (isinstance(value, str | bytes) or is_missing(value)):
            raise InputError(
                f"Texts must be strings. Text {at} is {shown(value)} of type "
                f"{type(value).__name__} instead: convert it first."
            )
    return rows_of_cells({"text": values})


def rows_of_cells(columns: Mapping[str, Sequence[Any]]) -> list[Row | InputError]:
    """Return rows of the cells of each of the prompt's fields; see `rows_of_frame`."""
    names = list(columns)
    return [
        _row(dict(zip(names, values, strict=True)))
        for values in zip(*columns.values(), strict=True)
    ]


def _row(cells: Mapping[str, Any]) -> Row | InputError:
    row = {}
    for name, value in cells.items():
        if type(value) is str and value.isascii():  # nearly all cells
            row[name] = value
            continue
        try:
            row[name] = text_of(value)
        except DataError as error:
            where = "the text" if name == "text" else f"column {name!r}"
            return DataError(f"{where} {error}")
    problem = no_text(row["text"] if "text" in row else "".join(row.values()))
    return DataError(problem) if problem else row


def candidates_of_cells(
    cells: Iterable[Any], column: str
) -> list[Sequence[str] | InputError]:
    """Return the candidate labels that cells of a column list."""
    return [_candidates(value, column) for value in cells]


def _candidates(cell: Any, column: str) -> Sequence[str] | InputError:
    try:
        if isinstance(cell, list | tuple | np.ndarray) and not is_missing(cell):
            return [text_of(name) for name in cell]
        text = text_of(cell)
        if no_text(text):
            return DataError(f"there are no labels in column {column!r}.")
        return split_names(text)
    except json.JSONDecodeError as error:
        return DataError(
            f"column {column!r} holds {text!r}, which is not a list: {error}."
        )
    except DataError as error:
        return DataError(f"column {column!r} {error}")
