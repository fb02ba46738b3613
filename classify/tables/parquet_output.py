"""Rows with their results as Parquet."""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

from classify.tables.chunk import Chunk
from classify.tables.formats import ResultKind, check_unique_columns
from classify.tables.values import arrow_cells, as_texts, pyarrow

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ParquetOutput"]

# What a row group holds: enough to compress well, and little enough for memory.
_GROUP_ROWS = 100_000
_GROUP_BYTES = 1 << 26


class ParquetOutput:
    """Parquet, every column with one type.

    Those of the input keep theirs, results are ``string``, ``double``, ``bool`` or
    ``list<string>``. A column that has not one type in all rows (of JSONL, or of
    objects in a DataFrame) is one of strings: strings as they are, all else as JSON.
    Whole numbers in a column of fractions become fractions, if no digit is lost.

    Raises
    ------
    MissingDependencyError
        pyarrow is not installed.
    """

    name = "parquet"

    def __init__(self) -> None:
        pyarrow()

    def check_columns(self, columns: Sequence[str], name: str) -> None:
        """Raise DataError if two columns have one name."""
        check_unique_columns(columns, name, "Parquet")

    def header(self, columns: Sequence[str], results: Sequence[str]) -> bytes:
        """Return nothing: every part has a schema."""
        return b""

    def encode(
        self,
        chunk: Chunk,
        results: Mapping[str, Sequence[Any]],
        kinds: Mapping[str, ResultKind],
    ) -> bytes:
        """Return a part, which is a Parquet file."""
        pa = pyarrow()
        types = {
            "str": pa.string(),
            "float": pa.float64(),
            "bool": pa.bool_(),
            "list": pa.list_(pa.string()),
            "json_list": pa.list_(pa.string()),
        }
        table = chunk.arrow()
        for name, values in results.items():
            table = table.append_column(name, pa.array(values, types[kinds[name]]))
        target = io.BytesIO()
        pa.parquet.write_table(table, target)
        return target.getvalue()

    def assemble(self, parts: Sequence[bytes], header: bytes, target: BinaryIO) -> None:
        """Write the rows of all parts, in groups of about 100,000."""
        pa = pyarrow()
        schema = _schema_of_all(parts)
        waiting: list[Any] = []
        n_rows = n_bytes = 0
        with pa.parquet.ParquetWriter(target, schema) as writer:
            for part in parts:
                table = _as(pa.parquet.read_table(pa.BufferReader(part)), schema)
                waiting.append(table)
                n_rows += table.num_rows
                n_bytes += table.nbytes
                if n_rows >= _GROUP_ROWS or n_bytes >= _GROUP_BYTES:
                    writer.write_table(pa.concat_tables(waiting), n_rows)
                    waiting, n_rows, n_bytes = [], 0, 0
            if n_rows:
                writer.write_table(pa.concat_tables(waiting), n_rows)


def _schema_of_all(parts: Sequence[bytes]) -> "pa.Schema":
    """Return the schema that can hold every part."""
    pa = pyarrow()
    schemas = [pa.parquet.read_schema(pa.BufferReader(part)) for part in parts]
    first = schemas[0]
    if all(each.equals(first) for each in schemas):
        return first
    return pa.schema([_field_of_all(name, parts, schemas) for name in first.names])


def _field_of_all(
    name: str, parts: Sequence[bytes], schemas: Sequence["pa.Schema"]
) -> "pa.Field":
    pa = pyarrow()
    single = [pa.schema([each.field(name)]) for each in schemas]
    try:
        wide = pa.unify_schemas(single, promote_options="permissive")
        for part, schema in zip(parts, single, strict=True):
            if schema.field(0).type not in (wide.field(0).type, pa.null()):
                pa.parquet.read_table(pa.BufferReader(part), columns=[name]).cast(wide)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
        return pa.field(name, pa.string())
    return wide.field(0)


def _as(table: "pa.Table", schema: "pa.Schema") -> "pa.Table":
    """Return a table whose columns have the types of a schema."""
    pa = pyarrow()
    columns = []
    for column, field in zip(table.columns, schema, strict=True):
        if field.type == pa.string() and column.type not in (field.type, pa.null()):
            columns.append(pa.array(as_texts(arrow_cells(column)), pa.string()))
        else:
            columns.append(column.cast(field.type))
    return pa.Table.from_arrays(columns, schema=schema)
