"""From a task to a classifier whose model is loaded, with a word on what it is."""

from classify.artefact import Artefact
from classify.classifier import ZeroShotClassifier
from classify.cli.console import Notes
from classify.config import Task
from classify.tables.table import Table

__all__ = ["load_classifier", "with_text_column"]


def with_text_column(
    task: Task, table: Table, notes: Notes, *, beside: str | None = None
) -> Task:
    """Return the task with the table's only column as the texts', unless one is named.

    Parameters
    ----------
    task : Task
    table : Table
    notes : Notes
    beside : str, default=None
        The column with the true labels.
    """
    if "text_column" in task.given or "text" not in task.prompt.fields:
        return task
    column = table.only_column(beside)
    if column is None or column == task.text_column:
        return task
    only = "the only one" if beside is None else f"the only one besides {beside!r}"
    notes.note(f"The texts are in column {column!r}, {only} of {table.name}.")
    return task.changed({"text_column": column})


def load_classifier(
    task: Task, notes: Notes, *, force: bool = False, with_engine: bool = True
) -> ZeroShotClassifier:
    """Check labels and calibration against the tokenizer, then load the model.

    Parameters
    ----------
    task : Task
    notes : Notes
    force : bool, default=False
        Take a calibration that was fitted on something else.
    with_engine : bool, default=True
        Load the model here; False where others do.
    """
    if task.model.model == "demo":
        notes.note(
            "Using the bundled demo model, for trying out only: choose a model with "
            "--model."
        )
    classifier = task.classifier()
    with notes.waiting("Loading the tokenizer …"):
        if task.labels is not None:
            classifier.audit()
        if task.calibration is not None:
            artefact = Artefact.load(
                task.calibration,
                fingerprint=classifier.scorer().fingerprint(),
                force=force,
            )
            classifier.set_params(calibrator=artefact.calibrator)
    if not with_engine:
        return classifier
    with notes.waiting(f"Loading the model {task.model.model} …"):
        engine = classifier.load_engine()
    notes.note(
        f"Engine {engine.name}{_why(task, engine.name)}, context of "
        f"{engine.context_length} tokens."
    )
    return classifier


def _why(task: Task, name: str) -> str:
    """Return in brackets why "auto" took an engine."""
    choice = task.model.engine_choice()
    return f" ({choice.reason})" if choice.reason and choice.name == name else ""
