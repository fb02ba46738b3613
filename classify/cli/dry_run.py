"""What a job will take, on stdout."""

import typer

from classify.cli.console import Notes, clock
from classify.cli.report import warn_of_rows
from classify.jobs import Classification, estimate_job
from classify.tables.table import Table

__all__ = ["report_estimate"]


def report_estimate(job: Classification, table: Table, notes: Notes) -> None:
    """Measure on a sample and print rows, tokens, reads and time."""
    with notes.waiting("Measuring on a sample …"):
        estimate = estimate_job(job, table)
    lines = [
        f"rows          {_count(estimate.n_rows)}",
        f"tokens        {_total(estimate.tokens_a_row, estimate.n_rows)}",
        f"reads         {_total(estimate.reads_a_row, estimate.n_rows)}",
        f"speed         {estimate.rows_per_second:,.1f} rows/s",
    ]
    if estimate.seconds is not None:
        lines.append(f"time          about {clock(estimate.seconds)}")
    for line in lines:
        typer.echo(line)
    notes.note(
        f"Measured on {estimate.n_sampled:,} rows drawn at random, in batches; texts "
        "that occur more than once are scored once, and loading is not counted."
    )
    what = f"of the {estimate.n_drawn:,} drawn cannot be scored"
    warn_of_rows(estimate.bad, notes, what)
    if estimate.n_drawn and estimate.bad.total() == estimate.n_drawn:
        raise typer.Exit(1)


def _count(n_rows: int | None) -> str:
    return "unknown before the end" if n_rows is None else f"{n_rows:,}"


def _total(a_row: float, n_rows: int | None) -> str:
    if n_rows is None:
        return f"{a_row:,.1f} a row"
    return f"{a_row * n_rows:,.0f} ({a_row:,.1f} a row)"
