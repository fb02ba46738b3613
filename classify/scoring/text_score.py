"""The score of one text: what was read of its tries, and what that says of labels."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from classify.labels import LabelSet
from classify.scoring.masses import (
    agreement,
    average_masses,
    average_shares,
    chained_mass,
)
from classify.scoring.reasoning import Reasoning
from classify.tracking import EdgeBounds, EdgeLogprobs, logprobs_of
from classify.trie import LabelMass
from classify.verbalizer import ScorablePrompt

__all__ = ["NodeRead", "TextScore"]


class NodeRead(NamedTuple):
    """What one read told.

    Attributes
    ----------
    prefix : tuple of int
        The tokens of the label words so far; empty at the first step.
    logprobs : dict of int to float
        log p(token | prompt, prefix) in nats of each token that goes on.
    """

    prefix: tuple[int, ...]
    logprobs: dict[int, float]


@dataclass(frozen=True, slots=True, eq=False)
class TextScore:
    """The score of one text.

    Attributes
    ----------
    prompt : ScorablePrompt
    edges : ndarray of float64, shape (n_nodes,), or EdgeBounds
        log p(token | prompt, path) of each trie node in nats; NaN where not read.
    mass : LabelMass
    n_reads : int
        Nodes read.
    n_rounds : int
        Requests sent one after the other.
    reasoning : Reasoning or None
        The model's thoughts before its answer, if any.
    looks : tuple of TextScore
        The scores of several prompts about the text, or behind each of its thoughts;
        `mass` is their average, and `edges` are those of the first. Empty for a single
        prompt.
    """

    prompt: ScorablePrompt
    edges: EdgeLogprobs | EdgeBounds
    mass: LabelMass
    n_reads: int
    n_rounds: int
    reasoning: Reasoning | None = None
    looks: tuple["TextScore", ...] = ()

    @classmethod
    def average(cls, scores: Sequence["TextScore"]) -> "TextScore":
        """Return the average of the scores of all prompts about a text."""
        first = scores[0]
        return cls(
            first.prompt._replace(
                others=tuple(score.prompt for score in scores[1:]),
                truncated=any(score.prompt.truncated for score in scores),
            ),
            first.edges,
            average_masses([score.mass for score in scores]),
            sum(score.n_reads for score in scores),
            sum(score.n_rounds for score in scores),
            looks=tuple(scores),
        )

    @classmethod
    def of_ensemble(cls, scores: Sequence["TextScore"]) -> "TextScore":
        """Return the average of the probabilities that prompts give the labels."""
        first = scores[0]
        return replace(
            cls.average(scores),
            prompt=first.prompt._replace(
                ensemble=tuple(score.prompt for score in scores[1:]),
                truncated=any(score.prompt.truncated for score in scores),
            ),
            mass=average_shares([score.mass for score in scores]),
            looks=tuple(look for score in scores for look in score.looks or (score,)),
        )

    @classmethod
    def chained(
        cls, scores: Sequence["TextScore"], prompt: ScorablePrompt
    ) -> "TextScore":
        """Return the score of a tree's leaves, from those on each of its levels."""
        assert prompt.levels is not None, "asked level by level"
        return cls(
            prompt,
            scores[0].edges,
            chained_mass([score.mass for score in scores], prompt.levels.tree),
            sum(score.n_reads for score in scores),
            sum(score.n_rounds for score in scores),
            looks=tuple(scores),
        )

    @property
    def labels(self) -> LabelSet:
        """The labels of `mass`, in its order."""
        return self.prompt.levels or self.prompt.trie.labels

    @property
    def agreement(self) -> float:
        """Share of the prompts whose likeliest label is that of their average."""
        if not self.looks or self.reasoning or self.prompt.levels is not None:
            return 1.0
        return agreement([look.mass.estimate for look in self.looks])

    @classmethod
    def of(
        cls, prompt: ScorablePrompt, edges: EdgeLogprobs | EdgeBounds, *, n_rounds: int
    ) -> "TextScore":
        """Add the edges of a trie up into label masses."""
        trie = prompt.trie
        inner = trie.tree.inner_nodes
        is_read = ~np.isnan(logprobs_of(edges)[trie.tree.first_child[inner]])
        mass = trie.label_mass(trie.log_masses(edges))
        return cls(prompt, edges, mass, int(is_read.sum()), n_rounds)

    def for_prompt(self, prompt: ScorablePrompt) -> "TextScore":
        """Return this score as that of another text with the same prompt."""
        return self if prompt is self.prompt else replace(self, prompt=prompt)

    def steps(self) -> tuple[NodeRead, ...]:
        """Return the reads, parents before children, prompt by prompt."""
        if self.looks:
            return tuple(step for look in self.looks for step in look.steps())
        tree, logprobs = self.prompt.trie.tree, logprobs_of(self.edges)
        return tuple(
            NodeRead(
                tree.path(int(node)),
                {
                    int(tree.tokens[child]): float(logprobs[child])
                    for child in tree.children(int(node))
                },
            )
            for node in tree.inner_nodes
            if not np.isnan(logprobs[tree.first_child[node]])
        )
