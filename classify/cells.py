"""Cells of a table: a text, a list of names, empty, or not a text."""

import json
import unicodedata
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

import numpy as np

from classify.errors import DataError, InputError

__all__ = [
    "column_list",
    "is_missing",
    "join_names",
    "need_json",
    "no_text",
    "shown",
    "split_names",
    "text_of",
    "texts_list",
    "written_text",
]

_MAX_SHOWN = 80
_EMPTY = "there is no text: it is empty or missing."
_INVISIBLE_ONLY = "there is no text: it has only invisible characters."
# Controls, format characters, the three kinds of separators, and marks, which show
# on other characters only.
_INVISIBLE = frozenset({"Cc", "Cf", "Zs", "Zl", "Zp", "Mn", "Me"})
# Letters, symbols and unassigned code points that are blank all the same: Hangul
# fillers, the empty Braille pattern, the place of an embedded object, and what
# Unicode reserves as Default_Ignorable_Code_Point.
_BLANKS = frozenset("\u115f\u1160\u3164\uffa0\u2800\ufffc\u2065")
_IGNORABLE = (range(0xFFF0, 0xFFF9), range(0xE0000, 0xE1000))
_NESTED = (list, tuple, Mapping, Set, np.ndarray)


def is_missing(value: object) -> bool:
    """Return whether a cell has no value: None, or what is unequal to itself.

    Examples
    --------
    >>> [is_missing(each) for each in (None, float("nan"), np.datetime64("NaT"))]
    [True, True, True]
    >>> is_missing(""), is_missing("nan"), is_missing(0)
    (False, False, False)
    """
    if isinstance(value, (str, bytes, *_NESTED)):
        # A masked scalar is an array without a dimension.
        return value is np.ma.masked
    try:
        return value is None or bool(value != value)
    except (TypeError, ArithmeticError):  # pandas.NA, a signalling NaN
        return True


def text_of(value: object) -> str:
    r"""Return the text of a cell, "" if it is missing; bytes are read as UTF-8.

    Raises
    ------
    DataError
        It is a list or another nested value, has half a surrogate pair, or is not
        UTF-8. The sentence continues "the text " or "column 'x' ".

    Examples
    --------
    >>> text_of("caf\u00e9"), text_of("caf\u00e9".encode()), text_of(7), text_of(None)
    ('café', 'café', '7', '')
    """
    if is_missing(value):
        return ""
    if isinstance(value, str):
        text = str.__str__(value)
    elif isinstance(value, bytes | bytearray | memoryview):
        return _decoded(bytes(value))
    elif isinstance(value, _NESTED):
        raise DataError(
            f"holds a value of type {type(value).__name__}, not a string: convert it "
            "first."
        )
    else:
        text = str(value)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise DataError(
                "contains a lone surrogate: \\ud800 to \\udfff must come in pairs."
            ) from None
    return text


def no_text(text: str) -> str:
    r"""Return why a string is not a text: it has nothing to see; "" if it is one.

    Examples
    --------
    >>> no_text("parcel"), no_text("\u200bparcel"), no_text("\N{PERSONAL COMPUTER}")
    ('', '', '')
    >>> no_text(" \n")
    'there is no text: it is empty or missing.'
    >>> no_text("\ufeff")
    'there is no text: it has only invisible characters.'
    """
    if "!" <= text[:1] <= "~" or any(map(_is_visible, text)):
        return ""
    return _INVISIBLE_ONLY if text.strip() else _EMPTY


def written_text(value: bytes | str) -> str:
    r"""Return a text that every file can hold.

    Bytes that are not UTF-8, and halves of surrogate pairs, become escape sequences.

    Examples
    --------
    >>> print(written_text(b"caf\xe9"), written_text("half \ud83d"), written_text("é"))
    caf\xe9 half \ud83d é
    """
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if value.isascii():
        return value
    return value.encode("utf-8", "backslashreplace").decode()


