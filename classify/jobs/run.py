"""A table through a classifier, chunk by chunk."""

import time
from collections.abc import Callable, Iterator

import pandas as pd

from classify.classifier import ZeroShotClassifier
from classify.decision import SelectiveClassifier, SplitConformalSets
from classify.errors import ConfigError
from classify.jobs.csv_files import CsvTable
from classify.jobs.summary import Summary
from classify.prompts import PromptTemplate

__all__ = ["check_table", "classify_table"]

# Rows in memory at a time: enough for an engine to group texts of similar length.
CHUNK_ROWS = 2048


def check_table(
    table: CsvTable,
    classifier: ZeroShotClassifier,
    *,
    text_column: str = "text",
    labels_column: str | None = None,
    probabilities: bool = False,
) -> None:
    """Raise InputError if the table lacks what the task needs; no model is loaded."""
    prompt = classifier.prompt
    if not isinstance(prompt, PromptTemplate):
        prompt = PromptTemplate(prompt)
    for name in prompt.fields:
        if name == "text":
            table.check_column(text_column, "with the text")
        else:
            table.check_column(name, f"for the prompt's {{{name}}}")
    if labels_column is not None:
        table.check_column(labels_column, "with the candidate labels")
    elif classifier.labels is None:
        raise ConfigError(
            "There are no labels: give --labels, --labels-file, a --task that has "
            "them, or --labels-column."
        )
    if probabilities and classifier.labels is None:
        raise ConfigError(
            "--probabilities needs to know all labels beforehand, for its columns: "
            "give --labels beside --labels-column."
        )


def classify_table(
    classifier: ZeroShotClassifier,
    table: CsvTable,
    *,
    text_column: str = "text",
    labels_column: str | None = None,
    probabilities: bool = False,
    selective: SelectiveClassifier | None = None,
    sets: SplitConformalSets | None = None,
    chunk_rows: int = CHUNK_ROWS,
    summary: Summary | None = None,
    progress: Callable[[int], object] | None = None,
) -> Iterator[pd.DataFrame]:
    """Yield the table's rows with their results, in order, a chunk at a time.

    Rows that cannot be classified are set aside: they come out with the reason in the
    column ``error``. A table without rows yields one empty frame with all columns.

    Parameters
    ----------
    classifier : ZeroShotClassifier
    table : CsvTable
    text_column, labels_column, probabilities, selective, sets
        As in `ZeroShotClassifier.classify_frame`.
    chunk_rows : int, default=2048
        Rows in memory at a time.
    summary : Summary or None, default=None
        Is added to as chunks are finished.
    progress : callable or None, default=None
        Called with the number of rows finished since the last call.

    Yields
    ------
    DataFrame
    """
    summary = Summary() if summary is None else summary
    started = time.monotonic()
    for chunk in table.chunks(chunk_rows) if table.n_rows else [table.no_rows()]:
        classified = classifier.classify_frame(
            chunk,
            text_column=text_column,
            labels_column=labels_column,
            probabilities=probabilities,
            selective=selective,
            sets=sets,
            on_error="set_aside",
            progress=progress,
        )
        summary.add(classified, len(table.columns))
        summary.seconds = time.monotonic() - started
        yield classified
