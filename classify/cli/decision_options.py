"""The options that turn probabilities into decisions, and what they ask for."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from classify.errors import ConfigError

if TYPE_CHECKING:
    from classify.artefact import Artefact
    from classify.config import Task
    from classify.decision import SelectiveClassifier, SplitConformalSets

__all__ = ["Rules", "check_share", "rules_of"]

_DECISIONS = "Calibration and decisions"

CalibrationOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="A file that classify calibrate wrote.",
        rich_help_panel=_DECISIONS,
    ),
]
ForceOption = Annotated[
    bool,
    typer.Option(
        "--force",
        help="Use the calibration even if it was fitted on another model or prompt.",
        rich_help_panel=_DECISIONS,
    ),
]
ThresholdOption = Annotated[
    float | None,
    typer.Option(
        metavar="P",
        help="Abstain where the most likely label has a probability below P.",
        rich_help_panel=_DECISIONS,
    ),
]
TargetRiskOption = Annotated[
    float | None,
    typer.Option(
        metavar="R",
        help="Abstain where the calibration says so, to keep the share of wrong "
        "labels at R.",
        rich_help_panel=_DECISIONS,
    ),
]
SetsOption = Annotated[
    float | None,
    typer.Option(
        metavar="LEVEL",
        help="Add sets of labels that hold the true one with probability LEVEL.",
        rich_help_panel=_DECISIONS,
    ),
]


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


def rules_of(
    task: "Task",
    *,
    threshold: float | None,
    target_risk: float | None,
    sets: float | None,
    force: bool,
) -> Rules:
    """Return what is to be decided, or raise ConfigError; no model is loaded."""
    if threshold is not None and target_risk is not None:
        raise ConfigError("Give --threshold or --target-risk, not both.")
    if threshold is not None and not 0.0 <= threshold <= 1.0:
        raise ConfigError(
            f"--threshold must be a probability, from 0 to 1. Got {threshold:g} "
            "instead."
        )
    check_share("--target-risk", target_risk)
    check_share("--sets", sets)
    _check_calibrated(task, target_risk=target_risk, sets=sets)
    if task.calibration is not None and task.labels is None:
        raise ConfigError(
            "A calibration belongs to labels: give --labels, --labels-file, or a "
            "--task that has them."
        )
    artefact = None if task.calibration is None else _loaded(task.calibration)
    selective = None
    if threshold is not None:
        selective = _fixed(threshold, task)
    elif artefact is not None and target_risk is not None:
        selective = artefact.selective_for(target_risk)
    return Rules(
        selective=selective,
        is_promised=target_risk is not None,
        sets=None if artefact is None or sets is None else artefact.sets_for(sets),
        force=force,
    )


def check_share(option: str, value: float | None) -> None:
    """Raise ConfigError unless the value lies strictly between 0 and 1."""
    if value is not None and not 0.0 < value < 1.0:
        raise ConfigError(
            f"{option} must lie between 0 and 1, both excluded. Got {value:g} instead."
        )


def _check_calibrated(
    task: "Task", *, target_risk: float | None, sets: float | None
) -> None:
    if task.calibration is not None:
        return
    for option, value in (("--target-risk", target_risk), ("--sets", sets)):
        if value is not None:
            raise ConfigError(
                f"{option} needs labelled texts: fit it with classify calibrate … "
                f"{option} {value:g}, and give the file as --calibration."
            )


def _loaded(path: str) -> "Artefact":
    from classify.artefact import Artefact

    return Artefact.load(path)


def _fixed(threshold: float, task: "Task") -> "SelectiveClassifier":
    """Return the rule that accepts a probability from `threshold` on."""
    from classify.decision import SelectiveClassifier

    if task.labels is None:
        raise ConfigError(
            "--threshold needs to know all labels beforehand: give --labels beside "
            "--labels-column."
        )
    return SelectiveClassifier.at(threshold, sorted(task.labels.names))
