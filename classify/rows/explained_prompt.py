"""The reads after each prompt about a text, and the figures of its labels."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from classify.markup import readable_piece
from classify.scoring import TextScore
from classify.scoring.paths import PathLine, path_lines
from classify.tracking import EdgeBounds, logprobs_of

__all__ = ["LabelFigures", "Pieces", "PromptReads", "prompts_of"]

# Tokens at the end of a prompt.
_N_ENDING = 6

Pieces = Callable[[Sequence[int]], tuple[str, ...]]


class LabelFigures(NamedTuple):
    """What a label's probability comes from.

    Attributes
    ----------
    label : str
    logprob, lower, upper : float
        log p(label | prompt) in nats, the sum over its paths, and its bounds.
    share : float
        Its share of the label mass: the probability before it is calibrated.
    probability, least, most : float
        What is given to the user, and its bounds.
    """

    label: str
    logprob: float
    lower: float
    upper: float
    share: float
    probability: float
    least: float
    most: float


@dataclass(frozen=True, eq=False)
class PromptReads:
    """The reads after one prompt.

    Attributes
    ----------
    title : str
        Which one it is, where there are several.
    score : TextScore
        The score that the result was made of.
    pieces : callable
        From token ids to their texts.
    """

    title: str
    score: TextScore
    pieces: Pieces

    @property
    def n_inner(self) -> int:
        """How many nodes could have been read."""
        return len(self.score.prompt.trie.tree.inner_nodes)

    @property
    def label_mass(self) -> float:
        """The sum of p(label | prompt)."""
        return float(np.exp(self.score.mass.estimate).sum())

    @property
    def ending(self) -> tuple[str, ...]:
        """The last tokens of the prompt."""
        return self.readable(self.score.prompt.token_ids[-_N_ENDING:])

    def readable(self, token_ids: Sequence[int]) -> tuple[str, ...]:
        """Return the texts of tokens, white space made visible."""
        return tuple(map(readable_piece, self.pieces(token_ids)))

    def lines(self, max_paths: int) -> tuple[PathLine, ...]:
        """Return what is shown; see `path_lines`."""
        return path_lines(self.score, max_paths=max_paths)

    def columns(self) -> dict[str, Any]:
        """Return what is known of each node but the root; see `to_frame`."""
        score, trie = self.score, self.score.prompt.trie
        tree, edges = trie.tree, score.edges
        masses = trie.log_masses(edges)
        lower, upper = edges[1:3] if isinstance(edges, EdgeBounds) else (edges, edges)
        mass, max_mass = masses.estimate.copy(), masses.upper.copy()
        paths = trie.path_masses(masses)
        mass[trie.leaves], max_mass[trie.leaves] = paths.estimate, paths.upper
        label = np.full(tree.n_nodes, None, dtype=object)
        label[trie.leaves] = np.array(trie.labels.names, dtype=object)[trie.leaf_labels]
        columns = {
            "node": np.arange(tree.n_nodes),
            "parent": tree.parents,
            "token_id": tree.tokens,
            "token": np.array(["", *self.pieces(tree.tokens[1:].tolist())], object),
            "logprob": logprobs_of(edges),
            "lower": lower,
            "upper": upper,
            "mass": np.exp(mass),
            "max_mass": np.exp(max_mass),
            "label": label,
        }
        return {
            "prompt": np.full(tree.n_nodes - 1, self.title, dtype=object),
            **{name: values[1:] for name, values in columns.items()},
        }


def prompts_of(
    score: TextScore, pieces: Pieces, about: str = ""
) -> Iterator[PromptReads]:
    """Yield the prompts about a text; `about` names what they ask."""
    parts = score.parts
    for part, title in zip(parts, _titles(score, len(parts)), strict=True):
        both = ": ".join(each for each in (about, title) if each)
        yield PromptReads(both, part, pieces)


def _titles(score: TextScore, n_looks: int) -> list[str]:
    """Name the prompts about a text."""
    if score.stages:
        n_listing = n_looks - 1
        if n_listing == 1:
            return ["Without a list", "With the shortlist"]
        listing = range(1, n_listing + 1)
        own = [f"With the shortlist, prompt {at} of {n_listing}" for at in listing]
        return ["Without a list", *own]
    if score.reasoning is not None:
        if n_looks == 1:
            return ["After the thought"]
        return [f"After thought {at} of {n_looks}" for at in range(1, n_looks + 1)]
    levels = score.prompt.levels
    if levels is None:
        if n_looks == 1:
            return [""]
        return [f"Prompt {at} of {n_looks}" for at in range(1, n_looks + 1)]
    return [
        f"Below {levels.tree.names[node]}" if node >= 0 else "Top level"
        for node in levels.tree.questions
    ]
