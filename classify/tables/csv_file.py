"""CSV files: the header, and rows that never stop a job."""

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, islice
from typing import TYPE_CHECKING

from classify.errors import ConfigError, DataError
from classify.tables.chunk import InvalidRow, invalid_row
from classify.tables.content import NO_TABLE
from classify.tables.csv_records import CsvDialect, CsvRecord, read_records
from classify.tables.sources import (
    MAX_CHARACTERS,
    Source,
    encoding_hint,
    marked_bytes,
    text_lines,
)
from classify.wording import parameter

if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = ["CsvFile"]

# A line for Excel: the separator of the lines below.
_SEP_LINE = re.compile(
    r"""["']?sep=(\\t|[^"\r\n])["']?(?:\r\n|\r|\n)?""", re.IGNORECASE
)


class CsvFile:
    """A source of CSV with a header line.

    Parameters
    ----------
    source : Source
    dialect : CsvDialect
        Its separator holds unless the first line is ``sep=;``, as Excel writes it.
    encoding : str
        Checked.
    most_characters : int, default=2**26
        A row with more of them is unreadable.
    is_given : bool, default=False
        Whether the user named the separator, so that no other may be meant.

    Attributes
    ----------
    columns : tuple of str
        The header, as it stands; known after `scan` or `begin`.
    """

    columns: tuple[str, ...]

    def __init__(
        self,
        source: Source,
        dialect: CsvDialect,
        *,
        encoding: str,
        most_characters: int = MAX_CHARACTERS,
        is_given: bool = False,
    ) -> None:
        self.source = source
        self._is_given = is_given
        self._dialect, self._encoding = dialect, encoding
        self._most_characters = most_characters
        self._begun: Iterator[list[str] | InvalidRow] | None = None

    def scan(self, digest: "_Hash") -> int:
        """Read all of the file once, and return its number of rows.

        Parameters
        ----------
        digest : hash object
            Is updated with the bytes that are read.

        Raises
        ------
        DataError
            There is no header, it cannot be read, or the file is damaged.
        """
        return sum(1 for _ in self._open(digest))

    def begin(self) -> None:
        """Read the header of a stream, whose rows can be had once."""
        self._begun = self._open()

    def rows(self, start: int = 0) -> Iterator[list[str] | InvalidRow]:
        """Return an iterator over the rows from a position on."""
        begun, self._begun = self._begun, None
        return islice(begun or self._open(), start, None)

    def _open(self, digest: "_Hash | None" = None) -> Iterator[list[str] | InvalidRow]:
        """Read the header, and return an iterator over the rows below it."""
        lines = text_lines(
            self.source,
            self._encoding,
            newline="",
            most_characters=self._most_characters,
            digest=digest,
        )
        first = next(lines, "")
        separator = _SEP_LINE.fullmatch(first)
        if separator is not None:
            self._set_separator(separator[1])
        records = read_records(
            lines if separator else chain([first] if first else [], lines),
            self._dialect,
            most_characters=self._most_characters,
            first_line=2 if separator else 1,
        )
        header = next((each for each in records if each.fields or each.problem), None)
        if header is None:
            raise DataError(
                f"{self.source.name} is empty: its first line must name the columns."
            )
        self.columns = tuple(self._checked_header(header))
        return self._rows(records)

    def _set_separator(self, named: str) -> None:
        """Take the separator that the first line names."""
        separator = "\t" if named == r"\t" else named
        if self._is_given and separator != self._dialect.separator:
            raise ConfigError(
                f"Line 1 of {self.source.name} says that the separator is "
                f"{separator!r}, but "
                f"{parameter('separator', self._dialect.separator)} is given: leave it "
                "out."
            )
        self._dialect = replace(self._dialect, separator=separator)

    def _checked_header(self, header: CsvRecord) -> list[str]:
        text, name = "".join(header.lines), self.source.name
        wrong = marked_bytes(text)
        if wrong and "\0" in text:
            raise DataError(f"{name} is not a text file. {NO_TABLE}")
        if wrong:
            raise DataError(
                f"{name} is not {self._encoding}: byte 0x{wrong[0]:02x} in line "
                f"{header.line}, which must name the columns, cannot be decoded. "
                f"{encoding_hint(self._encoding)}"
            )
        if header.problem:
            raise DataError(
                f"{name} has no proper header in line {header.line}: {header.problem}"
            )
        return header.fields

    def _rows(self, records: Iterator[CsvRecord]) -> Iterator[list[str] | InvalidRow]:
        width = len(self.columns)
        n_blank = 0
        for record in records:
            fields, _, lines, problem = record
            if not fields and not problem:
                n_blank += 1
                continue
            if n_blank:
                if width == 1:
                    # In a file of one column a blank line is a row without text,
                    # except at the end of the file.
                    yield from ([""] for _ in range(n_blank))
                n_blank = 0
            if len(fields) == width and _is_decoded(lines):
                yield fields
            else:
                yield self._invalid(record)

    def _invalid(self, record: CsvRecord) -> InvalidRow:
        last = record.line + len(record.lines) - 1
        which = f"line {last}"
        if last > record.line:
            which = f"lines {record.line} to {last}"
        return invalid_row(
            f"{which} of {self.source.name}",
            record.problem or self._problem(record.fields),
            "".join(record.lines),
        )

    def _problem(self, fields: list[str]) -> str:
        n_fields, width = len(fields), len(self.columns)
        if n_fields != width:
            separator = self._dialect.separator
            holds = "a comma" if separator == "," else repr(separator)
            return (
                f"it has {n_fields} field{'s' * (n_fields != 1)}, but the header names "
                f"{width} column{'s' * (width != 1)}: a field that contains {holds} or "
                "a line break must be in quotes."
            )
        hint = encoding_hint(self._encoding)
        for name, field in zip(self.columns, fields, strict=True):
            if wrong := marked_bytes(field):
                return (
                    f"byte 0x{wrong[0]:02x} in column {name!r} is not "
                    f"{self._encoding}. {hint}"
                )
        return f"it holds half a character of {self._encoding}. {hint}"


def _is_decoded(lines: list[str]) -> bool:
    try:
        for line in lines:
            # Asking costs nothing, and most lines are.
            if not line.isascii():
                line.encode()
    except UnicodeEncodeError:
        return False
    return True
