"""A table with true labels, checked before the model is loaded, then scored."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from classify.calibration import CalibrationWarning
from classify.cli.console import Notes
from classify.cli.job_progress import JobProgress
from classify.cli.loading import with_text_column
from classify.cli.report import N_ASKED, report_likeliest, warn_of_rows
from classify.cli.task import declared_labels
from classify.config import Task
from classify.jobs import (
    LabelledRows,
    ScoredTexts,
    check_table,
    read_labelled,
)
from classify.jobs.answers import Reviewed
from classify.jobs.job import Classifier
from classify.jobs.labelled import score_together, usable_texts
from classify.rows.encoding import candidate_sets
from classify.rows.side_by_side import ScoredRows
from classify.tables.table import Table

__all__ = [
    "checked_rows",
    "file_names",
    "reported_texts",
    "scored_texts",
    "scored_together",
    "shown_warnings",
]


def checked_rows(
    task: Task,
    table: Table,
    notes: Notes,
    *,
    label_column: str | None,
    reviewed: str | None = None,
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
    rows = read_labelled(
        table,
        task.asked_labels,
        fields=task.fields,
        text_column=task.text_column,
        labels_column=task.labels_column,
        label_column=label_column,
        any_number=task.is_multi,
        reviewed=cast(Reviewed | None, reviewed),
    )
    _report_sample(rows, table, notes)
    return rows


def _report_sample(rows: LabelledRows, table: Table, notes: Notes) -> None:
    """Say which rows of a file to review are used, and what that means."""
    if rows.n_left_out:
        notes.note(
            f"Only the rows of {file_names(table)} that were drawn at random are used. "
            f"The {rows.n_left_out:,} others were chosen because the model is unsure "
            "about them, so they are harder than most: --reviewed all uses them too."
        )
    elif rows.n_selected:
        notes.warn(
            f"{rows.n_selected:,} rows of {file_names(table)} were chosen because the "
            "model is unsure about them, so they are harder than most: figures and "
            "guarantees do not hold for all rows. Draw some at random with classify "
            "predict --review-random."
        )


def file_names(table: Table) -> str:
    """Return the names of a table's files, without their folders."""
    return ", ".join(Path(str(each["path"])).name or "-" for each in table.inputs())


def scored_texts(
    classifier: Classifier, labelled: LabelledRows, notes: Notes
) -> ScoredTexts:
    """Score rows, show how it goes, and warn of those that are left out."""
    [scored] = scored_together([classifier], [labelled], notes)
    return reported_texts(classifier, labelled, scored, notes)


def scored_together(
    classifiers: Sequence[Classifier], labelled: Sequence[LabelledRows], notes: Notes
) -> list[ScoredRows]:
    """Score rows of one table for several questions side by side; show how it goes."""
    n_prompts = [len(each.scorer().each()) for each in classifiers]
    n_asked = sum(n * len(own.rows) for n, own in zip(n_prompts, labelled, strict=True))
    with JobProgress(notes) as progress:
        progress.begins(n_asked // sum(n_prompts), 0)
        return score_together(
            classifiers,
            labelled,
            progress=lambda n_rows: progress.progressed(n_rows, 0),
        )


def reported_texts(
    classifier: Classifier, labelled: LabelledRows, scored: ScoredRows, notes: Notes
) -> ScoredTexts:
    """Return the rows that have scores; warn of those that are left out."""
    texts = usable_texts(labelled, scored)
    warn_of_rows(texts.set_aside, notes, "set aside")
    if len(texts.scores):
        scorer = classifier.scorer().each()[0]
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
