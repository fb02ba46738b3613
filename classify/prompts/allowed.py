"""Which examples and template arguments a prompt may have."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from classify.parameters import Allowed
from classify.prompts.example_table import is_table

__all__ = ["ARGUMENTS", "EXAMPLES", "solved_examples"]


def _are_solved(examples: Any) -> bool:
    if is_table(examples):
        return True
    return isinstance(examples, Sequence) and all(
        isinstance(each, Sequence)
        and len(each) == 2
        and isinstance(each[0], str | Mapping)
        and isinstance(each[1], str)
        for each in examples
    )


def solved_examples(written: Any) -> Any:
    """Return examples as a task file has them, ``{text: …, label: …}``, as pairs.

    The path of a table stays as it is.
    """
    if isinstance(written, str):
        return written
    if not isinstance(written, list | tuple):
        raise ValueError("no list")
    pairs = []
    for example in written:
        if not (
            isinstance(example, Mapping)
            and len(example) > 1
            and "label" in example
            and all(isinstance(value, str) for value in example.values())
        ):
            raise ValueError("no example")
        row = {name: value for name, value in example.items() if name != "label"}
        pairs.append((row, example["label"]))
    return tuple(pairs)


EXAMPLES = Allowed(
    "a sequence of (text, label), or a table with labels",
    _are_solved,
    "the path of a table with labels; or a list of examples, each {text: …, label: …}, "
    "with further columns if the template has them",
)


def _are_arguments(value: Any) -> bool:
    """Return whether these can be variables of a chat template."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        return False
    try:
        json.dumps(dict(value))
        datetime.fromisoformat(value.get("strftime_now", "1999-12-31"))
    except (TypeError, ValueError):
        return False
    return not _OWN_ARGUMENTS & value.keys()


# Set when a template is rendered.
_OWN_ARGUMENTS = {"messages", "add_generation_prompt", "tokenize", "chat_template"}
ARGUMENTS = Allowed(
    "a mapping of names to values of types that JSON has, strftime_now an ISO date",
    _are_arguments,
    "a mapping of names to values, strftime_now a date such as 2026-11-29",
)
