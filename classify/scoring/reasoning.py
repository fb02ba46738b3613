"""What a model thought before it answered, and how its thoughts differ."""

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from classify.markup import first_of, probability, shortened, table, with_bar
from classify.plots.track_display import TrackDisplay
from classify.prompts.closing import ClosedThought
from classify.scoring.masses import agreement
from classify.step_table import highest, step_table
from classify.tracking import TrackedGeneration
from classify.verbalizer import ScorablePrompt

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = ["Chain", "Reasoning", "Trajectory"]

FloatArray = npt.NDArray[np.float64]

# With more labels, a legend gives their number.
_MAX_NAMED = 2
# What a notebook shows of the thoughts about a text.
_MAX_CHAINS = 10
_MAX_CHARACTERS = 240
# Between the thoughts of several chains, where they are one text.
_BETWEEN = "\n\n---\n\n"


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Label tokens at every step of a thought.

    Attributes
    ----------
    logprobs : ndarray of float64, shape (n_steps, n_tracked)
        Entry (j, t) = log p(tracked[t] | prompt, the first j tokens of the thought) in
        nats, over the full vocabulary.
    tracked : tuple of str, length n_tracked
        The tokens of all label words.
    labels : tuple of tuple of str, length n_tracked
        The labels whose words contain each of them.
    is_first : tuple of bool, length n_tracked
        Whether it is the first token of a word that not all words have: where the
        answer becomes one label or another.
    tokens : tuple of str, length n_steps
        What the model generated, step by step.
    """

    logprobs: FloatArray
    tracked: tuple[str, ...]
    labels: tuple[tuple[str, ...], ...]
    is_first: tuple[bool, ...]
    tokens: tuple[str, ...]

    @classmethod
    def of(
        cls,
        prompt: ScorablePrompt,
        token_ids: Sequence[int],
        tracked: dict[int, list[float]],
    ) -> "Trajectory":
        """Name the tokens of what was tracked along a thought."""
        assert prompt.thought_end is not None
        tokenizer = prompt.thought_end.prompt.tokenizer
        owners, first = prompt.trie.labels_of_tokens(), prompt.trie.parting_tokens()
        rows = [tracked[token][: len(token_ids)] for token in owners]
        return cls(
            np.array(rows, dtype=np.float64).T.reshape(len(token_ids), len(owners)),
            tokenizer.pieces(list(owners)),
            tuple(owners.values()),
            tuple(token in first for token in owners),
            tokenizer.pieces(token_ids),
        )

    def to_frame(self) -> "pd.DataFrame":
        """Return a row for each step: its token, and a column for each tracked one."""
        import pandas as pd  # takes half a second

        frame = pd.DataFrame(self.logprobs, columns=list(self.tracked))
        frame.index.name = "step"
        frame.insert(0, "token", list(self.tokens), allow_duplicates=True)
        return frame

    def plot(self, *, n_tracked: int = 8, ax: "Axes | None" = None) -> TrackDisplay:
        """Draw the log-probability of the labels' first tokens at every step.

        Parameters
        ----------
        n_tracked : int, default=8
            How many curves to draw at most: those that come highest. Further tokens of
            label words are not drawn: they mean nothing before the first one.
        ax : matplotlib Axes, default=None
            Where to draw. None: new axes.

        Returns
        -------
        TrackDisplay

        Raises
        ------
        MissingDependencyError
            matplotlib is not installed.

        Examples
        --------
        >>> import matplotlib
        >>> matplotlib.use("agg")
        >>> trajectory = Trajectory(
        ...     np.log([[0.2, 0.1], [0.7, 0.2]]),
        ...     tracked=(" bill", " parcel"),
        ...     labels=(("billing",), ("shipping",)),
        ...     is_first=(True, True),
        ...     tokens=(" The", " invoice"),
        ... )
        >>> trajectory.plot().words
        ("' bill': billing", "' parcel': shipping")
        """
        names, logprobs = self._first()
        shown = highest(logprobs, n_tracked)
        named = [names[at] for at in shown]
        return TrackDisplay(named, self.tokens, logprobs[:, shown]).plot(ax=ax)

    def __repr__(self) -> str:
        return f"Trajectory({len(self.tokens)} steps, {len(self.tracked)} label tokens)"

    def _repr_html_(self) -> str:
        names, logprobs = self._first()
        any_label = np.logaddexp.reduce(logprobs, axis=1, initial=-np.inf)
        shown = step_table(
            self.tokens,
            ["any label", *names],
            np.column_stack([any_label, logprobs]),
        )
        what = "At each step: the probability that a label's first token comes next."
        return f"{shown}\n<p>{what}</p>"

    def _first(self) -> tuple[list[str], FloatArray]:
        """Return the names and values of the labels' first tokens."""
        first = [at for at, is_first in enumerate(self.is_first) if is_first]
        names = [_named(self.tracked[at], self.labels[at]) for at in first]
        return names, self.logprobs[:, first]


def _named(token: str, labels: tuple[str, ...]) -> str:
    """Return a token as a legend shows it, with the labels that it may lead to."""
    many = f"{len(labels)} labels"
    of = ", ".join(labels) if len(labels) <= _MAX_NAMED else many
    return f"{token!r}: {of}"


