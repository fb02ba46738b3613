"""Rows with their results as lines of text: CSV and JSONL."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, BinaryIO, Literal

from classify.cells import join_names
from classify.tables.chunk import Chunk
from classify.tables.compression import Compression, concatenate
from classify.tables.formats import ResultKind, check_unique_columns
from classify.tables.rows import ListRows
from classify.tables.values import csv_cells, json_text

__all__ = ["CsvOutput", "JsonlOutput", "csv_bytes"]

_NUMBERS = frozenset({int, float, bool})


class CsvOutput:
    """CSV or TSV in UTF-8: what is missing as nothing, floats with all their digits.

    Nested values are written as JSON, lists of results as ``a|b`` (`join_names`).

    Parameters
    ----------
    name : {"csv", "tsv"}
    compression : {"", "gz", "zst"}
    """

    def __init__(self, name: Literal["csv", "tsv"], compression: Compression) -> None:
        self.name: str = name
        self._separator = "\t" if name == "tsv" else ","
        self._compression = compression

    def check_columns(self, columns: Sequence[str], name: str) -> None:
        """Allow all columns, of equal names too."""

    def header(self, columns: Sequence[str], results: Sequence[str]) -> bytes:
        """Return the line with the names of the columns."""
        return csv_bytes(
            [[name] for name in (*columns, *results)], separator=self._separator
        )

    def encode(
        self,
        chunk: Chunk,
        results: Mapping[str, Sequence[Any]],
        kinds: Mapping[str, ResultKind],
    ) -> bytes:
        """Return the lines of a part."""
        columns = _columns(chunk)
        columns += [
            _joined(values, kinds[name]) if kinds[name].endswith("list") else values
            for name, values in results.items()
        ]
        return csv_bytes(columns, separator=self._separator)

    def assemble(self, parts: Iterable[bytes], header: bytes, target: BinaryIO) -> None:
        """Write the header and the lines of all parts."""
        concatenate(parts, header, target, self._compression)


def csv_bytes(columns: Sequence[Sequence[Any]], *, separator: str = ",") -> bytes:
    r"""Return columns of equal length as lines of CSV that end in a line feed.

    They are what Python's `csv.writer` makes of the rows, in half its time; but a
    carriage return in a cell is always quoted, since unquoted a reader would take it
    for the end of the row.

    Examples
    --------
    >>> csv_bytes([["a,b", "\r"], [1 / 3, True], [None, ""]])
    b'"a,b",0.3333333333333333,\n"\r",True,\n'
    """
    texts = [_texts(column, separator) for column in columns]
    if len(texts) == 1:
        texts = [[cell or '""' for cell in texts[0]]]
    lines = [*map(separator.join, zip(*texts, strict=True)), ""]
    # As `written_text` has it: halves of surrogate pairs as escape sequences.
    return "\n".join(lines).encode("utf-8", "backslashreplace")


def _columns(chunk: Chunk) -> list[Sequence[Any]]:
    if isinstance(chunk.rows, ListRows):
        # Quicker than a column at a time.
        return list(zip(*chunk.lists(), strict=True)) or [()] * len(chunk.columns)
    return [csv_cells(chunk.rows.cells(at)) for at in range(len(chunk.columns))]


def _texts(column: Sequence[Any], separator: str) -> Sequence[str]:
    """Return the cells of a column as they are written."""
    kinds = set(map(type, column))
    if kinds <= _NUMBERS:
        return list(map(repr, column))
    if kinds != {str}:
        column = ["" if cell is None else str(cell) for cell in column]
    text = "".join(column)
    if not any(mark in text for mark in (separator, '"', "\n", "\r")):
        return column
    return [
        '"' + cell.replace('"', '""') + '"'
        if separator in cell or '"' in cell or "\n" in cell or "\r" in cell
        else cell
        for cell in column
    ]


def _joined(values: Sequence[Any], kind: ResultKind) -> list[str | None]:
    join = partial(join_names, as_json=kind == "json_list")
    return [None if value is None else join(value) for value in values]


class JsonlOutput:
    """An object a line in UTF-8, with the keys of its row, and then those of results.

    Parameters
    ----------
    compression : {"", "gz", "zst"}
    """

    name = "jsonl"

    def __init__(self, compression: Compression) -> None:
        self._compression = compression

    def check_columns(self, columns: Sequence[str], name: str) -> None:
        """Raise DataError if two columns have one name."""
        check_unique_columns(columns, name, "JSONL")

    def header(self, columns: Sequence[str], results: Sequence[str]) -> bytes:
        """Return nothing: every line names its keys."""
        return b""

    def encode(
        self,
        chunk: Chunk,
        results: Mapping[str, Sequence[Any]],
        kinds: Mapping[str, ResultKind],
    ) -> bytes:
        """Return the lines of a part."""
        rows = chunk.dicts()
        if results:
            added = zip(*results.values(), strict=True)
            rows = [
                row | dict(zip(results, values, strict=True))
                for row, values in zip(rows, added, strict=True)
            ]
        return "".join([f"{json_text(row)}\n" for row in rows]).encode()

    def assemble(self, parts: Iterable[bytes], header: bytes, target: BinaryIO) -> None:
        """Write the lines of all parts."""
        concatenate(parts, header, target, self._compression)
