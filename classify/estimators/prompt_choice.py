"""Prompts compared on rows: scores, and which prompt is the best."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from classify.calibration import LabelCalibrator
from classify.errors import ConfigError, DataError, InputError, PromptError, RowError
from classify.markup import escaped, table
from classify.metrics import mutual_information
from classify.parameters import at_least, check_parameters
from classify.prompts import PromptTemplate
from classify.prompts.candidates import CURRENT, candidate_prompts, few_shot_prompts
from classify.rows.encoding import Row
from classify.rows.prompted_model import Progress, PromptedModel
from classify.rows.results import NO_MASS
from classify.rows.scorer import Scorer
from classify.scoring import LabelLogprobs, TextScore, score_prompts

__all__ = ["N_TEXTS", "PromptTuning", "TunedPrompt", "tune_rows"]

_logger = logging.getLogger(__name__)

# Texts that prompts are compared on, unless another number is given.
N_TEXTS = 64
# Fewer labels say less about prompts than the texts alone.
MIN_LABELLED = 10
# Prompts without examples that are tried with examples too.
_N_WITH_EXAMPLES = 2


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

    def ensemble(self, n_prompts: int = 3) -> PromptTemplate:
        """Return the best prompts as one, whose probabilities are averaged."""
        allowed = at_least(1, whole=True)
        check_parameters("PromptTuning.ensemble", n_prompts=(n_prompts, allowed))
        first, *others = [
            member
            for each in self.prompts[:n_prompts]
            for member in (replace(each.prompt, ensemble=()), *each.prompt.ensemble)
        ]
        return replace(first, ensemble=tuple(others))

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
        shown = table("l" + "r" * (len(header) - 1), header, rows)
        return f"{shown}\n<p>{escaped(repr(self))}</p>"


def tune_rows(
    scorer: Scorer,
    rows: Sequence[Row | InputError],
    true: Sequence[str] | None,
    *,
    prompts: Mapping[str, PromptTemplate | str] | None = None,
    n_texts: int = N_TEXTS,
    random_state: int = 0,
    begins: Callable[[int], object] | None = None,
    progress: Progress | None = None,
) -> PromptTuning:
    """Compare prompts on rows; see `tune_prompt`.

    Parameters
    ----------
    scorer : Scorer
        With labels.
    rows : sequence of mapping or InputError, length n_rows
        What the prompt shows of each row, or what is wrong with it.
    true : sequence of str, length n_rows, or None
        True labels.
    prompts, n_texts, random_state, progress
        As in `tune_prompt`.
    begins : callable, default=None
        Called with the number of texts to score before they are: once, and once more
        where prompts are tried with examples.
    """
    check_parameters("tune_prompt", n_texts=(n_texts, at_least(2, whole=True)))
    chosen = _drawn(rows, n_texts, random_state)
    names = None if true is None else np.array(true, dtype=np.str_)[chosen]
    if names is not None and len(names) < MIN_LABELLED:
        raise _too_few(len(names))
    drawn = [rows[at] for at in chosen]

    def score(
        compared: Mapping[str, PromptTemplate], *, is_given: bool
    ) -> list[_Scored]:
        scorers = _scorers(scorer, compared, is_given=is_given)
        if begins is not None:
            begins(len(scorers) * len(drawn))
        return [
            _Scored.of(each, name, drawn, progress) for name, each in scorers.items()
        ]

    own = scorer.model.template.without_auto()
    if prompts is not None:
        scored = score(_given(own, prompts), is_given=True)
    else:
        tokenizer = scorer.model.load_tokenizer()
        compared = candidate_prompts(
            own, scorer.known_labels(), has_chat_template=tokenizer.has_chat_template
        )
        scored = score(compared, is_given=False)
    tuning = _compared(scored, names)
    if own.chooses_examples and prompts is None:
        best = [each for each in tuning.prompts if not each.prompt.chooses_examples]
        shown = few_shot_prompts(
            own, {each.name: each.prompt for each in best[:_N_WITH_EXAMPLES]}
        )
        tuning = _compared([*scored, *score(shown, is_given=False)], names)
    return tuning


def _compared(
    scored: Sequence["_Scored"], names: npt.NDArray[np.str_] | None
) -> PromptTuning:
    """Order prompts by what was measured of them."""
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
        f"Comparing prompts by labels needs at least {MIN_LABELLED} labelled texts. "
        f"Got {n_labelled}: label more, or compare them without labels."
    )


def _scorers(
    scorer: Scorer, compared: Mapping[str, PromptTemplate], *, is_given: bool
) -> dict[str, Scorer]:
    """Return what scores rows with each prompt, over one engine and one tokenizer.

    Prompts that the model cannot be asked with are left out, unless the user has given
    them. Nothing but the tokenizer is loaded if those are all.
    """
    labels = scorer.known_labels()
    model = replace(scorer.model, tokenizer=scorer.model.load_tokenizer())
    made: dict[str, PromptedModel] = {}
    refused: dict[str, PromptError] = {}
    for name, prompt in compared.items():
        asking = replace(model, template=prompt)
        try:
            asking.space(labels)
        except PromptError as error:
            if is_given:
                raise
            refused[name] = error
        else:
            made[name] = asking
    if CURRENT in refused and not made:
        raise refused[CURRENT]
    if refused:
        _logger.info("Not compared: %s.", ", ".join(refused))
    if not made:
        return {}
    engine = scorer.model.load_engine()
    return {name: replace(scorer, model=made[name].over(engine)) for name in made}


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
        scorer: Scorer,
        name: str,
        rows: Sequence[Row | InputError],
        progress: Progress | None,
    ) -> "_Scored":
        encoded = scorer.encode(rows, None)
        asked = [each for each in encoded if not isinstance(each, InputError)]
        # Not `score_encoded`, which would warn of each prompt's label mass.
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
