"""Task files: what to classify into, how to ask and what to ask, as YAML.

A `Task` holds everything that `classify predict` needs besides the data. Options of the
command line are changes of a task, checked by the same rules.
"""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeVar, cast

from classify.errors import ConfigError, InputError, LabelError
from classify.labels import LabelSet
from classify.parameters import TEXT, Setting, instance_of, optional, settings_of
from classify.prompts import PromptTemplate
from classify.spec import ModelSpec, Scoring
from classify.verbalizer import Verbalizer
from classify.yaml_files import check_declared, read_yaml

if TYPE_CHECKING:
    from classify.classifier import ZeroShotClassifier

__all__ = ["Task"]

_Settings = TypeVar("_Settings")


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


@dataclass(frozen=True, kw_only=True)
class Task:
    """A classification task: labels, prompt, model, and which columns to read.

    Its keys in a file are its own settings, and those of `Scoring` and `ModelSpec`.

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
    """

    labels: Annotated[
        LabelSet | None,
        Setting(
            "Label names, with commas between them and no spaces, or all in quotes.",
            optional(
                instance_of("a LabelSet", LabelSet),
                written="a list of names, a mapping of names to descriptions, or the "
                "path of a label table",
            ),
            metavar="NAME,NAME",
            panel="Labels",
            read=_label_set,
        ),
    ] = None
    prompt: Annotated[
        PromptTemplate,
        Setting(
            "",
            instance_of(
                "a PromptTemplate",
                PromptTemplate,
                written="a mapping, or a template as a string",
            ),
            read=_prompt_settings,
        ),
    ] = field(default_factory=PromptTemplate)
    verbalizer: Annotated[
        Verbalizer,
        Setting("", instance_of("a Verbalizer", Verbalizer, written="a mapping")),
    ] = field(default_factory=Verbalizer)
    scoring: Scoring = field(default_factory=Scoring)
    calibration: Annotated[
        str | None,
        Setting(
            "A file that classify calibrate wrote.",
            optional(TEXT, written="the path of a file of classify calibrate, or null"),
            metavar="FILE",
            panel="Calibration and decisions",
        ),
    ] = None
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
        settings = dict(changes)
        for name, kind in (("prompt", PromptTemplate), ("verbalizer", Verbalizer)):
            own = [key for key in changes if key in settings_of(kind)]
            if own:
                settings[name] = {key: settings.pop(key) for key in own}
        changed = _with(self, settings, _Wording("the options", _option_name))
        return replace(changed, given=self.given | changes.keys())

    def classifier(self) -> "ZeroShotClassifier":
        """Return the classifier that this task describes; nothing is loaded yet."""
        from classify.classifier import ZeroShotClassifier

        return ZeroShotClassifier(
            labels=self.labels,
            prompt=self.prompt,
            verbalizer=self.verbalizer,
            calibrator=None if self.calibration is None else Path(self.calibration),
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
    kinds = (Task, PromptTemplate, Verbalizer, Scoring, ModelSpec)
    options = {
        each: setting.option
        for kind in kinds
        for each, setting in settings_of(kind).items()
    }
    return options.get(name) or "--" + name.replace("_", "-")


def _task(settings: Mapping[str, Any], wording: _Wording) -> Task:
    given = frozenset(map(str, settings))
    return replace(_with(Task(), settings, wording), given=given)


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
