"""Sets of labels: unique, in order, and in a tree where they have parents."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Any, TypeAlias

from classify.errors import InputError, LabelError
from classify.labels.label import Label, check_ordered, label_of_item, label_of_key
from classify.labels.names import normal_form, same_form, suggestion

__all__ = ["Label", "LabelSet", "Labels"]


class LabelSet(Sequence[Label]):
    """Unique labels in the order in which they were declared.

    Parameters
    ----------
    labels : iterable of Label
        At least two; names must differ, and labels with the same parent must have
        different words. Parents are labels of the set, too.

    Raises
    ------
    LabelError
        A name occurs twice, two labels share a word, there are fewer than two labels,
        a parent is not a label, or parents form a cycle.

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
            how = (
                "are one text in two Unicode normal forms"
                if normal_form(first) == normal_form(second)
                else "differ in invisible characters only"
            )
            raise LabelError(
                f"Labels must be unique. {first!r} and {second!r} {how}: remove or "
                "rename one of them."
            )
        if len(self._labels) < 2:
            got = f"only {self.names[0]!r}" if self._labels else "none"
            raise LabelError(
                f"Classification needs at least two labels. Got {got} instead: "
                "add the others, for example 'other'."
            )
        self._check_parents()
        owner: dict[tuple[str | None, str], str] = {}
        for label in self._labels:
            for word in label.words:
                key = (label.parent, normal_form(word))
                other = owner.setdefault(key, label.name)
                if other != label.name:
                    raise LabelError(
                        f"The word {word!r} stands for label {other!r} and for "
                        f"label {label.name!r}: an answer could not be told apart. "
                        "Give each label words of its own."
                    )

    def _check_parents(self) -> None:
        above: dict[str, str] = {}
        for label in self._labels:
            if label.parent is None:
                continue
            parent = self.find(label.parent)
            if parent is None:
                raise LabelError(
                    f"The parent of label {label.name!r}, {label.parent!r}, is not one "
                    f"of the labels: {self.listed}."
                    f"{suggestion(label.parent, self.names)} Declare it as a label "
                    "too, without a parent if it is at the top."
                )
            above[label.name] = parent
        for start in above:
            path = [start]
            while path[-1] in above and above[path[-1]] not in path:
                path.append(above[path[-1]])
            if path[-1] in above:
                cycle = [*path[path.index(above[path[-1]]) :], above[path[-1]]]
                raise LabelError(
                    "The parents of labels form a cycle: "
                    f"{' is below '.join(map(repr, cycle))}. Remove the parent of the "
                    "label at the top."
                )

    @classmethod
    def parse(cls, value: Any) -> "LabelSet":
        """Make a label set from names, a mapping, dictionaries, labels, or a label set.

        Parameters
        ----------
        value : LabelSet, sequence of str, Label or mapping, Enum class, or mapping
            In a mapping the keys are names; a value is None, a description (a string),
            words (a list), or a mapping with ``description``, ``words``, ``value``
            and ``parent``. Where `y` holds numbers or booleans, these are the keys,
            and the mapping's values are the names, or `Label` objects:
            ``{0: "negative", 1: "positive"}``. Members of an Enum stand for their
            values.

        Returns
        -------
        LabelSet
        """
        if isinstance(value, LabelSet):
            return value
        if isinstance(value, Mapping):
            return cls(label_of_key(key, entry) for key, entry in value.items())
        check_ordered(value)
        return cls(label_of_item(item) for item in value)

    @classmethod
    def from_file(cls, path: str | Path) -> "LabelSet":
        """Read labels from a table (CSV, TSV, JSONL, Parquet), or from a YAML file.

        A table has a row for each label and the columns ``name`` and, if wanted,
        ``description``, ``words`` (``a|b``, or a JSON list), ``parent`` and ``value``.
        Any other file is read as YAML; see `from_yaml`.

        Raises
        ------
        InputError
            The file cannot be read, or holds no labels or ones that cannot be used.
        """
        # Kept out of `import classify`.
        from classify.labels.table import is_table, read_label_table

        if not is_table(path):
            return cls.from_yaml(path)
        try:
            return cls(read_label_table(path))
        except LabelError as cause:
            raise LabelError(f"Label table {str(path)!r}: {cause}") from None

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
        from classify.files.yaml import check_declared, read_yaml

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
        """Return the labels of these names, in this set's order, without parents.

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
        return LabelSet(
            replace(label, parent=None)
            for label in self._labels
            if label.name in set(wanted)
        )

    @property
    def values(self) -> dict[int | float, str] | None:
        """The name of each value that stands for a label in `y`, in ascending order.

        None where the names themselves do.

        Examples
        --------
        >>> LabelSet.parse({1: "positive", 0: "negative"}).values
        {0: 'negative', 1: 'positive'}
        """
        return self._by_value

    def with_values(self, values: Mapping[Any, str] | None) -> "LabelSet":
        """Return the same labels with other values; None removes them."""
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

    def of_cell(self, cell: str) -> str | None:
        """Return the label that a cell names, by its name or else by its value.

        Examples
        --------
        >>> labels = LabelSet.parse({1: "low", 2.5: "high"})
        >>> labels.of_cell("high"), labels.of_cell("2.50"), labels.of_cell("2")
        ('high', 'high', None)
        """
        name = self.find(cell)
        if name is not None or self.values is None:
            return name
        try:
            return self.values.get(float(cell))
        except ValueError:
            return None

    def unknown(self, name: object) -> str:
        """Return the error message for a name that is not one of these labels."""
        hint = suggestion(name, self.names)
        return f"{name!r} is not one of the labels: {self.listed}.{hint}"

    @property
    def listed(self) -> str:
        """The first names, for messages."""
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
    | Mapping[float, str | Label]
)


def _listed(names: Sequence[str], most: int = 8) -> str:
    shown = ", ".join(repr(str(name)) for name in names[:most])
    left = len(names) - most
    return f"{shown}, … ({left} more)" if left > 0 else shown


def _by_value(labels: Sequence[Label]) -> dict[int | float, str] | None:
    coded = sorted(
        (label.value, label.name) for label in labels if label.value is not None
    )
    if not coded:
        return None
    if len(coded) < len(labels):
        without = next(label.name for label in labels if label.value is None)
        raise LabelError(
            f"Label {without!r} has no value, but others do: give each label a "
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
