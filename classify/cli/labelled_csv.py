"""A table with true labels, checked before the model is loaded, then scored."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from classify.calibration import CalibrationWarning
from classify.cli.console import Notes
from classify.cli.job_progress import JobProgress
from classify.cli.loading import with_text_column
from classify.cli.report import N_ASKED, report_likeliest, warn_of_rows
from classify.cli.task import declared_labels
from classify.config import Task
from classify.estimators.asked import asked_question
from classify.jobs import (
    LabelledRows,
    ScoredTexts,
    check_table,
    read_labelled,
    score_labelled,
)
from classify.jobs.job import Classifier
from classify.rows.encoding import candidate_sets
from classify.tables.table import Table

__all__ = ["checked_rows", "file_names", "scored_texts", "shown_warnings"]


def checked_rows(
    task: Task, table: Table, notes: Notes, *, label_column: str | None
) -> LabelledRows:
    """Return the rows of a table, or raise InputError; no model is loaded."""
    if task.labels_column is None:
        declared_labels(task)
    task = with_text_column(task, table, notes, beside=label_column)
    check_table(
        table,
        task.classifier(),
        text_column=task.text_column,
        labels_column=task.labels_column,
    )
    if label_column is not None:
        table.check_column(label_column, "with the true labels", "label_column")
    return read_labelled(
        table,
        task.asked_labels,
        fields=task.fields,
        text_column=task.text_column,
        labels_column=task.labels_column,
        label_column=label_column,
        any_number=task.is_multi,
    )


def file_names(table: Table) -> str:
    """Return the names of a table's files, without their folders."""
    return ", ".join(Path(str(each["path"])).name or "-" for each in table.inputs())


def scored_texts(
    classifier: Classifier, labelled: LabelledRows, notes: Notes
) -> ScoredTexts:
    """Score rows, show how it goes, and warn of those that are left out."""
    with JobProgress(notes) as progress:
        progress.begins(len(labelled.rows), 0)
        texts = score_labelled(
            classifier, labelled, progress=lambda n_rows: progress.progressed(n_rows, 0)
        )
    warn_of_rows(texts.set_aside, notes, "set aside")
    if len(texts.scores):
        scorer = asked_question(classifier).scorers()[0]
        report_likeliest(
            scorer,
            labelled.rows[:N_ASKED],
            float(texts.scores.label_mass.mean()),
            notes,
            candidates=candidate_sets(
                labelled.candidates and labelled.candidates[:N_ASKED], scorer.declared
            ),
        )
    return texts


@contextmanager
def shown_warnings(notes: Notes) -> Iterator[None]:
    """Show what a calibration warns of like any other warning."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", CalibrationWarning)
        yield
    for each in caught:
        notes.warn(str(each.message))
