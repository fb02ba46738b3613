"""The cells of some rows, for each kind of input."""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from classify.cells import written_text
from classify.tables.values import arrow_cells, as_arrow, pyarrow, series_cells

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ArrowRows", "DictRows", "FrameRows", "ListRows", "Rows"]

Positions = npt.NDArray[np.int64]


class Rows(Protocol):
    """Rows that know their columns; names may be there more than once.

    A missing value is None.
    """

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns."""
        ...

    def __len__(self) -> int: ...

    def cells(self, at: int) -> list[Any]:
        """Return the values of a column."""
        ...

    def lists(self) -> list[list[Any]]:
        """Return each row's values in the order of the columns."""
        ...

    def dicts(self) -> list[dict[str, Any]]:
        """Return each row by column names."""
        ...

    def arrow(self) -> "pa.Table":
        """Return the rows as a table of Arrow."""
        ...

    def take(self, positions: Positions) -> Self:
        """Return the rows at some positions."""
        ...

    def joined(self, others: Sequence[Self]) -> Self:
        """Return these rows and those of others."""
        ...


class ListRows:
    """Rows of a CSV file: every cell is a string.

    Parameters
    ----------
    columns : tuple of str
    rows : list of list of str
        Each as long as `columns`.

    Examples
    --------
    >>> rows = ListRows(("id", "text"), [["1", "a"], ["2", "b"]])
    >>> rows.cells(1), rows.dicts()[0], rows.take(np.array([1])).lists()
    (['a', 'b'], {'id': '1', 'text': 'a'}, [['2', 'b']])
    """

    def __init__(self, columns: tuple[str, ...], rows: list[list[str]]) -> None:
        self.columns, self._rows = columns, rows

    def __len__(self) -> int:
        return len(self._rows)

    def cells(self, at: int) -> list[Any]:
        """Return the values of a column."""
        return [row[at] for row in self._rows]

    def lists(self) -> list[list[Any]]:
        """Return each row's values in the order of the columns."""
        return self._rows

    def dicts(self) -> list[dict[str, Any]]:
        """Return each row by column names."""
        return [dict(zip(self.columns, row, strict=True)) for row in self._rows]

    def arrow(self) -> "pa.Table":
        """Return the rows as a table of Arrow."""
        pa = pyarrow()
        columns = [pa.array(self.cells(at), pa.string()) for at in _range(self)]
        return _arrow(self, columns)

    def take(self, positions: Positions) -> "ListRows":
        """Return the rows at some positions."""
        return ListRows(self.columns, [self._rows[at] for at in positions])

    def joined(self, others: Sequence["ListRows"]) -> "ListRows":
        """Return these rows and those of others."""
        more = chain.from_iterable(each._rows for each in others)
        return ListRows(self.columns, [*self._rows, *more])


class DictRows:
    """Rows of a JSONL file: each has keys of its own.

    Parameters
    ----------
    columns : tuple of str
        Every key, once.
    rows : list of dict

    Examples
    --------
    >>> rows = DictRows(("id", "text"), [{"text": "a", "id": 1}, {"text": "b"}])
    >>> rows.cells(0), rows.lists(), rows.dicts()[1]
    ([1, None], [[1, 'a'], [None, 'b']], {'text': 'b'})
    """

    def __init__(self, columns: tuple[str, ...], rows: list[dict[str, Any]]) -> None:
        self.columns, self._rows = columns, rows

    def __len__(self) -> int:
        return len(self._rows)

    def cells(self, at: int) -> list[Any]:
        """Return the values of a column."""
        return [row.get(self.columns[at]) for row in self._rows]

    def lists(self) -> list[list[Any]]:
        """Return each row's values in the order of the columns."""
        return [[row.get(name) for name in self.columns] for row in self._rows]

    def dicts(self) -> list[dict[str, Any]]:
        """Return each row by column names."""
        return self._rows

    def arrow(self) -> "pa.Table":
        """Return the rows as a table of Arrow."""
        return _arrow(self, [as_arrow(self.cells(at)) for at in _range(self)])

    def take(self, positions: Positions) -> "DictRows":
        """Return the rows at some positions."""
        return DictRows(self.columns, [self._rows[at] for at in positions])

    def joined(self, others: Sequence["DictRows"]) -> "DictRows":
        """Return these rows and those of others."""
        more = chain.from_iterable(each._rows for each in others)
        return DictRows(self.columns, [*self._rows, *more])


class ArrowRows:
    """Rows of a Parquet file or a dataset.

    Parameters
    ----------
    table : pyarrow.Table
    """

    def __init__(self, table: "pa.Table") -> None:
        self._table = table
        self.columns = tuple(table.column_names)

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def cells(self, at: int) -> list[Any]:
        """Return the values of a column."""
        return arrow_cells(self._table.column(at))

    def lists(self) -> list[list[Any]]:
        """Return each row's values in the order of the columns."""
        return _by_row(self)

    def dicts(self) -> list[dict[str, Any]]:
        """Return each row by column names."""
        return _dicts(self)

    def arrow(self) -> "pa.Table":
        """Return the rows as a table of Arrow."""
        return self._table

    def take(self, positions: Positions) -> "ArrowRows":
        """Return the rows at some positions."""
        return ArrowRows(self._table.take(positions))

    def joined(self, others: Sequence["ArrowRows"]) -> "ArrowRows":
        """Return these rows and those of others."""
        tables = [self._table, *(each._table for each in others)]
        return ArrowRows(pyarrow().concat_tables(tables))


class FrameRows:
    """Rows of a DataFrame, whose index plays no part.

    Parameters
    ----------
    frame : DataFrame

    Examples
    --------
    >>> FrameRows(pd.DataFrame({"n": [1.5, None], "text": ["a", "b"]})).lists()
    [[1.5, 'a'], [None, 'b']]
    """

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frame = frame
        self.columns = tuple(map(str, frame.columns))

    def __len__(self) -> int:
        return len(self._frame)

    def cells(self, at: int) -> list[Any]:
        """Return the values of a column."""
        return series_cells(self._frame.iloc[:, at])

    def lists(self) -> list[list[Any]]:
        """Return each row's values in the order of the columns."""
        return _by_row(self)

    def dicts(self) -> list[dict[str, Any]]:
        """Return each row by column names."""
        return _dicts(self)

    def arrow(self) -> "pa.Table":
        """Return the rows as a table of Arrow."""
        columns = [as_arrow(self._frame.iloc[:, at]) for at in _range(self)]
        return _arrow(self, columns)

    def take(self, positions: Positions) -> "FrameRows":
        """Return the rows at some positions."""
        return FrameRows(self._frame.iloc[positions])

    def joined(self, others: Sequence["FrameRows"]) -> "FrameRows":
        """Return these rows and those of others."""
        return FrameRows(pd.concat([self._frame, *(each._frame for each in others)]))


def _range(rows: Rows) -> range:
    return range(len(rows.columns))


def _arrow(rows: Rows, columns: list[Any]) -> "pa.Table":
    names = list(map(written_text, rows.columns))
    return pyarrow().Table.from_arrays(columns, names)


def _by_row(rows: Rows) -> list[list[Any]]:
    return [list(row) for row in _tuples(rows)]


def _dicts(rows: Rows) -> list[dict[str, Any]]:
    return [dict(zip(rows.columns, row, strict=True)) for row in _tuples(rows)]


def _tuples(rows: Rows) -> Iterator[tuple[Any, ...]]:
    if not rows.columns:
        return iter([()] * len(rows))
    return zip(*(rows.cells(at) for at in _range(rows)), strict=True)
