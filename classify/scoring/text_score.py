"""The score of one text: what was read of its tries, and what that says of labels."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from classify.errors import AnswerError
from classify.labels import LabelSet
from classify.markup import probability, table, with_bar
from classify.scoring.masses import (
    agreement,
    average_masses,
    average_shares,
    chained_mass,
    shortlisted_mass,
)
from classify.scoring.reasoning import Reasoning
from classify.tracking import EdgeBounds, EdgeLogprobs, logprobs_of
from classify.trie import LabelMass
from classify.verbalizer import ScorablePrompt

__all__ = ["NodeRead", "TextScore"]


# How many labels are named in a line, and in a table.
_N_NAMED = 3
_N_SHOWN = 12


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
        The scores of several prompts about the text, or after each of its thoughts;
        `mass` is their average, and `edges` are those of the first. Empty for a single
        prompt.
    stages : tuple of TextScore
        With a shortlist: the score of the prompt that chose it, which `prompt` and
        `edges` are of, and that of the prompt that lists it. Else empty.
    """

    prompt: ScorablePrompt
    edges: EdgeLogprobs | EdgeBounds
    mass: LabelMass
    n_reads: int
    n_rounds: int
    reasoning: Reasoning | None = None
    looks: tuple["TextScore", ...] = ()
    stages: tuple["TextScore", ...] = ()

    def __repr__(self) -> str:
        n_left = len(self._likeliest()) - _N_NAMED
        named = [f"{name} {probability(p)}" for name, p in self._likeliest()[:_N_NAMED]]
        return f"TextScore({', '.join(named)}{f', … {n_left} more' * (n_left > 0)})"

    def _repr_html_(self) -> str:
        likeliest = self._likeliest()
        rows = [[with_bar(probability(p), p), name] for name, p in likeliest[:_N_SHOWN]]
        n_left = len(likeliest) - len(rows)
        more = f", {n_left} more labels" if n_left else ""
        mass = sum(p for _, p in likeliest)
        return (
            f"{table('rl', ['p(label | prompt)', 'label'], rows)}\n<p>Label mass "
            f"{probability(mass)}, unresolved {self.mass.unresolved:.2g}, "
            f"{self.n_reads} nodes read{more}</p>"
        )

    def _likeliest(self) -> list[tuple[str, float]]:
        """Return labels and p(label | prompt), the most likely first."""
        order = np.argsort(-self.mass.estimate, kind="stable").tolist()
        p = np.exp(self.mass.estimate).tolist()
        return [(self.labels.names[at], p[at]) for at in order]

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

    @classmethod
    def shortlisted(cls, first: "TextScore", second: "TextScore") -> "TextScore":
        """Return the score of all labels, from that of the ones that were listed."""
        columns = [first.labels.names.index(name) for name in second.labels.names]
        asked = first.prompt._replace(shortlist=None)  # is asked now, and no data
        return cls(
            asked._replace(
                others=second.prompt.all,
                truncated=asked.truncated or second.prompt.truncated,
            ),
            first.edges,
            shortlisted_mass(first.mass, second.mass, columns),
            first.n_reads + second.n_reads,
            first.n_rounds + second.n_rounds,
            stages=(replace(first, prompt=asked), second),
        )

    def most_likely(self, n_labels: int) -> LabelSet:
        """Return the most likely labels; of equally likely ones those declared first.

        Raises
        ------
        AnswerError
            No label has any probability.
        """
        if not np.isfinite(self.mass.estimate).any():
            raise AnswerError(
                "The prompt without a list gives none of the labels any probability, "
                "so that no shortlist can be chosen."
            )
        order = np.argsort(-self.mass.estimate, kind="stable")[:n_labels]
        return self.labels.subset([self.labels.names[at] for at in order])

    @property
    def parts(self) -> tuple["TextScore", ...]:
        """The scores of single prompts that it was made of, in the order asked."""
        made_of = self.stages or self.looks
        return tuple(part for each in made_of for part in each.parts) or (self,)

    @property
    def labels(self) -> LabelSet:
        """The labels of `mass`, in its order."""
        return self.prompt.levels or self.prompt.trie.labels

    @property
    def agreement(self) -> float:
        """Share of the prompts whose most likely label is that of their average."""
        if self.stages:
            return self.stages[-1].agreement
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
        # Rows that share a shortlist are equal, and so were cut alike.
        if prompt is self.prompt or any(each.shortlist for each in prompt.all):
            return self
        return replace(self, prompt=prompt)

    def steps(self) -> tuple[NodeRead, ...]:
        """Return the reads, parents before children, prompt by prompt."""
        if self.stages or self.looks:
            return tuple(step for part in self.parts for step in part.steps())
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
