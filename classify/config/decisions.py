"""The decision rules of a task: its threshold, risk and prediction sets."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from classify.errors import ConfigError, InputError
from classify.wording import parameter

if TYPE_CHECKING:
    from classify.config.task import Task
    from classify.decision import SelectiveClassifier, SplitConformalSets
    from classify.estimators.artefact import Artefact

__all__ = ["Rules", "about", "rules_of"]


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The rules by which a question decides from probabilities.

    Attributes
    ----------
    selective : SelectiveClassifier or None
        The threshold that a calibration was fitted with, or one as given.
    is_promised : bool
        Whether the threshold was fitted, and guarantees a risk.
    sets : SplitConformalSets or None
    force : bool
        Use the calibration even if it was fitted on another model or prompt.
    """

    selective: "SelectiveClassifier | None" = None
    is_promised: bool = False
    sets: "SplitConformalSets | None" = None
    force: bool = False


def rules_of(task: "Task", *, force: bool = False) -> Rules:
    """Return the decision rules of a task with one question; loads no model.

    Parameters
    ----------
    task : Task
    force : bool, default=False
        Use the calibration even if it was fitted on another model or prompt.

    Raises
    ------
    ConfigError
        Its decisions need a calibration that was fitted for them.
    InputError
        The calibration's file cannot be used.
    """
    _check_calibrated(task)
    if task.is_multi:
        _check_labels_artefact(task)
        return Rules()
    wanted = task.decisions
    artefact = None if task.calibration is None else _loaded(task.calibration)
    if artefact is not None:
        _check_any_labels(artefact, task)
        if force:  # else the calibration is compared with all that is asked
            _check_labels(artefact, task)
    selective = sets = None
    if wanted.threshold is not None:
        assert not isinstance(wanted.threshold, Mapping), "checked"
        selective = _fixed(wanted.threshold, task)
    elif artefact is not None and wanted.target_risk is not None:
        selective = artefact.selective_for(wanted.target_risk)
    if artefact is not None and wanted.sets is not None:
        sets = artefact.sets_for(wanted.sets)
    return Rules(
        selective=selective,
        is_promised=wanted.target_risk is not None,
        sets=sets,
        force=force,
    )


def _check_calibrated(task: "Task") -> None:
    if task.calibration is not None:
        return
    for name in ("target_risk", "sets", "target"):
        value = getattr(task.decisions, name)
        if value is not None:
            option = name.replace("_", "-")
            shown = value if isinstance(value, str) else f"{value:g}"
            raise ConfigError(
                f"{parameter(name)} needs labelled texts: fit it with classify "
                f"calibrate … --{option} {shown}, and give the file as "
                f"{parameter('calibration')}."
            )


def _check_labels_artefact(task: "Task") -> None:
    """Raise InputError if the file of a calibration cannot serve several labels."""
    from classify.estimators.artefact import LabelsArtefact

    if task.calibration is None:
        return
    artefact = LabelsArtefact.load(task.calibration)
    target = task.decisions.label_target
    if target is not None:
        artefact.thresholds_for(target)


@contextmanager
def about(question: str) -> Iterator[None]:
    """Name the question that an error is about, if it has a name."""
    try:
        yield
    except InputError as error:
        if not question:
            raise
        raise type(error)(f"Question {question!r}: {error}") from error


def _loaded(path: str) -> "Artefact":
    from classify.estimators.artefact import Artefact

    return Artefact.load(path)


def _check_any_labels(artefact: "Artefact", task: "Task") -> None:
    """Raise ConfigError unless a calibration holds for labels that are not known."""
    from classify.calibration.methods import BY_COUNT

    if task.labels is not None:
        return
    if task.labels_column is None or artefact.calibrator.method_ != BY_COUNT:
        raise ConfigError(
            f"A calibration belongs to labels: give {parameter('labels')}, "
            f"{parameter('labels_file')}, or a {parameter('task')} that has them."
        )


def _check_labels(artefact: "Artefact", task: "Task") -> None:
    """Raise ConfigError where a calibration is forced upon other labels."""
    from classify.calibration.checks import listed
    from classify.calibration.methods import BY_COUNT

    labels, calibrator = task.asked_labels, artefact.calibrator
    if labels is None or calibrator.method_ == BY_COUNT:
        return
    if calibrator.classes_.tolist() != sorted(labels.names):
        raise ConfigError(
            f"The calibration {task.calibration!r} is for other labels: "
            f"{listed(calibrator.classes_)}. Those of this task are "
            f"{listed(sorted(labels.names))}. Fit another one."
        )


def _fixed(threshold: float, task: "Task") -> "SelectiveClassifier":
    """Return the rule that accepts a probability from `threshold` on."""
    from classify.decision import SelectiveClassifier

    labels = task.asked_labels
    classes = "any" if labels is None else sorted(labels.names)
    return SelectiveClassifier.at(threshold, classes)
