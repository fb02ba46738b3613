"""Figures side by side, such as before and after calibration."""

from collections.abc import Sequence

from rich import box
from rich.table import Table

__all__ = ["figures_table"]


def figures_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Return a table of figures.

    Parameters
    ----------
    columns : sequence of str
        Names of the columns behind the first, which names the figure.
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
