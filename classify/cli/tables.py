"""How results look on a terminal."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from rich import box
from rich.cells import cell_len
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from classify.markup import BAR_CELLS, Span, bar

__all__ = [
    "Shown",
    "ShownRow",
    "bars",
    "explained_line",
    "facts_table",
    "figures_table",
    "joined_labels",
    "on_one_line",
    "results_table",
]

# Less than this is not worth a reader's eye.
_SEEN_UNRESOLVED = 0.01
_MAX_CHARACTERS = 200
_STYLES = {
    "title": "bold",
    "figure": "",
    "bar": "green",
    "dim": "dim",
    "token": "cyan",
    "label": "bold",
}
# Variation selectors, and skin tones.
_CHANGERS = re.compile("[\ufe00-\ufe0f\U0001f3fb-\U0001f3ff]")


class Shown(NamedTuple):
    """The table's columns for the answer to a question."""

    label: str
    probability: float | None  # of several labels there is no one
    label_mass: float
    unresolved: float
    truncated: bool
    error: str
    abstained: str = ""
    uncertain: Sequence[str] | None = None

    @property
    def remark(self) -> str:
        """Remarks: no label and why, a text that was cut, bounds."""
        if self.error:
            return ""
        remarks = [self.abstained] if self.abstained else []
        if self.uncertain:
            remarks.append(f"{len(self.uncertain)} uncertain")
        if self.truncated:
            remarks.append("cut")
        if self.unresolved > _SEEN_UNRESOLVED:
            remarks.append(f"±{self.unresolved:.2f}")
        return " ".join(remarks)


class ShownRow(NamedTuple):
    """A row of the table: its text, and the answers by question."""

    text: str
    answers: Mapping[str, Shown]


def on_one_line(text: str) -> str:
    r"""Return the start of a text without line breaks and what has no width of its own.

    Left out are control characters, and what joins or changes the characters beside
    it: terminals disagree on the width of what comes of that.

    Examples
    --------
    >>> on_one_line("a\n\n b\x1b[31m")
    'a b[31m'
    """
    start = " ".join(text[:_MAX_CHARACTERS].split())
    return "".join(
        each for each in start if each.isprintable() and not _CHANGERS.match(each)
    )


def joined_labels(names: Sequence[str]) -> str:
    """Return the labels that apply, as a table shows them.

    Examples
    --------
    >>> joined_labels(["billing", "shipping"]), joined_labels([])
    ('billing, shipping', '(none)')
    """
    return ", ".join(names) or "(none)"


def results_table(rows: Sequence[ShownRow], width: int) -> Table:
    """Return the table of classified rows, to fit `width` cells."""
    answers = [each for row in rows for each in row.answers.values()]
    labels = [each.label for each in answers if each.label and not each.abstained]
    longest = max(map(cell_len, labels), default=5)
    has_remarks = any(each.remark for each in answers)
    table = Table(
        box=box.SIMPLE_HEAD,
        width=width,
        pad_edge=False,
        show_edge=False,
        padding=(0, 1, 0, 0),
    )
    table.add_column("row", justify="right", style="dim", no_wrap=True)
    table.add_column("text", ratio=1, no_wrap=True, overflow="ellipsis")
    table.add_column(
        "label",
        no_wrap=True,
        overflow="ellipsis",
        min_width=5,
        max_width=min(max(longest, 5), max(width // 4, 10)),
    )
    table.add_column("probability", no_wrap=True, min_width=BAR_CELLS + 5)
    table.add_column("mass", justify="right", no_wrap=True)
    if has_remarks:
        table.add_column("", style="yellow", no_wrap=True)
    for number, row in enumerate(rows, start=1):
        text = Text(on_one_line(row.text))
        error = next((each.error for each in row.answers.values() if each.error), "")
        if "" not in row.answers or error:
            # The answers to questions with names follow, each in a line of its own.
            reason = Text(error, style="red", no_wrap=False, overflow="fold")
            shown = [each for each in (text, reason) if each]
            table.add_row(str(number), Group(*shown), "–" if "" in row.answers else "")
        for name, answer in row.answers.items():
            if answer.label is None and not answer.abstained:
                continue
            first: list[Text | str] = [str(number), text]
            if name:
                first = ["", Text(name, style="dim")]
            remark = [answer.remark] if has_remarks else []
            table.add_row(*first, *_answer_cells(answer), *remark)
    return table


def _answer_cells(answer: Shown) -> list[Text | str]:
    share = Text()
    if answer.probability is not None:
        share = Text.assemble(
            (bar(answer.probability), _color(answer.probability)),
            f" {answer.probability:.2f}",
        )
    label = Text("–")
    if not answer.abstained:
        label = Text(on_one_line(answer.label), style="bold")
    return [label, share, f"{answer.label_mass:.2f}"]


def bars(probabilities: Mapping[str, float], console: Console) -> Table:
    """Return one bar a label, greatest first."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, overflow="ellipsis", max_width=console.width // 2)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    ordered = sorted(probabilities.items(), key=lambda item: -item[1])
    for at, (label, probability) in enumerate(ordered):
        table.add_row(
            Text(label, style="" if at else "bold"),
            Text(bar(probability, 24), style=_color(probability) if not at else "dim"),
            f"{probability:.4f}",
        )
    return table


def explained_line(spans: Iterable[Span]) -> Text:
    """Return a line of an explanation with its colours."""
    return Text.assemble(*((span.text, _STYLES[span.role]) for span in spans))


def figures_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Return a table of figures.

    Parameters
    ----------
    columns : sequence of str
        Names of the columns after the first, which names the figure.
    rows : sequence of sequences of str
        A name, and a figure for each column.
    """
    table = Table(
        box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 2, 0, 0)
    )
    table.add_column("", style="bold", no_wrap=True)
    for name in columns:
        table.add_column(name, no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table


def facts_table(
    facts: Iterable[tuple[str, str | Text]], *, names_width: int = 0
) -> Table:
    """Return names and what is to say of them, one below the other."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True, min_width=names_width)
    table.add_column()
    for name, value in facts:
        table.add_row(name, value)
    return table


def _color(probability: float) -> str:
    if probability >= 0.9:
        return "green"
    return "yellow" if probability >= 0.6 else "red"
