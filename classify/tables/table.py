"""A table: named columns over rows that are read in chunks."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Protocol

import numpy as np

from classify.column_hints import (
    choice_hint,
    header_hint,
    looks_like_data,
    misread_hint,
)
from classify.errors import DataError
from classify.tables.chunk import Chunk
from classify.tables.rows import DictRows, ListRows, Rows
from classify.tables.sources import Source

__all__ = ["ChunkReader", "Input", "Table", "check_same_columns", "name_of_all"]

Input = Mapping[str, str | int | None]


class ChunkReader(Protocol):
    """Reads a table from a row on, `n_rows` rows at a time."""

    def __call__(self, n_rows: int, start: int) -> Iterator[Chunk]:
        """Yield chunks as `Table.chunks` does."""
        ...


@dataclass(frozen=True, eq=False, kw_only=True)
class Table:
    """Rows from one or more inputs, of any kind.

    Attributes
    ----------
    name : str
        As it stands in messages: quoted, if it is a path.
    columns : tuple of str
        As they stand; names may be there more than once.
    n_rows : int or None
        Rows, readable or not; None if unknown before the end.
    resumable : bool
        Whether the rows can be had again: not from stdin or a pipe.
    read : ChunkReader
    describe : callable
        What `inputs` returns.
    empty : Rows
        The columns without rows.
    """

    name: str
    columns: tuple[str, ...]
    n_rows: int | None
    resumable: bool
    read: ChunkReader
    describe: Callable[[], list[Input]]
    empty: Rows

    @property
    def has_header(self) -> bool:
        """Whether the first line of each file names the columns."""
        return isinstance(self.empty, ListRows)

    def inputs(self) -> list[Input]:
        """Return the identity of these inputs.

        Returns
        -------
        list of mapping
            Of each: ``path``, as given; ``size``, in bytes, or in rows of what is no
            file; ``digest``, the SHA-256 of its bytes, or what says as much. None where
            nobody can know.
        """
        return self.describe()

    def chunks(self, n_rows: int, *, start: int = 0) -> Iterator[Chunk]:
        """Yield the rows in order, `n_rows` at a time, the last time fewer.

        Parameters
        ----------
        n_rows : int
            Readable or not.
        start : int, default=0
            Skip this many rows, readable or not.

        Raises
        ------
        DataError
            A file is damaged, or was changed since the table was opened.
        """
        return self.read(n_rows, start)

    def no_rows(self) -> Chunk:
        """Return the columns without rows."""
        return Chunk(self.empty, np.empty(0, dtype=np.int64))

    def only_column(self, beside: str | None = None) -> str | None:
        """Return the only column besides another; None if there is not exactly one.

        It is where the file seems to be read in the wrong way, or to have no names.
        """
        columns = [name for name in self.columns if name != beside]
        if len(columns) != 1 or self._misread_hint() or looks_like_data(columns[0]):
            return None
        return columns[0]

    def check_column(self, name: str, purpose: str, option: str | None = None) -> None:
        """Raise DataError unless there is exactly one column of this name.

        Parameters
        ----------
        name : str
        purpose : str
            What it is needed for, to end "There is no column 'x' …".
        option : str, default=None
            The parameter that chooses the column.
        """
        if self.columns.count(name) > 1:
            what = self.name[0].upper() + self.name[1:]
            raise DataError(f"{what} has more than one column {name!r}: rename one.")
        if name in self.columns:
            return
        columns = ", ".join(map(repr, self.columns)) or "none"
        hints = self._misread_hint() or choice_hint(
            name, self.columns, option, has_header=self.has_header
        )
        raise DataError(
            f"There is no column {name!r} {purpose} in {self.name}. Columns: "
            f"{columns}.{hints}"
        )

    def _misread_hint(self) -> str:
        return misread_hint(self.columns, is_jsonl=isinstance(self.empty, DictRows))


def name_of_all(sources: Sequence[Source]) -> str:
    """Return the name of these sources for messages."""
    if len(sources) == 1:
        return sources[0].name
    first, last = sources[0].name, sources[-1].name
    return f"the table of {len(sources):,} files ({first} to {last})"


def check_same_columns(
    named: Sequence[tuple[str, tuple[str, ...]]], *, has_header: bool = False
) -> None:
    """Raise DataError unless all files have the columns of the first, in its order.

    Parameters
    ----------
    named : sequence of (str, tuple of str)
        What messages call each file, and its columns.
    has_header : bool, default=False
        Whether these are its first line.

    Examples
    --------
    >>> check_same_columns([("'a.csv'", ("id", "text")), ("'b.csv'", ("id",))])
    Traceback (most recent call last):
     ...
    classify.errors.DataError: 'b.csv' has other columns than 'a.csv': column 2 is
    missing, not 'text'. All files must have the same columns in the same order.
    """
    first, columns = named[0]
    for name, others in named[1:]:
        if others == columns:
            continue
        pairs = enumerate(zip_longest(others, columns), start=1)
        at, (own, wanted) = next(pair for pair in pairs if pair[1][0] != pair[1][1])
        raise DataError(
            f"{name} has other columns than {first}: column {at} is {_named(own)}, not "
            f"{_named(wanted)}. All files must have the same columns in the same order."
            f"{header_hint(others) if has_header else ''}"
        )


def _named(column: str | None) -> str:
    return "missing" if column is None else repr(column)
