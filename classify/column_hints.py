"""What to say to who names a column that a table has not."""

import difflib
import re
from collections.abc import Sequence

from classify.wording import parameter

__all__ = ["choice_hint", "looks_like_data", "misread_hint"]

# What columns with texts are often called, likeliest first.
_TEXT_COLUMNS = (
    *("text", "sentence", "review", "comment", "message", "content", "body", "tweet"),
    *("utterance", "question", "document", "description", "review_text", "title"),
)
_MAX_NAME_CHARACTERS = 40


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


def choice_hint(name: str, columns: Sequence[str], option: str | None) -> str:
    """Return which column may be meant, and how to choose it.

    Examples
    --------
    >>> choice_hint("text", ["id", "sentence"], "text_column")
    " Did you mean 'sentence'? Then give text_column='sentence'."
    >>> choice_hint("text", ["id", "x"], "text_column")
    ' Choose one with text_column.'
    """
    near = _near(name, columns, usual=_TEXT_COLUMNS if option == "text_column" else ())
    hint = "" if near is None else f" Did you mean {near!r}?"
    if option is not None and near is not None:
        hint += f" Then give {parameter(option, near)}."
    elif option is not None:
        hint += f" Choose one with {parameter(option)}."
    if any(map(looks_like_data, columns)):
        hint += " If its first line is a row already, add a line with names above it."
    return hint


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
    """Whether a column's name is a number or a sentence, and no name."""
    return (
        len(name) > _MAX_NAME_CHARACTERS
        or re.fullmatch(r"\s*[-+]?[\d.,]+\s*|.* .*[.!?]\s*", name, re.DOTALL)
        is not None
    )
