"""A JSONL file: an object on each line."""

import json
from collections.abc import Iterator
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from classify.errors import DataError
from classify.files.json import unique_keys
from classify.tables.chunk import InvalidRow, invalid_row
from classify.tables.sources import (
    MAX_CHARACTERS,
    Source,
    encoding_hint,
    marked_bytes,
    text_lines,
)

if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = ["JsonlFile"]

_Row = dict[str, Any]

# What a stream is read ahead, to know its columns.
_LINES_AHEAD = 1000
_BLANKS = " \t\r\n"


class JsonlFile:
    """A source of JSON objects, one a line; blank lines are skipped.

    Numbers keep their kind, whole ones all their digits. NaN, Infinity and -Infinity,
    which are no JSON but are written by many, are read as numbers. A key that stands
    twice in an object makes the row unreadable: it is ambiguous.

    Parameters
    ----------
    source : Source
    encoding : str
        Checked.
    most_characters : int, default=2**26
        A line with more of them is unreadable.

    Attributes
    ----------
    columns : tuple of str
        All keys, in the order of their first appearance; known after `scan` or `begin`.
    """

    columns: tuple[str, ...]

    def __init__(
        self,
        source: Source,
        *,
        encoding: str,
        most_characters: int = MAX_CHARACTERS,
    ) -> None:
        self.source = source
        self._encoding = encoding
        self._most_characters = most_characters
        self._known: frozenset[str] | None = None
        self._begun: Iterator[_Row | InvalidRow] | None = None

    def scan(self, digest: "_Hash") -> int:
        """Read all of the file once, and return its number of rows.

        Parameters
        ----------
        digest : hash object
            Is updated with the bytes that are read.

        Raises
        ------
        DataError
            The file is empty or damaged.
        """
        keys: dict[str, None] = {}
        n_rows = 0
        for row in self._open(digest):
            n_rows += 1
            if not isinstance(row, InvalidRow):
                keys.update(dict.fromkeys(row))
        self._set_columns(keys, n_rows)
        return n_rows

    def begin(self) -> None:
        """Read the first 1,000 lines of a stream, whose rows can be had once."""
        rows = self._open()
        ahead = list(islice(rows, _LINES_AHEAD))
        keys = [key for row in ahead if not isinstance(row, InvalidRow) for key in row]
        self._set_columns(dict.fromkeys(keys), len(ahead))
        self._known = frozenset(keys)
        self._begun = chain(ahead, rows)

    def rows(self, start: int = 0) -> Iterator[_Row | InvalidRow]:
        """Return an iterator over the rows from a position on."""
        begun, self._begun = self._begun, None
        if begun is not None:
            return islice(begun, start, None)
        return self._open(start=start)

    def _set_columns(self, keys: dict[str, None], n_rows: int) -> None:
        if not n_rows:
            raise DataError(
                f"{self.source.name} is empty: each of its lines must be a JSON object."
            )
        self.columns = tuple(keys)

    def _open(
        self, digest: "_Hash | None" = None, *, start: int = 0
    ) -> Iterator[_Row | InvalidRow]:
        lines = text_lines(
            self.source,
            self._encoding,
            newline="\n",
            most_characters=self._most_characters,
            digest=digest,
        )
        numbered = (
            (at, line) for at, line in enumerate(lines, start=1) if line.strip(_BLANKS)
        )
        for at, line in islice(numbered, start, None):
            try:
                yield self._parsed(line)
            except _NoRowError as error:
                yield self._invalid(at, str(error), line)

    def _parsed(self, line: str) -> _Row:
        if len(line) > self._most_characters:
            raise _NoRowError(
                f"it has more than {self._most_characters:,} characters, the maximum "
                "for a row."
            )
        if not line.isascii() and (wrong := marked_bytes(line)):
            raise _NoRowError(
                f"byte 0x{wrong[0]:02x} in it is not {self._encoding}. "
                f"{encoding_hint(self._encoding)}"
            )
        row = _decoded(line.strip(_BLANKS))
        new = (
            None if self._known is None else next(iter(row.keys() - self._known), None)
        )
        if new is not None:
            raise _NoRowError(
                f"its key {new!r} is in none of the first {_LINES_AHEAD:,} lines, "
                "which define the columns of a stream: save it to a file first."
            )
        return row

    def _invalid(self, line: int, reason: str, text: str) -> InvalidRow:
        return invalid_row(f"line {line} of {self.source.name}", reason, text)


class _NoRowError(Exception):
    """A line holds no row; the sentence says why."""


def _decoded(line: str) -> _Row:
    try:
        row = _DECODER.decode(line)
    except RecursionError:
        raise _NoRowError("its values are nested too deeply.") from None
    except json.JSONDecodeError as error:
        raise _NoRowError(
            f"it is not valid JSON: {_reason(error)} at character {error.colno}."
        ) from None
    except ValueError:
        raise _NoRowError("it contains a number with too many digits.") from None
    if not isinstance(row, dict):
        raise _NoRowError("it is not a JSON object: it must begin with '{'.")
    if "\\u" in line and not _can_be_written(row):
        raise _NoRowError(
            "it contains a lone surrogate: \\ud800 to \\udfff must come in pairs."
        )
    return row


def _reason(error: json.JSONDecodeError) -> str:
    return error.msg.removesuffix(" at")  # "Unterminated string starting at"


def _can_be_written(row: _Row) -> bool:
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _repeated(key: str) -> _NoRowError:
    return _NoRowError(f"its key {key!r} appears more than once.")


_DECODER = json.JSONDecoder(object_pairs_hook=partial(unique_keys, refused=_repeated))
