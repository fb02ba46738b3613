"""The options that commands share, and how they change a task."""

import csv
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from classify.cli.choices import completion
from classify.cli.engine_options import (
    parse_engine_options,
    parse_speculation,
    parse_template_arguments,
)
from classify.cli.given import Given
from classify.errors import ConfigError

if TYPE_CHECKING:
    from classify.config import Task

__all__ = ["split_labels", "task_of"]

# Settings that concern a server alone, and those that a server has itself.
_OF_SERVERS = ("url", "api_key_env")
_OF_MODELS_HERE = ("dtype", "device")

_LABELS, _PROMPT, _MODEL, _OTHER = "Labels", "Prompt", "Model", "Other"

LabelsOption = Annotated[
    str | None,
    typer.Option(
        "--labels",
        metavar="NAME,NAME",
        help="Label names, with commas between them and no spaces, or all in quotes.",
        rich_help_panel=_LABELS,
    ),
]
LabelsFileOption = Annotated[
    Path | None,
    typer.Option(
        "--labels-file",
        metavar="FILE",
        help="YAML file with the labels: names, descriptions, words.",
        rich_help_panel=_LABELS,
    ),
]
TaskOption = Annotated[
    Path | None,
    typer.Option(
        "--task",
        metavar="FILE",
        help="YAML file with labels, prompt and more; options override it.",
        rich_help_panel=_LABELS,
    ),
]
TemplateOption = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT",
        help="Prompt with {text}, {labels} or {column}; \\n is a line break.",
        rich_help_panel=_PROMPT,
    ),
]
SystemOption = Annotated[
    str | None,
    typer.Option(metavar="TEXT", help="System prompt.", rich_help_panel=_PROMPT),
]
ChatOption = Annotated[
    bool | None,
    typer.Option(
        "--chat/--no-chat",
        help="Use the model's chat template, or a plain prompt.",
        show_default="chat if the model has a template",
        rich_help_panel=_PROMPT,
    ),
]
OptionsOption = Annotated[
    str | None,
    typer.Option(
        metavar="HOW",
        help="How {labels} are listed: auto, inline, lines, verbatim or none.",
        show_default="auto",
        autocompletion=completion("options"),
        rich_help_panel=_PROMPT,
    ),
]
AnswerPrefixOption = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT",
        help="Words put before the label in the answer, such as 'Category:'.",
        rich_help_panel=_PROMPT,
    ),
]
TemplateArgumentsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--template-argument",
        metavar="KEY=VALUE",
        help="Variable of the chat template, such as thinking=false. Can be repeated.",
        rich_help_panel=_PROMPT,
    ),
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Folder or Hugging Face id of a causal language model.",
        show_default="the demo model",
        envvar="CLASSIFY_MODEL",
        autocompletion=completion("model"),
        rich_help_panel=_MODEL,
    ),
]
RevisionOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Revision of a hub model: a branch, tag or commit.",
        rich_help_panel=_MODEL,
    ),
]
TrustOption = Annotated[
    bool | None,
    typer.Option(
        "--trust-remote-code",
        help="Run code that comes with the model.",
        show_default=False,
        rich_help_panel=_MODEL,
    ),
]
DebugOption = Annotated[
    bool,
    typer.Option(
        "--debug", help="Show the traceback of an error.", rich_help_panel=_OTHER
    ),
]


def task_of(given: Given) -> "Task":
    """Return the task that a command was given.

    An option beats the task file, which beats the environment. Of the environment
    counts only what concerns the engine that is used.
    """
    from classify.config import Task

    path = given.values.get("task")
    task = Task.parse({}) if path is None else Task.from_yaml(path)
    of_engine = dict(task.model.engine_options or {})
    in_file = {*task.given, *of_engine}
    typed = _settings(given, given.typed)
    environment = _settings(given, given.environment.keys() - in_file)
    engine = _engine_of(typed, task, environment, has_url="url" in of_engine)
    for name in _OF_MODELS_HERE if engine == "server" else _OF_SERVERS:
        environment.pop(name, None)
    changes = {**environment, **typed, "engine": engine}
    of_engine.update(parse_engine_options(changes.pop("engine_options", ())))
    for name in _OF_SERVERS:
        if name in changes:
            of_engine[name] = changes.pop(name)
    return task.changed({**changes, "engine_options": of_engine or None})


def _settings(given: Given, names: Iterable[str]) -> dict[str, Any]:
    """Return what of some parameters belongs to a task, by the task's own names."""
    from classify.config import Task, labels_from_yaml
    from classify.parameters import settings_of
    from classify.prompts import PromptTemplate
    from classify.spec import ModelSpec, Scoring

    kinds = (Task, PromptTemplate, Scoring, ModelSpec)
    known = {*_OF_SERVERS, *(name for kind in kinds for name in settings_of(kind))}
    settings = {name: given.values[name] for name in names if name in known}
    if {"labels", "labels_file"} <= set(names):
        raise ConfigError("Give --labels or --labels-file, not both.")
    if "labels" in settings:
        settings["labels"] = split_labels(settings["labels"])
    if "labels_file" in names:
        settings["labels"] = labels_from_yaml(given.values["labels_file"])
    for name in ("template", "system", "answer_prefix"):
        if name in settings:
            settings[name] = _unescaped(settings[name])
    if "calibration" in settings:
        settings["calibration"] = str(settings["calibration"])
    if str(settings.get("batch_size")).isdecimal():
        settings["batch_size"] = int(settings["batch_size"])
    if "template_arguments" in settings:
        settings["template_arguments"] = parse_template_arguments(
            settings["template_arguments"]
        )
    if "speculation" in settings:
        settings["speculation"] = parse_speculation(settings["speculation"])
    return settings


def _engine_of(
    typed: Mapping[str, Any],
    task: "Task",
    environment: Mapping[str, Any],
    *,
    has_url: bool,
) -> str:
    """Return the engine's name; a URL means a server, if no engine is named."""
    in_file = task.model.engine if "engine" in task.given else None
    named: str | None = typed.get("engine", in_file)
    if named in (None, "auto") and ("url" in typed or has_url):
        return "server"
    if named is not None:
        return named
    named = environment.get("engine", "auto")
    return "server" if named == "auto" and "url" in environment else str(named)


def split_labels(listed: str, option: str = "--labels") -> list[str]:
    r"""Split label names at commas, as in a line of CSV.

    Examples
    --------
    >>> split_labels('billing, "returns, refunds"')
    ['billing', 'returns, refunds']
    """
    try:
        names = next(csv.reader([listed], skipinitialspace=True, strict=True), [])
    except csv.Error as error:
        raise ConfigError(
            f"{option} {listed!r} cannot be split: {error}. Put a name that holds a "
            "comma in double quotes, and double the quotes within."
        ) from None
    return [name.strip() for name in names]


def _unescaped(text: str) -> str:
    # A shell hands over \n as it is typed.
    return re.sub(
        r"\\([nt\\])", lambda found: {"n": "\n", "t": "\t"}.get(found[1], "\\"), text
    )
