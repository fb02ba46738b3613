"""A server's questions, asked about the rows of a request, and the answers as JSON."""

import copy
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from classify.errors import InputError
from classify.estimators.asked import Asked
from classify.estimators.asking import answers_of, ascore_questions
from classify.labels import LabelSet
from classify.rows.encoding import Row
from classify.rows.results import RowResults, errors_of
from classify.serve.service import Service

__all__ = ["answer", "listed_results", "served_questions"]


def served_questions(service: Service, questions: Sequence[Asked]) -> list[Asked]:
    """Return questions over the engine of a service, with what was fitted.

    The engine stays the same, even if it dies; files are not read again.
    """
    model = service.scorer.model
    given = {"engine": model.spec.engine, "tokenizer": model.tokenizer}
    served = [
        each.asking(copy.copy(each.classifier).set_params(**given)).without_files()
        for each in questions
    ]
    for each in served:
        each.rules()  # checks what they were fitted on
    return served


async def answer(
    service: Service,
    questions: Sequence[Asked],
    rows: Sequence[Sequence[Row | InputError]],
) -> list[dict[str, Any]]:
    """Return a result for each row: of the only question, or by question.

    Parameters
    ----------
    service : Service
    questions : sequence of Asked
        From `served_questions`.
    rows : sequence of sequences of mapping or InputError
        For each question, what its prompt needs of each row.

    Raises
    ------
    RefusedError, InputError
        The request as a whole cannot be answered.
    """
    n_rows = len(rows[0])
    scored = await service.scored(n_rows, lambda: ascore_questions(questions, rows))
    results = answers_of(questions, scored, n_rows, probabilities=True, bounds=True)
    listed = {
        each.name: listed_results(results[each.name], [_names(each)] * n_rows)
        for each in questions
    }
    if "" in listed:
        return listed[""]
    errors = errors_of(results)
    return [
        {
            "questions": {name: listed[name][at] for name in listed},
            "error": errors.get(at),
        }
        for at in range(n_rows)
    ]


def listed_results(
    results: RowResults,
    names: Sequence[Sequence[str] | InputError],
    declared: LabelSet | None = None,
) -> list[dict[str, Any]]:
    """Return the result of a question for each row, as JSON has it.

    Parameters
    ----------
    results : RowResults
        With probabilities.
    names : sequence of sequences of str, or InputError
        The labels that each row may get.
    declared : LabelSet, default=None
        Whose spelling of them columns have.
    """
    decided = "labels" if "labels" in results.columns else "label"
    groups = {"p": "probabilities"}
    if decided == "labels":
        groups |= {"lower": "lower", "upper": "upper"}
    of_labels = {
        f"{group}({name})" for group in groups for name in results.classes.tolist()
    }
    others = [name for name in results.columns if name not in of_labels]
    place = np.cumsum(results.scored) - 1
    listed: list[dict[str, Any]] = []
    for at, candidates in enumerate(names):
        if at in results.errors or isinstance(candidates, InputError):
            listed.append({decided: None, "error": results.errors[at]})
            continue
        row = {name: _plain(results.columns[name][place[at]]) for name in others}
        # Unicode has several spellings of a name; columns have the declared one.
        own = [*(map(declared.find, candidates) if declared else candidates)]
        for group, key in groups.items():
            row[key] = {
                name: _plain(results.columns[f"{group}({name})"][place[at]])
                for name in own
            }
        listed.append({**row, "error": None})
    return listed


def _names(question: Asked) -> list[str]:
    """Return the labels of a question as they were declared."""
    scorer = question.classifier.scorer()
    return [label.name for label in scorer.about or scorer.known_labels()]


def _plain(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and not math.isfinite(value) else value
