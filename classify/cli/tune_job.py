"""What `classify tune` does, and the table that it prints."""

from dataclasses import replace

from rich.table import Table as Shown

from classify.cli.choosing import conclusion
from classify.cli.console import Notes
from classify.cli.fitting import TuneOptions
from classify.cli.job_progress import JobProgress
from classify.cli.labelled_csv import checked_rows
from classify.cli.loading import load_classifier
from classify.cli.overwriting import TUNED, check_place, check_tuned, replacing
from classify.cli.tables import figures_table
from classify.cli.task import declared_labels
from classify.config import Task, task_yaml
from classify.errors import ConfigError
from classify.estimators.prompt_choice import PromptTuning, tune_rows
from classify.files.atomic import atomic_file
from classify.tables.table import Table

__all__ = ["tune_table"]


def tune_table(
    task: Task,
    table: Table,
    options: TuneOptions,
    notes: Notes,
) -> None:
    """Compare prompts on a table's texts, print the table, and write the task."""
    output = options.output
    if task.labels_column is not None:
        raise ConfigError(
            "The task has candidate labels of each row (labels_column: "
            f"{task.labels_column}), but here every row may have any label: leave it "
            "out."
        )
    if output is not None:
        check_place(output, table)
        if not options.overwrite:
            check_tuned(output)
        where = replacing(output, "an earlier one")
    # It was fitted behind another prompt.
    calibration = task.calibration
    task = replace(
        task.changed({"calibration": None}), prompt=task.prompt.without_auto()
    )
    labelled = checked_rows(task, table, notes, label_column=options.label_column)
    classifier = load_classifier(task, notes)
    with JobProgress(notes) as progress:
        tuning = tune_rows(
            replace(classifier.scorer(), declared=declared_labels(task)),
            labelled.rows,
            None if labelled.labels is None else labelled.labels.tolist(),
            n_texts=options.n_texts,
            begins=lambda n_reads: progress.begins(n_reads, 0),
            progress=lambda n_reads: progress.progressed(n_reads, 0),
        )
    notes.results(in_files=80).print(_table(tuning))
    best = tuning.prompts[0]
    notes.say(conclusion(tuning))
    if output is None:
        notes.note("Write it to a task file with --output FILE.")
        return
    prompt = best.prompt
    if options.ensemble is not None:
        prompt = tuning.ensemble(options.ensemble)
        names = [each.name for each in tuning.prompts[: options.ensemble]]
        notes.say(f"The ensemble is {', '.join(map(repr, names))}.")
    tuned = replace(task, prompt=prompt)
    with atomic_file(output) as file:
        file.write(f"{TUNED}\n{task_yaml(tuned)}".encode())
    notes.say(f"Written to {where}: use it with --task {output}.")
    if calibration is not None and prompt != task.prompt:
        notes.warn(
            f"The calibration {calibration!r} was fitted with the previous prompt, so "
            "the new file leaves it out: run classify calibrate again."
        )


def _table(tuning: PromptTuning) -> Shown:
    """Return a row for each prompt, best first."""
    columns = ["information", "mass", "tokens"]
    if tuning.is_labelled:
        columns = ["log loss", "accuracy", *columns]
    rows = []
    for each in tuning.prompts:
        figures = [
            f"{each.information:.3f}",
            f"{each.label_mass:.3f}",
            f"{each.n_tokens:.0f}",
        ]
        if each.log_loss is not None and each.accuracy is not None:
            figures = [f"{each.log_loss:.3f}", f"{each.accuracy:.3f}", *figures]
        rows.append([each.name, *figures])
    return figures_table(columns, rows)
