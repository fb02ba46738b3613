"""`classify demo`: bundled tickets through the demo model, and example files."""

from pathlib import Path

from classify.cli.console import Notes
from classify.cli.groups import JobOptions, Reading
from classify.cli.table_job import predict_table
from classify.config import Task
from classify.config.decisions import Rules
from classify.demo import (
    TICKET_LABELS,
    fresh_csv,
    labelled_csv,
    tickets_csv,
    tickets_yaml,
)
from classify.engines.registry import fallback
from classify.errors import ConfigError

__all__ = ["classify_tickets", "write_files"]

_LABELS = f'--labels "{",".join(TICKET_LABELS)}"'


def classify_tickets(notes: Notes) -> None:
    """Classify the bundled tickets, and show the command that does so with a file."""
    # What "auto" takes on a GPU takes longer to start than the tickets take.
    task = Task.parse({"labels": list(TICKET_LABELS), "engine": fallback().name})
    predict_table(
        task,
        {"": Rules()},
        [str(tickets_csv())],
        Reading(),
        JobOptions(as_table=True),
        notes,
    )
    notes.say("\nTo do the same with a file, for example the demo's:\n")
    notes.show("  classify demo --files")
    notes.show(f"  classify predict tickets.csv --table \\\n    {_LABELS}")


def write_files(notes: Notes) -> None:
    """Write the demo's files into the current folder."""
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
        "labelled.csv and fresh.csv, which have labels. Try:\n"
    )
    notes.show("  classify predict tickets.csv --task tickets.yaml -o out.csv")
    notes.show("  classify calibrate labelled.csv --task tickets.yaml")
