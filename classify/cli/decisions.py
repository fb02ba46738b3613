"""What is decided from probabilities: the options, and the rules that they ask for."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated

from classify.errors import ConfigError, InputError
from classify.parameters import BOOLEAN, Setting, number

if TYPE_CHECKING:
    from classify.config import Task
    from classify.decision import SelectiveClassifier, SplitConformalSets
    from classify.estimators.artefact import Artefact

__all__ = ["SHARE", "DecisionOptions", "Rules", "about"]

SHARE = number("above 0 and below 1", lambda value: 0.0 < value < 1.0)
_PROBABILITY = number("from 0 to 1", lambda value: 0.0 <= value <= 1.0)

_setting = partial(Setting, panel="Calibration and decisions")


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What is decided from probabilities.

    Attributes
    ----------
    selective : SelectiveClassifier or None
        The threshold that a calibration was fitted with, or one as given.
    is_promised : bool
        Whether the threshold keeps a risk that was fitted.
    sets : SplitConformalSets or None
    force : bool
        Use the calibration whatever it was fitted on.
    """

    selective: "SelectiveClassifier | None" = None
    is_promised: bool = False
    sets: "SplitConformalSets | None" = None
    force: bool = False


@dataclass(frozen=True, kw_only=True)
class DecisionOptions:
    """The options that turn probabilities into decisions."""

    force: Annotated[
        bool,
        _setting(
            "Use the calibration even if it was fitted on another model or prompt.",
            BOOLEAN,
        ),
    ] = False
    threshold: Annotated[
        float | None,
        _setting(
            "Abstain where the most likely label has a probability below P.",
            _PROBABILITY,
            metavar="P",
        ),
    ] = None
    target_risk: Annotated[
        float | None,
        _setting(
            "Abstain by the calibration's threshold, so that at most a share R of the "
            "labels is wrong.",
            SHARE,
            metavar="R",
        ),
    ] = None
    sets: Annotated[
        float | None,
        _setting(
            "Add sets of labels that hold the true one with probability LEVEL.",
            SHARE,
            metavar="LEVEL",
        ),
    ] = None

    def rules_of(self, task: "Task") -> dict[str, Rules]:
        """Return what is to be decided for each question; see `rules`."""
        rules = {}
        for name, part in task.by_question().items():
            with about(name):
                rules[name] = self.rules(part)
        return rules

    def rules(self, task: "Task") -> Rules:
        """Return what is to be decided, or raise ConfigError; no model is loaded."""
        if self.threshold is not None and self.target_risk is not None:
            raise ConfigError("Give --threshold or --target-risk, not both.")
        self._check_calibrated(task)
        artefact = None if task.calibration is None else _loaded(task.calibration)
        if artefact is not None:
            _check_any_labels(artefact, task)
            if self.force:  # else the calibration is compared with all that is asked
                _check_labels(artefact, task)
        selective = sets = None
        if self.threshold is not None:
            selective = _fixed(self.threshold, task)
        elif artefact is not None and self.target_risk is not None:
            selective = artefact.selective_for(self.target_risk)
        if artefact is not None and self.sets is not None:
            sets = artefact.sets_for(self.sets)
        return Rules(
            selective=selective,
            is_promised=self.target_risk is not None,
            sets=sets,
            force=self.force,
        )

    def _check_calibrated(self, task: "Task") -> None:
        if task.calibration is not None:
            return
        for option, value in (
            ("--target-risk", self.target_risk),
            ("--sets", self.sets),
        ):
            if value is not None:
                raise ConfigError(
                    f"{option} needs labelled texts: fit it with classify calibrate … "
                    f"{option} {value:g}, and give the file as --calibration."
                )


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
            "A calibration belongs to labels: give --labels, --labels-file, or a "
            "--task that has them."
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
