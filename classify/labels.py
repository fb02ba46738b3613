"""Classes: what they are called, what they mean, and which words stand for them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any, TypeAlias

from classify.errors import InputError, LabelError
from classify.label_names import (
    check_string,
    normal_form,
    plain,
    same_form,
    suggestion,
)

__all__ = ["Label", "LabelSet", "Labels"]

_ALLOWED = (
    "Allowed are: a list of names; a mapping of names to descriptions, to lists of "
    "words, or to {description: …, words: […]}; a list of Label; a LabelSet."
)


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
    value : int or bool, default=None
        What stands for the class in `y` and in predictions, where that is a number.

    Raises
    ------
    LabelError
        The name or a word is empty, padded with white space, or not a string; the value
        is not a whole number.

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
    value: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", plain(self.name))
        object.__setattr__(self, "value", plain(self.value))
        check_string(self.name, "A label's name")
        if self.value is not None and not isinstance(self.value, int):
            raise LabelError(
                f"The value of label {self.name!r} must be a whole number or a "
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


class LabelSet(Sequence[Label]):
    """Unique labels in the order in which they were declared.

    Parameters
    ----------
    labels : iterable of Label
        At least two, no two with the same name or with a word in common.

    Raises
    ------
    LabelError
        Names that occur twice, words of two labels at once, fewer than two labels.

    Examples
    --------
    >>> labels = LabelSet.parse({"billing": "Invoices and charges", "shipping": None})
    >>> labels.names
    ('billing', 'shipping')
    >>> labels["billing"].description
    'Invoices and charges'
    """

    def __init__(self, labels: Iterable[Label]) -> None:
        self._labels = tuple(labels)
        self._hash = hash(self._labels)  # rows are grouped by their label sets
        self._by_name = {label.name: label for label in self._labels}
        self._by_value = _by_value(self._labels)
        self.names: tuple[str, ...] = tuple(label.name for label in self._labels)
        if len(self._by_name) < len(self._labels):
            twice = sorted({name for name in self.names if self.names.count(name) > 1})
            raise LabelError(
                f"Labels must be unique. {_listed(twice)} declared more than once: "
                "remove or rename the repeats."
            )
        self._by_form = {normal_form(name): name for name in self.names}
        if twins := same_form(self.names):
            first, second = twins
            raise LabelError(
                f"Labels must be unique. {first!r} and {second!r} are one text in two "
                "Unicode normal forms: remove or rename one of them."
            )
        if len(self._labels) < 2:
            got = f"only {self.names[0]!r}" if self._labels else "none"
            raise LabelError(
                f"Classification needs at least two labels. Got {got} instead: "
                "add the others, for example 'other'."
            )
        owner: dict[str, str] = {}
        for label in self._labels:
            for word in label.words:
                other = owner.setdefault(normal_form(word), label.name)
                if other != label.name:
                    raise LabelError(
                        f"The word {word!r} stands for label {other!r} and for "
                        f"label {label.name!r}: an answer could not be told apart. "
                        "Give each label words of its own."
                    )

    @classmethod
    def parse(cls, value: Any) -> "LabelSet":
        """Make a label set of names, a mapping, dictionaries, labels, or a label set.

        Parameters
        ----------
        value : LabelSet, sequence of str, Label or mapping, Enum class, or mapping
            In a mapping the keys are names; a value is None, a description (a string),
            words (a list), or a mapping with ``description`` and ``words``. Where `y`
            holds numbers or booleans, these are the keys, and the mapping's values are
            the names, or `Label` objects: ``{0: "negative", 1: "positive"}``. Members
            of an Enum stand for their values.

        Returns
        -------
        LabelSet
        """
        if isinstance(value, LabelSet):
            return value
        if isinstance(value, Mapping):
            return cls(_label_of_key(key, entry) for key, entry in value.items())
        _check_ordered(value)
        return cls(_label_of_item(item) for item in value)

    @classmethod
    def from_yaml(cls, path: str | Path) -> "LabelSet":
        """Read labels from a YAML file that holds a list or a mapping of them.

        A file with a ``labels`` key, such as a task file, is read from that key.

        Raises
        ------
        InputError
            The file cannot be read, is not YAML, repeats a key, or holds no labels or
            ones that cannot be used.
        """
        # Kept out of `import classify`.
        from classify.yaml_files import check_declared, read_yaml

        content = read_yaml(path, "label file")
        if isinstance(content, Mapping) and "labels" in content:
            content = content["labels"]
        file = f"label file {str(path)!r}"
        if content is None:
            raise LabelError(f"There are no labels in {file}: list their names.")
        try:
            check_declared(content)
            return cls.parse(content)
        except InputError as cause:
            raise type(cause)(f"L{file[1:]}: {cause}") from None

    def subset(self, names: Iterable[str]) -> "LabelSet":
        """Return the labels of these names, in this set's order.

        Raises
        ------
        LabelError
            A name is not in this set (the nearest one is suggested).
        """
        wanted = []
        for name in names:
            known = self.find(name)
            if known is None:
                raise LabelError(self.unknown(name))
            wanted.append(known)
        if len(set(wanted)) < len(wanted):
            raise LabelError(
                f"Candidate labels must be unique. Got {wanted!r} instead."
            )
        return LabelSet(label for label in self._labels if label.name in set(wanted))

    @property
    def values(self) -> dict[int, str] | None:
        """The name of each value that stands for a label in `y`, by rising value.

        None where the names themselves do.

        Examples
        --------
        >>> LabelSet.parse({1: "positive", 0: "negative"}).values
        {0: 'negative', 1: 'positive'}
        """
        return self._by_value

    def with_values(self, values: Mapping[int, str] | None) -> "LabelSet":
        """Return the same labels with other values; None takes them away."""
        value_of = {name: value for value, name in (values or {}).items()}
        return LabelSet(
            replace(label, value=value_of.get(label.name)) for label in self._labels
        )

    def find(self, name: object) -> str | None:
        r"""Return the label of this name, in whatever Unicode normal form, as declared.

        None: there is no such label.

        Examples
        --------
        >>> LabelSet.parse(["bar", "caf\u00e9"]).find("cafe\u0301")
        'café'
        """
        if not isinstance(name, str):
            return None
        return name if name in self._by_name else self._by_form.get(normal_form(name))

    def unknown(self, name: object) -> str:
        """Return the sentence that says `name` is none of these labels."""
        hint = suggestion(name, self.names)
        return f"{name!r} is not one of the labels: {self.listed}.{hint}"

    @property
    def listed(self) -> str:
        """The first names, as messages list them."""
        return _listed(self.names)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            name = self.find(key)
            if name is None:
                raise LabelError(self.unknown(key))
            return self._by_name[name]
        return self._labels[key]

    def __len__(self) -> int:
        return len(self._labels)

    def __iter__(self) -> Iterator[Label]:
        return iter(self._labels)

    def __contains__(self, item: object) -> bool:
        return self.find(item) is not None or item in self._labels

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LabelSet) and self._labels == other._labels

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"LabelSet({_listed(self.names)})"


# What labels can be given as; see `LabelSet.parse`.
Labels: TypeAlias = (
    LabelSet
    | Iterable[str | Label | Enum | Mapping[str, Any]]
    | Mapping[str, Any]
    | Mapping[int, str | Label]
)


def _listed(names: Sequence[str], most: int = 8) -> str:
    shown = ", ".join(repr(str(name)) for name in names[:most])
    left = len(names) - most
    return f"{shown}, … ({left} more)" if left > 0 else shown


def _by_value(labels: Sequence[Label]) -> dict[int, str] | None:
    coded = sorted(
        (label.value, label.name) for label in labels if label.value is not None
    )
    if not coded:
        return None
    if len(coded) < len(labels):
        without = next(label.name for label in labels if label.value is None)
        raise LabelError(
            f"Label {without!r} has no value, but others have: give each label a "
            "number, or none."
        )
    by_value = dict(coded)
    if len(by_value) < len(coded):
        twice = next(
            value for at, (value, _) in enumerate(coded[1:]) if value == coded[at][0]
        )
        raise LabelError(
            f"The value {twice!r} stands for two labels: give each its own."
        )
    return by_value


def _check_ordered(value: Any) -> None:
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


def _label_of_key(key: Any, entry: Any) -> Label:
    """Read an entry of a mapping, whose key is a name, or a value of `y`."""
    value = plain(key)
    if not isinstance(value, int):
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


def _label_of_item(item: Any) -> Label:
    item = plain(item)
    if isinstance(item, Label):
        return item
    if isinstance(item, str):
        return Label(item)
    if isinstance(item, int | float) and item == item:
        raise LabelError(
            f"A label cannot be read from {item!r}: a number says nothing to a "
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
        unknown = [key for key in entry if key not in ("description", "words")]
        if unknown:
            raise LabelError(
                f"Label {name!r} has the unknown key {unknown[0]!r}. Allowed are "
                "'description' and 'words'."
            )
        words = entry.get("words") or ()
        if isinstance(words, str):
            words = (words,)
        return Label(name, description=entry.get("description"), words=tuple(words))
    if isinstance(entry, Sequence):
        return Label(name, words=tuple(entry))
    raise LabelError(
        f"Label {name!r} cannot be read from {entry!r}: give a description, a list of "
        "words, or both as {description: …, words: […]}."
    )
