"""Which prompt suits a model and its labels: measured on some dozens of texts."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from classify.calibration import LabelCalibrator
from classify.classifier import ZeroShotClassifier
from classify.encoding import Row
from classify.errors import ConfigError, DataError, InputError, PromptError, RowError
from classify.frames import rows_and_candidates
from classify.label_values import labels_of_y
from classify.labels import LabelSet
from classify.markup import table
from classify.metrics import mutual_information
from classify.parameters import at_least, check_parameters
from classify.prompted_model import Progress
from classify.prompts import PromptTemplate
from classify.prompts.candidates import CURRENT, candidate_prompts
from classify.results import NO_MASS
from classify.scored_rows import RowScorer
from classify.scoring import LabelLogprobs, TextScore, score_prompts

__all__ = [
    "PromptTuning",
    "TunedPrompt",
    "tune_prompt",
    "tune_rows",
]

_logger = logging.getLogger(__name__)

# Fewer labels say less about prompts than the texts alone.
MIN_LABELLED = 10


class TunedPrompt(NamedTuple):
    """A prompt, and what was measured of it.

    Attributes
    ----------
    name : str
        What it is called in tables; "current" is the classifier's own.
    prompt : PromptTemplate
    information : float
        I(label; text) = H(mean of p) - mean of H(p), in nats, with p the probabilities
        of the labels for each text, uncalibrated: how much the predictions say about
        the text. At most log(n_labels).
    label_mass : float
        Mean label mass.
    n_tokens : float
        Mean length of the prompt, in tokens.
    log_loss, accuracy : float or None
        After calibration, cross-validated: no text is judged by a fit that has seen its
        label. Log loss in nats. None without labels.
    """

    name: str
    prompt: PromptTemplate
    information: float
    label_mass: float
    n_tokens: float
    log_loss: float | None = None
    accuracy: float | None = None


@dataclass(frozen=True)
class PromptTuning:
    """Prompts that were compared, best first.

    Attributes
    ----------
    prompts : tuple of TunedPrompt
        Ordered by `TunedPrompt.log_loss` where there are labels, else by
        `TunedPrompt.information`.
    n_texts : int
        Texts that every prompt was scored on.
    is_labelled : bool
        Whether they had labels.
    """

    prompts: tuple[TunedPrompt, ...]
    n_texts: int
    is_labelled: bool

    @property
    def best(self) -> PromptTemplate:
        """The prompt to use."""
        return self.prompts[0].prompt

    @property
    def current(self) -> TunedPrompt | None:
        """What was measured of the classifier's own prompt; None if it cannot be used.

        The chat template of a model that thinks first may not have a place for the
        label, for example.
        """
        return next((each for each in self.prompts if each.name == CURRENT), None)

    def to_frame(self) -> pd.DataFrame:
        """Return a row for each prompt, best first, a column for each attribute."""
        frame = pd.DataFrame(self.prompts, columns=TunedPrompt._fields)
        return (
            frame if self.is_labelled else frame.drop(columns=["log_loss", "accuracy"])
        )

    def __repr__(self) -> str:
        labelled = "labelled " if self.is_labelled else ""
        return (
            f"PromptTuning({len(self.prompts)} prompts on {self.n_texts} {labelled}"
            f"texts, best: {self.prompts[0].name!r})"
        )

    def _repr_html_(self) -> str:
        frame = self.to_frame().drop(columns="prompt")
        header = [name.replace("_", " ") for name in frame.columns]
        rows = [
            [str(row[0]), *(f"{value:.3g}" for value in row[1:])]
            for row in frame.itertuples(index=False)
        ]
        return f"{table('l' + 'r' * (len(header) - 1), header, rows)}\n<p>{self!r}</p>"


def tune_prompt(
    classifier: ZeroShotClassifier,
    X: Any,
    y: Any = None,
    *,
    prompts: Mapping[str, PromptTemplate | str] | None = None,
    n_texts: int = 64,
    random_state: int = 0,
    progress: Progress | None = None,
) -> PromptTuning:
    r"""Compare prompts on some dozens of texts, and find the one that suits the model.

    Without labels the best prompt is the one whose predictions say most about the text:
    that of the greatest mutual information between label and text (Sorensen et al.,
    2022). With labels it is the one with the lowest cross-validated log loss after
    calibration.

    Parameters
    ----------
    classifier : ZeroShotClassifier
        Model, labels and current prompt. It stays as it is:
        ``classifier.set_params(prompt=tuning.best)`` takes the best prompt.
    X : sequence of str, Series, array, or DataFrame
        Texts like those to be classified; or rows with the columns that the prompt
        needs.
    y : sequence, default=None
        Their labels. None: the prompts are compared without.
    prompts : mapping of str to PromptTemplate or str, default=None
        Prompts to compare with the classifier's own. None: those of
        `candidate_prompts` that the model can be asked with.
    n_texts : int, default=64
        Texts to score with each prompt; drawn at random if `X` has more.
    random_state : int, default=0
        Seed of the draw.
    progress : callable, default=None
        Called with the number of texts scored since the last call.

    Returns
    -------
    PromptTuning

    Raises
    ------
    InputError
        No text can be scored, there are too few labels, or a prompt cannot be used with
        the model.

    Notes
    -----
    The figures of the best prompt are those that made it the best, so they flatter it a
    little: evaluate it on other texts.

    Examples
    --------
    >>> clf = ZeroShotClassifier(labels=["billing", "shipping"])
    >>> texts = ["My parcel has not arrived.", "I was charged twice."]
    >>> tuning = tune_prompt(clf, texts, prompts={"terse": "{text} ->"})
    >>> sorted(each.name for each in tuning.prompts)
    ['current', 'terse']
    """
    labels, true = labels_of_y(classifier.scorer().declared, y, len(X))
    fields = classifier.scorer().model.template.fields
    rows, _ = rows_and_candidates(X, None, fields)
    return tune_rows(
        classifier,
        rows,
        true,
        labels=labels,
        prompts=prompts,
        n_texts=n_texts,
        random_state=random_state,
        progress=progress,
    )


def tune_rows(
    classifier: ZeroShotClassifier,
    rows: Sequence[Row | InputError],
    true: Sequence[str] | None,
    *,
    labels: LabelSet,
    prompts: Mapping[str, PromptTemplate | str] | None = None,
    n_texts: int = 64,
    random_state: int = 0,
    begins: Callable[[int], object] | None = None,
    progress: Progress | None = None,
) -> PromptTuning:
    """Compare prompts on rows; see `tune_prompt`.

    Parameters
    ----------
    classifier : ZeroShotClassifier
    rows : sequence of mapping or InputError, length n_rows
        What the prompt shows of each row, or what is wrong with it.
    true : sequence of str, length n_rows, or None
        True labels.
    labels : LabelSet
    prompts, n_texts, random_state, progress
        As in `tune_prompt`.
    begins : callable, default=None
        Called once, with the number of texts to score in all.
    """
    check_parameters("tune_prompt", n_texts=(n_texts, at_least(2, whole=True)))
    chosen = _drawn(rows, n_texts, random_state)
    names = None if true is None else np.array(true, dtype=np.str_)[chosen]
    if names is not None and len(names) < MIN_LABELLED:
        raise _too_few(len(names))
    scorers = _scorers(classifier, labels, prompts)
    if begins is not None:
        begins(len(scorers) * len(chosen))
    drawn = [rows[at] for at in chosen]
    scored = [
        _Scored.of(scorer, name, drawn, progress) for name, scorer in scorers.items()
    ]
    # Prompts are compared on texts that all of them can ask.
    usable = np.logical_and.reduce([each.usable for each in scored])
    if not usable.any():
        raise DataError(f"None of the texts can be scored. {scored[0].reason}")
    if names is not None and usable.sum() < MIN_LABELLED:
        raise _too_few(int(usable.sum()))
    measured = [
        each.measured(usable, None if names is None else names[usable])
        for each in scored
    ]
    measured.sort(key=lambda each: (each.log_loss or 0.0, -each.information))
    return PromptTuning(tuple(measured), int(usable.sum()), names is not None)


def _too_few(n_labelled: int) -> DataError:
    return DataError(
        f"Comparing prompts by labels takes at least {MIN_LABELLED} labelled texts. "
        f"Got {n_labelled}: label more, or compare them without labels."
    )


def _scorers(
    classifier: ZeroShotClassifier,
    labels: LabelSet,
    prompts: Mapping[str, PromptTemplate | str] | None,
) -> dict[str, RowScorer]:
    """Return what scores rows with each prompt, over one engine and one tokenizer."""
    scorer = replace(classifier.scorer(), declared=labels)
    own, tokenizer = scorer.model.template, scorer.model.load_tokenizer()
    compared = (
        candidate_prompts(own, labels, has_chat_template=tokenizer.has_chat_template)
        if prompts is None
        else _given(own, prompts)
    )
    model = replace(scorer.model, tokenizer=tokenizer)
    made = {
        name: replace(scorer, model=replace(model, template=prompt))
        for name, prompt in compared.items()
    }
    refused: dict[str, PromptError] = {}
    for name, each in made.items():
        try:
            each.model.space(labels)
        except PromptError as error:
            if prompts is not None:
                raise
            refused[name] = error
    if len(refused) == len(made):
        raise refused[CURRENT]
    if refused:
        _logger.info("Not compared: %s.", ", ".join(refused))
    spec = replace(model.spec, engine=classifier.load_engine())
    return {
        name: replace(each, model=replace(each.model, spec=spec))
        for name, each in made.items()
        if name not in refused
    }


def _drawn(
    rows: Sequence[Row | InputError], n_texts: int, random_state: int
) -> npt.NDArray[np.int64]:
    """Draw rows that can be asked, in the order in which they stand."""
    good = [at for at, row in enumerate(rows) if not isinstance(row, InputError)]
    if not good:
        raise DataError(
            f"None of the {len(rows):,} texts can be used. Text 0: {rows[0]}"
            if rows
            else "There are no texts to compare prompts on."
        )
    drawn = np.random.default_rng(random_state).permutation(good)[:n_texts]
    return np.sort(drawn)


def _given(
    own: PromptTemplate, prompts: Mapping[str, PromptTemplate | str]
) -> dict[str, PromptTemplate]:
    if CURRENT in prompts:
        raise ConfigError(
            f"prompts has the name {CURRENT!r}, which stands for the classifier's own "
            "prompt: choose another."
        )
    return {CURRENT: own} | {
        name: replace(own, template=prompt) if isinstance(prompt, str) else prompt
        for name, prompt in prompts.items()
    }


class _Scored(NamedTuple):
    """The scores of one prompt: of the rows that are `usable`, in their order."""

    name: str
    prompt: PromptTemplate
    scores: LabelLogprobs
    usable: npt.NDArray[np.bool_]
    n_tokens: npt.NDArray[np.int64]
    reason: str

    @classmethod
    def of(
        cls,
        scorer: RowScorer,
        name: str,
        rows: Sequence[Row | InputError],
        progress: Progress | None,
    ) -> "_Scored":
        encoded = scorer.encode(rows, None)
        asked = [each for each in encoded if not isinstance(each, InputError)]
        # Not `PromptedModel.score`, which would warn of each prompt's label mass.
        answers = iter(
            score_prompts(
                asked,
                scorer.read_strategy(),
                scorer.model.load_engine(),
                progress=progress,
            )
        )
        found: list[TextScore | RowError] = [
            each if isinstance(each, InputError) else next(answers) for each in encoded
        ]
        good = [each for each in found if isinstance(each, TextScore)]
        scores = LabelLogprobs.of(good, sorted(scorer.known_labels().names))
        has_mass = np.isfinite(scores.log_label_mass)
        usable = np.array([isinstance(each, TextScore) for each in found])
        usable[usable] = has_mass
        n_tokens = [
            0 if isinstance(each, InputError) else each.n_tokens for each in encoded
        ]
        errors = [str(each) for each in found if not isinstance(each, TextScore)]
        reason = next(iter(errors), NO_MASS)
        return cls(
            name,
            scorer.model.template,
            scores[has_mass],
            usable,
            np.array(n_tokens),
            reason,
        )

    def measured(
        self, usable: npt.NDArray[np.bool_], true: npt.NDArray[np.str_] | None
    ) -> TunedPrompt:
        """Return the figures of the rows that every prompt can use."""
        scores = self.scores[usable[self.usable]]
        log_loss = accuracy = None
        if true is not None:
            fitted = LabelCalibrator().fit(scores, true)
            assert fitted.metrics_ is not None, "there are labels"
            after = fitted.metrics_["after"]
            log_loss, accuracy = after["log_loss"], after["accuracy"]
        return TunedPrompt(
            self.name,
            self.prompt,
            mutual_information(scores.proba),
            float(scores.label_mass.mean()),
            float(self.n_tokens[usable].mean()),
            log_loss,
            accuracy,
        )
