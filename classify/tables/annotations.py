"""Annotations that were exported from Label Studio, as a table: a row for each."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from classify.errors import DataError
from classify.tables.chunk import Chunk
from classify.tables.rows import DictRows
from classify.tables.sources import FileSource
from classify.tables.table import Table, name_of_all

__all__ = ["ANNOTATED", "NO_LABELS", "REVIEW_ROW", "STATUS", "annotation_table"]

# The number of the row in the table that was classified, from 1; in other projects
# that of the task. Rows with the same are annotations of the same text.
REVIEW_ROW = "review_row"
# Whether a task was annotated.
STATUS = "review_status"
ANNOTATED, SKIPPED, WAITING = "annotated", "skipped", "not annotated"
# The answer that no label applies, as in a cell with a list.
NO_LABELS = "[]"

_Item = dict[str, Any]


def annotation_table(sources: Sequence[FileSource]) -> Table | None:
    """Return the annotations of JSON or JSON-MIN exports; None for other files.

    Answers are lists of labels, by the names of the controls. A task that was skipped,
    or has no annotation yet, is a row without answers. If a task has annotations that
    are marked as ground truth, the others are left out.

    Raises
    ------
    DataError
        A file is damaged.
    """
    rows: list[_Item] = []
    inputs = []
    for source in sources:
        digest = hashlib.sha256()
        items = _items(source, digest)
        if items is None:
            return None
        for item in items:
            rows += _rows_of_task(item) if "annotations" in item else [_row(item)]
        inputs.append(source.described(digest))
    columns = tuple(dict.fromkeys(key for row in rows for key in row))

    def read(n_rows: int, start: int) -> Iterator[Chunk]:
        for at in range(start, len(rows), n_rows):
            part = rows[at : at + n_rows]
            yield Chunk(DictRows(columns, part), np.arange(at, at + len(part)))

    return Table(
        name=name_of_all(sources),
        columns=columns,
        n_rows=len(rows),
        resumable=True,
        read=read,
        describe=lambda: [*inputs],
        empty=DictRows(columns, []),
    )


def _items(source: FileSource, digest: "hashlib._Hash") -> list[_Item] | None:
    """Return the items of an export; None if the file holds something else."""
    with source.opened(digest) as file:
        content = file.read()
    try:
        items = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{source.name} cannot be read as JSON: {error}.") from None
    if not isinstance(items, list) or not items:
        return None
    return items if all(map(_is_annotated, items)) else None


def _is_annotated(item: Any) -> bool:
    if not isinstance(item, dict):
        return False
    if isinstance(item.get("annotations"), list):
        return isinstance(item.get("data"), dict)
    return {"annotation_id", "annotator"} <= item.keys()


def _rows_of_task(task: _Item) -> list[_Item]:
    """Return a row for each annotation of a task that counts."""
    data = {REVIEW_ROW: task.get("id"), **task["data"]}
    given = [each for each in task["annotations"] if isinstance(each, dict)]
    counting = [each for each in given if not each.get("was_cancelled")]
    true = [each for each in counting if each.get("ground_truth")]
    if not counting:
        return [{**data, STATUS: SKIPPED if given else WAITING}]
    return [
        {**data, **_answers(each.get("result") or []), STATUS: ANNOTATED}
        for each in true or counting
    ]


def _answers(results: Sequence[Mapping[str, Any]]) -> _Item:
    answers: dict[str, list[str]] = {}
    for each in results:
        names = _names(each.get("value"))
        if names is not None and "from_name" in each:
            answers.setdefault(each["from_name"], []).extend(names)
    return {name: _labels(names) for name, names in answers.items()}


def _row(item: _Item) -> _Item:
    """Return an item of a JSON-MIN export as a row."""
    row = {REVIEW_ROW: item.get("id")}
    for name, value in item.items():
        parts = value if isinstance(value, list) else [value]
        found = [_names(part) for part in parts]
        lists = [names for names in found if names is not None]
        if lists and len(lists) == len(parts):
            row[name] = _labels([label for names in lists for label in names])
        else:
            row[name] = value
    return {**row, STATUS: ANNOTATED}


def _names(value: Any) -> list[str] | None:
    """Return the labels in the value of a control; None if it is of another kind."""
    if not isinstance(value, dict):
        return None
    if isinstance(value.get("choices"), list):
        return [str(name) for name in value["choices"]]
    if isinstance(value.get("taxonomy"), list):
        # A label stands at the end of the path to it.
        return [str(path[-1]) for path in value["taxonomy"] if path]
    return None


def _labels(names: list[str]) -> list[str]:
    """Return the chosen labels; none if the only choice is that none applies."""
    return [] if names == [NO_LABELS] else names
