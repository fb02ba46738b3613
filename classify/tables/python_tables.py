"""Python objects as tables: a DataFrame, and a dataset without column names."""

import hashlib
from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd

from classify.tables.chunk import Chunk, InvalidRow, chunk_of, invalid_row
from classify.tables.rows import DictRows, FrameRows
from classify.tables.table import Input, Table
from classify.tables.values import as_texts, json_text, series_cells

__all__ = ["example_table", "frame_table"]

# Rows of a dataset that are read ahead, to know the columns.
_ROWS_AHEAD = 1000


def frame_table(frame: pd.DataFrame) -> Table:
    """Return the rows of a DataFrame, whose index plays no part.

    Examples
    --------
    >>> table = frame_table(pd.DataFrame({"text": ["a", "b", "c"]}))
    >>> [chunk.cells("text") for chunk in table.chunks(2)]
    [['a', 'b'], ['c']]
    """

    def read(n_rows: int, start: int) -> Iterator[Chunk]:
        for at in range(start, len(frame), n_rows):
            part = frame.iloc[at : at + n_rows]
            yield Chunk(FrameRows(part), np.arange(at, at + len(part)))

    empty = FrameRows(frame.iloc[:0])
    return Table(
        name="the DataFrame",
        columns=empty.columns,
        n_rows=len(frame),
        resumable=True,
        read=read,
        describe=lambda: _described(frame),
        empty=empty,
    )


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


def _described(frame: pd.DataFrame) -> list[Input]:
    digest = hashlib.sha256()
    for at, name in enumerate(frame.columns):
        column = frame.iloc[:, at]
        heading = f"{name}\0{column.dtype}\0"
        digest.update(heading.encode("utf-8", "surrogatepass"))
        try:
            codes = pd.util.hash_pandas_object(column, index=False)
        except (TypeError, UnicodeEncodeError):  # lists; halves of surrogate pairs
            texts = pd.Series(as_texts(series_cells(column)), dtype=object)
            codes = pd.util.hash_pandas_object(texts, index=False)
        digest.update(codes.to_numpy().tobytes())
    return [{"path": "a DataFrame", "size": len(frame), "digest": digest.hexdigest()}]


def _rows(
    dataset: Any, columns: tuple[str, ...], start: int
) -> Iterator[dict[str, Any] | InvalidRow]:
    known = frozenset(columns)
    for at, row in enumerate(dataset, start=start + 1):
        new = next((key for key in row if key not in known), None)
        if new is None:
            yield row
            continue
        reason = (
            f"its key {new!r} is in none of the first {_ROWS_AHEAD:,} rows, which "
            "define the columns: give the dataset features."
        )
        yield invalid_row(f"row {at:,} of the dataset", reason, json_text(row))
