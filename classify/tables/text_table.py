"""Tables of CSV and JSONL files, one or many."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any, Protocol

from classify.tables.chunk import Chunk, chunk_of
from classify.tables.csv_file import CsvFile
from classify.tables.jsonl_file import JsonlFile
from classify.tables.rows import DictRows, ListRows, Rows
from classify.tables.sources import FileSource, Source
from classify.tables.table import Input, Table, check_same_columns, name_of_all

__all__ = ["csv_table", "jsonl_table"]

MakeRows = Callable[[list[Any]], Rows]


class _TextFile(Protocol):
    columns: tuple[str, ...]

    @property
    def source(self) -> Source: ...

    def scan(self, digest: "hashlib._Hash") -> int: ...

    def begin(self) -> None: ...

    def rows(self, start: int = 0) -> Iterator[Any]: ...


def csv_table(files: Sequence[CsvFile]) -> Table:
    """Return the rows of CSV files, all of which are read once to count them.

    Raises
    ------
    DataError
        A file is damaged, or its header is another than that of the first.
    """
    inputs, counts = _scanned(files)
    check_same_columns(
        [(each.source.name, each.columns) for each in files], has_header=True
    )
    return _table(files, inputs, counts, partial(ListRows, files[0].columns))


def jsonl_table(files: Sequence[JsonlFile]) -> Table:
    """Return the rows of JSONL files, all of which are read once to find their keys.

    Raises
    ------
    DataError
        A file is damaged or empty.
    """
    inputs, counts = _scanned(files)
    keys = dict.fromkeys(key for each in files for key in each.columns)
    return _table(files, inputs, counts, partial(DictRows, tuple(keys)))


def _table(
    files: Sequence[_TextFile],
    inputs: list[Input],
    counts: list[int | None],
    make_rows: MakeRows,
) -> Table:
    known = [count for count in counts if count is not None]
    is_known = len(known) == len(files)
    empty = make_rows([])

    def read(n_rows: int, start: int) -> Iterator[Chunk]:
        number = start
        rows = _rows_of(files, counts, start)
        while batch := list(islice(rows, n_rows)):
            yield chunk_of(batch, number, make_rows)
            number += len(batch)

    return Table(
        name=name_of_all([each.source for each in files]),
        columns=empty.columns,
        n_rows=sum(known) if is_known else None,
        resumable=is_known,
        read=read,
        describe=lambda: inputs,
        empty=empty,
    )


def _scanned(files: Sequence[_TextFile]) -> tuple[list[Input], list[int | None]]:
    """Return the identity and the number of rows of each file; None for a stream."""
    inputs: list[Input] = []
    counts: list[int | None] = []
    for each in files:
        if isinstance(each.source, FileSource):
            digest = hashlib.sha256()
            counts.append(each.scan(digest))
            inputs.append(each.source.described(digest))
        else:
            each.begin()
            counts.append(None)
            inputs.append({"path": each.source.path, "size": None, "digest": None})
    return inputs, counts


def _rows_of(
    files: Sequence[_TextFile], counts: Sequence[int | None], start: int
) -> Iterator[Any]:
    for each, count in zip(files, counts, strict=True):
        if count is not None and start >= count:
            start -= count
            continue
        yield from each.rows(start)
        start = 0
