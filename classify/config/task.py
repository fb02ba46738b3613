"""Task files: what to classify into, how to ask and what to ask, as YAML.

A `Task` holds everything that `classify predict` needs beside the data. Options of the
command line are changes of a task, checked by the same rules.
"""

import difflib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    ValidationError,
    field_validator,
    model_validator,
)

from classify.engines.vllm.speculation import speculative_config
from classify.errors import ConfigError, InputError
from classify.labels import LabelSet
from classify.prompts import PromptTemplate
from classify.verbalizer import Verbalizer
from classify.yaml_files import read_yaml

if TYPE_CHECKING:
    from classify.classifier import ZeroShotClassifier

__all__ = ["PromptSpec", "Task", "VerbalizerSpec", "labels_from_yaml"]

# Each description ends the sentence "'key' must be …".
Text = Annotated[StrictStr, Field(description="a string")]
Flag = Annotated[StrictBool, Field(description="true or false")]


def _number_of_text(value: Any) -> Any:
    # YAML 1.1 reads 1e-3, without a point, as text.
    if isinstance(value, bool):
        raise ValueError("a boolean is no number")
    return float(value) if isinstance(value, str) else value


class _Spec(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        arbitrary_types_allowed=True,
        protected_namespaces=(),
    )


class PromptSpec(_Spec):
    """The ``prompt`` of a task file; see `PromptTemplate` for what each key means."""

    template: StrictStr | None = Field(
        default=None, description="a string, or null for ours"
    )
    system: StrictStr | None = Field(default=None, description="a string or null")
    examples: tuple[Any, ...] = Field(
        default=(),
        description="a list of examples, each {text: …, label: …}, with further "
        "columns if the template has them",
    )
    chat: StrictBool | Literal["auto"] = Field(
        default="auto", description="true, false or auto"
    )
    options: Literal["auto", "inline", "lines", "verbatim", "none"] = Field(
        default="auto", description="auto, inline, lines, verbatim or none"
    )
    answer_prefix: Text = ""
    too_long: Literal["truncate", "error"] = Field(
        default="truncate", description="truncate or error"
    )

    @field_validator("examples")
    @classmethod
    def _examples_are_solved(cls, examples: tuple[Any, ...]) -> tuple[Any, ...]:
        for example in examples:
            if not (
                isinstance(example, Mapping)
                and len(example) > 1
                and "label" in example
                and all(isinstance(value, str) for value in example.values())
            ):
                raise ValueError("not an example")
        return examples

    @model_validator(mode="after")
    def _can_be_used(self) -> "PromptSpec":
        self.prompt_template()
        return self

    def prompt_template(self) -> PromptTemplate:
        """Return the recipe that this describes."""
        examples = [
            ({k: v for k, v in example.items() if k != "label"}, example["label"])
            for example in self.examples
        ]
        return PromptTemplate(**{**dict(self), "examples": tuple(examples)})


class VerbalizerSpec(_Spec):
    """The ``verbalizer`` of a task file; see `Verbalizer` for what each key means."""

    case_variants: Flag = False
    space_variants: Flag = False
    end: Literal["auto", "always"] = Field(default="auto", description="auto or always")
    end_token: Literal["auto", "end_of_turn", "eos", "newline"] = Field(
        default="auto", description="auto, end_of_turn, eos or newline"
    )


class Task(_Spec):
    """A classification task: labels, prompt, model, and which columns to read.

    Examples
    --------
    >>> task = Task.parse({"labels": ["billing", "shipping"], "tolerance": 0})
    >>> task.labels, task.model
    (LabelSet('billing', 'shipping'), 'demo')
    >>> task.changed({"tolerance": 0.01}).tolerance
    0.01
    """

    labels: LabelSet | None = Field(
        default=None,
        description="a list of names, or a mapping of names to descriptions",
    )
    prompt: PromptSpec = Field(
        default_factory=PromptSpec,
        description="a mapping, or a template as a string",
    )
    verbalizer: VerbalizerSpec = Field(
        default_factory=VerbalizerSpec, description="a mapping"
    )
    strategy: Literal["exact", "generate"] = Field(
        default="exact", description="exact or generate"
    )
    tolerance: Annotated[float, BeforeValidator(_number_of_text)] = Field(
        default=1e-3, ge=0.0, lt=1.0, description="a number from 0 (exact) to below 1"
    )
    calibration: StrictStr | None = Field(
        default=None, description="the path of a file of classify calibrate, or null"
    )
    text_column: Text = "text"
    labels_column: StrictStr | None = Field(
        default=None, description="a string or null"
    )
    model: Text = "demo"
    engine: Text = "auto"
    dtype: Text = "auto"
    device: Text = "auto"
    batch_size: Annotated[StrictInt, Field(gt=0)] | Literal["auto"] = Field(
        default="auto", description="auto or an integer above 0"
    )
    revision: StrictStr | None = Field(default=None, description="a string or null")
    trust_remote_code: Flag = False
    speculation: StrictStr | dict[StrictStr, Any] | None = Field(
        default=None,
        description="the name of a method, or a mapping with its method",
    )
    engine_options: dict[StrictStr, Any] | None = Field(
        default=None, description="a mapping of names to values"
    )

    @field_validator("labels", mode="before")
    @classmethod
    def _labels_of_any_form(cls, value: Any) -> LabelSet | None:
        return _label_set(value)

    @field_validator("speculation")
    @classmethod
    def _speculation_is_known(cls, value: Any) -> Any:
        speculative_config(value)
        return value

    @field_validator("prompt", mode="before")
    @classmethod
    def _template_alone(cls, value: Any) -> Any:
        return {"template": value} if isinstance(value, str) else value

    @classmethod
    def parse(cls, settings: Mapping[str, Any]) -> "Task":
        """Make a task of plain settings.

        Raises
        ------
        InputError
            A key is unknown, or a value is not allowed.
        """
        return _validated(settings, _Wording("the settings", "{!r}".format))

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
        return _validated(content, _Wording(where, lambda key: f"{key!r} in {where}"))

    def changed(self, changes: Mapping[str, Any]) -> "Task":
        """Return the task with other values, as options of the command line name them.

        Parameters
        ----------
        changes : mapping
            Keys of a task, or of its prompt.

        Raises
        ------
        InputError
            A value is not allowed; the sentence names the option.
        """
        settings: dict[str, Any] = dict(self)
        prompt = dict(self.prompt)
        for key, value in changes.items():
            (prompt if key in PromptSpec.model_fields else settings)[key] = value
        settings["prompt"] = prompt
        return _validated(settings, _Wording("the options", _option_name))

    def classifier(self) -> "ZeroShotClassifier":
        """Return the classifier that this task describes; nothing is loaded yet."""
        from classify.classifier import ZeroShotClassifier

        return ZeroShotClassifier(
            labels=self.labels,
            model=self.model,
            engine=self.engine,
            prompt=self.prompt.prompt_template(),
            verbalizer=Verbalizer(**dict(self.verbalizer)),
            strategy=self.strategy,
            tolerance=self.tolerance,
            dtype=self.dtype,
            device=self.device,
            batch_size=self.batch_size,
            revision=self.revision,
            trust_remote_code=self.trust_remote_code,
            speculation=self.speculation,
            calibrator=None if self.calibration is None else Path(self.calibration),
            engine_options=self.engine_options,
        )


