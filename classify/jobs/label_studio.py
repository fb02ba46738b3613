"""Rows to review as tasks for Label Studio, and the interface to label them in.

The format is that of its import: tasks with ``data`` and ``predictions``, which have a
``score``, a ``model_version`` and the results of the controls of the interface.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from xml.etree import ElementTree as ET

from classify.labels import Label
from classify.labels.tree import LabelTree
from classify.tables.annotations import NO_LABELS
from classify.tables.values import json_text

__all__ = [
    "WRITTEN_BY",
    "AnswerField",
    "Prediction",
    "interface",
    "task",
    "tasks_bytes",
]

# In the comment of an interface.
WRITTEN_BY = "Written by classify predict"

# What is shown, in the data of a task and as the name of its tag.
_TEXT = "review_text"
_OWN_LABELS = "$review_labels"


class AnswerField(NamedTuple):
    """A question that a person answers about each row.

    Attributes
    ----------
    question : str
        The name of the question; empty if it is the only one.
    column : str
        The column with the answers.
    labels : tuple of Label
        What may be answered; empty where each row has labels of its own.
    is_multi : bool
        Whether any number of labels apply.
    tree : LabelTree or None
        Where the labels are its leaves.
    """

    question: str
    column: str
    labels: tuple[Label, ...]
    is_multi: bool = False
    tree: LabelTree | None = None


class Prediction(NamedTuple):
    """The model's answer to a question.

    Attributes
    ----------
    field : AnswerField
    names : sequence of str
        Of the labels.
    probability : float
    """

    field: AnswerField
    names: Sequence[str]
    probability: float


def task(
    data: Mapping[str, Any],
    texts: Mapping[str, str],
    predictions: Sequence[Prediction],
    model: str,
) -> dict[str, Any]:
    """Return a task.

    Parameters
    ----------
    data : mapping
        Columns that are exported with the annotations.
    texts : mapping of str to str
        What is shown, by column.
    predictions : sequence of Prediction
    model : str
        The version of the model, as Label Studio shows it.
    """
    [*shown] = texts.values()
    if len(texts) > 1:
        shown = [f"{name}: {text}" for name, text in texts.items()]
    return {
        "data": {**_finite(data), _TEXT: "\n\n".join(shown)},
        "predictions": [
            {
                "model_version": model,
                "score": min((each.probability for each in predictions), default=0.0),
                "result": [_result(each) for each in predictions],
            }
        ],
    }


def tasks_bytes(tasks: Iterable[Mapping[str, Any]]) -> bytes:
    """Return tasks as JSON, one per line."""
    lines = ",\n".join(map(json_text, tasks))
    return f"[\n{lines}\n]\n".encode()


def interface(fields: Sequence[AnswerField]) -> bytes:
    """Return the labelling interface, as Label Studio reads it."""
    view = ET.Element("View")
    view.append(ET.Comment(f" {WRITTEN_BY}: paste this as the labeling interface. "))
    ET.SubElement(view, "Text", name=_TEXT, value=f"${_TEXT}")
    for each in fields:
        if each.question:
            ET.SubElement(view, "Header", value=each.question)
        control = {"name": each.column, "toName": _TEXT}
        if each.tree is not None:
            tag = ET.SubElement(
                view, "Taxonomy", control, leafsOnly="true", maxUsages="1"
            )
            _add_below(tag, each.tree, -1)
            continue
        if not each.labels:
            control["value"] = _OWN_LABELS
        choice = "multiple" if each.is_multi else "single"
        tag = ET.SubElement(view, "Choices", control, choice=choice)
        for label in each.labels:
            _add_choice(tag, label)
        if each.is_multi:
            ET.SubElement(tag, "Choice", value="(none of these)", alias=NO_LABELS)
    ET.indent(view)
    return f"{ET.tostring(view, encoding='unicode')}\n".encode()


def _add_below(tag: ET.Element, tree: LabelTree, node: int) -> None:
    for child in tree.children(node):
        _add_below(_add_choice(tag, tree.labels[child]), tree, child)


def _add_choice(tag: ET.Element, label: Label) -> ET.Element:
    hint = {"hint": label.description} if label.description else {}
    return ET.SubElement(tag, "Choice", {"value": label.name, **hint})


def _result(prediction: Prediction) -> dict[str, Any]:
    field, names = prediction.field, list(prediction.names)
    kind, answer = "choices", list[Any](names or [NO_LABELS])
    if field.tree is not None:
        tree = field.tree
        paths = [tree.path(tree.names.index(name)) for name in names]
        kind, answer = "taxonomy", [[tree.names[at] for at in path] for path in paths]
    return {
        "from_name": field.column,
        "to_name": _TEXT,
        "type": kind,
        "score": prediction.probability,
        "value": {kind: answer},
    }


def _finite(value: Any) -> Any:
    """Return a value with NaN and infinities replaced, which JSON lacks."""
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    if isinstance(value, Mapping):
        return {name: _finite(each) for name, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, list) else value
