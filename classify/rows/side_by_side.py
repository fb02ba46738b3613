"""Prompts about rows, asked side by side over one engine.

A question may ask once about a row or, with a yes/no read for each label, several
times; and several questions may be asked about the same rows.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from classify.errors import DataError, InputError, RowError
from classify.rows.prompted_model import Progress, PromptedModel, Refuse
from classify.scoring import LabelLogprobs, TextScore, make_strategy, score_prompts
from classify.spec import Scoring
from classify.verbalizer import ScorablePrompt

__all__ = [
    "Encoded",
    "ScoredRows",
    "ascore_encoded",
    "interleaved",
    "refuse_for",
    "score_encoded",
]


class Encoded(NamedTuple):
    """One prompt about each row.

    Attributes
    ----------
    model : PromptedModel
    scoring : Scoring
    prompts : sequence of ScorablePrompt or InputError
        What is wrong with a row stands in place of its prompt.
    columns : sequence of str
        The labels of the result.
    question : str, default=""
        Its name, if it has one.
    numbers : sequence of int, default=None
        Which rows of a table they are, if others are asked about other rows of it.
        None: their positions.
    """

    model: PromptedModel
    scoring: Scoring
    prompts: Sequence[ScorablePrompt | InputError]
    columns: Sequence[str]
    question: str = ""
    numbers: Sequence[int] | None = None

    def number(self, at: int) -> int:
        """Return which row of the table a prompt is about."""
        return at if self.numbers is None else self.numbers[at]


class ScoredRows(NamedTuple):
    """The outcome for rows.

    Attributes
    ----------
    scores : LabelLogprobs
        Of the rows that have no error, in their order.
    errors : dict of int to RowError
        Positions of the others in ascending order, and why they have no score.
    """

    scores: LabelLogprobs
    errors: dict[int, RowError]


def score_encoded(
    encoded: Sequence[Encoded],
    *,
    refuse: Refuse | None = None,
    progress: Progress | None = None,
    return_steps: bool = False,
    track: bool = False,
) -> list[ScoredRows]:
    """Return log p(label | prompt), shape (n_texts, n_labels), of each.

    All prompts about a row go out one after the other.

    Parameters
    ----------
    encoded : sequence of Encoded
        About rows of one table, read in the same way, of models that share an engine.
    refuse : callable, default=None
        Makes the exception that a row with an error raises: before the model is
        called where it cannot be asked, else as soon as its answer cannot be used.
        None: such rows are set aside.
    progress : callable, default=None
        Called with the number of rows whose prompts were all finished since the last
        call.
    return_steps : bool, default=False
        Keep the per-step values that were read.
    track : bool, default=False
        Track label tokens while the model thinks.
    """
    if progress is not None and len(encoded) > 1:
        progress = _RowProgress(len(encoded), progress)
    asking = _Asking(encoded, refuse)
    if asking.n_errors and progress is not None:
        progress(asking.n_errors)
    found: Sequence[TextScore | RowError] = ()
    if asking.prompts:  # else the engine need not be loaded
        found = score_prompts(
            asking.prompts,
            make_strategy(encoded[0].scoring, track=track),
            encoded[0].model.load_engine(),
            refuse=refuse and asking.refused,
            progress=progress,
        )
    return asking.scored_rows(found, return_steps=return_steps)


async def ascore_encoded(
    encoded: Sequence[Encoded], *, refuse: Refuse | None = None
) -> list[ScoredRows]:
    """Await `score_encoded`: prompts join those of callers that are being scored."""
    asking = _Asking(encoded, refuse)
    found: list[TextScore | RowError] = []
    if asking.prompts:  # else the engine need not be loaded
        run = await asyncio.to_thread(encoded[0].model.live_run)
        future = run.submit(asking.prompts, make_strategy(encoded[0].scoring))
        found = await asyncio.wrap_future(future)
    for one, score in enumerate(found):
        if not isinstance(score, TextScore) and refuse is not None:
            raise asking.refused(one, score) from score
    return asking.scored_rows(found)


def interleaved(
    n_rows: int,
    scored: Sequence[ScoredRows],
    labels: Sequence[str],
    *,
    refuse: Refuse | None = None,
) -> ScoredRows:
    """Put the yes/no reads of all labels together.

    Parameters
    ----------
    n_rows : int
    scored : sequence of ScoredRows, length n_labels
        The answers about each label.
    labels : sequence of str, length n_labels
    refuse : callable, default=None
        Makes the exception that a row raises for which neither answer has any
        probability. None: it is set aside.

    Returns
    -------
    ScoredRows
        The n_labels scores of each row that has no error, one after the other; and
        the errors of rows. A row has one where any of its labels has, or where neither
        answer has any probability.
    """
    errors: dict[int, RowError] = {}
    silent: dict[int, RowError] = {}
    for label, (scores, row_errors) in zip(labels, scored, strict=True):
        for at, error in row_errors.items():
            errors.setdefault(at, error)
        rows = _positions(n_rows, row_errors)
        for at in rows[np.isneginf(scores.log_label_mass)].tolist():
            silent.setdefault(
                at,
                DataError(
                    f"neither yes nor no has any probability for label {label!r}."
                ),
            )
    if silent and refuse is not None:
        raise refuse(min(silent), silent[min(silent)])
    errors = silent | errors
    good = [
        scores[[at not in errors for at in _positions(n_rows, row_errors).tolist()]]
        for scores, row_errors in scored
    ]
    together = LabelLogprobs.concatenated(good)
    order = np.arange(len(together)).reshape(len(scored), -1).T.ravel()
    return ScoredRows(together[order], dict(sorted(errors.items())))


def refuse_for(refuse: Refuse | None, question: str) -> Refuse | None:
    """Return the same for errors of one question, which they name if it has a name."""
    if refuse is None or not question:
        return refuse
    return lambda at, error: refuse(at, type(error)(f"{question}: {error}"))


class _Asking:
    """Prompts in the order in which they are asked: all about a row, then the next.

    Attributes
    ----------
    prompts : list of ScorablePrompt
        Without those that cannot be asked.
    n_errors : int
        How many these are.
    """

    def __init__(self, encoded: Sequence[Encoded], refuse: Refuse | None) -> None:
        self._encoded = encoded
        self._refusals = [refuse_for(refuse, each.question) for each in encoded]
        sorted_out = [
            _sorted_out(each.prompts, refusal)
            for each, refusal in zip(encoded, self._refusals, strict=True)
        ]
        self._errors = [errors for _, errors in sorted_out]
        self._places = sorted(
            ((at, which) for which, (good, _) in enumerate(sorted_out) for at in good),
            key=lambda place: (encoded[place[1]].number(place[0]), place[1]),
        )
        self.prompts = [sorted_out[which][0][at] for at, which in self._places]
        self.n_errors = sum(map(len, self._errors))

    def refused(self, one: int, error: RowError) -> Exception:
        """Return the exception that one of the prompts raises."""
        at, which = self._places[one]
        refusal = self._refusals[which]
        return error if refusal is None else refusal(at, error)

    def scored_rows(
        self, found: Sequence[TextScore | RowError], *, return_steps: bool = False
    ) -> list[ScoredRows]:
        """Return the outcome for the rows of each, by the scores of all prompts."""
        scored: list[list[tuple[int, TextScore | RowError]]] = [
            [] for _ in self._encoded
        ]
        for (at, which), score in zip(self._places, found, strict=True):
            scored[which].append((at, score))
        return [
            _scored_rows(each, some, errors, return_steps=return_steps)
            for each, some, errors in zip(
                self._encoded, scored, self._errors, strict=True
            )
        ]


def _sorted_out(
    prompts: Sequence[ScorablePrompt | InputError], refuse: Refuse | None
) -> tuple[dict[int, ScorablePrompt], dict[int, RowError]]:
    """Return the prompts that can be asked, and what is wrong with the others."""
    good: dict[int, ScorablePrompt] = {}
    errors: dict[int, RowError] = {}
    for at, prompt in enumerate(prompts):
        if isinstance(prompt, InputError):
            errors[at] = prompt
        else:
            good[at] = prompt
    if errors and refuse is not None:
        at, error = next(iter(errors.items()))
        raise refuse(at, error) from error
    return good, errors


def _scored_rows(
    encoded: Encoded,
    scored: Iterable[tuple[int, TextScore | RowError]],
    errors: dict[int, RowError],
    *,
    return_steps: bool = False,
) -> ScoredRows:
    """Return scores of rows, with what is wrong with the others in `errors`."""
    good: list[TextScore] = []
    for at, score in scored:
        if isinstance(score, TextScore):
            good.append(score)
        else:
            errors[at] = score
    scores = LabelLogprobs.of(good, encoded.columns, return_steps=return_steps)
    encoded.model.warn_of_low_mass(scores, encoded.question)
    return ScoredRows(scores, dict(sorted(errors.items())))


def _positions(n_rows: int, errors: Mapping[int, object]) -> npt.NDArray[np.int64]:
    """Return the positions of the rows that have no error."""
    return np.array([at for at in range(n_rows) if at not in errors], dtype=np.int64)


class _RowProgress:
    """Counts rows, about each of which there are so many prompts."""

    def __init__(self, n_prompts: int, progress: Progress) -> None:
        self._n_prompts, self._progress, self._n_finished = n_prompts, progress, 0

    def __call__(self, n_finished: int) -> None:
        before = self._n_finished // self._n_prompts
        self._n_finished += n_finished
        if n_rows := self._n_finished // self._n_prompts - before:
            self._progress(n_rows)
