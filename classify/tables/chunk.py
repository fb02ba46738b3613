"""Some rows of a table in order, those that could be read and those that could not."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from classify.tables.rows import Rows
from classify.tables.sources import shown_bytes

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Chunk", "InvalidRow", "Unreadable", "chunk_of", "invalid_row", "joined"]

# Characters of an unreadable row that are shown.
_MAX_SHOWN = 10_000


@dataclass(frozen=True)
class Unreadable:
    r"""A row that could not be read.

    Attributes
    ----------
    number : int
        Of the row in the input, from 0.
    place : str
        As "line 17 of 'tickets.csv'".
    reason : str
    raw : str
        Its text as it stands, without the last line end; bytes that could not be
        decoded as ``\xNN``; at most 10,000 characters, then "…".
    """

    number: int
    place: str
    reason: str
    raw: str


@dataclass(frozen=True)
class Chunk:
    """Consecutive rows of a table.

    Attributes
    ----------
    rows : Rows
        Those that could be read.
    numbers : ndarray of int64, shape (n_readable,)
        Where each of them stands in the input, from 0; ascending.
    unreadable : tuple of Unreadable
        Those that could not be read, in order.

    Examples
    --------
    >>> from classify.tables.rows import ListRows
    >>> rows = ListRows(("id", "text"), [["1", "a"], ["2", "b"]])
    >>> chunk = Chunk(rows, np.array([7, 8]))
    >>> len(chunk), chunk.cells("text"), chunk.take([1]).numbers
    (2, ['a', 'b'], array([8]))
    """

    rows: Rows
    numbers: npt.NDArray[np.int64]
    unreadable: tuple[Unreadable, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns, unchanged."""
        return self.rows.columns

    @property
    def n_rows(self) -> int:
        """Rows that the chunk accounts for, readable or not."""
        return len(self.rows) + len(self.unreadable)

    def __len__(self) -> int:
        """Rows that could be read."""
        return len(self.rows)

    def cells(self, column: str) -> list[Any]:
        """Return a value for each readable row; None where it is missing."""
        return self.rows.cells(self.columns.index(column))

    def lists(self) -> list[list[Any]]:
        """Return the values of each readable row in the order of `columns`."""
        return self.rows.lists()

    def dicts(self) -> list[dict[str, Any]]:
        """Return each readable row; of JSONL, with the keys that its line has."""
        return self.rows.dicts()

    def arrow(self) -> "pa.Table":
        """Return the readable rows as a `pyarrow.Table`."""
        return self.rows.arrow()

    def take(self, positions: Sequence[int] | npt.NDArray[np.int64]) -> "Chunk":
        """Return the readable rows at some positions, without unreadable ones."""
        at = np.asarray(positions, dtype=np.int64)
        return Chunk(self.rows.take(at), self.numbers[at])

    def only(self, numbers: npt.NDArray[np.int64]) -> "Chunk":
        """Return the rows with some numbers, readable or not."""
        kept = self.take(np.flatnonzero(np.isin(self.numbers, numbers)))
        wanted = set(numbers.tolist()) if self.unreadable else set()
        bad = tuple(each for each in self.unreadable if each.number in wanted)
        return replace(kept, unreadable=bad)


def joined(chunks: Sequence[Chunk]) -> Chunk:
    """Return consecutive chunks of one table as one; there must be one at least."""
    first, *others = [each for each in chunks if each.n_rows] or chunks[:1]
    if not others:
        return first
    return Chunk(
        first.rows.joined([each.rows for each in others]),
        np.concatenate([each.numbers for each in (first, *others)]),
        tuple(bad for each in chunks for bad in each.unreadable),
    )


class InvalidRow(NamedTuple):
    """A row that could not be read, before it has its number; see `Unreadable`."""

    place: str
    reason: str
    raw: str


def invalid_row(place: str, reason: str, text: str) -> InvalidRow:
    r"""Return a row that could not be read, from its decoded text.

    Examples
    --------
    >>> print(invalid_row("line 2 of 'a.csv'", "it has 1 field", "caf\udce9\r\n").raw)
    caf\xe9
    """
    raw = text[: _MAX_SHOWN + 2]
    if len(raw) == len(text):
        raw = raw.removesuffix("\n").removesuffix("\r")
    raw = shown_bytes(raw)
    if len(raw) > _MAX_SHOWN:
        raw = raw[:_MAX_SHOWN] + "…"
    return InvalidRow(place, reason, raw)


def chunk_of(
    batch: list[Any], first: int, make_rows: Callable[[list[Any]], Rows]
) -> Chunk:
    """Return rows, some of them invalid, numbered from `first` on, as a chunk."""
    numbers = np.arange(first, first + len(batch))
    if InvalidRow not in set(map(type, batch)):
        return Chunk(make_rows(batch), numbers)
    bad = [at for at, row in enumerate(batch) if isinstance(row, InvalidRow)]
    return Chunk(
        make_rows([row for row in batch if not isinstance(row, InvalidRow)]),
        np.delete(numbers, bad),
        tuple(Unreadable(first + at, *batch[at]) for at in bad),
    )
