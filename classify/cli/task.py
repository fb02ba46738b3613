"""The task that a command was given, and the options that make it."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from classify.cli.given import Given
from classify.cli.options import Option, options_of
from classify.config import Task
from classify.engines.kinds import SETTINGS
from classify.engines.registry import (
    AUTO,
    candidates,
    command_line_options,
    selected_by,
)
from classify.errors import ConfigError
from classify.labels import LabelSet
from classify.labels.use import LabelUse
from classify.parameters import TEXT, Setting, settings_of
from classify.prompts import PromptTemplate
from classify.questions.decision_rules import DecisionRules
from classify.questions.yes_no import YesNo
from classify.spec import ModelSpec, Scoring
from classify.verbalizer import Verbalizer

__all__ = [
    "declared_labels",
    "only_one_answer",
    "question_of",
    "task_of",
    "task_options",
]

_LABELS = "Labels"


@dataclass(frozen=True, kw_only=True)
class _TaskFiles:
    """Files that hold a task, or its labels, and what of it is meant."""

    labels_file: Annotated[
        str | None,
        Setting(
            "YAML file or table (CSV, TSV, JSONL, Parquet) with the labels: name, "
            "description, words, parent, value.",
            TEXT,
            metavar="FILE",
            panel=_LABELS,
        ),
    ] = None
    task: Annotated[
        str | None,
        Setting(
            "YAML file with labels, prompt and more; options override it.",
            TEXT,
            metavar="FILE",
            panel=_LABELS,
        ),
    ] = None
    question: Annotated[
        str | None,
        Setting(
            "Which question to use, if the task has several.",
            TEXT,
            metavar="NAME",
            panel=_LABELS,
        ),
    ] = None


def _options() -> dict[str, Option]:
    model = options_of(ModelSpec, panel="Model")
    of_engines = [
        Option(
            each.name,
            Setting(each.help, each.allowed, metavar=each.metavar, has_variable=True),
            frozenset({str}),
            None,
            "Model",
        )
        for each in command_line_options().values()
    ]
    at = 1 + [each.name for each in model].index("engine")
    labels, *of_task = options_of(Task)
    options = (
        *(labels, *options_of(_TaskFiles), *options_of(LabelUse, panel=_LABELS)),
        *options_of(YesNo, panel=_LABELS),
        *of_task,
        *options_of(DecisionRules),
        *options_of(PromptTemplate, panel="Prompt"),
        *options_of(Verbalizer, panel="Prompt"),
        *options_of(Scoring, panel="Scoring"),
        *(*model[:at], *of_engines, *model[at:]),
    )
    return {each.name: each for each in options}


_OPTIONS = _options()


def task_options(*names: str, panels: Collection[str] = ()) -> list[Option]:
    """Return options that change a task: those of these names and under these headings.

    `task_of` reads them.
    """
    return [
        each for each in _OPTIONS.values() if each.name in names or each.panel in panels
    ]


def task_of(given: Given) -> Task:
    """Return the task that a command was given.

    An option beats the task file, which beats the environment. Of the environment
    counts only what concerns the engine that is used.
    """
    path = given.values.get("task")
    task = Task.parse({}) if path is None else Task.from_yaml(path)
    of_engine = dict(task.model.engine_options or {})
    in_file = {*task.given, *of_engine}
    typed = _settings(given, given.typed)
    environment = _settings(given, given.environment.keys() - in_file)
    of_engine |= typed.pop("engine_options", {})
    engine = _engine_of(typed, task, environment, of_engine)
    model = typed.get("model", environment.get("model", task.model.model))
    possible = candidates(engine, model, {})
    for name in [*command_line_options(), *SETTINGS]:
        if not any(kind.takes(name) for kind in possible):
            environment.pop(name, None)
    changes = {**environment, **typed, "engine": engine}
    for name in command_line_options():
        if name in changes:
            of_engine[name] = changes.pop(name)
    return task.changed({**changes, "engine_options": of_engine or None})


def question_of(given: Given) -> Task:
    """Return the task of the one question that a command was given."""
    return task_of(given).question(given.values.get("question"))


def only_one_answer(task: Task, what: str) -> None:
    """Raise ConfigError where any number of labels are the answer."""
    if task.is_multi:
        raise ConfigError(
            f"{what} is for questions with one answer, and with --kind multi any "
            "number of labels apply: use classify predict."
        )


def declared_labels(task: Task) -> LabelSet:
    """Return the labels of a task, or raise ConfigError if it has none."""
    if task.labels is None:
        raise ConfigError(
            "There are no labels: give --labels, --labels-file, or a --task that has "
            "them."
        )
    return task.use.asked(task.labels)


def _settings(given: Given, names: Collection[str]) -> dict[str, Any]:
    """Return the parameters that belong to a task, by the task's own names."""
    if {"labels", "labels_file"} <= set(names):
        raise ConfigError("Give --labels or --labels-file, not both.")
    files = settings_of(_TaskFiles)
    settings = {
        name: given.read(option)
        for name, option in _OPTIONS.items()
        if name in names and name not in files
    }
    for name in settings.keys() & settings_of(PromptTemplate).keys():
        if isinstance(settings[name], str):
            settings[name] = _unescaped(settings[name])
    if "labels_file" in names:
        settings["labels"] = LabelSet.from_file(given.values["labels_file"])
    return settings


def _engine_of(
    typed: Mapping[str, Any],
    task: Task,
    environment: Mapping[str, Any],
    options: Mapping[str, Any],
) -> str:
    """Return the engine's name; an option may select it, if no engine is named."""
    in_file = task.model.engine if "engine" in task.given else None
    named: str | None = typed.get("engine", in_file)
    selected = selected_by({**options, **typed})
    if named in (None, AUTO) and selected is not None:
        return selected.name
    if named is not None:
        return named
    named, selected = environment.get("engine", AUTO), selected_by(environment)
    return selected.name if named == AUTO and selected is not None else str(named)


def _unescaped(text: str) -> str:
    # A shell hands over \n as it is typed.
    return re.sub(
        r"\\([nt\\])", lambda found: {"n": "\n", "t": "\t"}.get(found[1], "\\"), text
    )
