"""Task files: what to classify into, how to ask and what to ask, as YAML.

A `Task` holds everything that `classify predict` needs besides the data. Options of the
command line are changes of a task, checked by the same rules.
"""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeVar, cast

from classify.errors import ConfigError, InputError
from classify.files.yaml import read_yaml
from classify.labels import LabelSet
from classify.labels.names import suggestion
from classify.labels.use import LabelUse
from classify.parameters import TEXT, Setting, instance_of, optional, settings_of
from classify.prompts import PromptTemplate
from classify.questions.question import (
    CALIBRATION,
    LABELS,
    PROMPT,
    VERBALIZER,
    Question,
)
from classify.spec import ModelSpec, Scoring
from classify.verbalizer import Verbalizer
from classify.wording import parameter

if TYPE_CHECKING:
    from classify.estimators.classifier import ZeroShotClassifier

__all__ = ["Task"]

_Settings = TypeVar("_Settings")


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

    Its keys in a file are its own settings, and those of `LabelUse`, `Scoring` and
    `ModelSpec`.

    Attributes
    ----------
    given : frozenset of str
        The keys that a file or its like gave.

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
    scoring: Scoring = field(default_factory=Scoring)
    calibration: Annotated[str | None, CALIBRATION] = None
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
        self._check_different()

    def _check_different(self) -> None:
        """Raise ConfigError if two questions would be asked in the same words."""
        asked: list[tuple[str, Task]] = []
        for name, task in self.by_question().items():
            for other, earlier in asked:
                if replace(task, calibration=None) == replace(
                    earlier, calibration=None
                ):
                    raise ConfigError(
                        f"The questions {other!r} and {name!r} have the same labels "
                        "and the same prompt, so that they have the same answers: give "
                        "each a prompt of its own."
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
                prompt=each.prompt or self.prompt,
                verbalizer=each.verbalizer or self.verbalizer,
                use=each.use,
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
                f"{parameter('question', name)} is for a task with questions, and this "
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
        """Make a task of plain settings.

        Raises
        ------
        InputError
            A key is unknown, or a value is not allowed.
        """
        return _task(settings, _Wording("the settings", "{!r}".format))

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
                f"Got {_shortened(content)} instead."
            )
        where = f"task file {str(path)!r}"
        return _task(content, _Wording(where, lambda key: f"{key!r} in {where}"))

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
        settings, wording = dict(changes), _Wording("the options", _option_name)
        asking: dict[str, Any] = {}
        for name, kind in (("prompt", PromptTemplate), ("verbalizer", Verbalizer)):
            own = [key for key in changes if key in settings_of(kind)]
            if own:
                asking[name] = {key: settings.pop(key) for key in own}
        questions = tuple(
            _with(
                each,
                {key: asking[key] for key in asking if getattr(each, key)},
                wording,
            )
            for each in self.questions
        )
        changed = _with(replace(self, questions=()), settings | asking, wording)
        given = self.given | changes.keys()
        return _asking(replace(changed, given=given), questions, wording)

    @property
    def asked_labels(self) -> LabelSet | None:
        """The labels that a text may get; see `LabelUse.asked`."""
        return None if self.labels is None else self.use.asked(self.labels)

    def classifier(self) -> "ZeroShotClassifier":
        """Return the classifier that this task describes; nothing is loaded yet."""
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


class _Wording(NamedTuple):
    """How sentences speak of where a value came from."""

    where: str
    name: Callable[[str], str]

    def told(self, cause: InputError) -> InputError:
        """Return the error of a value, with the file that it stands in."""
        where = f"{self.where[:1].upper()}{self.where[1:]}: "
        return type(cause)(f"{where if ' file ' in where else ''}{cause}")


def _option_name(key: str) -> str:
    name = key.rpartition(".")[2]
    kinds = (Task, PromptTemplate, Verbalizer, LabelUse, Scoring, ModelSpec)
    options = {
        each: setting.option
        for kind in kinds
        for each, setting in settings_of(kind).items()
    }
    return options.get(name) or "--" + name.replace("_", "-")


