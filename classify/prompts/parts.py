"""What a prompt is made of: literal text, data, and the fields that rows fill."""

import re
import string
import unicodedata
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

from classify.errors import PromptError
from classify.tokenizer import Segment

__all__ = ["Field", "Part", "fill", "merge", "parse", "separator_for"]

# Scripts that put no space between words (Unicode character names).
_UNSPACED = (
    "CJK",
    "HIRAGANA",
    "KATAKANA",
    "THAI",
    "LAO",
    "KHMER",
    "MYANMAR",
    "TIBETAN",
)


class Field(NamedTuple):
    """A place in a prompt that a row's column fills."""

    name: str


Part: TypeAlias = Segment | Field


def parse(template: str) -> list[Part]:
    """Split a template into literals and fields.

    Raises
    ------
    PromptError
        A placeholder is not a plain name.
    """
    parts: list[Part] = []
    try:
        for literal, name, spec, conversion in string.Formatter().parse(template):
            if literal:
                parts.append(Segment(literal, is_data=False))
            if name is None:
                continue
            if not name or spec or conversion or re.search(r"[.\[\]]|^\d+$", name):
                raise ValueError(f"the placeholder {{{name}}} is not a plain name")
            parts.append(Field(name))
    except ValueError as error:
        raise PromptError(
            f"The template {template!r} cannot be read: {error}. Placeholders are "
            "{text}, {labels} and column names; write {{ and }} for braces."
        ) from None
    return parts


def fill(parts: Sequence[Part], row: Mapping[str, str]) -> list[Segment]:
    """Put a row's columns into the fields.

    Raises
    ------
    PromptError
        A column is missing.
    """
    segments = []
    for part in parts:
        if isinstance(part, Field):
            if part.name not in row:
                columns = ", ".join(map(repr, row)) or "none"
                raise PromptError(
                    f"The prompt needs the column {part.name!r}, which the data does "
                    f"not have. Columns: {columns}."
                )
            part = Segment(row[part.name], is_data=True)
        segments.append(part)
    return segments


def merge(parts: Sequence[Part]) -> list[Part]:
    """Join neighbouring segments of one kind, and drop empty ones."""
    merged: list[Part] = []
    for part in parts:
        last = merged[-1] if merged else None
        if isinstance(part, Field):
            merged.append(part)
        elif not part.text:
            continue
        elif isinstance(last, Segment) and last.is_data == part.is_data:
            merged[-1] = Segment(last.text + part.text, part.is_data)
        else:
            merged.append(part)
    return merged


def separator_for(word: str) -> str:
    """Return the space that belongs before `word`, or nothing in unspaced scripts.

    Examples
    --------
    >>> separator_for("billing"), separator_for("请求")
    (' ', '')
    """
    name = unicodedata.name(word[0], "")
    return "" if name.startswith(_UNSPACED) else " "
