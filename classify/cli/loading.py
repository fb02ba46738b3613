"""Loads the classifier of a task, and reports which model and engine it uses."""

from collections.abc import Mapping

from classify.cli.console import Notes
from classify.config import Task
from classify.config.decisions import Rules, about
from classify.estimators.artefact import Artefact
from classify.estimators.asked import Asked, asked_question
from classify.estimators.classifier import ZeroShotClassifier
from classify.estimators.given_yes_no import checked_fits
from classify.jobs.job import Classifier
from classify.tables.table import Table

__all__ = [
    "asked_questions",
    "load_classifier",
    "load_classifiers",
    "with_text_column",
]


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
    parts = task.by_question().values()
    if "text_column" in task.given or all("text" not in each.fields for each in parts):
        return task
    column = table.only_column(beside)
    if column is None or column == task.text_column:
        return task
    only = "the only one" if beside is None else f"the only one besides {beside!r}"
    header = " Its first line was read as the header." if table.has_header else ""
    notes.note(f"The texts are in column {column!r}, {only} of {table.name}.{header}")
    return task.changed({"text_column": column})


def load_classifier(task: Task, notes: Notes) -> ZeroShotClassifier:
    """Load the classifier of a task with one answer; see `load_classifiers`."""
    classifier = load_classifiers(task, notes)[""]
    assert isinstance(classifier, ZeroShotClassifier), "it has one answer"
    return classifier


def load_classifiers(
    task: Task,
    notes: Notes,
    rules: Mapping[str, Rules] | None = None,
    *,
    with_engine: bool = True,
) -> dict[str, Classifier]:
    """Check labels and calibrations against the tokenizer, then load the model.

    Parameters
    ----------
    task : Task
    notes : Notes
    rules : mapping of str to Rules, default=None
        Of each question. None: a calibration must fit the model and the prompt.
    with_engine : bool, default=True
        Load the model here; False where others do.

    Returns
    -------
    dict of str to classifier
        One for each question, over one model.
    """
    if task.model.model == "demo":
        notes.note(
            "Using the bundled demo model, for trying out only: choose a model with "
            "--model."
        )
    classifiers = {}
    with notes.waiting("Loading the tokenizer …"):
        for name, part in task.by_question().items():
            with about(name):
                force = rules is not None and rules[name].force
                classifiers[name] = _checked_classifier(part, force=force)
    if not with_engine:
        return classifiers
    with notes.waiting(f"Loading the model {task.model.model} …"):
        engine = next(iter(classifiers.values())).load_engine()
    notes.note(
        f"Engine {engine.name}{_why(task, engine.name)}, context of "
        f"{engine.context_length} tokens."
    )
    return classifiers


def asked_questions(
    classifiers: Mapping[str, Classifier], rules: Mapping[str, Rules]
) -> list[Asked]:
    """Return what is asked, by name, and what is decided from the scores."""
    return [
        asked_question(
            each, name, selective=rules[name].selective, sets=rules[name].sets
        )
        for name, each in classifiers.items()
    ]


def _checked_classifier(task: Task, *, force: bool) -> Classifier:
    if task.is_multi:
        labels = task.multi_classifier()
        labels.audit()
        checked_fits(labels)
        return labels
    classifier = task.choice_classifier()
    if task.labels is not None:
        classifier.audit()
    if task.calibration is not None:
        artefact = Artefact.load(
            task.calibration,
            fingerprint=classifier.scorer().fingerprint(),
            force=force,
        )
        classifier.set_params(calibrator=artefact.calibrator)
    return classifier


def _why(task: Task, name: str) -> str:
    """Return in brackets why "auto" took an engine."""
    choice = task.model.engine_choice()
    return f" ({choice.reason})" if choice.reason and choice.name == name else ""
