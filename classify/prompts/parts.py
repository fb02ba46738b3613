"""What a prompt is made of: literal text, data, and the fields that rows fill."""

import re
import string
import unicodedata
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

from classify.errors import PromptError
from classify.tokenizer import Segment

__all__ = [
    "Field",
    "Part",
    "answer_behind",
    "closing_behind",
    "fill",
    "merge",
    "parse",
    "separator_behind",
    "trimmed",
    "with_field",
]

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

# Those in one string open and close each other, in one language or another.
_QUOTATION_MARKS = ('"', "'", "`", "“”„‟", "‘’‚‛", "«»", "‹›")
_CLOSED_BY = dict(zip("“„‟‘‚‛«»‹›", "”“”’‘’»«›‹", strict=True))
_OPENING_TAG = re.compile(r"<[A-Za-z_][\w.-]*>$")


class Field(NamedTuple):
    """A place in a prompt that a row's column fills.

    Attributes
    ----------
    name : str
    trims_start, trims_end : bool
        Whether white space is cut off what is filled in, as a chat template does.
    answers : str or None
        The line that an answer follows: it is filled in with the space that belongs
        before it. None: it is no answer.
    """

    name: str
    trims_start: bool = False
    trims_end: bool = False
    answers: str | None = None


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
            text = row[part.name]
            text = text.lstrip() if part.trims_start else text
            text = text.rstrip() if part.trims_end else text
            if part.answers is not None:
                text = _separator(part.answers, text) + text
            part = Segment(text, is_data=True)
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


def with_field(parts: Sequence[Part], name: str) -> list[Part]:
    r"""Return parts with a field where the last of them has its placeholder.

    Examples
    --------
    >>> with_field([Segment("{label}:", is_data=False)], "label")[2]
    Segment(text=':', is_data=False)
    """
    *before, last = parts
    assert isinstance(last, Segment), "a prompt ends with its answer prefix"
    head, _, tail = last.text.rpartition(f"{{{name}}}")
    return [*before, last._replace(text=head), Field(name), last._replace(text=tail)]


def trimmed(parts: Sequence[Part], *, left: bool, right: bool) -> list[Part]:
    """Return parts whose data neither begins nor ends the whole with white space.

    Examples
    --------
    >>> trimmed([Segment(" a ", is_data=True)], left=True, right=False)
    [Segment(text='a ', is_data=True)]
    """
    found = list(parts)
    if left:
        _trim_first(found, is_start=True)
    if right:
        found.reverse()
        _trim_first(found, is_start=False)
        found.reverse()
    return found


def _trim_first(parts: list[Part], *, is_start: bool) -> None:
    for at, part in enumerate(parts):
        if isinstance(part, Field):
            parts[at] = Field(
                part.name, part.trims_start or is_start, part.trims_end or not is_start
            )
            return
        text = part.text.lstrip() if is_start else part.text.rstrip()
        parts[at] = part._replace(text=text) if part.is_data else part
        if text:
            return


def separator_behind(parts: Sequence[Part], word: str) -> str:
    """Return what belongs between the parts of a prompt and an answer: a space, or "".

    Nothing at the start of a text, after white space, after an opening bracket or
    quotation mark, and before a script that puts no spaces between words.

    Examples
    --------
    >>> def behind(text, word="billing"):
    ...     return separator_behind([Segment(text, is_data=False)], word)
    >>> behind("Topic:"), behind("Topic:", "请求"), behind("Topic: ")
    (' ', '', '')
    >>> behind('{"topic": "'), behind('The "topic"'), behind("It's the users'")
    ('', ' ', ' ')
    """
    return _separator(_last_line(parts), word)


def _separator(line: str, word: str) -> str:
    name = unicodedata.name(word[0], "")
    if not line or line[-1].isspace() or name.startswith(_UNSPACED) or _opens(line):
        return ""
    return " "


def answer_behind(parts: Sequence[Part], answer: "str | Field") -> Part:
    """Return an answer with what belongs between it and the parts of a prompt."""
    if isinstance(answer, Field):
        return answer._replace(answers=_last_line(parts))
    return Segment(separator_behind(parts, answer) + answer, is_data=True)


def closing_behind(parts: Sequence[Part]) -> str:
    """Return what closes the bracket, quotation mark or tag that the parts end with.

    "" where they end with none that is open.

    Examples
    --------
    >>> def closes(text):
    ...     return closing_behind([Segment(text, is_data=False)])
    >>> closes('{"topic": "'), closes("topics: ["), closes("<topic>"), closes("Topic:")
    ('"', ']', '</topic>', '')
    """
    line = _last_line(parts)
    if tag := _OPENING_TAG.search(line):
        return f"</{tag[0][1:]}"
    if not line or not _opens(line):
        return ""
    last = line[-1]
    if any(last in marks for marks in _QUOTATION_MARKS):
        return _CLOSED_BY.get(last, last)
    # Unicode has what closes a bracket after it, or one further.
    behind = (chr(ord(last) + 1), chr(ord(last) + 2))
    closing = (each for each in behind if unicodedata.category(each) == "Pe")
    return ">" if last == "<" else next(closing, "")


def _last_line(parts: Sequence[Part]) -> str:
    # Data stands as a letter: what marks it holds says nothing of the prompt's own.
    text = "".join(
        "x" if isinstance(part, Field) or part.is_data else part.text for part in parts
    )
    return text.rpartition("\n")[2]


def _opens(line: str) -> bool:
    """Return whether a line ends with an opening bracket or quotation mark."""
    last = line[-1]
    marks = next((marks for marks in _QUOTATION_MARKS if last in marks), "")
    if not marks:
        return last == "<" or unicodedata.category(last) == "Ps"
    is_open = False
    for at, mark in enumerate(line):
        if mark not in marks:
            continue
        before, after = line[at - 1 : at] or " ", line[at + 1 : at + 2]
        if is_open:
            is_open = before.isalnum() and after.isalnum()  # an apostrophe
        else:
            # After a letter it is an apostrophe, after a full stop the end of a
            # quotation that began in an earlier line; “ and « open everywhere.
            may_follow = not before.isalnum() and before not in ".!?…)]}"
            is_open = may_follow or unicodedata.category(mark) in ("Pi", "Ps")
    return is_open
