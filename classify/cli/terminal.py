"""Consoles on stdout and stderr that are safe for any text and any stream.

What is written never holds a character that a terminal obeys other than the colours of
ours, nor one that the stream's encoding lacks.
"""

import json
import re
import stat
import sys
from collections.abc import Iterable
from io import UnsupportedOperation
from os import fstat
from typing import IO, Any, TextIO, cast

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

__all__ = [
    "make_console",
    "print_json",
    "streams_elsewhere",
    "visible",
    "without_controls",
]

# Control characters, and those that turn the direction of what follows.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
# Of these, tables need tabs, line feeds, and those in CRLF.
_OBEYED = re.compile(r"(?!\r\n)" + _CONTROLS.pattern)
_BLANKS_AT_END = re.compile(r" +((?:\x1b\[[0-9;]*m)*\n)")

# One cell each, so that tables keep their shape.
_ASCII = str.maketrans(
    {
        **dict.fromkeys("─━╸╺–—", "-"),
        **dict.fromkeys("█▉▊▋▌", "#"),
        **dict.fromkeys("▍▎▏", " "),
        **dict.fromkeys("│┃├", "|"),
        "└": "`",
        "→": ">",
        **dict.fromkeys("‘’", "'"),
        **dict.fromkeys("“”", '"'),
        "…": ".",
        "×": "x",
        "±": "~",
        "≤": "<",
        "≥": ">",
        "·": ".",
        "␣": "_",
        "⏎": "/",
    }
)


def make_console(stream: TextIO, *, narrow: bool = False) -> Console:
    """Return a console that writes to a stream.

    Text is taken as it is: no markup, no emoji codes, no highlighting.

    Parameters
    ----------
    stream : TextIO
    narrow : bool, default=False
        Whether lines have 80 cells where the stream is no terminal. Else as rich finds.
    """
    width = 80 if narrow and not stream.isatty() else None
    return _SafeConsole(
        file=cast("TextIO", _Encodable(stream)),
        width=width,
        highlight=False,
        markup=False,
        emoji=False,
    )


def print_json(value: Any) -> None:
    """Print JSON on stdout, in ASCII if stdout cannot take all of its characters."""
    text = json.dumps(value, ensure_ascii=False, indent=2)
    if not _can_encode(text, sys.stdout.encoding):
        text = json.dumps(value, indent=2)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()  # here, where a closed pipe is handled


def without_controls(text: str) -> str:
    r"""Return a text without the characters that a terminal obeys.

    Examples
    --------
    >>> without_controls("a\x1b[2Jb\n")
    'a[2Jb\n'
    """
    return _CONTROLS.sub("", text) if _CONTROLS.search(text) else text


def visible(text: str) -> str:
    r"""Return a text with the characters that a terminal obeys written out.

    Examples
    --------
    >>> print(visible("a\x1b[2J"))
    a\x1b[2J
    """
    return _OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def streams_elsewhere(stream: IO[Any]) -> bool:
    """Whether the output goes to another program, and perhaps on to a terminal."""
    try:
        return not stat.S_ISREG(fstat(stream.fileno()).st_mode)
    except UnsupportedOperation:  # held in memory
        return False


class _SafeConsole(Console):
    """Renders no control characters but those of its own styles."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            if segment.control or not _CONTROLS.search(segment.text):
                yield segment
            else:
                yield Segment(without_controls(segment.text), segment.style)


class _Encodable:
    """A text stream that replaces what its encoding lacks, and drops blanks at ends."""

    # As far as rich is concerned, so that the layout is the same everywhere.
    encoding = "utf-8"

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        if not self._stream.isatty():
            text = _BLANKS_AT_END.sub(r"\1", text)
        encoding = self._stream.encoding or "utf-8"
        if not _can_encode(text, encoding):
            text = "".join(_encodable(each, encoding) for each in text)
        self._stream.write(text)
        return len(text)


def _can_encode(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _encodable(character: str, encoding: str) -> str:
    if _can_encode(character, encoding):
        return character
    plain = character.translate(_ASCII)
    return plain if plain.isascii() else "?" * cell_len(character)