@dataclass(frozen=True, eq=False)
class Chain:
    """One thought, and the log-probabilities of the labels after it.

    Attributes
    ----------
    text : str
    token_ids : tuple of int
        What the model generated; empty where a score was read from a file.
    closing_token_ids : tuple of int
        Added after these, before the label.
    n_tokens : int
        How many tokens were generated.
    cut : bool
        Whether the thought was cut at its maximum number of tokens.
    logprobs : ndarray of float64, shape (n_labels,)
        log p(label | prompt, thought) in nats.
    trajectory : Trajectory or None
        The label tokens step by step, if steps were asked for.
    """

    text: str
    token_ids: tuple[int, ...]
    closing_token_ids: tuple[int, ...]
    n_tokens: int
    cut: bool
    logprobs: FloatArray
    trajectory: Trajectory | None = None

    @classmethod
    def of(
        cls,
        prompt: ScorablePrompt,
        thought: ClosedThought,
        logprobs: FloatArray,
        generation: TrackedGeneration,
    ) -> "Chain":
        """Join a thought with the label log-probabilities after it."""
        trajectory, tracked = None, generation.tracked_logprobs
        if tracked is not None:
            trajectory = Trajectory.of(prompt, thought.token_ids, tracked)
        return cls(
            text=thought.text,
            token_ids=thought.token_ids,
            closing_token_ids=thought.closing_token_ids,
            n_tokens=len(thought.token_ids),
            cut=thought.cut,
            logprobs=logprobs,
            trajectory=trajectory,
        )


@dataclass(frozen=True, eq=False)
class Reasoning:
    """The thoughts about one text.

    Attributes
    ----------
    chains : tuple of Chain
    classes : tuple of str, length n_labels
        The label of each column of `Chain.logprobs`.
    """

    chains: tuple[Chain, ...]
    classes: tuple[str, ...]

    @property
    def text(self) -> str:
        """The thoughts, with a line ``---`` between those of several chains."""
        return _BETWEEN.join(chain.text for chain in self.chains)

    @property
    def n_tokens(self) -> int:
        """How many tokens were generated, in all chains."""
        return sum(chain.n_tokens for chain in self.chains)

    @property
    def cut(self) -> bool:
        """Whether a thought was cut."""
        return any(chain.cut for chain in self.chains)

    @property
    def agreement(self) -> float:
        """Share of the chains whose most likely label is that of their average."""
        return agreement(self._logprobs)

    @property
    def standard_error(self) -> FloatArray:
        """Shape (n_labels,): standard error of the averaged class probabilities.

        Of q = mean of p(label) / mean of M, M the label mass, over n sampled chains:
        sqrt(sum over chains of (p(label) - q M)**2 / (n (n - 1))) / mean of M, the
        standard error of a ratio. NaN for a single chain, and without label mass.
        """
        logprobs, n_chains = self._logprobs, len(self.chains)
        peak = logprobs.max(initial=-np.inf)
        if n_chains < 2 or np.isneginf(peak):
            return np.full(logprobs.shape[1], np.nan)
        p = np.exp(logprobs - peak)
        mass = p.sum(axis=1, keepdims=True)
        rest = p - p.mean(axis=0) / mass.mean() * mass
        variance = (rest**2).sum(axis=0) / (n_chains * (n_chains - 1))
        return np.asarray(np.sqrt(variance) / mass.mean(), dtype=np.float64)

    def packed(self) -> bytes:
        """Return the thoughts as bytes, without their tokens."""
        chains = [
            [each.text, each.n_tokens, each.cut, each.logprobs.tolist()]
            for each in self.chains
        ]
        text = json.dumps(chains, ensure_ascii=False)
        return zlib.compress(text.encode("utf-8", "surrogatepass"))

    @classmethod
    def unpacked(cls, value: bytes, classes: Sequence[str]) -> "Reasoning":
        """Return what was packed, with these labels."""
        text = zlib.decompress(value).decode("utf-8", "surrogatepass")
        return cls(
            tuple(
                Chain(thought, (), (), n_tokens, cut, np.array(logprobs))
                for thought, n_tokens, cut, logprobs in json.loads(text)
            ),
            tuple(classes),
        )

    @property
    def _logprobs(self) -> FloatArray:
        return np.array(
            [chain.logprobs for chain in self.chains]
        )  # (n_chains, n_labels)

    def in_columns(
        self, columns: npt.NDArray[np.int64], classes: Sequence[str]
    ) -> "Reasoning":
        """Return these with labels in other columns, and -inf where there is none."""
        chains = []
        for chain in self.chains:
            logprobs = np.full(len(classes), -np.inf)
            logprobs[columns] = chain.logprobs
            chains.append(replace(chain, logprobs=logprobs))
        return Reasoning(tuple(chains), tuple(classes))

    def __repr__(self) -> str:
        chains = f"{len(self.chains)} thought{'s' * (len(self.chains) != 1)}"
        cut = sum(chain.cut for chain in self.chains)
        return f"Reasoning({chains} of {self.n_tokens} tokens, {cut} cut)"

    def _repr_html_(self) -> str:
        rows: list[list[str]] = []
        for number, chain in enumerate(self.chains[:_MAX_CHAINS], 1):
            best, mass = int(chain.logprobs.argmax()), np.exp(chain.logprobs).sum()
            share = float(np.exp(chain.logprobs[best])) / mass if mass else 0.0
            rows.append(
                [
                    str(number),
                    shortened(chain.text, _MAX_CHARACTERS),
                    f"{chain.n_tokens}{' (cut)' * chain.cut}",
                    self.classes[best] if mass else "none has any probability",
                    with_bar(probability(share), share),
                    probability(mass),
                ]
            )
        header = ["chain", "thought", "tokens", "label", "probability", "label mass"]
        of_which = first_of(len(rows), len(self.chains))
        return f"{table('rtrlrr', header, rows)}\n<p>{self!r}{of_which}</p>"
