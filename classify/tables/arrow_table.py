"""Tables of Parquet files, and of the datasets of Hugging Face."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from classify.errors import DataError
from classify.tables.chunk import Chunk
from classify.tables.rows import ArrowRows
from classify.tables.sources import FileSource
from classify.tables.table import (
    ChunkReader,
    Input,
    Table,
    check_same_columns,
    name_of_all,
)
from classify.tables.values import pyarrow

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["dataset_table", "parquet_table"]

_BLOCK_ROWS = 2048


def parquet_table(sources: Sequence[FileSource]) -> Table:
    """Return the rows of Parquet files.

    Raises
    ------
    DataError
        A file is damaged, or has other columns, or columns of other types, than those
        before it.
    MissingDependencyError
        pyarrow is not installed.
    """
    inputs: list[Input] = []
    schemas, counts = [], []
    for each in sources:
        digest = hashlib.sha256()
        with each.opened(digest):
            pass  # closing it reads the rest
        inputs.append(each.described(digest))
        with _parquet_file(each) as file:
            schemas.append(file.schema_arrow)
            counts.append(file.metadata.num_rows)
    check_same_columns(
        [
            (each.name, tuple(schema.names))
            for each, schema in zip(sources, schemas, strict=True)
        ]
    )
    schema = _unified(sources, schemas)

    def tables(start: int) -> Iterator["pa.Table"]:
        for each, count in zip(sources, counts, strict=True):
            if start >= count:
                start -= count
                continue
            for table in _tables_of(each, start):
                yield table.cast(schema)
            each.check_unchanged()
            start = 0

    return Table(
        name=name_of_all(sources),
        columns=tuple(schema.names),
        n_rows=sum(counts),
        resumable=True,
        read=_reader(tables),
        describe=lambda: inputs,
        empty=ArrowRows(pyarrow().Table.from_batches([], schema)),
    )


def dataset_table(dataset: Any) -> Table:
    """Return the rows of a dataset of Hugging Face whose columns have types.

    Parameters
    ----------
    dataset : Dataset or IterableDataset
        Known by what it does: `with_format`, `skip`, `iter`.
    """
    rows = dataset.with_format("arrow")
    n_rows = len(dataset) if hasattr(dataset, "__len__") else None
    block = next(rows.iter(batch_size=1), None)
    if block is None:
        block = rows[:0] if n_rows is not None else pyarrow().table({})
    empty = _bare(block.slice(0, 0))

    def tables(start: int) -> Iterator["pa.Table"]:
        for each in rows.skip(start).iter(batch_size=_BLOCK_ROWS):
            yield _bare(each).cast(empty.schema)

    def describe() -> list[Input]:
        digest = getattr(dataset, "_fingerprint", None) if n_rows is not None else None
        return [{"path": "a dataset", "size": n_rows, "digest": digest}]

    return Table(
        name="the dataset",
        columns=tuple(empty.column_names),
        n_rows=n_rows,
        resumable=n_rows is not None,
        read=_reader(tables),
        describe=describe,
        empty=ArrowRows(empty),
    )


def _reader(tables: Callable[[int], Iterator["pa.Table"]]) -> ChunkReader:
    """Return what cuts tables from a row on into chunks of equal length."""

    def read(n_rows: int, start: int) -> Iterator[Chunk]:
        waiting: list[pa.Table] = []
        n_waiting, number = 0, start
        for table in tables(start):
            waiting.append(table)
            n_waiting += table.num_rows
            while n_waiting >= n_rows:
                whole = pyarrow().concat_tables(waiting)
                yield _chunk(whole.slice(0, n_rows), number)
                waiting = [whole.slice(n_rows)]
                n_waiting -= n_rows
                number += n_rows
        if n_waiting:
            yield _chunk(pyarrow().concat_tables(waiting), number)

    return read


def _chunk(table: "pa.Table", first: int) -> Chunk:
    return Chunk(ArrowRows(table), np.arange(first, first + table.num_rows))


def _tables_of(source: FileSource, start: int) -> Iterator["pa.Table"]:
    """Yield the rows of a file from one on; what stands before it is not decoded."""
    with _parquet_file(source) as file:
        groups = list(range(file.num_row_groups))
        while start >= (n_rows := file.metadata.row_group(groups[0]).num_rows):
            start -= n_rows
            del groups[0]
        for batch in file.iter_batches(_BLOCK_ROWS, groups):
            if start >= batch.num_rows:
                start -= batch.num_rows
                continue
            yield _bare(pyarrow().Table.from_batches([batch.slice(start)]))
            start = 0


def _bare(table: "pa.Table") -> "pa.Table":
    """Return a table without notes on its schema, which are not true of results."""
    return table.replace_schema_metadata(None)


def _unified(sources: Sequence[FileSource], schemas: Sequence["pa.Schema"]) -> Any:
    pa = pyarrow()
    unified = schemas[0].remove_metadata()
    for source, schema in zip(sources[1:], schemas[1:], strict=True):
        try:
            unified = pa.unify_schemas([unified, schema.remove_metadata()])
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise DataError(
                f"{source.name} has a column of another type than the files before it: "
                f"{error}."
            ) from None
    return unified


@contextmanager
def _parquet_file(source: FileSource) -> Iterator[Any]:
    pa = pyarrow()
    try:
        # Ahead of its use a row group would be read whole.
        with pa.parquet.ParquetFile(source.path, pre_buffer=False) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{source.name} is not a valid Parquet file: {error}") from None
