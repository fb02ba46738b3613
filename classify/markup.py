"""How results look: HTML that is escaped, tables, tokens, bars."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

from markupsafe import Markup, escape

__all__ = [
    "BAR_CELLS",
    "Span",
    "bar",
    "displayable",
    "escaped",
    "readable_piece",
    "table",
]

BAR_CELLS = 6
_EIGHTHS = " ▏▎▍▌▋▊▉█"

# Control characters are no text in HTML: shown by their pictures.
_CONTROLS = {code: 0x2400 + code for code in range(32) if code not in (9, 10)}
_CONTROLS[127] = 0x2421

_MARKS = str.maketrans({" ": "␣", "\n": "⏎", "\r": "␍", "\t": "⇥"})

# In the element, since notebooks align the cells of every table to the right.
_ALIGNED = {
    "l": ' style="text-align:left" dir="auto"',
    "r": ' style="text-align:right"',
}


Role = Literal["title", "figure", "bar", "dim", "token", "label"]


class Span(NamedTuple):
    """A part of a line, and what it is."""

    text: str
    role: Role


def displayable(value: Any) -> Any:
    r"""Return text whose control characters are shown as pictures; others unchanged.

    Examples
    --------
    >>> displayable("a\x00b"), displayable(7)
    ('a␀b', 7)
    """
    if isinstance(value, str) and not isinstance(value, Markup):
        return value.translate(_CONTROLS)
    return value


def escaped(text: str) -> Markup:
    """Return the text as HTML, fit for an element or a quoted attribute.

    Examples
    --------
    >>> escaped('<b> "quoted"')
    Markup('&lt;b&gt; &#34;quoted&#34;')
    >>> escaped(Markup("<b>a</b>"))
    Markup('<b>a</b>')
    """
    return escape(displayable(text))


def table(align: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> Markup:
    """Return an HTML table; cells are escaped unless they are `Markup`.

    Parameters
    ----------
    align : str
        A letter for each column: "l" for text, which also takes the direction of its
        script, "r" for numbers.
    header : sequence of str
    rows : iterable of sequence of str

    Returns
    -------
    Markup

    Examples
    --------
    >>> table("r", ["n"], [["7"]]).count("<td")
    1
    """
    head = _row("th", align, header)
    body = Markup("\n").join([_row("td", align, row) for row in rows])
    return Markup(
        "<table>\n<thead>\n{}\n</thead>\n<tbody>\n{}\n</tbody>\n</table>"
    ).format(head, body)


def readable_piece(piece: str) -> str:
    """Return a token's text with its white space made visible.

    Examples
    --------
    >>> readable_piece(" payment")
    '␣payment'
    """
    return piece.translate(_MARKS)


def bar(share: float, n_cells: int = BAR_CELLS) -> str:
    """Return a bar of up to `n_cells` cells for a share from 0 to 1.

    Examples
    --------
    >>> bar(0.5, 4), bar(0.28, 4)
    ('██  ', '█▏  ')
    """
    eighths = round(min(max(share, 0.0), 1.0) * n_cells * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_EIGHTHS[rest] if rest else "")).ljust(n_cells)


def _row(tag: str, align: str, cells: Sequence[str]) -> Markup:
    cell = {side: Markup(f"<{tag}{_ALIGNED[side]}>{{}}</{tag}>") for side in _ALIGNED}  # noqa: S704
    inner = [
        cell[side].format(escaped(text))
        for side, text in zip(align, cells, strict=True)
    ]
    return Markup("<tr>{}</tr>").format(Markup("").join(inner))
