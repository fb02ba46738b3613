"""Rows with their results as JSONL."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, BinaryIO

from classify.tables.chunk import Chunk
from classify.tables.compression import Compression, concatenate
from classify.tables.formats import ResultKind, check_unique_columns
from classify.tables.values import json_text

__all__ = ["JsonlOutput"]


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
