"""The interface to pandas: rows from frames, results back into them."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from classify.cells import join_names, need_json
from classify.column_hints import choice_hint
from classify.errors import DataError, InputError, RowError
from classify.rows.encoding import Row
from classify.rows.from_cells import candidates_of_cells, rows_of_cells, rows_of_texts
from classify.rows.prompted_model import Refuse
from classify.rows.results import (
    LISTS,
    Column,
    RowResults,
    column_name,
    columns_of,
    errors_of,
    own_names,
)

__all__ = [
    "add_results",
    "candidates_of_frame",
    "frame_of",
    "row_refusal",
    "rows_and_candidates",
    "rows_of_frame",
]


def rows_and_candidates(
    X: Any, labels: Any, fields: Sequence[str]
) -> tuple[list[Row | InputError], list[Sequence[str] | InputError] | None]:
    """Return the rows of what a user passed, and each one's candidate labels.

    Parameters
    ----------
    X, labels
        As in `ZeroShotClassifier.label_logprobs`.
    fields : sequence of str
        The columns that the prompt needs.

    Raises
    ------
    InputError
        X is nothing that holds texts, or labels do not fit it.
    """
    frame = pandas_of(X)
    rows = rows_of_texts(X, fields) if frame is None else rows_of_frame(frame, fields)
    if labels is None:
        return rows, None
    if isinstance(labels, str):
        if frame is not None:
            return rows, candidates_of_frame(frame, labels)
        raise InputError(
            f"labels={labels!r} names a column, but X is not a DataFrame: give a "
            "sequence of candidate labels for each text."
        )
    if len(labels) != len(rows):
        raise InputError(
            f"labels must hold the candidates of each text: got {len(labels)} for "
            f"{len(rows)} texts."
        )
    for names in labels:
        if isinstance(names, str):  # whose letters would be the labels
            raise InputError(
                "The candidate labels of each text must be a list of names, such as "
                f"['billing', 'shipping']. Got the string {str(names)!r} instead."
            )
    return rows, list(labels)


def pandas_of(table: Any) -> pd.DataFrame | None:
    """Return a table of pandas, polars, pyarrow or datasets; None if it is none."""
    if not isinstance(table, pd.DataFrame) and hasattr(table, "to_pandas"):
        table = table.to_pandas()
    return table if isinstance(table, pd.DataFrame) else None


def frame_of(table: Any) -> pd.DataFrame:
    """Return a table as a DataFrame, or raise an InputError if it is none."""
    if (frame := pandas_of(table)) is not None:
        return frame
    raise InputError(
        "classify_frame takes a table with named columns, such as a DataFrame. Got a "
        f"value of type {type(table).__name__} instead: use "
        "pandas.DataFrame({'text': texts})."
    )


def rows_of_frame(
    frame: pd.DataFrame, fields: Sequence[str], text_column: str | None = None
) -> list[Row | InputError]:
    """Return the columns that the prompt needs, as strings, one row for each text.

    The texts are in the column "text" if no other is given. A missing value in another
    column than the text's is an empty string. A row is an
    error where the text, or all that the prompt shows of it, is missing or blank.

    Raises
    ------
    DataError
        A column that the prompt needs is not in the frame.
    """
    column_of: dict[str, str] = {
        name: text_column if name == "text" and text_column is not None else name
        for name in fields
    }
    for name, column in column_of.items():
        if column not in frame.columns:
            present = ", ".join(map(repr, frame.columns)) or "none"
            wanted = "text" if name == "text" else f"prompt's {{{name}}}"
            is_chosen = name == "text" and text_column is not None
            hint = choice_hint(
                column,
                list(map(str, frame.columns)),
                "text_column" if is_chosen else None,
            )
            raise DataError(
                f"There is no column {column!r} for the {wanted}. Columns: {present}."
                f"{hint}"
            )
        if isinstance(frame[column], pd.DataFrame):
            raise DataError(f"There is more than one column {column!r}: rename one.")
    return rows_of_cells(
        {name: frame[column].tolist() for name, column in column_of.items()}
    )


def candidates_of_frame(
    frame: pd.DataFrame, column: str | None
) -> list[Sequence[str] | InputError] | None:
    """Return each row's candidate labels: lists, JSON lists, or ``a|b|c``.

    No column gives None: every label is a candidate.
    """
    if column is None:
        return None
    if column not in frame.columns:
        columns = ", ".join(map(repr, frame.columns)) or "none"
        raise DataError(
            f"There is no column {column!r} with labels. Columns: {columns}."
        )
    return candidates_of_cells(frame[column].tolist(), column)


def row_refusal(index: pd.Index) -> Refuse:
    """Return a function that makes the exception of a frame's row, naming the row."""

    def refuse(at: int, error: RowError) -> RowError:
        kind = DataError if isinstance(error, InputError) else type(error)
        go_on = "Pass on_error='set_aside' to continue with the other rows."
        return kind(f"Row {index[at]}: {error} {go_on}")

    return refuse


def add_results(
    frame: pd.DataFrame, results: Mapping[str, RowResults], *, with_errors: bool
) -> pd.DataFrame:
    """Return the frame with results in further columns.

    Parameters
    ----------
    frame : DataFrame, n_rows rows
    results : mapping of str to RowResults
        Those of each question, by its name; empty if it has none.
    with_errors : bool
        Whether to add the column ``error``.
    """
    columns = {
        name: _spread(column, frame.index)
        for name, column in columns_of(results).items()
    }
    for question, each in results.items():
        join = partial(join_names, as_json=need_json(each.classes))
        for result in each.columns.keys() & {*LISTS}:
            name = column_name(question, result)
            columns[name] = columns[name].map(join, na_action="ignore")
    if with_errors:
        errors = errors_of(results)
        columns["error"] = pd.Series(
            [errors.get(at, "") for at in range(len(frame))],
            index=frame.index,
            dtype=object,
        )
    named = own_names(columns, map(str, frame.columns))
    renamed = {named[name]: column for name, column in columns.items()}
    return pd.concat([frame, pd.DataFrame(renamed, index=frame.index)], axis=1)


def _spread(column: Column, index: pd.Index) -> pd.Series:
    """Return a column with the values of scored rows, and nothing elsewhere."""
    values, scored = column
    missing: Any = np.nan if values.dtype.kind == "f" else None
    filled = np.full(len(scored), missing, dtype=object)
    filled[scored] = values
    cells = pd.Series(filled, index=index)
    if values.dtype.kind == "f":
        return cells.astype(np.float64)
    return cells.astype("boolean") if values.dtype.kind == "b" else cells
