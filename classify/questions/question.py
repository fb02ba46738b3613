"""A question of a task: its labels, and how a model is asked about them."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from classify.errors import ConfigError, LabelError
from classify.files.yaml import check_declared
from classify.labels import LabelSet
from classify.labels.names import check_string
from classify.labels.use import LabelUse
from classify.parameters import (
    TEXT,
    Setting,
    check_settings,
    instance_of,
    optional,
)
from classify.prompts import PromptTemplate
from classify.questions.decision_rules import DecisionRules
from classify.questions.yes_no import YesNo
from classify.verbalizer import Verbalizer

__all__ = ["CALIBRATION", "LABELS", "PROMPT", "VERBALIZER", "Question"]

# Columns of the row, which no question may be called.
_RESERVED = ("truncated", "error")


def _label_set(value: Any) -> LabelSet | None:
    if value is None or isinstance(value, LabelSet):
        return value
    if isinstance(value, str | Path):
        if not Path(value).exists():
            raise LabelError(
                f"There is no label file {str(value)!r}. For the names of labels, "
                "write a list, such as [billing, shipping]."
            )
        return LabelSet.from_file(value)
    check_declared(value)
    return LabelSet.parse(value)


def _prompt_settings(value: Any) -> Any:
    return {"template": value} if isinstance(value, str) else value


LABELS = Setting(
    "Label names, with commas between them and no spaces, or all in quotes.",
    optional(
        instance_of("a LabelSet", LabelSet),
        written="a list of names, a mapping of names to descriptions, or the "
        "path of a label table",
    ),
    metavar="NAME,NAME",
    panel="Labels",
    read=_label_set,
)
PROMPT = Setting(
    "",
    instance_of(
        "a PromptTemplate",
        PromptTemplate,
        written="a mapping, or a template as a string",
    ),
    read=_prompt_settings,
)
VERBALIZER = Setting("", instance_of("a Verbalizer", Verbalizer, written="a mapping"))
CALIBRATION = Setting(
    "A file that classify calibrate wrote.",
    optional(TEXT, written="the path of a file of classify calibrate, or null"),
    metavar="FILE",
    panel="Calibration and decisions",
)


@dataclass(frozen=True, kw_only=True)
class Question:
    """One of several questions about each text.

    Parameters
    ----------
    name : str
        The start of its column names. Without dots, which separate it from the names
        of its results.
    labels : LabelSet, or what `LabelSet.parse` reads
    prompt : PromptTemplate or str, default=None
        None: the task's own.
    verbalizer : Verbalizer, default=None
        None: the task's own.
    use : LabelUse, default=LabelUse()
        How its labels are related.
    yes_no : YesNo, default=YesNo()
        For labels of which any number apply: the words of the answers.
    decisions : DecisionRules, default=DecisionRules()
    calibration : str, default=None
        A file that ``classify calibrate`` wrote.

    Raises
    ------
    InputError
        A value is not allowed.

    Examples
    --------
    >>> Question(name="urgency", labels=["low", "high"]).labels
    LabelSet('low', 'high')
    """

    name: str
    labels: Annotated[LabelSet | None, LABELS] = None
    prompt: Annotated[
        PromptTemplate | None, PROMPT._replace(allowed=optional(PROMPT.allowed))
    ] = None
    verbalizer: Annotated[
        Verbalizer | None, VERBALIZER._replace(allowed=optional(VERBALIZER.allowed))
    ] = None
    use: LabelUse = field(default_factory=LabelUse)
    yes_no: YesNo = field(default_factory=YesNo)
    decisions: DecisionRules = field(default_factory=DecisionRules)
    calibration: Annotated[str | None, CALIBRATION] = None

    def __post_init__(self) -> None:
        check_string(self.name, "A question's name")
        if "." in self.name:
            raise ConfigError(
                f"The question {self.name!r} must have a name without dots, which "
                "separate it from the names of its results: write "
                f"{self.name.replace('.', '_')!r}."
            )
        if self.name in _RESERVED:
            raise ConfigError(
                f"A question cannot be called {self.name!r}, which is a column of "
                "every output: give it another name."
            )
        object.__setattr__(self, "labels", _label_set(self.labels))
        if isinstance(self.prompt, str):
            object.__setattr__(self, "prompt", PromptTemplate(self.prompt))
        check_settings(self, "Question")
        self.yes_no.check_used(self.use.kind)
        self.decisions.check(self.use.kind, self.labels)
