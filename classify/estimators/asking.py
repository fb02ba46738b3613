"""Questions about the same rows, asked side by side."""

import asyncio
from collections.abc import Sequence

from classify.errors import InputError
from classify.estimators.asked import Asked
from classify.rows.encoding import Row
from classify.rows.prompted_model import Refuse
from classify.rows.results import RowResults
from classify.rows.side_by_side import (
    Encoded,
    ScoredRows,
    ascore_encoded,
    score_encoded,
)

__all__ = ["answers_of", "ascore_questions", "ask", "score_questions"]


def ask(
    questions: Sequence[Asked],
    rows: Sequence[Sequence[Row | InputError]],
    *,
    refuse: Refuse | None = None,
    probabilities: bool = False,
    bounds: bool = False,
    reasoning: bool = False,
) -> dict[str, RowResults]:
    """Return the answers to questions about the same rows, by name.

    Parameters
    ----------
    questions : sequence of Asked
        Over one model.
    rows : sequence of sequences of mapping or InputError
        For each question, what its prompt needs of each row.
    refuse : callable, default=None
        Makes the exception that a row with an error raises. None: it is set aside.
    probabilities, bounds, reasoning : bool, default=False
        As in `Asked.kinds`.
    """
    return answers_of(
        questions,
        score_questions(questions, rows, refuse=refuse),
        len(rows[0]),
        refuse=refuse,
        probabilities=probabilities,
        bounds=bounds,
        reasoning=reasoning,
    )


def score_questions(
    questions: Sequence[Asked],
    rows: Sequence[Sequence[Row | InputError]],
    *,
    refuse: Refuse | None = None,
    return_steps: bool = False,
) -> list[list[ScoredRows]]:
    """Return the scores of each question by each of its scorers.

    Parameters
    ----------
    questions, rows, refuse
        As in `ask`.
    return_steps : bool, default=False
        Keep the per-step values that were read.
    """
    encoded = _encoded(questions, rows)
    flat = [each for own in encoded for each in own]
    scored = iter(score_encoded(flat, refuse=refuse, return_steps=return_steps))
    return [[next(scored) for _ in own] for own in encoded]


async def ascore_questions(
    questions: Sequence[Asked], rows: Sequence[Sequence[Row | InputError]]
) -> list[list[ScoredRows]]:
    """Await `score_questions`, batched with the rows of other callers."""
    encoded = await asyncio.to_thread(_encoded, questions, rows)
    scored = iter(await ascore_encoded([each for own in encoded for each in own]))
    return [[next(scored) for _ in own] for own in encoded]


def _encoded(
    questions: Sequence[Asked], rows: Sequence[Sequence[Row | InputError]]
) -> list[list[Encoded]]:
    return [
        [scorer.encoded(some) for scorer in each.scorers()]
        for each, some in zip(questions, rows, strict=True)
    ]


def answers_of(
    questions: Sequence[Asked],
    scored: Sequence[Sequence[ScoredRows]],
    n_rows: int,
    *,
    refuse: Refuse | None = None,
    probabilities: bool = False,
    bounds: bool = False,
    reasoning: bool = False,
) -> dict[str, RowResults]:
    """Return the answers that scores of `score_questions` give; see `ask`."""
    return {
        question.name: question.results(
            n_rows,
            some,
            refuse=refuse,
            probabilities=probabilities,
            bounds=bounds,
            reasoning=reasoning,
        )
        for question, some in zip(questions, scored, strict=True)
    }