def labels_from_yaml(path: str | Path) -> LabelSet:
    """Read labels from a YAML file: a list, a mapping, or a file with a `labels` key.

    Raises
    ------
    InputError
        The file cannot be read, is not YAML, or holds no labels.
    """
    content = read_yaml(path, "label file")
    if isinstance(content, Mapping) and "labels" in content:
        content = content["labels"]
    where = f"label file {str(path)!r}"
    if content is None:
        raise ConfigError(f"There are no labels in {where}: list their names.")
    return _validated({"labels": content}, _Wording(where, str)).labels or LabelSet(())


class _Wording(NamedTuple):
    """How sentences speak of where a value came from."""

    where: str
    name: Callable[[str], str]


def _option_name(key: str) -> str:
    return "--" + key.rpartition(".")[2].replace("_", "-")


def _label_set(value: Any) -> LabelSet | None:
    if value is None or isinstance(value, LabelSet):
        return value
    for name in _names_of(value):
        if isinstance(name, bool):
            spelled = "yes, on or true" if name else "no, off or false"
            raise InputError(
                f"a label or word is a boolean: YAML reads {spelled} so. Put it in "
                f'quotes, such as "{spelled.partition(",")[0]}".'
            )
        if not isinstance(name, str | Mapping):
            raise InputError(
                f"a label or word is {name!r}, which is no string. Put it in quotes, "
                f'such as "{name}".'
            )
    return LabelSet.parse(value)


def _names_of(value: Any) -> list[Any]:
    """Return the names and words in a declaration of labels, of whatever type."""
    if isinstance(value, Mapping):
        entries = [*value.values()]
        names = [*value]
    elif isinstance(value, list | tuple):
        entries, names = [], []
        for item in value:
            if isinstance(item, Mapping) and "name" in item:
                names.append(item["name"])
                entries.append(item)
            elif isinstance(item, Mapping):
                names.extend(item)
                entries.extend(item.values())
            else:
                names.append(getattr(item, "name", item))
    else:
        return []
    for entry in entries:
        words = entry.get("words") if isinstance(entry, Mapping) else entry
        names.extend(words if isinstance(words, list | tuple) else ())
    return names


# -------------------------------------------------------------------------- sentences


def _validated(settings: Mapping[str, Any], wording: _Wording) -> Task:
    try:
        return Task.model_validate(dict(settings))
    except ValidationError as invalid:
        raise _explained(invalid.errors()[0], wording) from None


def _explained(error: Any, wording: _Wording) -> InputError:
    """Turn pydantic's first error into a sentence with the key's path."""
    model: Any = Task
    path: list[str] = []
    for step in error["loc"]:
        path.append(str(step))
        if step not in model.model_fields:
            return _unknown_key(path, model, wording)
        field = model.model_fields[step]
        if not (
            isinstance(field.annotation, type) and issubclass(field.annotation, _Spec)
        ):
            break
        if error["type"] in ("model_type", "model_attributes_type"):
            break
        model = field.annotation
    cause = error.get("ctx", {}).get("error")
    if isinstance(cause, InputError):
        where = wording.where
        prefix = f"{where[:1].upper()}{where[1:]}: " if " file " in where else ""
        return type(cause)(f"{prefix}{cause}")
    return ConfigError(
        f"{wording.name('.'.join(path))} must be {field.description}. "
        f"Got {_shortened(error['input'])} instead."
    )


def _unknown_key(path: Sequence[str], model: Any, wording: _Wording) -> ConfigError:
    allowed = list(model.model_fields)
    near = difflib.get_close_matches(path[-1], allowed, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return ConfigError(
        f"Unknown key {'.'.join(path)!r} in {wording.where}.{hint} "
        f"Allowed: {', '.join(allowed)}."
    )


def _shortened(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:77]}…"
