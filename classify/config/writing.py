"""A task as the text of a task file."""

from typing import Any

import yaml

from classify.config.task import Task
from classify.labels import Label, LabelSet
from classify.parameters import settings_of

__all__ = ["task_yaml"]


def task_yaml(task: Task) -> str:
    """Return the text of a task file that says what differs from the defaults.

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
    for group in (task.scoring, task.model):
        content |= _changed(group)
    for name in ("prompt", "verbalizer"):
        if content.get(name) is not None:
            content[name] = _changed(content[name])
    if task.labels is not None:
        content["labels"] = _labels(task.labels)
    if "examples" in content.get("prompt", {}):
        content["prompt"]["examples"] = [
            {**({"text": shown} if isinstance(shown, str) else shown), "label": label}
            for shown, label in task.prompt.examples
        ]
    text: str = yaml.dump(
        content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=88
    )
    return text


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
