"""A CSV file to a labelled one, to a table, or into a pipe."""

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pandas as pd
import typer
from rich.console import Console

from classify.cli.console import Notes, RowProgress
from classify.cli.decision_options import Rules
from classify.cli.loading import load_classifier
from classify.cli.report import report_summary
from classify.cli.tables import ShownRow, on_one_line, results_table
from classify.config import Task
from classify.engines import Engine
from classify.engines.vllm.speculation import SpeculationFigures
from classify.errors import EngineError
from classify.jobs import (
    CsvTable,
    OutputCsv,
    Summary,
    check_table,
    classify_table,
    results_of,
    write_csv,
)

__all__ = ["predict_table"]

# More than anybody reads on a terminal; the rest belongs into a file.
_MOST_SHOWN = 500


def predict_table(
    task: Task,
    rules: Rules,
    table: CsvTable,
    output: Path | None,
    notes: Notes,
    *,
    probabilities: bool,
    as_table: bool,
) -> None:
    """Classify a table; write or show it; report what became of its rows."""
    columns: dict[str, Any] = {
        "text_column": task.text_column,
        "labels_column": task.labels_column,
        "probabilities": probabilities,
    }
    check_table(table, task.classifier(), **columns)
    summary = Summary()
    with ExitStack() as stack:
        if output is not None:
            # Opened first: a place that cannot be written to costs no model.
            writer = stack.enter_context(OutputCsv(output, source=table.path))
            write = writer.write
        elif as_table or sys.stdout.isatty():
            shown = stack.enter_context(_ShownTable(task, table))
            write = shown.add
        else:
            write = _CsvOnStdout()
        classifier = load_classifier(task, notes, force=rules.force)
        progress = stack.enter_context(RowProgress(notes, table.n_rows))
        for frame in classify_table(
            classifier,
            table,
            **columns,
            selective=rules.selective,
            sets=rules.sets,
            summary=summary,
            progress=progress,
        ):
            write(frame)
    report_summary(
        summary,
        output,
        notes,
        strategy=task.strategy,
        speculation=_speculation_figures(classifier.load_engine()),
    )
    if summary.n_rows and not summary.n_scored:
        raise typer.Exit(1)


def _speculation_figures(engine: Engine) -> SpeculationFigures | None:
    """Return how well tokens were drafted, where the engine drafts any."""
    figures: SpeculationFigures | None = getattr(
        engine, "speculation_figures", lambda: None
    )()
    return figures


class _CsvOnStdout:
    """Writes frames to stdout as one CSV."""

    def __init__(self) -> None:
        self._has_header = False

    def __call__(self, frame: pd.DataFrame) -> None:
        write_csv(frame, sys.stdout, header=not self._has_header)
        sys.stdout.flush()
        self._has_header = True


class _ShownTable:
    """Keeps what the table shows of the first rows, and prints it at the end."""

    def __init__(self, task: Task, table: CsvTable) -> None:
        self._task, self._table = task, table
        self._rows: list[Any] = []
        self._n_left_out = 0

    def add(self, frame: pd.DataFrame) -> None:
        columns = self._table.columns
        wanted = self._task.text_column
        at = columns.index(wanted) if wanted in columns else 0
        texts = frame.iloc[:, at]
        results = results_of(frame, len(columns))
        if "abstained" not in results:
            results = results.assign(abstained="")
        cells = [results[name] for name in ShownRow._fields[1:]]
        room = _MOST_SHOWN - len(self._rows)
        self._n_left_out += max(0, len(frame) - room)
        for text, *values in list(zip(texts, *cells, strict=True))[: max(0, room)]:
            self._rows.append(ShownRow(on_one_line(text), *values))

    def __enter__(self) -> "_ShownTable":
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        # What an engine finished before it failed is right, and was paid for.
        if kind is None or isinstance(error, EngineError):
            console = Console(highlight=False)
            console.print(results_table(self._rows, console.width))
            if self._n_left_out:
                console.print(
                    f"… {self._n_left_out:,} more rows: write them with --output."
                )
