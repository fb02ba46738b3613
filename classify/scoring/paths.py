"""What was read for a text, as the lines of a picture.

A line is a token, with those that follow as long as there is one way on; or paths that
are not shown one by one, since nothing below their node was read or next to no mass is
left.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from classify.scoring.text_score import TextScore
from classify.tracking import EdgeBounds, logprobs_of

__all__ = ["PathLine", "path_lines"]

# A path is shown by itself only if it has at least this share of the label mass.
MIN_SHARE = 1e-3


class PathLine(NamedTuple):
    """A line of the picture.

    Attributes
    ----------
    depth : int
        How many lines stand between it and the prompt.
    guide : str
        What is drawn before it, such as ``"│  └─ "``.
    token_ids : tuple of int
        Empty where several paths are one line.
    logprob : float
        log p(tokens | prompt, tokens before) in nats; NaN where there is none.
    most : float
        The greatest that `logprob` can be; the same where it is known.
    mass : float
        p(all tokens up to here | prompt); of several paths the sum.
    max_mass : float
        The greatest that `mass` can be; the same where it is known.
    n_paths : int
        How many paths it stands for: 1 where one ends here, 0 where lines follow that
        hang on it.
    labels : tuple of str
        Those that these paths lead to.
    is_unread : bool
        Whether it stands for the paths below a node that was not read.
    """

    depth: int
    guide: str
    token_ids: tuple[int, ...]
    logprob: float
    most: float
    mass: float
    max_mass: float
    n_paths: int
    labels: tuple[str, ...]
    is_unread: bool

    @property
    def is_folded(self) -> bool:
        """Whether it stands for paths that are not shown."""
        return not self.token_ids


def path_lines(score: TextScore, *, max_paths: int) -> tuple[PathLine, ...]:
    """Return the lines of one prompt's trie, heavier ones first.

    Parameters
    ----------
    score : TextScore
        Of one prompt.
    max_paths : int
        How many paths to show one by one.

    Returns
    -------
    tuple of PathLine
        Their `mass`, where `n_paths` is not 0, adds up to the label mass.
    """
    return _Lines(score, max_paths).below(0, ())


class _Lines:
    """Draws a trie as far as it was read."""

    def __init__(self, score: TextScore, max_paths: int) -> None:
        self._trie = trie = score.prompt.trie
        self._tree = trie.tree
        edges = score.edges
        self._logprobs = logprobs_of(edges)
        self._upper = edges.upper if isinstance(edges, EdgeBounds) else edges
        masses = trie.log_masses(edges)
        self._mass, self._most = np.exp(masses.estimate), np.exp(masses.upper)
        # What the picture ends at: leaves, and nodes below which nothing was read.
        ends = np.concatenate([trie.known_leaves(masses), trie.frontier(masses)])
        self._ends = set(ends.tolist())
        # What reaches an end through each node.
        self._reached = np.zeros(self._tree.n_nodes)
        for end in ends.tolist():
            self._reached[self._up(end)] += self._mass[end]
        self._labels: dict[int, dict[str, None]] = {}
        names = trie.labels.names
        pairs = zip(trie.leaves.tolist(), trie.leaf_labels.tolist(), strict=True)
        for leaf, label in pairs:
            for node in self._up(leaf):
                self._labels.setdefault(node, {})[names[label]] = None
        shown = self._heaviest(ends, max_paths)
        self._shown = {node for end in shown for node in self._up(end)}

    def below(self, node: int, lasts: tuple[bool, ...]) -> tuple[PathLine, ...]:
        """Return the lines below a node; `lasts` tells which above it are the last."""
        below = self._tree.children(node)
        children = sorted(below, key=lambda each: -self._reached[each])
        shown = [each for each in children if each in self._shown]
        folded = [each for each in children if each not in self._shown]
        lines: list[PathLine] = []
        for at, child in enumerate(shown):
            is_last = at == len(shown) - 1 and not folded
            lines += self._from(child, (*lasts, is_last))
        if folded:
            lines.append(self._folded(folded, (*lasts, True)))
        return tuple(lines)

    def _from(self, node: int, lasts: tuple[bool, ...]) -> list[PathLine]:
        """Return the line of a node, and those below it."""
        joined = [node]
        while node not in self._ends and self._tree.n_children[node] == 1:
            [node] = self._tree.children(node)
            joined.append(node)
        is_leaf = not self._tree.n_children[node]
        line = PathLine(
            len(lasts) - 1,
            _guide(lasts),
            tuple(self._tree.tokens[joined].tolist()),
            float(self._logprobs[joined].sum()),
            float(self._upper[joined].sum()),
            float(self._mass[node]),
            float(self._most[node]),
            int(is_leaf),
            tuple(self._labels[node]) if is_leaf else (),
            is_unread=False,
        )
        if is_leaf:
            return [line]
        if node in self._ends:
            return [line, self._folded([node], (*lasts, True), is_unread=True)]
        return [line, *self.below(node, lasts)]

    def _folded(
        self, nodes: Sequence[int], lasts: tuple[bool, ...], *, is_unread: bool = False
    ) -> PathLine:
        """Return the line of all paths through some nodes."""
        ends = [end for node in nodes for end in self._ends_below(node)]
        labels = {name: None for node in nodes for name in self._labels[node]}
        return PathLine(
            len(lasts) - 1,
            _guide(lasts),
            (),
            np.nan,
            np.nan,
            float(self._mass[ends].sum()),
            min(1.0, float(self._most[ends].sum())),
            int(self._trie.n_leaves[list(nodes)].sum()),
            tuple(labels),
            is_unread=is_unread,
        )

    def _ends_below(self, node: int) -> list[int]:
        if node in self._ends:
            return [node]
        return [
            end
            for child in self._tree.children(node)
            for end in self._ends_below(child)
        ]

    def _heaviest(self, ends: npt.NDArray[np.int64], max_paths: int) -> list[int]:
        """Return the ends to show, all of them where they are few."""
        if len(ends) <= max_paths:
            return [int(each) for each in ends]
        mass = self._mass[ends]
        heaviest = np.argsort(-mass, kind="stable")[:max_paths]
        enough = mass[heaviest] >= MIN_SHARE * mass.sum()
        enough[0] = True
        return [int(each) for each in ends[heaviest[enough]]]

    def _up(self, node: int) -> list[int]:
        """Return a node and all above it."""
        nodes = [node]
        while node > 0:
            node = int(self._tree.parents[node])
            nodes.append(node)
        return nodes


def _guide(lasts: Sequence[bool]) -> str:
    """Return what is drawn before a line.

    Examples
    --------
    >>> _guide([False, True])
    '│  └─ '
    """
    *above, last = lasts
    return "".join("   " if each else "│  " for each in above) + (
        "└─ " if last else "├─ "
    )
