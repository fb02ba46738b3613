"""Labels from a table: a row for each, with its words, its parent and its value."""

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from classify.cells import is_missing, shown, split_names, text_of
from classify.column_hints import header_hint
from classify.errors import ConfigError, DataError, LabelError
from classify.labels.label import Label
from classify.tables.formats import format_of

__all__ = ["is_table", "read_label_table"]

_COLUMNS = ("name", "description", "words", "parent", "value")


def is_table(path: str | Path) -> bool:
    """Return whether a file holds a table, by the end of its name.

    Examples
    --------
    >>> is_table("labels.csv"), is_table("labels.yaml")
    (True, False)
    """
    try:
        format_of(str(path), None, name="labels_file")
    except ConfigError:
        return False
    return True


def read_label_table(path: str | Path) -> list[Label]:
    """Return the labels in a table, a row each, in their order.

    Raises
    ------
    LabelError
        A column is unknown, a row has no name, a value is not a number.
    DataError
        The file cannot be read, or a row of it.
    """
    # pandas takes half a second to load.
    from classify.tables import open_table

    table = open_table(path)
    for column in table.columns:
        if column not in _COLUMNS:
            near = difflib.get_close_matches(column, _COLUMNS, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            header = header_hint(table.columns) if table.has_header else ""
            raise LabelError(
                f"the column {column!r} is unknown.{hint} Allowed are "
                f"{', '.join(map(repr, _COLUMNS))}.{header}"
            )
    table.check_column("name", "with the names of labels")
    labels = []
    for chunk in table.chunks(table.n_rows or 1):
        for unreadable in chunk.unreadable:
            raise DataError(
                f"Label table {str(path)!r}, row {unreadable.number + 1}: "
                f"{unreadable.reason}"
            )
        cells = {name: chunk.cells(name) for name in table.columns}
        for at, number in enumerate(chunk.numbers.tolist()):
            row = {name: values[at] for name, values in cells.items()}
            try:
                labels.append(_label_of(row))
            except (DataError, LabelError) as error:
                raise LabelError(f"Row {number + 1}: {error}") from None
    return labels


def _label_of(row: Mapping[str, Any]) -> Label:
    given = {name: _text(name, row.get(name)) for name in ("name", "description")}
    return Label(
        given["name"] or "",
        given["description"],
        _words(row.get("words")),
        _number(row.get("value")),
        _text("parent", row.get("parent")),
    )


def _text(column: str, cell: Any) -> str | None:
    try:
        return text_of(cell).strip() or None
    except DataError as error:
        raise DataError(f"column {column!r} {error}") from None


def _words(cell: Any) -> tuple[str, ...]:
    if isinstance(cell, list | tuple):
        return tuple(cell)
    text = _text("words", cell)
    try:
        return () if text is None else tuple(split_names(text))
    except json.JSONDecodeError as error:
        raise DataError(
            f"column 'words' holds {text!r}, which is not a list: {error}."
        ) from None


def _number(cell: Any) -> int | float | None:
    if isinstance(cell, bool | int | float) and not is_missing(cell):
        return cell
    text = _text("value", cell)
    if text is None:
        return None
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    raise DataError(f"column 'value' holds {shown(cell)}, which is not a number.")
