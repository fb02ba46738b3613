"""Task files: what to classify into, how to ask and what to ask, as YAML.

A `Task` holds everything that `classify predict` needs besides the data. Options of the
command line are changes of a task, checked by the same rules.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from classify.config.settings import Wording, shortened, with_settings
from classify.errors import ConfigError, InputError
from classify.files.yaml import read_yaml
from classify.labels import LabelSet
from classify.labels.names import suggestion
from classify.labels.use import LabelUse
from classify.parameters import TEXT, Setting, instance_of, optional, settings_of
from classify.prompts import PromptTemplate
from classify.prompts.recipes import text_first
from classify.questions.decision_rules import DecisionRules, in_place_of, is_for
from classify.questions.question import (
    CALIBRATION,
    LABELS,
    PROMPT,
    VERBALIZER,
    Question,
)
from classify.questions.yes_no import LABEL, YesNo
from classify.spec import ModelSpec, Scoring
from classify.verbalizer import Verbalizer
from classify.wording import parameter

if TYPE_CHECKING:
    from classify.estimators.classifier import ZeroShotClassifier
    from classify.estimators.multi_label import ZeroShotMultiLabelClassifier

__all__ = ["Task"]

_QUESTIONS = Setting(
    "",
    instance_of(
        "a tuple of Question",
        tuple,
        written="a mapping of names to questions, each with its labels",
    ),
)


@dataclass(frozen=True, kw_only=True)
class Task:
    """A classification task: labels, prompt, model, and which columns to read.

    Its keys in a file are its own settings, and those of `LabelUse`, `YesNo`,
    `DecisionRules`, `Scoring` and `ModelSpec`.

    Attributes
    ----------
    given : frozenset of str
        The keys that a file or mapping gave.

    Examples
    --------
    >>> task = Task.parse({"labels": ["billing", "shipping"], "tolerance": 0})
    >>> task.labels, task.model.model
    (LabelSet('billing', 'shipping'), 'demo')
    >>> task.changed({"tolerance": 0.01}).scoring.tolerance
    0.01
    >>> asked = {"tone": {"labels": ["calm", "angry"]}}
    >>> list(Task.parse({"questions": asked}).by_question())
    ['tone']
    """

    labels: Annotated[LabelSet | None, LABELS] = None
    prompt: Annotated[PromptTemplate, PROMPT] = field(default_factory=PromptTemplate)
    verbalizer: Annotated[Verbalizer, VERBALIZER] = field(default_factory=Verbalizer)
    use: LabelUse = field(default_factory=LabelUse)
    yes_no: YesNo = field(default_factory=YesNo)
    scoring: Scoring = field(default_factory=Scoring)
    calibration: Annotated[str | None, CALIBRATION] = None
    decisions: DecisionRules = field(default_factory=DecisionRules)
    questions: Annotated[tuple[Question, ...], _QUESTIONS] = ()
    text_column: Annotated[
        str,
        Setting("Column with the texts.", TEXT, metavar="COLUMN", panel="Data"),
    ] = "text"
    labels_column: Annotated[
        str | None,
        Setting(
            "Column with each row's candidate labels, as a|b|c.",
            optional(TEXT),
            metavar="COLUMN",
            panel="Labels",
        ),
    ] = None
    model: ModelSpec = field(default_factory=ModelSpec)
    given: frozenset[str] = field(default=frozenset(), compare=False, repr=False)

    def __post_init__(self) -> None:
        names = [each.name for each in self.questions]
        for each in self.questions:
            if names.count(each.name) > 1:
                raise ConfigError(
                    f"There is more than one question {each.name!r}: rename one of "
                    "them."
                )
            if each.labels is None:
                raise ConfigError(
                    f"The question {each.name!r} has no labels: give it labels, such "
                    "as [low, high]."
                )
        if self.questions:
            self._check_different()
            return
        self.yes_no.check_used(self.use.kind)
        self.decisions.check(self.use.kind, self.labels)
        if self.is_multi and self.labels_column is not None:
            raise ConfigError(
                f"{parameter('labels_column')} gives each row its own labels, one of "
                f"which is the answer; with {parameter('kind', 'multi')} all rows "
                "have the same labels: leave one of the two out."
            )

    def _check_different(self) -> None:
        """Raise ConfigError if two questions would be asked in the same words."""
        asked: list[tuple[str, Task]] = []
        for name, given in self.by_question().items():
            task = replace(given, calibration=None, decisions=DecisionRules())
            for other, earlier in asked:
                if task == earlier:
                    raise ConfigError(
                        f"The questions {other!r} and {name!r} have the same labels "
                        "and the same prompt, so they have the same answers: give each "
                        "its own prompt."
                    )
            asked.append((name, task))

    @property
    def _listed(self) -> str:
        return ", ".join(each.name for each in self.questions)

    def by_question(self) -> "dict[str, Task]":
        """Return a task of one question for each; one without a name is called ""."""
        if not self.questions:
            return {"": self}
        return {
            each.name: replace(
                self,
                questions=(),
                labels=each.labels,
                prompt=text_first(
                    each.prompt or self.prompt, always=each.use.kind == "multi"
                ),
                verbalizer=each.verbalizer or self.verbalizer,
                use=each.use,
                yes_no=each.yes_no,
                decisions=each.decisions,
                calibration=each.calibration,
            )
            for each in self.questions
        }

    def question(self, name: str | None) -> "Task":
        """Return the task of one question, as if it were the only one.

        Raises
        ------
        ConfigError
            There is no such question, or there are several and none is named.
        """
        tasks = self.by_question()
        if name is None and len(tasks) == 1:
            return next(iter(tasks.values()))
        if not self.questions:
            raise ConfigError(
                f"{parameter('question', name)} is for a task with questions, but this "
                "one has none: leave it out."
            )
        if name is None:
            raise ConfigError(
                f"The task has several questions ({self._listed}), and this needs one: "
                f"name it with {parameter('question')}."
            )
        if name not in tasks:
            raise ConfigError(
                f"There is no question {name!r}.{suggestion(name, list(tasks))} The "
                f"questions are {self._listed}."
            )
        return tasks[name]

    @classmethod
    def parse(cls, settings: Mapping[str, Any]) -> "Task":
        """Make a task from plain settings.

        Raises
        ------
        InputError
            A key is unknown, or a value is not allowed.
        """
        return _task(settings, Wording("the settings", "{!r}".format))

    @classmethod
    def from_yaml(cls, path: str | Path) -> "Task":
        """Read a task file.

        Raises
        ------
        InputError
            The file cannot be read or is not YAML; a key is unknown; a value is not
            allowed.
        """
        content = read_yaml(path, "task file")
        if not isinstance(content, Mapping):
            raise ConfigError(
                f"Task file {str(path)!r} must hold keys such as labels: and prompt:. "
                f"Got {shortened(content)} instead."
            )
        where = f"task file {str(path)!r}"
        return _task(content, Wording(where, lambda key: f"{key!r} in {where}"))

    def changed(self, changes: Mapping[str, Any]) -> "Task":
        """Return the task with other values, as options of the command line name them.

        Parameters
        ----------
        changes : mapping
            Keys of a task, of its prompt, or of its verbalizer.

        Raises
        ------
        InputError
            A value is not allowed; the sentence names the option.
        """
        settings, wording = in_place_of(changes), Wording("the options", _option_name)
        asking: dict[str, Any] = {}
        for name, kind in (("prompt", PromptTemplate), ("verbalizer", Verbalizer)):
            own = [key for key in changes if key in settings_of(kind)]
            if own:
                asking[name] = {key: settings.pop(key) for key in own}
        questions = tuple(
            with_settings(each, _changes_of(each, asking), wording)
            for each in self.questions
        )
        if questions:
            rules = settings_of(DecisionRules)
            deciding = {key: changes[key] for key in changes if key in rules}
            questions = _deciding(questions, deciding, wording)
            settings = {key: settings[key] for key in settings if key not in rules}
        changed = with_settings(replace(self, questions=()), settings | asking, wording)
        given = self.given | changes.keys()
        return _asking(replace(changed, given=given), questions, wording)

    @property
    def asked_labels(self) -> LabelSet | None:
        """The labels that a text may get; see `LabelUse.asked`."""
        return None if self.labels is None else self.use.asked(self.labels)

    @property
    def is_multi(self) -> bool:
        """Whether any number of labels apply."""
        return self.use.kind == "multi"

    @property
    def fields(self) -> tuple[str, ...]:
        """The columns that the prompt needs of a row."""
        own = (LABEL,) if self.is_multi else ()
        return tuple(each for each in self.prompt.fields if each not in own)

    def classifier(self) -> "ZeroShotClassifier | ZeroShotMultiLabelClassifier":
        """Return the classifier that this task describes; nothing is loaded yet.

        A `ZeroShotClassifier` labels every text: `TaskClassifier` and the commands also
        apply the threshold, target risk and prediction sets of the task.
        """
        return self.multi_classifier() if self.is_multi else self.choice_classifier()

    def multi_classifier(self) -> "ZeroShotMultiLabelClassifier":
        """Return the classifier of a multi-label task."""
        from classify.estimators.multi_label import ZeroShotMultiLabelClassifier

        return ZeroShotMultiLabelClassifier(
            labels=self.labels,
            prompt=self.prompt,
            verbalizer=self.verbalizer,
            calibrator=None if self.calibration is None else Path(self.calibration),
            thresholds=self.decisions.threshold,
            **vars(self.yes_no),
            **vars(self.scoring),
            **vars(self.model),
        )

    def choice_classifier(self) -> "ZeroShotClassifier":
        """Return the classifier of a task that has one answer."""
        from classify.estimators.classifier import ZeroShotClassifier

        return ZeroShotClassifier(
            labels=self.labels,
            prompt=self.prompt,
            verbalizer=self.verbalizer,
            calibrator=None if self.calibration is None else Path(self.calibration),
            **vars(self.use),
            **vars(self.scoring),
            **vars(self.model),
        )


def _option_name(key: str) -> str:
    name = key.rpartition(".")[2]
    kinds = (
        *(Task, PromptTemplate, Verbalizer, LabelUse, YesNo, DecisionRules),
        *(Scoring, ModelSpec),
    )
    options = {
        each: setting.option
        for kind in kinds
        for each, setting in settings_of(kind).items()
    }
    return options.get(name) or "--" + name.replace("_", "-")


def _task(settings: Mapping[str, Any], wording: Wording) -> Task:
    given = frozenset(map(str, settings))
    own = {key: value for key, value in settings.items() if key != "questions"}
    task = with_settings(Task(), own, wording)
    questions = _questions(settings.get("questions"), task, wording)
    return _asking(replace(task, given=given), questions, wording)


def _asking(task: Task, questions: tuple[Question, ...], wording: Wording) -> Task:
    """Return the task with questions, or raise ConfigError for what is of one alone."""
    if not questions:
        return task
    keys = ("labels", "labels_column", "calibration")
    given = {key: getattr(task, key) for key in keys}
    given |= vars(task.use) | vars(task.yes_no)
    usual = vars(LabelUse()) | vars(YesNo())
    for key, value in given.items():
        if value != usual.get(key):
            names = ", ".join(each.name for each in questions)
            raise ConfigError(
                f"{wording.name(key)} is for a task with one question, but this one "
                f"has several ({names}): leave it out, or give it to a question."
            )
    try:
        return replace(task, questions=questions)
    except InputError as cause:
        raise wording.told(cause) from None


def _questions(given: Any, task: Task, wording: Wording) -> tuple[Question, ...]:
    """Return the questions that a file has, each with what its task has in common."""
    if given is None or given == ():
        return ()
    named = given.items() if isinstance(given, Mapping) else ()
    if not named or not all(isinstance(each, Mapping) for _, each in named):
        raise ConfigError(
            f"{wording.name('questions')} must be a mapping of names to questions, "
            f"each with its labels. Got {shortened(given)} instead."
        )
    return tuple(_question(name, each, task, wording) for name, each in named)


def _question(
    name: Any, settings: Mapping[str, Any], task: Task, wording: Wording
) -> Question:
    told = wording._replace(where=f"{wording.where}, question {name!r}")
    try:
        common = Question(
            name=name,
            prompt=_common_prompt(task.prompt, settings.get("prompt")),
            verbalizer=task.verbalizer,
            decisions=task.decisions.for_kind(settings.get("kind", "choice")),
        )
    except InputError as cause:
        raise wording.told(cause) from None
    return with_settings(common, settings, told, f"questions.{name}.")


def _common_prompt(prompt: PromptTemplate, given: Any) -> PromptTemplate:
    """Return the task's prompt for a question that may have a template of its own."""
    own = given if isinstance(given, Mapping) else {"template": given}
    if own.get("template") is None or "text_position" in own:
        return prompt
    return replace(prompt, text_position="auto")


def _changes_of(
    question: Question, asking: Mapping[str, Mapping[str, Any]]
) -> dict[str, Mapping[str, Any]]:
    """Return the changes for a question; a template has its own `text_position`."""
    changes = {key: asking[key] for key in asking if getattr(question, key)}
    prompt, new = question.prompt, changes.get("prompt", {})
    if prompt is not None and prompt.template is not None and "template" not in new:
        kept = {key: value for key, value in new.items() if key != "text_position"}
        changes |= {"prompt": kept} if new else {}
    return changes


def _deciding(
    questions: tuple[Question, ...], changes: Mapping[str, Any], wording: Wording
) -> tuple[Question, ...]:
    """Return questions, those changed that these decisions are for."""
    kinds = {each.use.kind for each in questions}
    changed = []
    for each in questions:
        own = dict(changes)
        for key in changes:
            takers = {kind for kind in kinds if is_for(key, kind)}
            # What is for none of them is refused.
            if takers and each.use.kind not in takers:
                del own[key]
        try:
            changed.append(with_settings(each, in_place_of(own), wording))
        except InputError as cause:
            raise type(cause)(f"Question {each.name!r}: {cause}") from None
    return tuple(changed)
