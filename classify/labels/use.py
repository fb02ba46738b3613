"""How labels are related: as alternatives, independently, on a scale, in a tree."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from classify.errors import ConfigError, LabelError
from classify.labels.label_set import Label, Labels, LabelSet
from classify.labels.tree import LabelTree, LevelLabels
from classify.parameters import (
    TEXT,
    Setting,
    check_settings,
    number,
    one_of,
    optional,
    settings_of,
)
from classify.wording import no_effect, parameter

__all__ = ["LabelUse"]


@dataclass(frozen=True, kw_only=True)
class LabelUse:
    """How labels are related: parameters of `ZeroShotClassifier`.

    Raises
    ------
    ConfigError
        A value is not allowed.

    Examples
    --------
    >>> labels = LabelSet.parse(["pet/dog", "pet/cat", "car"])
    >>> LabelUse(kind="tree", escape="none of these").asked(labels).names
    ('pet/dog', 'pet/cat', 'car', 'none of these')
    """

    kind: Annotated[
        Literal["choice", "multi", "ordinal", "tree"],
        Setting(
            "choice; multi: any number of labels apply; ordinal: each label has a "
            "number; or tree: labels such as parent/child.",
            one_of("choice", "multi", "ordinal", "tree"),
        ),
    ] = "choice"
    min_node_probability: Annotated[
        float,
        Setting(
            "With tree, name the deepest node that has at least probability P.",
            number("above 0 and at most 1", lambda value: 0.0 < value <= 1.0),
            metavar="P",
        ),
    ] = 0.8
    tree_scoring: Annotated[
        Literal["paths", "levels"],
        Setting(
            "With tree, paths: the model answers with a whole path; or levels: it is "
            "asked on each level, below each node.",
            one_of("paths", "levels"),
        ),
    ] = "paths"
    escape: Annotated[
        str | None,
        Setting(
            "Add a label for texts that fit no other, such as 'none of these'.",
            optional(TEXT),
            metavar="WORDS",
        ),
    ] = None

    def __post_init__(self) -> None:
        check_settings(self, "ZeroShotClassifier")
        if self.kind == "multi" and self.escape is not None:
            raise ConfigError(
                f"{parameter('escape', self.escape)} is for questions with one answer. "
                f"With {parameter('kind', 'multi')} no label applies to a text that "
                f"fits none: leave {parameter('escape')} out."
            )
        if self.kind == "tree":
            return
        for name in ("min_node_probability", "tree_scoring"):
            if getattr(self, name) != getattr(LabelUse, name):
                raise ConfigError(no_effect(name, parameter("kind", "tree")))

    @classmethod
    def of(cls, owner: Any) -> "LabelUse":
        """Return the values of an estimator's parameters of the same names."""
        use = cls(**{name: getattr(owner, name) for name in settings_of(cls)})
        if use.kind == "multi":
            raise ConfigError(
                f"{parameter('kind', 'multi')} gives a text any number of labels: use "
                "ZeroShotMultiLabelClassifier in place of ZeroShotClassifier."
            )
        return use

    def asked(self, given: Labels) -> LabelSet:
        """Return the labels that a text may get: with the escape, and leaves only.

        Raises
        ------
        LabelError
            The labels do not fit the kind of question.
        """
        labels = LabelSet.parse(given)
        if self.kind == "tree":
            tree = self.tree(labels)
            if self.tree_scoring == "levels":
                return LevelLabels(tree.paths, tree)
            return tree.paths
        if self.kind == "ordinal" and labels.values is None:
            raise LabelError(
                "An ordinal question needs a number for each label, such as "
                f"{{{labels.names[0]}: {{value: 1}}}}. Got none for {labels.listed}."
            )
        for label in labels:
            if label.parent is not None:
                raise LabelError(
                    f"Label {label.name!r} has a parent, {label.parent!r}, which has "
                    f"an effect with {parameter('kind', 'tree')} only: use that, or "
                    "leave parents out."
                )
        return self._with_escape(labels)

    def tree(self, labels: LabelSet) -> LabelTree:
        """Return the tree of labels, with the escape at the top."""
        return LabelTree.of(self._with_escape(labels))

    def _with_escape(self, labels: LabelSet) -> LabelSet:
        if self.escape is None or self.escape in labels.names:
            return labels
        if labels.values is not None:
            raise LabelError(
                f"{parameter('escape', self.escape)} adds a label without a number, "
                f"but the labels have numbers: leave {parameter('escape')} out, or "
                "declare such a label with a number of its own."
            )
        return LabelSet([*labels, Label(self.escape)])
