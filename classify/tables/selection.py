"""Selected rows of a table: the first ones, a sample, or a shard."""

import re
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from classify.errors import ConfigError, DataError
from classify.tables.chunk import Chunk, joined
from classify.tables.table import Table
from classify.wording import parameter

__all__ = ["parse_shard", "select_rows"]


def select_rows(
    table: Table,
    *,
    limit: int | None = None,
    sample: int | None = None,
    shard: tuple[int, int] | None = None,
    seed: int = 0,
) -> Table:
    """Return a table of some rows, in their order and with their numbers.

    Parameters
    ----------
    table : Table
        Of all rows.
    limit : int, default=None
        Only the first rows, this many.
    sample : int, default=None
        Of these, this many, drawn at random without replacement.
    shard : (int, int), default=None
        Of these, the i-th of n parts, from 1: consecutive rows, as many as in the other
        parts or one more.
    seed : int, default=0
        Of the sample.

    Returns
    -------
    Table
        Where `start` of its chunks counts selected rows.

    Raises
    ------
    ConfigError
        A number is not allowed.
    DataError
        A sample or shard of a stream, whose number of rows is unknown.

    Examples
    --------
    >>> import pandas as pd
    >>> from classify.tables.opening import open_table
    >>> table = open_table(pd.DataFrame({"text": ["a", "b", "c", "d"]}))
    >>> [chunk.cells("text") for chunk in select_rows(table, shard=(2, 2)).chunks(9)]
    [['c', 'd']]
    """
    _check_count("limit", limit)
    _check_count("sample", sample)
    if sample is None and shard is None:
        return table if limit is None else _range_of(table, 0, limit)
    n_rows = _known_count(table, "shard" if sample is None else "sample")
    n_first = n_rows if limit is None else min(limit, n_rows)
    n_taken = n_first if sample is None else min(sample, n_first)
    first, end = _bounds(n_taken, shard)
    if n_taken == n_first:
        return _range_of(table, first, end)
    drawn = np.random.default_rng(seed).choice(n_first, n_taken, replace=False)
    return _rows_at(table, np.sort(drawn)[first:end])


def parse_shard(text: str) -> tuple[int, int]:
    """Return which part of how many a shard such as ``2/8`` is.

    Raises
    ------
    ConfigError
        It does not have the form ``2/8``.

    Examples
    --------
    >>> parse_shard("2/8")
    (2, 8)
    """
    found = re.fullmatch(r"\s*([0-9]+)\s*/\s*([0-9]+)\s*", text)
    if found is None:
        raise ConfigError(
            f"{parameter('shard')} must be two numbers, such as 2/8 for the second of "
            f"eight parts. Got {text!r} instead."
        )
    shard = int(found[1]), int(found[2])
    _check_shard(shard)
    return shard


def _check_shard(shard: tuple[int, int]) -> None:
    part, n_parts = shard
    if not 1 <= part <= n_parts:
        raise ConfigError(
            f"{parameter('shard')} must name one of the parts, from 1 to {n_parts}. "
            f"Got {part}/{n_parts} instead."
        )


def _check_count(name: str, count: int | None) -> None:
    if count is not None and count < 1:
        raise ConfigError(f"{parameter(name)} must be at least 1. Got {count} instead.")


def _known_count(table: Table, name: str) -> int:
    if table.n_rows is None:
        raise DataError(
            f"{parameter(name)} needs to know how many rows there are, which "
            f"{table.name} does not tell: save it to a file first, or use "
            f"{parameter('limit')}."
        )
    return table.n_rows


def _bounds(n_rows: int, shard: tuple[int, int] | None) -> tuple[int, int]:
    if shard is None:
        return 0, n_rows
    _check_shard(shard)
    part, n_parts = shard
    return n_rows * (part - 1) // n_parts, n_rows * part // n_parts


def _range_of(table: Table, first: int, end: int) -> Table:
    """Return consecutive rows."""
    if table.n_rows is not None:
        end = min(end, table.n_rows)

    def read(n_rows: int, start: int) -> Iterator[Chunk]:
        n_left = end - first - start
        if n_left <= 0:
            return
        # Who wants the first row of a stream does not wait for a thousand.
        for chunk in table.chunks(min(n_rows, n_left), start=first + start):
            kept = chunk if chunk.n_rows <= n_left else _cut(chunk, n_left)
            yield kept
            n_left -= kept.n_rows
            if not n_left:
                return

    n_rows = None if table.n_rows is None else end - first
    return replace(table, n_rows=n_rows, read=read)


def _cut(chunk: Chunk, n_rows: int) -> Chunk:
    first = min([*chunk.numbers[:1], *(bad.number for bad in chunk.unreadable[:1])])
    return chunk.only(np.arange(first, first + n_rows))


def _rows_at(table: Table, numbers: npt.NDArray[np.int64]) -> Table:
    """Return the rows with these ascending numbers."""

    def read(n_rows: int, start: int) -> Iterator[Chunk]:
        wanted = numbers[start:]
        if not len(wanted):
            return
        waiting: list[Chunk] = []
        n_waiting = 0
        number = int(wanted[0])
        for chunk in table.chunks(n_rows, start=number):
            until = number + chunk.n_rows
            here = wanted[slice(*np.searchsorted(wanted, (number, until)))]
            number = until
            room = n_rows - n_waiting
            for part in (here[:room], here[room:]):
                if not len(part):
                    continue
                waiting.append(chunk.only(part))
                n_waiting += len(part)
                if n_waiting == n_rows:
                    yield joined(waiting)
                    waiting, n_waiting = [], 0
            if until > wanted[-1]:
                break
        if waiting:
            yield joined(waiting)

    return replace(table, n_rows=len(numbers), read=read)
