"""A task as the text of a task file."""

from typing import Any

import yaml

from classify.config.task import Task
from classify.labels import Label, LabelSet
from classify.parameters import settings_of
from classify.prompts import PromptTemplate
from classify.prompts.example_table import ExampleTable

__all__ = ["task_yaml"]


def task_yaml(task: Task) -> str:
    """Return the text of a task file with the settings that differ from the defaults.

    Examples
    --------
    >>> task = Task.parse({"labels": ["billing", "shipping"], "tolerance": 0})
    >>> print(task_yaml(task), end="")
    labels:
    - billing
    - shipping
    tolerance: 0
    """
    content = _changed(task)
    groups = (task.use, task.yes_no, task.decisions, task.scoring, task.model)
    for group in groups:
        content |= _changed(group)
    if "prompt" in content:
        content["prompt"] = _prompt(task.prompt)
    if "verbalizer" in content:
        content["verbalizer"] = _changed(task.verbalizer)
    if task.labels is not None:
        content["labels"] = _labels(task.labels)
    text: str = yaml.dump(
        content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=88
    )
    return text


def _prompt(prompt: PromptTemplate) -> dict[str, Any]:
    content = _changed(prompt)
    if "examples" in content:
        content["examples"] = _examples(prompt)
    if "ensemble" in content:
        content["ensemble"] = [_prompt(each) for each in prompt.ensemble]
    return content


def _examples(prompt: PromptTemplate) -> str | list[dict[str, str]]:
    """Return examples as a task file has them: pairs, or the path of their table."""
    if isinstance(prompt.examples, ExampleTable):
        return prompt.examples.file
    return [
        {**({"text": shown} if isinstance(shown, str) else shown), "label": label}
        for shown, label in prompt.listed_examples
    ]


class _Dumper(yaml.SafeDumper):
    """Writes text of several lines as a block."""


def _text(dumper: _Dumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def _changed(settings: Any) -> dict[str, Any]:
    default = type(settings)()
    values = {name: getattr(settings, name) for name in settings_of(type(settings))}
    return {
        name: value for name, value in values.items() if value != getattr(default, name)
    }


def _labels(labels: LabelSet) -> list[str] | dict[str, Any]:
    told = {label.name: _label(label) for label in labels}
    return told if any(told.values()) else list(told)


def _label(label: Label) -> dict[str, Any] | None:
    content: dict[str, Any] = {}
    if label.description:
        content["description"] = label.description
    if label.words != (label.name,):
        content["words"] = list(label.words)
    further = {"value": label.value, "parent": label.parent}
    content |= {key: value for key, value in further.items() if value is not None}
    return content or None
