"""Values of any kind as text, as JSON, and as columns of Arrow."""

import json
import re
from collections.abc import Iterable
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from classify.cells import written_text
from classify.errors import missing_dependency

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "arrow_cells",
    "as_arrow",
    "as_texts",
    "csv_cells",
    "json_text",
    "pyarrow",
    "series_cells",
]

# What Python's csv module writes as one would read it; None as nothing.
_SIMPLE = frozenset({str, int, float, bool, type(None)})
_NESTED = (dict, list, tuple, np.ndarray)
_BYTES = (bytes, bytearray, memoryview)
_HALVES = re.compile("[\ud800-\udfff]")
_OF_JSON = (str, bool, int, float, dict, list, tuple)


def json_text(value: object) -> str:
    r"""Return a value as JSON on one line: every letter and every digit as it is.

    Dates are written as ISO 8601 has them, bytes as the text that they are in UTF-8,
    and what else JSON does not know as text. Bytes that are not UTF-8 and halves of
    surrogate pairs become escape sequences within the text (`written_text`).
    Not-a-number and infinity are written as the words ``NaN`` and ``Infinity``, as
    Python reads them.

    Examples
    --------
    >>> print(json_text({"name": "Zoë", "n": 2**64, "share": 0.1, "raw": b"caf\xe9"}))
    {"name": "Zoë", "n": 18446744073709551616, "share": 0.1, "raw": "caf\\xe9"}
    """
    text = _ENCODER.encode(value)
    if text.isascii():
        return text
    # Within JSON the backslash of an escape sequence is doubled.
    return _HALVES.sub(lambda half: f"\\\\u{ord(half[0]):04x}", text)


def csv_cells(column: list[Any]) -> list[Any]:
    """Return what the csv module shall write: nested values as JSON.

    Examples
    --------
    >>> csv_cells(["a", 1.5, None, [1, "b"], {"c": True}])
    ['a', 1.5, None, '[1, "b"]', '{"c": true}']
    """
    if set(map(type, column)) <= _SIMPLE:
        return column
    return [_csv_cell(value) for value in column]


def as_texts(column: Iterable[object]) -> list[str | None]:
    """Return strings as they are, and all else as JSON; None stays None.

    Examples
    --------
    >>> as_texts(["a", 1, True, None])
    ['a', '1', 'true', None]
    """
    return [None if value is None else _text(value) for value in column]


def as_arrow(column: "list[Any] | pd.Series[Any]") -> "pa.Array":
    """Return a column of Arrow; as text (`as_texts`) where there is no type for it.

    That is so if it holds several kinds of values, numbers too great for 64 bits, or
    empty objects, which Parquet cannot hold.

    Examples
    --------
    >>> as_arrow([1, None]).type, as_arrow([1, "a"]).to_pylist()
    (DataType(int64), ['1', 'a'])
    """
    pa = pyarrow()
    is_series = isinstance(column, pd.Series)
    try:
        typed = pa.array(column, from_pandas=is_series)
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        pass
    else:
        if "struct<>" not in str(typed.type):
            return typed
    cells = series_cells(column) if isinstance(column, pd.Series) else column
    return pa.array(as_texts(cells), pa.string())


def series_cells(column: "pd.Series[Any]") -> list[Any]:
    """Return the values of a column as Python has them; None where one is missing.

    Examples
    --------
    >>> series_cells(pd.Series([1.5, float("nan")]))
    [1.5, None]
    """
    return column.astype(object).where(column.notna(), None).tolist()


def arrow_cells(column: "pa.ChunkedArray") -> list[Any]:
    """Return the values of a column of Arrow as Python has them.

    Strings that are not UTF-8, which nothing keeps files from holding, stay bytes;
    what Python has no value for, such as a date in the year 10000, becomes text.
    """
    try:
        cells: list[Any] = column.to_pylist()
    except (ValueError, OverflowError):
        return [_arrow_cell(each) for each in column]
    return cells


def pyarrow() -> ModuleType:
    """Return the package pyarrow.

    Raises
    ------
    MissingDependencyError
        It is not installed.
    """
    try:
        import pyarrow as package
        import pyarrow.parquet
    except ImportError as error:
        raise missing_dependency(
            "Parquet files and datasets need the package pyarrow", "files"
        ) from error
    module: ModuleType = package
    return module


def _csv_cell(value: Any) -> Any:
    if isinstance(value, _BYTES):
        return written_text(bytes(value))
    return json_text(value) if isinstance(value, _NESTED) else value


def _text(value: object) -> str:
    plain = value if isinstance(value, _OF_JSON) else _plain(value)
    return written_text(plain) if isinstance(plain, str) else json_text(plain)


def _plain(value: Any) -> Any:
    """Return a JSON form of a value of a type that JSON does not have."""
    if isinstance(value, _BYTES):
        return written_text(bytes(value))
    for method in ("isoformat", "tolist"):
        if hasattr(value, method):
            return getattr(value, method)()
    return str(value)


def _arrow_cell(scalar: Any) -> Any:
    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        if hasattr(scalar, "as_buffer"):
            return scalar.as_buffer().to_pybytes()
        if hasattr(scalar, "items"):  # a struct
            return {name: _arrow_cell(each) for name, each in scalar.items()}
        return [_arrow_cell(each) for each in scalar]
    except (ValueError, OverflowError):
        return str(scalar.cast(pyarrow().string()).as_py())


_ENCODER = json.JSONEncoder(ensure_ascii=False, default=_plain)
