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
    "first_of",
    "probability",
    "readable_piece",
    "shortened",
    "table",
    "token_html",
    "with_bar",
]

BAR_CELLS = 6
_EIGHTHS = " ▏▎▍▌▋▊▉█"

# Control characters are no text in HTML: shown by their pictures.
_CONTROLS = {code: 0x2400 + code for code in range(32) if code not in (9, 10)}
_CONTROLS[127] = 0x2421

_MARKS = str.maketrans({" ": "␣", "\n": "⏎", "\r": "␍", "\t": "⇥"})

# In the element, since pages differ in how they align and space the cells of tables.
_CELL = ' style="padding:0.2em 0.5em;text-align:'
_ALIGNED = {
    "l": _CELL + 'left" dir="auto"',
    "t": _CELL + 'left;min-width:14em" dir="auto"',
    "r": _CELL + 'right"',
}
# A title may be longer than the numbers below it.
_NUMBER = _CELL + 'right;white-space:nowrap"'

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
        A letter for each column: "l" for a word or two, "t" for longer text, whose
        column is never narrow, "r" for numbers, which stay in one line. Text takes the
        direction of its script.
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


def probability(value: float) -> str:
    """Return a probability with four digits, never rounded down to nothing.

    Examples
    --------
    >>> probability(0.98765), probability(1e-9), probability(0.0)
    ('0.9877', '1.0e-09', '0.0000')
    """
    return f"{value:.1e}" if 0.0 < value < 0.00005 else f"{value:.4f}"


def with_bar(figure: str, share: float) -> Markup:
    """Return a figure over a bar as HTML, which suits light and dark pages.

    Examples
    --------
    >>> "90, 140, 220" in with_bar("0.5000", 0.5)
    True
    """
    bar_of = Markup(
        '<div style="background:linear-gradient(to left, rgba(90, 140, 220, 0.4) {0}%, '
        'transparent {0}%)">{1}</div>'
    )
    return bar_of.format(round(100 * share, 1), figure)


def token_html(piece: str) -> Markup:
    """Return a token as HTML, with its white space made visible.

    Examples
    --------
    >>> token_html(" <b>")
    Markup('<code>␣&lt;b&gt;</code>')
    """
    return Markup("<code>{}</code>").format(escaped(readable_piece(piece)))


def first_of(n_shown: int, n_all: int) -> str:
    """Return what a summary says where only the first of many are shown.

    Examples
    --------
    >>> first_of(10, 200), first_of(3, 3)
    (', the first 10', '')
    """
    return f", the first {n_shown}" if n_shown < n_all else ""


def shortened(text: str, most: int) -> str:
    r"""Return a text in one line, its middle left out where it is longer than `most`.

    Examples
    --------
    >>> shortened("a text\nthat goes on and on", 16)
    'a text t … nd on'
    """
    text = " ".join(displayable(text).split())
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]} … {text[-half + 3 :]}"


def _row(tag: str, align: str, cells: Sequence[str]) -> Markup:
    aligned = _ALIGNED | ({"r": _NUMBER} if tag == "td" else {})
    cell = {side: Markup(f"<{tag}{aligned[side]}>{{}}</{tag}>") for side in aligned}  # noqa: S704
    inner = [
        cell[side].format(escaped(text))
        for side, text in zip(align, cells, strict=True)
    ]
    return Markup("<tr>{}</tr>").format(Markup("").join(inner))
