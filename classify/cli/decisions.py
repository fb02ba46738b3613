"""Decisions from probabilities: their options."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from classify.config.decisions import Rules, about, rules_of
from classify.errors import ConfigError
from classify.parameters import BOOLEAN, Setting

if TYPE_CHECKING:
    from classify.config import Task

__all__ = ["DecisionOptions"]


@dataclass(frozen=True, kw_only=True)
class DecisionOptions:
    """The options for calibrations and the decisions that use them."""

    force: Annotated[
        bool,
        Setting(
            "Use the calibration even if it was fitted on another model or prompt.",
            BOOLEAN,
            panel="Calibration and decisions",
        ),
    ] = False

    def rules_of(self, task: "Task") -> dict[str, Rules]:
        """Return the decision rules of each question; see `rules_of`."""
        parts = task.by_question()
        if self.force and all(part.is_multi for part in parts.values()):
            raise ConfigError(
                "--force is for questions with one answer: with --kind multi a "
                "calibration is used as it was fitted only. Drop --force."
            )
        rules = {}
        for name, part in parts.items():
            with about(name):
                rules[name] = rules_of(part, force=self.force)
        return rules
