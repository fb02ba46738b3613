"""`classify demo`: bundled tickets through the demo model, and the files to go on."""

from pathlib import Path
from typing import Annotated

import typer

from classify.cli.console import Notes, reported_errors
from classify.cli.data_options import QuietOption
from classify.cli.options import DebugOption
from classify.demo import (
    TICKET_LABELS,
    fresh_csv,
    labelled_csv,
    tickets_csv,
    tickets_yaml,
)
from classify.errors import ConfigError

__all__ = ["DEMO_HELP", "demo_command"]

DEMO_HELP = """Example:

$ classify demo

Classify 24 bundled support tickets with the demo model, and show the command
that does so with a file. --files writes into the current folder: tickets.csv,
a task file for it (tickets.yaml), and labelled.csv and fresh.csv, which have
labels, for classify calibrate and evaluate.
"""

_LABELS = f'--labels "{",".join(TICKET_LABELS)}"'


def demo_command(
    files: Annotated[
        bool,
        typer.Option(
            "--files",
            help="Write tickets.csv, tickets.yaml, labelled.csv and fresh.csv into the "
            "current folder.",
        ),
    ] = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Classify the bundled tickets, or write the demo's files."""
    with reported_errors(debug=debug), Notes(quiet=quiet) as notes:
        if files:
            _write_files(notes)
        else:
            _classify_tickets(notes)


def _classify_tickets(notes: Notes) -> None:
    from classify.cli.decision_options import Rules
    from classify.cli.job_options import JobOptions, Reading
    from classify.cli.table_job import predict_table
    from classify.config import Task

    # vLLM takes longer to start than the tickets take.
    task = Task.parse({"labels": list(TICKET_LABELS), "engine": "transformers"})
    reading = Reading(sources=[str(tickets_csv())])
    predict_table(task, Rules(), reading, JobOptions(as_table=True), notes)
    notes.say("\nThe same with files of your own, beginning with the demo's:\n")
    notes.show("  classify demo --files")
    notes.show(f"  classify predict tickets.csv --table \\\n    {_LABELS}")


def _write_files(notes: Notes) -> None:
    sources = (tickets_csv(), tickets_yaml(), labelled_csv(), fresh_csv())
    contents = {Path(source.name): source.read_bytes() for source in sources}
    for path, content in contents.items():
        if path.exists() and not (path.is_file() and path.read_bytes() == content):
            raise ConfigError(
                f"'{path}' is already in this folder and is not the demo's: move it "
                "away, or run the command in another folder."
            )
    for path, content in contents.items():
        if not path.exists():
            with path.open("xb") as file:
                file.write(content)
    notes.say(
        "This folder now has tickets.csv, a task file for it (tickets.yaml), and "
        "labelled.csv and fresh.csv, which have labels. Go on with:\n"
    )
    notes.show(f"  classify predict tickets.csv -o out.csv \\\n    {_LABELS}")
    notes.show(
        f"  classify calibrate labelled.csv --label-column label \\\n    {_LABELS}"
    )
