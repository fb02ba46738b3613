"""The decision rules of a question: thresholds, targets and sets."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from numbers import Real
from typing import Annotated, Any, NamedTuple

from classify.errors import ConfigError
from classify.labels import LabelSet
from classify.parameters import Allowed, Setting, check_settings, number, optional
from classify.wording import no_effect, parameter

__all__ = ["SHARE", "DecisionRules", "Target", "in_place_of", "is_for"]

SHARE = number("above 0 and below 1", lambda value: 0.0 < value < 1.0)
_SHARE_OR_NONE = optional(SHARE, written=SHARE.written)
_PANEL = "Calibration and decisions"


class Target(NamedTuple):
    """What the thresholds of labels are fitted for.

    Attributes
    ----------
    name : {"f1", "precision", "recall", "risk"}
    level : float or None
        The guaranteed level; None for "f1", which has no guarantee.

    Examples
    --------
    >>> Target.parse("precision=0.9"), str(Target("f1"))
    (Target(name='precision', level=0.9), 'f1')
    """

    name: Any
    level: float | None = None

    @classmethod
    def parse(cls, text: str) -> "Target":
        """Read ``f1`` or ``precision=0.9``; ValueError for anything else."""
        name, equals, level = text.partition("=")
        name = name.strip()
        if name == "f1" and not equals:
            return cls(name)
        if name not in ("precision", "recall", "risk") or not equals:
            raise ValueError(text)
        value = float(level)
        if not SHARE.holds(value):
            raise ValueError(text)
        return cls(name, value)

    def __str__(self) -> str:
        return self.name if self.level is None else f"{self.name}={self.level:g}"


def _is_target(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(Target.parse(value))
    except ValueError:
        return False


def _is_probability(value: Any) -> bool:
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and 0.0 <= value <= 1.0


def _is_threshold(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(_is_probability(each) for each in value.values())
    return _is_probability(value)


_THRESHOLD = Allowed(
    "a number, from 0 to 1, or a mapping of labels to such numbers",
    _is_threshold,
    "a number from 0 to 1",
)
_TARGET = Allowed(
    "'f1', or 'precision=P', 'recall=P' or 'risk=R' with a number above 0 and below 1",
    _is_target,
    "f1, or precision=P, recall=P or risk=R with a number above 0 and below 1",
)


def _others(kind: str) -> tuple[str, ...]:
    """Return the settings that are for other kinds of questions."""
    return ("target_risk", "sets") if kind == "multi" else ("target",)


def is_for(setting: str, kind: str) -> bool:
    """Return whether a setting is for a kind of question."""
    return setting not in _others(kind)


def in_place_of(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return changes, and None for settings that cannot be combined with them.

    Examples
    --------
    >>> in_place_of({"target": "f1"})
    {'threshold': None, 'target': 'f1'}
    """
    promises = ("target_risk", "target")
    taken_out: tuple[str, ...] = ()
    if changes.get("threshold") is not None:
        taken_out = promises
    elif any(changes.get(each) is not None for each in promises):
        taken_out = ("threshold",)
    return {**dict.fromkeys(taken_out), **changes}


@dataclass(frozen=True, kw_only=True)
class DecisionRules:
    """What is decided from the probabilities of a question.

    Raises
    ------
    ConfigError
        A value is not allowed.

    Examples
    --------
    >>> DecisionRules(threshold=0.7).threshold
    0.7
    """

    threshold: Annotated[
        float | Mapping[str, float] | None,
        Setting(
            "Abstain where the most likely label has a probability below P. With "
            "--kind multi: a label applies from P on (default 0.5).",
            optional(_THRESHOLD, written=_THRESHOLD.written),
            metavar="P",
            panel=_PANEL,
        ),
    ] = None
    target_risk: Annotated[
        float | None,
        Setting(
            "Abstain by the calibration's threshold, so that at most a share R of the "
            "labels is wrong.",
            _SHARE_OR_NONE,
            metavar="R",
            panel=_PANEL,
        ),
    ] = None
    sets: Annotated[
        float | None,
        Setting(
            "Add prediction sets that contain the true label with probability LEVEL.",
            _SHARE_OR_NONE,
            metavar="LEVEL",
            panel=_PANEL,
        ),
    ] = None
    target: Annotated[
        str | None,
        Setting(
            "With --kind multi, what the calibration's thresholds were fitted for: f1, "
            "precision=P, recall=P or risk=R.",
            optional(_TARGET, written=_TARGET.written),
            metavar="TARGET",
            panel=_PANEL,
        ),
    ] = None

    def __post_init__(self) -> None:
        check_settings(self, "Task")
        for other in ("target_risk", "target"):
            if self.threshold is not None and getattr(self, other) is not None:
                raise ConfigError(
                    f"Give {parameter('threshold')} or {parameter(other)}, not both."
                )

    def for_kind(self, kind: str) -> "DecisionRules":
        """Return the rules that are for a kind of question, without the others."""
        return replace(self, **dict.fromkeys(_others(kind)))

    @property
    def label_target(self) -> Target | None:
        """What thresholds of labels are fitted for, if that is given."""
        return None if self.target is None else Target.parse(self.target)

    def check(self, kind: str, labels: LabelSet | None) -> None:
        """Raise ConfigError for rules that do not fit the kind or the labels."""
        if kind != "multi":
            if self.target is not None:
                raise ConfigError(no_effect("target", parameter("kind", "multi")))
            if isinstance(self.threshold, Mapping):
                raise ConfigError(
                    f"{parameter('threshold')} can be a mapping with "
                    f"{parameter('kind', 'multi')} only: give one number, below which "
                    "no label is given."
                )
            return
        for name in _others("multi"):
            if getattr(self, name) is not None:
                raise ConfigError(
                    f"{parameter(name)} is for questions with one answer, and with "
                    f"{parameter('kind', 'multi')} any number of labels apply: use "
                    f"{parameter('target')}, such as {parameter('target', 'risk=0.1')}."
                )
        if isinstance(self.threshold, Mapping) and labels is not None:
            for name in self.threshold:
                if labels.find(name) is None:
                    raise ConfigError(f"Among the thresholds, {labels.unknown(name)}")
