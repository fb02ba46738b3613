"""What scoring returns."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from classify.errors import InputError
from classify.markup import first_of, table
from classify.scoring.bounds import LabelBounds
from classify.scoring.reasoning import Reasoning
from classify.scoring.text_score import NodeRead, TextScore

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["LabelLogprobs"]

FloatArray = npt.NDArray[np.float64]

# What a notebook shows: enough to see whether scores make sense.
_N_SHOWN_TEXTS = 10
_N_SHOWN_LABELS = 3


@dataclass(frozen=True, eq=False)
class LabelLogprobs:
    """Joint, unnormalised label log-probabilities of texts.

    Attributes
    ----------
    values : ndarray of float64, shape (n_texts, n_labels)
        log p(label | prompt) = log of the sum over the label's words of the product
        over their tokens of p(token | prompt, tokens before), in nats, full
        vocabulary. -inf where a label is not a candidate for a text. The mass of unread
        nodes is divided evenly among the leaves below; if the engine shows only the
        most likely tokens, the remaining mass is divided evenly among the others. A
        label that a shortlist leaves out has the share that the first prompt gives it.
    classes : ndarray of str, shape (n_labels,)
        The label of each column, sorted.
    lower, upper : ndarray of float64, shape (n_texts, n_labels)
        Bounds of `values`; equal to it where everything was read.
    unresolved : ndarray of float64, shape (n_texts,)
        Maximum label mass minus the resolved label mass. If the engine shows every
        token: p(unread nodes | prompt). With a shortlist, the label mass times the
        share that the first prompt gives to all labels left out.
    truncated : ndarray of bool, shape (n_texts,)
        Whether the text was cut to fit the model.
    n_reads : ndarray of int64, shape (n_texts,)
        Trie nodes read.
    text_scores : tuple of TextScore, length n_texts, or None
        What was read for each text, if it was asked for.
    reasoning : tuple of Reasoning, length n_texts, or None
        The model's thoughts about each text before its answer, if any. Labels are in
        the order of `classes`.
    agreement : ndarray of float64, shape (n_texts,), or None
        Share of a text's prompts (orders of the options, forms of the answer) whose
        most likely label is that of their average; 1 for a single prompt. None if not
        known.
    """

    values: FloatArray
    classes: npt.NDArray[np.str_]
    lower: FloatArray
    upper: FloatArray
    unresolved: FloatArray
    truncated: npt.NDArray[np.bool_]
    n_reads: npt.NDArray[np.int64]
    text_scores: tuple[TextScore, ...] | None = None
    reasoning: tuple[Reasoning, ...] | None = None
    agreement: FloatArray | None = None

    @classmethod
    def of(
        cls,
        scores: Sequence[TextScore],
        classes: Sequence[str],
        *,
        return_steps: bool = False,
    ) -> "LabelLogprobs":
        """Stack the scores of texts; columns of absent candidates are -inf."""
        n_texts = len(scores)
        column = {name: at for at, name in enumerate(classes)}
        values, lower, upper = np.full((3, n_texts, len(classes)), -np.inf)
        columns_of: dict[int, npt.NDArray[np.int64]] = {}
        reasoning = []
        for at, score in enumerate(scores):
            labels = score.labels
            columns = columns_of.get(id(labels))
            if columns is None:
                columns = np.array([column[name] for name in labels.names])
                columns_of[id(labels)] = columns
            values[at, columns] = score.mass.estimate
            lower[at, columns] = score.mass.lower
            upper[at, columns] = score.mass.upper
            if score.reasoning is not None:
                reasoning.append(score.reasoning.in_columns(columns, classes))
        return cls(
            values=values,
            classes=np.array(classes, dtype=np.str_),
            lower=lower,
            upper=upper,
            unresolved=np.array([s.mass.unresolved for s in scores], dtype=np.float64),
            truncated=np.array([s.prompt.truncated for s in scores], dtype=np.bool_),
            n_reads=np.array([s.n_reads for s in scores], dtype=np.int64),
            text_scores=tuple(scores) if return_steps else None,
            reasoning=tuple(reasoning) if reasoning else None,
            agreement=np.array([s.agreement for s in scores], dtype=np.float64),
        )

    @classmethod
    def concatenated(cls, parts: Sequence["LabelLogprobs"]) -> "LabelLogprobs":
        """Return the scores of several lists of texts among the same labels as one."""

        def joined(name: str) -> Any:
            return np.concatenate([getattr(each, name) for each in parts])

        def listed(name: str) -> Any:
            lists = [getattr(each, name) for each in parts if len(each)]
            if not lists or None in lists:
                return None
            return tuple(itertools.chain.from_iterable(lists))

        return cls(
            *(joined("values"), parts[0].classes, joined("lower"), joined("upper")),
            *(joined("unresolved"), joined("truncated"), joined("n_reads")),
            text_scores=listed("text_scores"),
            reasoning=listed("reasoning"),
            agreement=None
            if any(each.agreement is None for each in parts)
            else joined("agreement"),
        )

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: Any) -> "LabelLogprobs":
        """Return some texts, by slice, index array or mask."""
        chosen = np.atleast_1d(np.arange(len(self))[rows])
        return LabelLogprobs(
            self.values[chosen],
            self.classes,
            self.lower[chosen],
            self.upper[chosen],
            self.unresolved[chosen],
            self.truncated[chosen],
            self.n_reads[chosen],
            self.text_scores and tuple(self.text_scores[at] for at in chosen),
            self.reasoning and tuple(self.reasoning[at] for at in chosen),
            None if self.agreement is None else self.agreement[chosen],
        )

    def __repr__(self) -> str:
        n_texts, n_labels = self.values.shape
        mass = f", mean label mass {self.label_mass.mean():.3g}" if n_texts else ""
        return f"LabelLogprobs({n_texts} texts, {n_labels} labels{mass})"

    def _repr_html_(self) -> str:
        shown = self[:_N_SHOWN_TEXTS]
        rows = [
            [
                str(at),
                shown._likeliest(at),
                f"{shown.label_mass[at]:.3f}",
                f"{shown.unresolved[at]:.3f}",
                "yes" if shown.truncated[at] else "",
            ]
            for at in range(len(shown))
        ]
        header = ["text", "most likely labels", "label mass", "unresolved", "truncated"]
        of_which = first_of(len(shown), len(self))
        return f"{table('rtrrl', header, rows)}\n<p>{self!r}{of_which}</p>"

    def to_frame(self) -> "pd.DataFrame":
        """Return a row for each text: its most likely label, and all probabilities.

        Returns
        -------
        DataFrame
            Columns ``label``, ``probability``, ``p(<label>)`` for each label,
            ``label_mass``, ``unresolved`` and ``truncated``, as in `classify_frame`,
            uncalibrated. No label if the label mass is 0.
        """
        import pandas as pd  # takes half a second, for those who ask for it

        log_mass = self.log_label_mass
        some = np.isfinite(log_mass)
        proba = np.full(self.values.shape, np.nan)
        proba[some] = np.exp(self.values[some] - log_mass[some, None])
        label = np.full(len(self), None, dtype=object)
        label[some] = self.classes[self.values[some].argmax(axis=1)]
        columns = {"label": label, "probability": proba.max(axis=1)}
        columns |= {f"p({name})": proba[:, at] for at, name in enumerate(self.classes)}
        return pd.DataFrame(
            columns
            | {
                "label_mass": self.label_mass,
                "unresolved": self.unresolved,
                "truncated": self.truncated,
            }
        )

    def _likeliest(self, at: int) -> str:
        """Name a text's most likely labels, with their shares of its label mass."""
        values = self.values[at]
        order = np.argsort(-values, kind="stable")[:_N_SHOWN_LABELS]
        log_mass = self.log_label_mass[at]
        named = [
            f"{self.classes[column]} {np.exp(values[column] - log_mass):.3f}"
            for column in order
            if values[column] > -np.inf
        ]
        return ", ".join(named) or "none has any probability"

    @property
    def steps(self) -> tuple[tuple[NodeRead, ...], ...] | None:
        """The reads of each text, length n_texts, if they were asked for.

        Parents come before children, one prompt after the other where there are
        several, and one chain of thought after the other.
        """
        if self.text_scores is None:
            return None
        return tuple(score.steps() for score in self.text_scores)

    @property
    def is_certain(self) -> npt.NDArray[np.bool_]:
        """Shape (n_texts,): whether no other label can be more probable (`bounds`)."""
        if not len(self):
            return np.zeros(0, dtype=np.bool_)
        return self.bounds.is_certain(np.asarray(self.values.argmax(axis=1)))

    @property
    def bounds(self) -> LabelBounds:
        """What is known of each label, and of all of them together."""
        most = self.resolved_mass + self.unresolved
        return LabelBounds.at_most(self.lower, self.upper, most)

    @property
    def resolved_mass(self) -> FloatArray:
        """Shape (n_texts,): lower bound of `label_mass`."""
        return np.asarray(np.exp(self.lower).sum(axis=1), dtype=np.float64)

    @property
    def log_label_mass(self) -> FloatArray:
        """Shape (n_texts,): log M(x) = log sum over labels of p(label | prompt)."""
        # The initial -inf gives empty rows and empty candidates a mass of 0.
        return np.asarray(
            np.logaddexp.reduce(self.values, axis=1, initial=-np.inf), dtype=np.float64
        )

    @property
    def label_mass(self) -> FloatArray:
        """Shape (n_texts,): M(x) = sum over labels of p(label | prompt), at most 1.

        Low mass means that the prompt does not make the model answer with a label.
        """
        return np.exp(self.log_label_mass)

    @property
    def log_proba(self) -> FloatArray:
        """Shape (n_texts, n_labels): log p(label | prompt) - log M(x).

        Raises
        ------
        InputError
            A text gives no label any probability, so there is no distribution.
        """
        log_mass = self.log_label_mass
        if np.isneginf(log_mass).any():
            row = int(np.flatnonzero(np.isneginf(log_mass))[0])
            raise InputError(
                f"Text {row} gives none of the labels any probability (label mass 0): "
                "the model cannot answer with a label there. Check the label words "
                "with `classify labels`."
            )
        return self.values - log_mass[:, None]

    @property
    def proba(self) -> FloatArray:
        """Shape (n_texts, n_labels): p(label | prompt) / M(x); rows sum to 1."""
        return np.exp(self.log_proba)
