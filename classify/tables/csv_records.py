"""From lines to CSV records: every line is in exactly one of them.

Python's own reader is used, not that of pandas, since it keeps every cell, repeated
column names and empty rows unchanged, and knows the line that it is in.
"""

import csv
import re
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from classify.errors import ConfigError

__all__ = ["CsvDialect", "CsvRecord", "read_records"]


@dataclass(frozen=True)
class CsvDialect:
    """How fields are separated; a quote within a quoted field is doubled.

    Attributes
    ----------
    separator, quote_char : str
        One character each.
    escape_char : str or None
        Takes the meaning from the character after it; None: there is none.

    Raises
    ------
    ConfigError
        One of them is not a single character, is a line end, or is another of them.
    """

    separator: str = ","
    quote_char: str = '"'
    escape_char: str | None = None

    def __post_init__(self) -> None:
        given = {
            "separator": self.separator,
            "quote character": self.quote_char,
            "escape character": self.escape_char,
        }
        seen: dict[str, str] = {}
        for name, character in given.items():
            if character is None:
                continue
            if len(character) != 1 or character in "\r\n\0":
                raise ConfigError(
                    f"The {name} must be a single character other than a line break. "
                    f"Got {character!r} instead."
                )
            if character in seen:
                raise ConfigError(
                    f"The {name} and the {seen[character]} must differ. Got "
                    f"{character!r} for both."
                )
            seen[character] = name


class CsvRecord(NamedTuple):
    """One or more whole lines of a file.

    Attributes
    ----------
    fields : list of str
        None for a blank line, and where there is a problem.
    line : int
        The number of its first line, from 1.
    lines : list of str
        As they stand, with their ends.
    problem : str
        Why it has no fields; "" if nothing is wrong.
    """

    fields: list[str]
    line: int
    lines: list[str]
    problem: str


def read_records(
    lines: Iterator[str],
    dialect: CsvDialect,
    *,
    most_characters: int,
    first_line: int = 1,
) -> Iterator[CsvRecord]:
    r"""Yield the records of a file in order, malformed ones too.

    Where a quote is opened and not closed before the end, or within `most_characters`,
    the record ends with the line of that quote, and the lines after it are read again.
    A record that is wrong for another reason holds all lines read up to there.

    Parameters
    ----------
    lines : iterator of str
        Each with its end, if it has one.
    dialect : CsvDialect
    most_characters : int
        More of them make no record.
    first_line : int, default=1
        The number of the first of the lines.

    Examples
    --------
    >>> lines = ['id,text\n', '1,"two\n', 'lines"\n', '2,"open\n', '3,c\n']
    >>> for each in read_records(iter(lines), CsvDialect(), most_characters=99):
    ...     print(each.line, len(each.lines), each.fields, each.problem[:19])
    1 1 ['id', 'text']
    2 2 ['1', 'two\nlines']
    4 1 [] it has an opening q
    5 1 ['3', 'c']
    """
    csv.field_size_limit(sys.maxsize)  # a text may be longer than 128 KiB
    source = _Lines(lines, most_characters)
    reader = csv.reader(
        source,
        strict=True,
        delimiter=dialect.separator,
        quotechar=dialect.quote_char,
        escapechar=dialect.escape_char,
    )
    line = first_line
    while True:
        problem = ""
        try:
            fields = next(reader, None)
        except csv.Error as error:
            fields, problem = [], source.problem(str(error), dialect)
        except _TooLongError:
            fields, problem = [], source.too_long(dialect)
        lines_of = source.finish()
        if fields is None:
            return
        yield CsvRecord(fields, line, lines_of, problem)
        line += len(lines_of)


class _TooLongError(Exception):
    """A record has more characters than any may have."""


class _Lines:
    """Lines that know which were taken for a record, and take some back."""

    def __init__(self, lines: Iterator[str], most_characters: int) -> None:
        self._lines, self._most = lines, most_characters
        self._given_back: deque[str] = deque()
        self._taken: list[str] = []
        self._room = most_characters
        self._has_ended = False

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        if self._given_back:
            line = self._given_back.popleft()
        else:
            self._has_ended = True
            line = next(self._lines)
            self._has_ended = False
        self._taken.append(line)
        self._room -= len(line)
        if self._room < 0:
            raise _TooLongError
        return line

    def finish(self) -> list[str]:
        """Return the lines of the record, and begin another."""
        taken, self._taken = self._taken, []
        self._room, self._has_ended = self._most, False
        return taken

    def problem(self, error: str, dialect: CsvDialect) -> str:
        """Return what is wrong; give back the lines that are not part of it."""
        if self._has_ended:
            self._end_at_the_quote(dialect)
            return f"it has an opening quote that is never closed{_READ_ON}"
        return (
            f"it is not valid CSV: {error}; a quote within a quoted field must be "
            "doubled."
        )

    def too_long(self, dialect: CsvDialect) -> str:
        """Return what is wrong; give back the lines that are not part of it."""
        if len(self._taken) == 1:
            return f"it has more than {self._most:,} characters, the maximum for a row."
        self._end_at_the_quote(dialect)
        within = f"within {self._most:,} characters"
        return f"it has an opening quote that is not closed {within}{_READ_ON}"

    def _end_at_the_quote(self, dialect: CsvDialect) -> None:
        """Give the lines back that stand after the quote that is open at the end."""
        # Quotes in pairs are text; a single one closes the field, and as the field is
        # open again at the end of the line, another one opens it.
        quote = re.escape(dialect.quote_char)
        pairs = quote * 2
        if dialect.escape_char is not None:
            pairs = f"{re.escape(dialect.escape_char)}.|{pairs}"
        text = re.compile(pairs, re.DOTALL)
        n_lines = 1
        for at, line in enumerate(self._taken[1:], start=2):
            if dialect.quote_char in text.sub("", line):
                n_lines = at
        self._given_back.extendleft(reversed(self._taken[n_lines:]))
        del self._taken[n_lines:]


_READ_ON = ": the lines after it are read as rows of their own."
