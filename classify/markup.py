"""HTML for notebooks and reports: text that is escaped, tables, tokens."""

import html
from collections.abc import Iterable, Sequence

__all__ = ["Html", "escaped", "readable_piece", "table"]

# Control characters are no text in HTML: shown by their pictures.
_CONTROLS = {code: 0x2400 + code for code in range(32) if code not in (9, 10)}
_CONTROLS[127] = 0x2421

# What tokenizers write for a space, a line break and a tab.
_MARKS = str.maketrans({"Ġ": "␣", "▁": "␣", "Ċ": "⏎", "\n": "⏎", "ĉ": "⇥", " ": "␣"})

# In the element, since notebooks align the cells of every table to the right.
_ALIGNED = {
    "l": ' style="text-align:left" dir="auto"',
    "r": ' style="text-align:right"',
}


class Html(str):
    """Text that is HTML already and is not escaped again.

    Examples
    --------
    >>> escaped("a < b"), escaped(Html("<b>a</b>"))
    ('a &lt; b', '<b>a</b>')
    """

    __slots__ = ()


def escaped(text: str) -> str:
    """Return the text as HTML, fit for an element or a quoted attribute.

    Examples
    --------
    >>> escaped('<b> "quoted"')
    '&lt;b&gt; &quot;quoted&quot;'
    """
    if isinstance(text, Html):
        return text
    return html.escape(text.translate(_CONTROLS))


def table(align: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> Html:
    """Return an HTML table; cells are escaped unless they are `Html`.

    Parameters
    ----------
    align : str
        A letter for each column: "l" for text, which also takes the direction of its
        script, "r" for numbers.
    header : sequence of str
    rows : iterable of sequence of str

    Returns
    -------
    Html

    Examples
    --------
    >>> table("r", ["n"], [["7"]]).count("<td")
    1
    """
    lines = [_row("th", align, header)]
    lines += [_row("td", align, row) for row in rows]
    head, body = lines[0], "\n".join(lines[1:])
    return Html(
        f"<table>\n<thead>\n{head}\n</thead>\n<tbody>\n{body}\n</tbody>\n</table>"
    )


def readable_piece(piece: str) -> str:
    """Return a token's spelling with its white space made visible.

    Examples
    --------
    >>> readable_piece("Ġpayment")
    '␣payment'
    """
    return piece.translate(_MARKS)


def _row(tag: str, align: str, cells: Sequence[str]) -> str:
    inner = "".join(
        f"<{tag}{_ALIGNED[side]}>{escaped(cell)}</{tag}>"
        for side, cell in zip(align, cells, strict=True)
    )
    return f"<tr>{inner}</tr>"
