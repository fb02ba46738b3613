"""A DataFrame as a table."""

import hashlib
from collections.abc import Iterator

import numpy as np
import pandas as pd

from classify.tables.chunk import Chunk
from classify.tables.rows import FrameRows
from classify.tables.table import Input, Table
from classify.tables.values import as_texts, series_cells

__all__ = ["frame_table"]


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
