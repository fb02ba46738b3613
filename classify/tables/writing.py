"""Rows with their results to the bytes of a file, part by part."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from classify.tables.chunk import Chunk
from classify.tables.formats import ResultKind, format_of
from classify.tables.parquet_output import ParquetOutput
from classify.tables.sources import is_stream
from classify.tables.text_output import CsvOutput, JsonlOutput

__all__ = ["OutputFormat", "output_format"]


class OutputFormat(Protocol):
    """A kind of file that is made of parts.

    Attributes
    ----------
    name : {"csv", "tsv", "jsonl", "parquet"}
    """

    name: str

    def check_columns(self, columns: Sequence[str], name: str) -> None:
        """Raise DataError if the format cannot hold the columns of an input.

        Parameters
        ----------
        columns : sequence of str
        name : str
            Of the input, as `Table` has it.
        """
        ...

    def header(self, columns: Sequence[str], results: Sequence[str]) -> bytes:
        """Return what stands before all parts: of CSV, the names of the columns."""
        ...

    def encode(
        self,
        chunk: Chunk,
        results: Mapping[str, Sequence[Any]],
        kinds: Mapping[str, ResultKind],
    ) -> bytes:
        """Return a part: the readable rows of a chunk, and after them their results.

        Parameters
        ----------
        chunk : Chunk
        results : mapping of str to sequence, each of length len(chunk)
            Values by column, whose names are none of the chunk's; None where missing.
        kinds : mapping of str to {"str", "float", "bool", "list", "json_list"}
            Of the results; a list holds strings, and a "json_list" is written as JSON
            where the format has no lists.

        Returns
        -------
        bytes
            The same for the same rows and results.
        """
        ...

    def assemble(self, parts: Sequence[bytes], header: bytes, target: BinaryIO) -> None:
        """Write the file that parts are of, in order, a part at a time.

        Parameters
        ----------
        parts : sequence of bytes
            One at least; that of a table without rows is empty.
        header : bytes
            From `header`.
        target : BinaryIO
            Left open.
        """
        ...


def output_format(
    path: str | Path, *, output_format: str | None = None
) -> OutputFormat:
    """Return the output format for a file name.

    Parameters
    ----------
    path : str or Path
        Ends with .csv, .tsv, .jsonl or .parquet, text files also with .gz or .zst;
        ``-`` for stdout.
    output_format : {"csv", "tsv", "jsonl", "parquet"}, default=None
        Overrides the file extension. Default for stdout or a device: CSV.

    Raises
    ------
    ConfigError
        The name has no known extension, and no format is given.

    Examples
    --------
    >>> output_format("out.jsonl.gz").name
    'jsonl'
    """
    given = output_format
    if given is None and (str(path) == "-" or is_stream(str(path))):
        given = "csv"
    name, compression = format_of(str(path), given, name="output_format")
    if name == "parquet":
        return ParquetOutput()
    if name == "jsonl":
        return JsonlOutput(compression)
    return CsvOutput(name, compression)
