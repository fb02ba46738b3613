"""The options that commands share, and how they change a task."""

import csv
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from classify.cli.engine_options import parse_engine_options, parse_speculation
from classify.errors import ConfigError

if TYPE_CHECKING:
    from classify.config import Task

__all__ = ["split_labels", "task_of"]

_LABELS, _PROMPT, _MODEL = "Labels", "Prompt", "Model"

LabelsOption = Annotated[
    str | None,
    typer.Option(
        "--labels",
        metavar="NAME,NAME",
        help="Label names, separated by commas; a name with a comma in double quotes.",
        rich_help_panel=_LABELS,
    ),
]
LabelsFileOption = Annotated[
    Path | None,
    typer.Option(
        "--labels-file",
        metavar="FILE",
        help="YAML file with labels: names, descriptions, words.",
        rich_help_panel=_LABELS,
    ),
]
TaskOption = Annotated[
    Path | None,
    typer.Option(
        "--task",
        metavar="FILE",
        help="YAML file with labels, prompt and more; other options override it.",
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
ModelOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Folder or Hugging Face id of a causal language model.",
        show_default="the demo model",
        rich_help_panel=_MODEL,
    ),
]
RevisionOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="Revision of a hub model.", rich_help_panel=_MODEL
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
    bool, typer.Option("--debug", help="Show the traceback of an error.")
]


def task_of(
    task_file: Path | None,
    labels: str | None,
    labels_file: Path | None,
    changes: Mapping[str, Any],
) -> "Task":
    """Return the task of a file, or an empty one, changed by the options given.

    Parameters
    ----------
    task_file, labels, labels_file
        As on the command line; `labels` and `labels_file` exclude each other.
    changes : mapping
        Values of further options by name; None where an option was not given.
    """
    from classify.config import Task, labels_from_yaml

    task = Task.parse({}) if task_file is None else Task.from_yaml(task_file)
    given = {name: value for name, value in changes.items() if value is not None}
    if labels is not None and labels_file is not None:
        raise ConfigError("Give --labels or --labels-file, not both.")
    if labels is not None:
        given["labels"] = split_labels(labels)
    if labels_file is not None:
        given["labels"] = labels_from_yaml(labels_file)
    for name in ("template", "system", "answer_prefix"):
        if name in given:
            given[name] = _unescaped(given[name])
    if "calibration" in given:
        given["calibration"] = str(given["calibration"])
    if str(given.get("batch_size")).isdecimal():
        given["batch_size"] = int(given["batch_size"])
    if "speculation" in given:
        given["speculation"] = parse_speculation(given["speculation"])
    _join_engine_options(given, task)
    return task.changed(given)


def _join_engine_options(given: dict[str, Any], task: "Task") -> None:
    """Put what engines alone know among their options; a URL means a server."""
    further = parse_engine_options(given.pop("engine_options", ()))
    for name in ("url", "api_key_env"):
        if name in given:
            further[name] = given.pop(name)
    if further:
        given["engine_options"] = {**(task.engine_options or {}), **further}
    if "url" in further and task.engine == "auto":
        given.setdefault("engine", "server")


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
