"""An iterable dataset that does not say what its columns hold."""

from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import Any

from classify.tables.chunk import Chunk
from classify.tables.defects import Defect, defect
from classify.tables.rows import DictRows
from classify.tables.table import Table
from classify.tables.text_table import chunk_of
from classify.tables.values import json_text

__all__ = ["example_table"]

# What is read ahead, to know the columns.
_ROWS_AHEAD = 1000


def example_table(dataset: Any) -> Table:
    """Return the rows of a `datasets.IterableDataset` without features.

    Its columns are the keys of the first 1,000 rows; a later row with another key is
    unreadable.
    """
    ahead = islice(iter(dataset), _ROWS_AHEAD)
    columns = tuple(dict.fromkeys(key for row in ahead for key in row))
    make_rows = partial(DictRows, columns)

    def read(n_rows: int, start: int) -> Iterator[Chunk]:
        rows = _rows(dataset.skip(start), columns, start)
        number = start
        while batch := list(islice(rows, n_rows)):
            yield chunk_of(batch, number, make_rows)
            number += len(batch)

    return Table(
        name="the dataset",
        columns=columns,
        n_rows=None,
        resumable=False,
        read=read,
        describe=lambda: [{"path": "a dataset", "size": None, "digest": None}],
        empty=make_rows([]),
    )


def _rows(
    dataset: Any, columns: tuple[str, ...], start: int
) -> Iterator[dict[str, Any] | Defect]:
    known = frozenset(columns)
    for at, row in enumerate(dataset, start=start + 1):
        new = next((key for key in row if key not in known), None)
        if new is None:
            yield row
            continue
        reason = (
            f"its key {new!r} is in none of the first {_ROWS_AHEAD:,} rows, which say "
            "what the columns are: give the dataset features."
        )
        yield defect(f"row {at:,} of the dataset", reason, json_text(row))
