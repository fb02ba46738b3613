"""A class: what it is called, what it means, and which words stand for it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from classify.errors import LabelError
from classify.labels.names import check_string, plain

__all__ = ["Label", "check_ordered", "label_of_item", "label_of_key"]

_ALLOWED = (
    "Allowed are: a list of names; a mapping of names to descriptions, to lists of "
    "words, or to {description: …, words: […]}; a list of Label; a LabelSet."
)
_MAX_VALUE = 1e300
_KEYS = ("description", "words", "value", "parent")


@dataclass(frozen=True, slots=True)
class Label:
    """A class.

    Parameters
    ----------
    name : str
        What the class is called in the data and in every result.
    description : str or None, default=None
        One line that tells the model what belongs to the class; shown in the prompt's
        list of options.
    words : tuple of str, default=()
        The strings that stand for the class in the model's answer. Their probabilities
        are added up. Empty means the name itself.
    value : int, float or bool, default=None
        What stands for the class in `y` and in predictions, where that is a number; and
        its place on the scale of an ordinal question.
    parent : str, default=None
        In a tree of labels, the name of the label above this one.

    Raises
    ------
    LabelError
        The name or a word is empty, padded with white space, or not a string; the value
        is not a finite number.

    Examples
    --------
    >>> Label("pos", words=("positive", "good")).words
    ('positive', 'good')
    >>> Label("shipping").words
    ('shipping',)
    """

    name: str
    description: str | None = None
    words: tuple[str, ...] = ()
    value: int | float | None = None
    parent: str | None = None

    def __post_init__(self) -> None:
        for field in ("name", "value", "parent"):
            object.__setattr__(self, field, plain(getattr(self, field)))
        check_string(self.name, "A label's name")
        if self.parent is not None:
            check_string(self.parent, f"The parent of label {self.name!r}")
        if self.value is not None and not _is_finite(self.value):
            raise LabelError(
                f"The value of label {self.name!r} must be a finite number or a "
                f"boolean. Got {self.value!r} instead."
            )
        if self.description is not None and not isinstance(self.description, str):
            raise LabelError(
                f"The description of label {self.name!r} must be a string. "
                f"Got {self.description!r} instead."
            )
        given: object = self.words
        if isinstance(given, str):
            raise LabelError(
                f"The words of label {self.name!r} must be a sequence of strings. "
                f"Got the string {self.words!r} instead: write [{self.words!r}]."
            )
        words = tuple(plain(word) for word in self.words) or (self.name,)
        for word in words:
            check_string(word, f"A word of label {self.name!r}")
        for word in words:
            if words.count(word) > 1:
                raise LabelError(
                    f"Label {self.name!r} has the word {word!r} more than once: its "
                    "probability would be counted twice. Name it once."
                )
        object.__setattr__(self, "words", words)


def check_ordered(value: Any) -> None:
    """Raise unless this can be gone through again and again, in the same order."""
    if isinstance(value, set | frozenset):
        raise LabelError(
            "Labels must have an order, which the prompt keeps, and a set has none. "
            f"Got {value!r} instead: write them in a list."
        )
    is_sequence = hasattr(value, "__getitem__") and hasattr(value, "__len__")
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise LabelError(f"Labels cannot be read from {value!r}. {_ALLOWED}")
    if not is_sequence:
        raise LabelError(
            f"Labels must be a list. Got {value!r} instead: write list(…) around it."
        )
    if getattr(value, "ndim", 1) != 1:
        raise LabelError(
            f"Labels must have one dimension. Got a {type(value).__name__} instead: "
            "write a list of names."
        )


def label_of_key(key: Any, entry: Any) -> Label:
    """Read an entry of a mapping, whose key is a name, or a value of `y`."""
    value = plain(key)
    if not isinstance(value, int | float):
        return _label_of_entry(value, entry)
    name = plain(entry)
    if isinstance(name, str):
        return Label(name, value=value)
    if isinstance(entry, Label):
        return replace(entry, value=value)
    raise LabelError(
        f"The value {value!r} needs the name of its label, such as {{{value!r}: "
        f"'positive'}}, or a Label. Got {entry!r} instead."
    )


def label_of_item(item: Any) -> Label:
    """Read an entry of a list: a label, its name, or a mapping."""
    item = plain(item)
    if isinstance(item, Label):
        return item
    if isinstance(item, str):
        return Label(item)
    if isinstance(item, int | float) and item == item:
        raise LabelError(
            f"A label cannot be read from {item!r}: a number means nothing to a "
            "language model. Give the names: labels={0: 'negative', 1: 'positive'} "
            "where y holds numbers, or ['0', '1'] for the digits themselves."
        )
    if isinstance(item, Mapping) and "name" in item:
        return _label_of_entry(
            item["name"], {k: v for k, v in item.items() if k != "name"}
        )
    if isinstance(item, Mapping) and len(item) == 1:
        ((name, entry),) = item.items()
        return _label_of_entry(name, entry)
    raise LabelError(f"A label cannot be read from {item!r}. {_ALLOWED}")


def _label_of_entry(name: Any, entry: Any) -> Label:
    if entry is None:
        return Label(name)
    if isinstance(entry, str):
        return Label(name, description=entry)
    if isinstance(entry, Mapping):
        unknown = [key for key in entry if key not in _KEYS]
        if unknown:
            raise LabelError(
                f"Label {name!r} has the unknown key {unknown[0]!r}. Allowed are "
                f"{', '.join(map(repr, _KEYS))}."
            )
        words = entry.get("words") or ()
        if isinstance(words, str):
            words = (words,)
        return Label(name, **{**entry, "words": tuple(words)})
    if isinstance(entry, Sequence):
        return Label(name, words=tuple(entry))
    raise LabelError(
        f"Label {name!r} cannot be read from {entry!r}: give a description, a list of "
        "words, or both as {description: …, words: […]}."
    )


def _is_finite(value: Any) -> bool:
    # Differences of any two must be finite floats too.
    return isinstance(value, int | float) and abs(value) < _MAX_VALUE
