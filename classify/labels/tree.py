"""Labels in a tree: parents and children, and what is asked at each node."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from classify.errors import LabelError
from classify.labels.label import Label
from classify.labels.label_set import LabelSet
from classify.labels.names import normal_form

__all__ = ["SEPARATOR", "LabelTree", "LevelLabels"]

# Between the names of a path, in names of labels and in what the model answers.
SEPARATOR = "/"


@dataclass(frozen=True)
class LabelTree:
    """A tree of labels. Its leaves are the classes of a text.

    Attributes
    ----------
    labels : tuple of Label
        All nodes, parents before children. Their words are their own, without those of
        the nodes above.
    parents : tuple of int
        Position of the parent of each node; -1 at the top.
    """

    labels: tuple[Label, ...]
    parents: tuple[int, ...]

    @classmethod
    def of(cls, labels: LabelSet) -> "LabelTree":
        """Return the tree of labels with parents, or else of names such as ``a/b``.

        Parameters
        ----------
        labels : LabelSet
            Where no label has a parent, a slash in a name stands between a parent and
            what is below it; parents that are not declared are added.

        Raises
        ------
        LabelError
            There is no tree, or a name has an empty part.

        Examples
        --------
        >>> tree = LabelTree.of(LabelSet.parse(["pet/dog", "pet/cat", "car"]))
        >>> tree.names
        ('pet', 'pet/dog', 'pet/cat', 'car')
        >>> [labels.names for labels in tree.questions.values()]
        [('pet', 'car'), ('pet/dog', 'pet/cat')]
        """
        if all(label.parent is None for label in labels):
            labels_and_parents = _by_path(labels)
        else:
            labels_and_parents = [(label, label.parent) for label in labels]
        if all(parent is None for _, parent in labels_and_parents):
            raise LabelError(
                "A tree needs labels below others, but none of these has a parent: "
                f"{labels.listed}. Write their names as 'parent/child', or give them a "
                "parent."
            )
        children: dict[str | None, list[Label]] = {}
        for label, parent in labels_and_parents:
            above = None if parent is None else labels.find(parent) or parent
            children.setdefault(above, []).append(label)
        ordered: list[tuple[Label, int]] = []

        def add(parent: str | None, at: int) -> None:
            for label in children.get(parent, ()):
                ordered.append((replace(label, parent=None), at))
                add(label.name, len(ordered) - 1)

        add(None, -1)
        tree = cls(*map(tuple, zip(*ordered, strict=True)))
        if len(tree.leaves) < 2:
            raise LabelError(
                f"A tree needs at least two labels with nothing below them. Got only "
                f"{tree.names[tree.leaves[0]]!r} instead."
            )
        return tree

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each node."""
        return tuple(label.name for label in self.labels)

    @cached_property
    def leaves(self) -> tuple[int, ...]:
        """Positions of the nodes that have nothing below them."""
        inner = set(self.parents)
        return tuple(at for at in range(len(self.labels)) if at not in inner)

    def path(self, node: int) -> tuple[int, ...]:
        """Return the nodes from the top down to this one."""
        above = self.parents[node]
        return (*(() if above < 0 else self.path(above)), node)

    def children(self, node: int) -> tuple[int, ...]:
        """Return the nodes right below one; -1 is what is above the top."""
        return tuple(self._below[node])

    @cached_property
    def _below(self) -> dict[int, list[int]]:
        below: dict[int, list[int]] = {at: [] for at in range(-1, len(self.labels))}
        for at, above in enumerate(self.parents):
            below[above].append(at)
        return below

    @property
    def paths(self) -> LabelSet:
        """The leaves as labels whose words are whole paths, such as ``pet/dog``."""
        found = []
        for leaf in self.leaves:
            *above, label = (self.labels[at] for at in self.path(leaf))
            start = "".join(each.words[0] + SEPARATOR for each in above)
            words = tuple(start + word for word in label.words)
            found.append(replace(label, words=words))
        return LabelSet(found)

    @cached_property
    def questions(self) -> dict[int, LabelSet]:
        """The labels to choose from below each node that has several; -1: at the top.

        Parents come before their children.
        """
        return {
            at: LabelSet(self.labels[child] for child in children)
            for at, children in self._below.items()
            if len(children) > 1
        }


class LevelLabels(LabelSet):
    """The leaves of a tree, which are asked for level by level.

    Parameters
    ----------
    labels : iterable of Label
        `LabelTree.paths`.
    tree : LabelTree
    """

    def __init__(self, labels: Iterable[Label], tree: LabelTree) -> None:
        super().__init__(labels)
        self.tree = tree
        self._hash = hash((self._hash, tree))

    def with_values(self, values: Mapping[Any, str] | None) -> LabelSet:
        """Return the same labels with other values; None removes them."""
        return LevelLabels(super().with_values(values), self.tree)

    def __eq__(self, other: object) -> bool:
        is_alike = isinstance(other, LevelLabels) and self.tree == other.tree
        return is_alike and super().__eq__(other)

    def __hash__(self) -> int:
        return self._hash


def _by_path(labels: LabelSet) -> list[tuple[Label, str | None]]:
    """Return labels with their parents, by slashes in their names."""
    found: dict[str, tuple[Label, str | None]] = {}
    for name in labels.names:
        parts = name.split(SEPARATOR)
        if any(not part.strip() or part != part.strip() for part in parts):
            raise LabelError(
                f"Label {name!r} cannot be read as a path in a tree: the names between "
                "its slashes must not be empty, nor have white space around them."
            )
        above: str | None = None
        for depth in range(1, len(parts) + 1):
            path = SEPARATOR.join(parts[:depth])
            label = Label(path) if labels.find(path) is None else labels[path]
            if label.words == (label.name,):
                label = replace(label, words=(label.name.split(SEPARATOR)[-1],))
            node, _ = found.setdefault(normal_form(path), (label, above))
            above = node.name
    return list(found.values())