def _task(settings: Mapping[str, Any], wording: _Wording) -> Task:
    given = frozenset(map(str, settings))
    own = {key: value for key, value in settings.items() if key != "questions"}
    task = _with(Task(), own, wording)
    questions = _questions(settings.get("questions"), task, wording)
    return _asking(replace(task, given=given), questions, wording)


def _asking(task: Task, questions: tuple[Question, ...], wording: _Wording) -> Task:
    """Return the task with questions, or raise ConfigError for what is of one alone."""
    if not questions:
        return task
    keys = ("labels", "labels_column", "calibration")
    given = {key: getattr(task, key) for key in keys} | vars(task.use)
    usual = vars(LabelUse())
    for key, value in given.items():
        if value != usual.get(key):
            names = ", ".join(each.name for each in questions)
            raise ConfigError(
                f"{wording.name(key)} is for a task with one question, and this one "
                f"has several ({names}): leave it out, or give it to a question."
            )
    try:
        return replace(task, questions=questions)
    except InputError as cause:
        raise wording.told(cause) from None


def _questions(given: Any, task: Task, wording: _Wording) -> tuple[Question, ...]:
    """Return the questions that a file has, each with what its task has in common."""
    if given is None or given == ():
        return ()
    named = given.items() if isinstance(given, Mapping) else ()
    if not named or not all(isinstance(each, Mapping) for _, each in named):
        raise ConfigError(
            f"{wording.name('questions')} must be a mapping of names to questions, "
            f"each with its labels. Got {_shortened(given)} instead."
        )
    return tuple(_question(name, each, task, wording) for name, each in named)


def _question(
    name: Any, settings: Mapping[str, Any], task: Task, wording: _Wording
) -> Question:
    told = wording._replace(where=f"{wording.where}, question {name!r}")
    try:
        common = Question(name=name, prompt=task.prompt, verbalizer=task.verbalizer)
    except InputError as cause:
        raise wording.told(cause) from None
    return _with(common, settings, told, f"questions.{name}.")


def _with(
    base: _Settings, settings: Mapping[Any, Any], wording: _Wording, inside: str = ""
) -> _Settings:
    """Return a dataclass of settings with other values; `inside` is its own key."""
    kind: Any = type(base)
    own = settings_of(kind)
    # Settings of a dataclass that is no setting itself are keys next to the others.
    groups = {each.name: each.type for each in fields(kind) if is_dataclass(each.type)}
    allowed = [
        key
        for name in (each.name for each in fields(kind))
        for key in (settings_of(groups[name]) if name in groups else [name])
        if name in groups or name in own
    ]
    for key in settings:
        if key not in allowed:
            raise _unknown_key(f"{inside}{key}", allowed, wording)
    changes = {}
    for name, group in groups.items():
        part = {key: settings[key] for key in settings_of(group) if key in settings}
        changes[name] = _with(getattr(base, name), part, wording)
    for name in (name for name in own if name in settings):
        path = f"{inside}{name}"
        before = getattr(base, name)
        changes[name] = _value(own[name], settings[name], before, wording, path)
    made: Any = base
    try:
        return cast(_Settings, replace(made, **changes))
    except InputError as cause:
        raise wording.told(cause) from None


def _value(
    setting: Setting, given: Any, before: Any, wording: _Wording, path: str
) -> Any:
    """Return the value of a setting, given as a file or a command holds it."""
    value = given
    try:
        if setting.read is not None:
            value = setting.read(given)
    except InputError as cause:
        raise wording.told(cause) from None
    except (TypeError, ValueError):
        is_allowed = False
    else:
        if is_dataclass(before) and isinstance(value, Mapping):
            return _with(before, value, wording, f"{path}.")
        is_allowed = setting.allowed.holds(value)
    if not is_allowed:
        raise ConfigError(
            f"{wording.name(path)} must be "
            f"{setting.allowed.written or setting.allowed.says}. "
            f"Got {_shortened(value)} instead."
        )
    return value


def _unknown_key(path: str, allowed: Sequence[str], wording: _Wording) -> ConfigError:
    near = difflib.get_close_matches(path.rpartition(".")[2], allowed, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return ConfigError(
        f"Unknown key {path!r} in {wording.where}.{hint} Allowed: {', '.join(allowed)}."
    )


def _shortened(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:77]}…"
