"""Questions of clients about one text: one prompt each, scored together."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from classify.decision.posteriors import Posteriors
from classify.errors import DataError, InputError
from classify.labels import Label, LabelSet
from classify.prompts import PromptTemplate
from classify.rows.from_cells import rows_of_cells
from classify.rows.results import NO_MASS
from classify.rows.side_by_side import ScoredRows, ascore_encoded
from classify.scoring import LabelLogprobs
from classify.serve.refusals import RefusedError
from classify.serve.service import Service
from classify.verbalizer import ScorablePrompt

__all__ = ["Answered", "Decided", "Decider", "Question", "as_text", "question_of"]

# The text comes first, so that an engine computes it once for all questions.
_ASK = "{text}\n\nQuestion: {question}\nOptions:\n{labels}"
_CHAT_END, _PLAIN_END = "\n\nAnswer with one of the options only.", "\nAnswer:"
_NO_INSTRUCTIONS = "Which of the options describes the text best?"


class Question(NamedTuple):
    """A question about a text.

    Attributes
    ----------
    where : str
        How errors name it.
    instructions : str
    labels : LabelSet
        The options.
    """

    where: str
    instructions: str
    labels: LabelSet


class Answered(NamedTuple):
    """The answer to a question.

    Attributes
    ----------
    probabilities : list of float
        Of each option, in their order; they sum to 1.
    about : dict
        ``lower``, ``upper``, ``certain`` (of the most likely option), ``label_mass``,
        ``unresolved`` and ``truncated``, as in results of rows.
    """

    probabilities: list[float]
    about: dict[str, float | bool]

    @property
    def about_first(self) -> dict[str, float | bool]:
        """The same as `about`, with the bounds of the first of two options.

        Examples
        --------
        >>> Answered([0.25, 0.75], {"lower": 0.5, "upper": 1.0}).about_first
        {'lower': 0.0, 'upper': 0.5}
        """
        if self.best == 0:
            return self.about
        first = self.probabilities[0]
        return {
            **self.about,
            "lower": min(1.0 - self.about["upper"], first),
            "upper": max(1.0 - self.about["lower"], first),
        }

    @property
    def best(self) -> int:
        """Which option is the most likely."""
        return int(np.argmax(self.probabilities))

    @property
    def confidence(self) -> float:
        """(n p - 1) / (n - 1), of n options whose most likely has p.

        Examples
        --------
        >>> Answered([0.5, 0.5], {}).confidence, Answered([0.0, 1.0], {}).confidence
        (0.0, 1.0)
        """
        n_options = len(self.probabilities)
        share = (n_options * max(self.probabilities) - 1) / (n_options - 1)
        return min(max(share, 0.0), 1.0)

    @property
    def expected(self) -> float:
        """The mean place of the options, counted from 0."""
        return float(np.arange(len(self.probabilities)) @ self.probabilities)


class Decided(NamedTuple):
    """The answers to all questions, and how many tokens were read and written."""

    answers: list[Answered]
    n_input_tokens: int
    n_output_tokens: int


class Decider:
    """Answers questions with the model and settings of a service.

    Each question has its own options, so the task's prompt, examples and calibration
    are not used.

    Parameters
    ----------
    service : Service
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        model = service.scorer.model
        own = model.template
        is_chat = own.chat is not False and model.load_tokenizer().has_chat_template
        template = PromptTemplate(
            _ASK + (_CHAT_END if is_chat else _PLAIN_END),
            chat=is_chat,
            answer=own.answer,
            n_orders=own.n_orders,
            too_long=own.too_long,
            template_arguments=own.template_arguments if is_chat else None,
        )
        self._scorer = replace(
            service.scorer,
            model=replace(model, template=template),
            declared=None,
            about=(),
        )

    async def decide(self, text: str, questions: Sequence[Question]) -> Decided:
        """Answer all questions about a text.

        Raises
        ------
        RefusedError, InputError
            One of them cannot be answered; then the others have no answer either.
        """
        service, settings = self._service, self._service.settings
        service.check_count(len(questions), "questions", settings.max_texts)
        service.check_count(len(text), "characters", settings.max_text_length)
        for question in questions:
            service.check_count(len(question.labels), "options", settings.max_labels)
            n_characters = len(question.instructions) + sum(
                len(each.name) + len(each.description or "") for each in question.labels
            )
            what = "characters in one of its questions"
            service.check_count(n_characters, what, settings.max_text_length)
        scorer = self._scorer
        [first] = rows_of_cells({"text": [text]})
        if isinstance(first, InputError):
            raise first
        rows = [{**first, "question": each.instructions} for each in questions]
        labels = [each.labels for each in questions]
        prompts: list[ScorablePrompt] = []

        async def scoring() -> ScoredRows:
            encoded = await asyncio.to_thread(scorer.encoded, rows, labels)
            for question, prompt in zip(questions, encoded.prompts, strict=True):
                if isinstance(prompt, InputError):
                    raise type(prompt)(f"{question.where}: {prompt}")
                prompts.append(prompt)
            [scored] = await ascore_encoded([encoded])
            return scored

        scores, errors = await service.scored(len(questions), scoring)
        silent = np.flatnonzero(np.isneginf(scores.log_label_mass)).tolist()
        wrong = {**errors, **({silent[0]: DataError(NO_MASS)} if silent else {})}
        for at, error in wrong.items():
            raise RefusedError(503, f"{questions[at].where} has no answer: {error}")
        return Decided(
            [
                _answered(scores[at], each, scorer.scoring.tolerance)
                for at, each in enumerate(labels)
            ],
            sum(prompt.n_tokens for prompt in prompts),
            sum(each.n_tokens for each in scores.reasoning or ()),
        )


def question_of(
    where: str, instructions: str, options: Sequence[tuple[str, str | None]]
) -> Question:
    """Return a question with its options, each with a description or None.

    Raises
    ------
    InputError
        They cannot be distinguished, or there are fewer than two.
    """
    try:
        labels = LabelSet(Label(name, text or None) for name, text in options)
    except InputError as error:
        raise type(error)(f"{where}: {error}") from None
    return Question(where, instructions.strip() or _NO_INSTRUCTIONS, labels)


def as_text(value: Any) -> str:
    """Return a string as it is, and other JSON as text.

    Examples
    --------
    >>> as_text("parcel"), as_text({"subject": "parcel"})
    ('parcel', '{"subject": "parcel"}')
    """
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _answered(scores: LabelLogprobs, labels: LabelSet, tolerance: float) -> Answered:
    place = {name: at for at, name in enumerate(scores.classes.tolist())}
    posteriors = Posteriors.of(scores)
    proba, known = np.exp(posteriors.log_proba[0]), posteriors.known(tolerance)
    return Answered(
        [float(proba[place[name]]) for name in labels.names],
        {
            **{name: value.item() for name, value in known._asdict().items()},
            "label_mass": float(scores.label_mass[0]),
            "unresolved": float(scores.unresolved[0]),
            "truncated": bool(scores.truncated[0]),
        },
    )