def column_list(values: Any) -> list[Any]:
    """Return the values of a list, array, Series or Arrow column.

    `numpy.asarray` would make all strings of a list as long as the longest one.

    Examples
    --------
    >>> column_list(np.array(["a", "b"])), column_list(("a", None))
    (['a', 'b'], ['a', None])
    """
    for method in ("tolist", "to_pylist", "to_list"):
        if hasattr(values, method):
            return list(getattr(values, method)())
    return list(values)


def texts_list(texts: Any) -> list[Any]:
    """Return a sequence of texts as a list, whose memory is that of its strings.

    Raises
    ------
    InputError
        It is a single text, no sequence, or has more than one dimension.
    """
    shape = getattr(texts, "shape", None)
    if isinstance(texts, str | bytes | Mapping | Set) or (
        not len(shape) if isinstance(shape, tuple) else not hasattr(texts, "__len__")
    ):
        hint = (
            "put a single text in a list" if isinstance(texts, str) else "pass a list"
        )
        raise InputError(
            f"Texts must be a sequence of strings. Got {shown(texts)} instead: {hint}."
        )
    if not isinstance(shape, tuple):
        # As numpy counts; it would make an array of equally long strings to do it.
        first = next(iter(texts), "")
        is_row = isinstance(first, list | tuple | np.ndarray) and not is_missing(first)
        shape = (len(texts), len(first)) if is_row else (len(texts),)
    if len(shape) != 1:
        raise InputError(
            f"Texts must have one dimension. Got shape {shape} instead: pass one "
            "column."
        )
    return column_list(texts)


def split_names(text: str) -> list[str]:
    """Return the names in one text: ``a|b``, or a JSON list (see `join_names`).

    Raises
    ------
    json.JSONDecodeError
        It begins like a list, and is none.
    DataError
        The list holds something that is no name.

    Examples
    --------
    >>> split_names("C | C++"), split_names('["C|C++"]')
    (['C', 'C++'], ['C|C++'])
    """
    if text.lstrip().startswith("["):
        return [text_of(name) for name in json.loads(text)]
    return [name.strip() for name in text.split("|")]


def join_names(names: Sequence[str], *, as_json: bool = False) -> str:
    """Return names as one text: ``a|b``, or a JSON list where that could be misread.

    No name at all is ``[]``, since an empty cell is a missing one.

    Parameters
    ----------
    names : sequence of str
    as_json : bool, default=False
        A JSON list in any case: other cells of the column are (`need_json`).

    Examples
    --------
    >>> join_names(["C", "C++"]), join_names(["C|C++"]), join_names([])
    ('C|C++', '["C|C++"]', '[]')
    """
    if as_json or not names or need_json(names):
        return json.dumps(list(names), ensure_ascii=False)
    return "|".join(names)


def need_json(names: Iterable[str]) -> bool:
    """Return whether lists of these names, joined by ``|``, could be misread.

    Examples
    --------
    >>> need_json(["C", "C++"]), need_json(["C", "C|C++"]), need_json(["[C]"])
    (False, True, True)
    """
    return any("|" in name or name.startswith("[") for name in names)


def shown(value: object) -> str:
    """Return a value as messages show it: cut in the middle if it is long.

    Examples
    --------
    >>> shown("parcel"), len(shown("parcel" * 1000))
    ("'parcel'", 81)
    """
    text = repr(value)
    half = _MAX_SHOWN // 2
    return text if len(text) <= _MAX_SHOWN else f"{text[:half]}…{text[-half:]}"


def _decoded(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise DataError(
            "holds bytes that are not UTF-8: decode them first, with the encoding "
            "that they have."
        ) from None


def _is_visible(character: str) -> bool:
    code = ord(character)
    return not (
        unicodedata.category(character) in _INVISIBLE
        or character in _BLANKS
        or any(code in some for some in _IGNORABLE)
    )
