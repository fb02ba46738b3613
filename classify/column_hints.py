"""Hints for messages about a column that a table does not have."""

import difflib
import re
from collections.abc import Sequence

from classify.wording import parameter

__all__ = ["choice_hint", "header_hint", "looks_like_data", "misread_hint"]

# What columns with texts are often called, most likely first.
_TEXT_COLUMNS = (
    *("text", "sentence", "review", "comment", "message", "content", "body", "tweet"),
    *("utterance", "question", "document", "description", "review_text", "title"),
)
_MAX_NAME_CHARACTERS, _MAX_NAME_WORDS = 40, 4


def misread_hint(columns: Sequence[str], *, is_jsonl: bool) -> str:
    """Return what to do where names show that a file is read in the wrong way, or "".

    Examples
    --------
    >>> misread_hint(["id;text"], is_jsonl=False)
    " Its separator seems to be ';': give separator=';'."
    >>> misread_hint(["id", "text"], is_jsonl=False)
    ''
    """
    if is_jsonl:
        if columns:
            return ""
        return (
            " None of its lines is a JSON object: if it is CSV, give "
            f"{parameter('input_format', 'csv')}."
        )
    if not columns:
        return ""
    if columns[0].lstrip().startswith(("{", "[{")):
        return (
            " It seems to hold JSON: if each line is an object, give "
            f"{parameter('input_format', 'jsonl')}."
        )
    if len(columns) > 1:
        return ""
    separator = next((each for each in ";\t|," if each in columns[0]), None)
    if separator is None:
        return ""
    return (
        f" Its separator seems to be {separator!r}: give "
        f"{parameter('separator', separator)}."
    )


def choice_hint(
    name: str, columns: Sequence[str], option: str | None, *, has_header: bool = False
) -> str:
    """Return which column may be meant, and how to choose it.

    Parameters
    ----------
    name : str
        The column that is missing.
    columns : sequence of str
    option : str or None
        The parameter that chooses the column.
    has_header : bool, default=False
        Whether the names are the first line of a file.

    Examples
    --------
    >>> choice_hint("text", ["id", "sentence"], "text_column")
    " Did you mean 'sentence'? Then give text_column='sentence'."
    >>> choice_hint("text", ["id", "x"], "text_column")
    ' Choose one with text_column.'
    """
    near = _near(name, columns, usual=_TEXT_COLUMNS if option == "text_column" else ())
    choose = "" if option is None else f"choose one with {parameter(option)}"
    if near is not None:
        hint = f" Did you mean {near!r}?"
        if option is not None:
            hint += f" Then give {parameter(option, near)}."
    elif has_header and (hint := header_hint(columns, choose)):
        return hint
    else:
        hint = f" C{choose[1:]}." if choose else ""
    if any(map(looks_like_data, columns)):
        hint += (
            header_hint(columns)
            if has_header
            else " Its column names look like a row of data: if they are, name them."
        )
    return hint


def header_hint(columns: Sequence[str], otherwise: str = "") -> str:
    """Return what to do where the first line of a file may not be a header, or "".

    Parameters
    ----------
    columns : sequence of str
        The fields of that line.
    otherwise : str, default=""
        What to do if it is a header.

    Examples
    --------
    >>> header_hint(["Where is it?", "shipping"])
    ' Its first line was read as the header: if it is a row of data, add a line with
    column names above it.'
    >>> header_hint(["id", "message"])
    ''
    """
    known = {"id", "label", "name", *_TEXT_COLUMNS}
    if not known.isdisjoint(each.strip().lower() for each in columns):
        return ""
    if otherwise:
        otherwise = f"if it names the columns, {otherwise}; "
    return (
        f" Its first line was read as the header: {otherwise}if it is a row of data, "
        "add a line with column names above it."
    )


def _near(name: str, columns: Sequence[str], usual: Sequence[str]) -> str | None:
    by_case = {each.strip().lower(): each for each in reversed(columns)}
    if name.lower() in by_case:
        return by_case[name.lower()]
    close = difflib.get_close_matches(name, columns, n=1)
    if close:
        return close[0]
    known = next((by_case[each] for each in usual if each in by_case), None)
    return columns[0] if known is None and usual and len(columns) == 1 else known


def looks_like_data(name: str) -> bool:
    """Whether a column's name is a number, a sentence or many words."""
    return (
        len(name) > _MAX_NAME_CHARACTERS
        or len(name.split()) > _MAX_NAME_WORDS
        or re.fullmatch(r"\s*[-+]?[\d.,]+\s*|.* .*[.!?]\s*", name, re.DOTALL)
        is not None
    )
