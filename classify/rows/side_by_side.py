"""Prompts of several questions about the same rows, scored side by side."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from classify.errors import InputError, RowError
from classify.rows.prompted_model import (
    Progress,
    PromptedModel,
    Refuse,
    ScoredRows,
    sorted_out,
)
from classify.scoring import Strategy, TextScore, score_prompts
from classify.verbalizer import ScorablePrompt

__all__ = ["Encoded", "refuse_for", "score_encoded"]


class Encoded(NamedTuple):
    """The prompts of a question about each row.

    Attributes
    ----------
    model : PromptedModel
    prompts : sequence of ScorablePrompt or InputError
        What `PromptedModel.encode` returned.
    columns : sequence of str
        The labels of the result.
    question : str, default=""
        Its name, if it has one.
    """

    model: PromptedModel
    prompts: Sequence[ScorablePrompt | InputError]
    columns: Sequence[str]
    question: str = ""


def score_encoded(
    questions: Sequence[Encoded],
    strategy: Callable[[ScorablePrompt], Strategy],
    *,
    refuse: Refuse | None = None,
    progress: Progress | None = None,
    return_steps: bool = False,
) -> list[ScoredRows]:
    """Return log p(label | prompt), shape (n_texts, n_labels), for each question.

    All prompts about a row go out one after the other.

    Parameters
    ----------
    questions : sequence of Encoded
        About the same rows, of models that share an engine.
    strategy : callable
    refuse : callable, default=None
        Makes the exception that a row with an error raises: before the model is
        called where it cannot be asked, else as soon as its answer cannot be used.
        None: such rows are set aside.
    progress : callable, default=None
        Called with the number of prompts finished since the last call.
    return_steps : bool, default=False
        Keep the per-step values that were read.
    """
    refusals = [refuse_for(refuse, each.question) for each in questions]
    prompts = [
        sorted_out(each.prompts, refusal)
        for each, refusal in zip(questions, refusals, strict=True)
    ]
    n_errors = sum(len(errors) for _, errors in prompts)
    if n_errors and progress is not None:
        progress(n_errors)
    places = sorted(
        (at, which) for which, (good, _) in enumerate(prompts) for at in good
    )

    def refused(one: int, error: RowError) -> Exception:
        at, which = places[one]
        refusal = refusals[which]
        return error if refusal is None else refusal(at, error)

    found: Sequence[TextScore | RowError] = ()
    if places:  # else the engine need not be loaded
        found = score_prompts(
            [prompts[which][0][at] for at, which in places],
            strategy,
            questions[0].model.load_engine(),
            refuse=refuse and refused,
            progress=progress,
        )
    scored: list[list[tuple[int, TextScore | RowError]]] = [[] for _ in questions]
    for (at, which), score in zip(places, found, strict=True):
        scored[which].append((at, score))
    return [
        each.model.scored_rows(
            some,
            errors,
            each.columns,
            return_steps=return_steps,
            question=each.question,
        )
        for each, some, (_, errors) in zip(questions, scored, prompts, strict=True)
    ]


def refuse_for(refuse: Refuse | None, question: str) -> Refuse | None:
    """Return the same for errors of one question, which they name if it has a name."""
    if refuse is None or not question:
        return refuse
    return lambda at, error: refuse(at, type(error)(f"{question}: {error}"))
