"""Kinds of questions that give more results than the most likely label."""

from typing import TypeAlias

from classify.errors import ConfigError
from classify.labels import Labels, LabelSet
from classify.labels.use import LabelUse
from classify.questions.ordinal import Ordinal
from classify.questions.tree import Tree
from classify.wording import parameter

__all__ = ["Kind", "Ordinal", "Tree", "kind_of"]

Kind: TypeAlias = Ordinal | Tree


def kind_of(use: LabelUse, labels: Labels | None) -> Kind | None:
    """Return the kind that gives further results; None for "choice", which has none.

    Parameters
    ----------
    use : LabelUse
    labels : LabelSet, sequence of str, or mapping; or None
        As declared; None if they are not known in advance.

    Raises
    ------
    ConfigError
        The kind needs labels that are known in advance.

    Examples
    --------
    >>> kind = kind_of(LabelUse(kind="ordinal"), LabelSet.parse({1: "low", 2: "high"}))
    >>> list(kind.columns)
    ['expected', 'standard_deviation', 'q10', 'q50', 'q90']
    """
    if use.kind == "choice":
        return None
    if labels is None:
        raise ConfigError(
            f"{parameter('kind', use.kind)} needs to know all labels in advance: give "
            f"{parameter('labels')}."
        )
    if use.kind == "ordinal":
        return Ordinal.of(LabelSet.parse(labels))
    return Tree(use.tree(LabelSet.parse(labels)), use.min_node_probability)
