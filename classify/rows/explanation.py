"""What was read for one text, and how the probabilities of its labels result."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from classify.decision.posteriors import LabelPosteriors, Posteriors
from classify.markup import Span, escaped
from classify.plots.trie_display import TrieDisplay
from classify.rows.explained_prompt import (
    LabelFigures,
    Pieces,
    PromptReads,
    prompts_of,
)
from classify.rows.explanation_picture import html_picture, line_text, text_picture
from classify.scoring import LabelLogprobs

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = ["Explanation", "Explanations"]


@dataclass(frozen=True, eq=False)
class Explanation:
    """How the probabilities of one text's labels come about.

    Printed, and shown in a notebook, it is a picture of the label words' tokens as a
    tree: those that were read, with their log-probabilities and the mass that reaches
    them. Paths with next to no mass are one line.

    Attributes
    ----------
    prompts : tuple of PromptReads
        The reads after each prompt about the text.
    labels : tuple of LabelFigures
        The most probable first.
    n_rounds : int
        Requests sent one after the other.
    label_mass : float
        As in `LabelLogprobs`; for yes/no questions, the lowest.
    unresolved : float
        Likewise; for yes/no questions, the highest.
    is_calibrated : bool
        Whether probabilities were corrected.

    Examples
    --------
    >>> from classify import ZeroShotClassifier
    >>> clf = ZeroShotClassifier(labels=["billing", "shipping"])
    >>> explanation = clf.explain("My parcel has not arrived.")
    >>> explanation.labels[0].label, len(explanation.prompts)
    ('shipping', 1)
    """

    prompts: tuple[PromptReads, ...]
    labels: tuple[LabelFigures, ...]
    n_rounds: int
    label_mass: float
    unresolved: float
    is_calibrated: bool

    @classmethod
    def of(
        cls,
        scores: LabelLogprobs,
        posteriors: Posteriors,
        pieces: Pieces,
        *,
        is_calibrated: bool,
    ) -> "Explanation":
        """Explain the scores of one text, whose reads were kept.

        Parameters
        ----------
        scores : LabelLogprobs
            Of one text.
        posteriors : Posteriors
            What was made of them.
        pieces : callable
            From token ids to their texts, such as `Tokenizer.pieces`.
        is_calibrated : bool
        """
        assert scores.text_scores is not None, "asked for"
        [score] = scores.text_scores
        around = posteriors.around
        figures = _figures(
            scores.classes.tolist(),
            [scores.values[0], scores.lower[0], scores.upper[0], scores.log_proba[0]],
            [posteriors.log_proba[0], around.lower[0], around.upper[0]],
        )
        candidates = (each for each in figures if each.upper > -np.inf)
        return cls(
            tuple(prompts_of(score, pieces)),
            _likeliest_first(candidates),
            score.n_rounds,
            float(scores.label_mass[0]),
            float(scores.unresolved[0]),
            is_calibrated,
        )

    @classmethod
    def of_labels(
        cls,
        scores: LabelLogprobs,
        labels: Sequence[str],
        posteriors: LabelPosteriors,
        pieces: Pieces,
        *,
        is_calibrated: bool,
    ) -> "Explanation":
        """Explain the yes/no answers about each label of one text.

        Parameters
        ----------
        scores : LabelLogprobs
            A row for each label; the columns are no and yes.
        labels : sequence of str
        posteriors, pieces, is_calibrated
            As in `of`.
        """
        assert scores.text_scores is not None, "asked for"
        yes = [scores.values, scores.lower, scores.upper, scores.log_proba]
        with np.errstate(divide="ignore"):
            given = [np.log(each[0]) for each in posteriors[:3]]
        figures = _figures(labels, [each[:, 1] for each in yes], given)
        score_of = dict(zip(labels, scores.text_scores, strict=True))
        likeliest = _likeliest_first(figures)
        return cls(
            tuple(
                prompt
                for each in likeliest
                for prompt in prompts_of(score_of[each.label], pieces, each.label)
            ),
            likeliest,
            max(score.n_rounds for score in scores.text_scores),
            float(scores.label_mass.min()),
            float(scores.unresolved.max()),
            is_calibrated,
        )

    @property
    def n_reads(self) -> int:
        """The number of nodes read, over all prompts."""
        return sum(each.score.n_reads for each in self.prompts)

    def lines(self) -> list[list[Span]]:
        """Return the picture as lines of text, which `str` joins."""
        return text_picture(self.prompts, self.labels, is_calibrated=self.is_calibrated)

    def __str__(self) -> str:
        lines = ("".join(span.text for span in line) for line in self.lines())
        return "\n".join(map(str.rstrip, lines))

    def _repr_html_(self) -> str:
        return str(
            html_picture(self.prompts, self.labels, is_calibrated=self.is_calibrated)
        )

    def to_frame(self) -> "pd.DataFrame":
        """Return a row for each token of all label words, prompt by prompt.

        Returns
        -------
        DataFrame
            Columns ``prompt``; ``node``, ``parent`` (0: the prompt's end);
            ``token_id``, ``token``; ``logprob``, ``lower``, ``upper`` of the token in
            nats (NaN where it was not read); ``mass``, the probability of all tokens up
            to this one, ``max_mass``; ``label``, where a label ends. What reaches an
            unread node is divided evenly among the labels' ends below it.
        """
        import pandas as pd  # takes half a second, for those who ask for it

        parts = [pd.DataFrame(each.columns()) for each in self.prompts]
        return pd.concat(parts, ignore_index=True)

    def label_frame(self) -> "pd.DataFrame":
        """Return a row for each label with the attributes of `LabelFigures`."""
        import pandas as pd

        return pd.DataFrame(self.labels, columns=LabelFigures._fields)

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON holds: all prompts with their nodes, and all labels."""
        return {
            "prompts": [
                {
                    "title": each.title,
                    "n_reads": each.score.n_reads,
                    "n_nodes": each.n_inner,
                    "label_mass": each.label_mass,
                    "unresolved": each.score.mass.unresolved,
                    "nodes": list(_records(each.columns())),
                }
                for each in self.prompts
            ],
            "labels": [_plain(each._asdict()) for each in self.labels],
        }

    def plot(
        self, *, prompt: int = 0, max_paths: int = 12, ax: "Axes | None" = None
    ) -> TrieDisplay:
        """Draw the tree of label tokens after one prompt.

        Parameters
        ----------
        prompt : int, default=0
            Which one, where there are several.
        max_paths : int, default=12
            How many paths to show one by one.
        ax : matplotlib Axes, default=None
            Where to draw. None: new axes.

        Returns
        -------
        TrieDisplay

        Raises
        ------
        MissingDependencyError
            matplotlib is not installed.

        Examples
        --------
        >>> import matplotlib
        >>> matplotlib.use("agg")
        >>> from classify import ZeroShotClassifier
        >>> clf = ZeroShotClassifier(labels=["billing", "shipping"])
        >>> clf.explain("My parcel has not arrived.").plot().alternative_text[:20]
        'Tree of label tokens'
        """
        shown = self.prompts[prompt]
        lines = shown.lines(max_paths)
        texts = [line_text(shown, line) for line in lines]
        display = TrieDisplay(lines, texts, shown.label_mass, title=shown.title)
        return display.plot(ax=ax)


class Explanations(dict[str, Explanation]):
    """The explanations of the answers to several questions about one text, by name.

    Printed, and shown in a notebook, they are pictures, one below the other.
    """

    def __str__(self) -> str:
        return "\n\n".join(f"{name}\n{each}" for name, each in self.items())

    def _repr_html_(self) -> str:
        title = Markup("<h4>{}</h4>\n{}")
        shown = [
            title.format(escaped(name), Markup(each._repr_html_()))  # noqa: S704
            for name, each in self.items()
        ]
        return "\n".join(shown)


def _figures(
    labels: Sequence[str],
    read: Sequence[npt.NDArray[np.float64]],
    given: Sequence[npt.NDArray[np.float64]],
) -> list[LabelFigures]:
    """Join names, what was read of them, and what was made of it, in nats."""
    logprobs, shares = np.array(read[:3]), np.exp([read[3], *given])
    return [
        LabelFigures(name, *map(float, logprobs[:, at]), *map(float, shares[:, at]))
        for at, name in enumerate(labels)
    ]


def _likeliest_first(figures: Iterable[LabelFigures]) -> tuple[LabelFigures, ...]:
    return tuple(sorted(figures, key=lambda each: -each.probability))


def _records(columns: Mapping[str, npt.NDArray[Any]]) -> Iterator[dict[str, Any]]:
    names = [name for name in columns if name != "prompt"]
    for values in zip(*(columns[name].tolist() for name in names), strict=True):
        yield _plain(dict(zip(names, values, strict=True)))


def _plain(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what JSON can hold: None where nothing was read, or for -inf."""
    return {
        name: None if isinstance(value, float) and not np.isfinite(value) else value
        for name, value in record.items()
    }
