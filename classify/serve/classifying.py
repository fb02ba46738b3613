"""`/v1/classify`: texts or rows in, a result for each of them out."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from classify.calibration import LabelCalibrator
from classify.decision import SelectiveClassifier, SplitConformalSets
from classify.decision.posteriors import Posteriors
from classify.errors import DataError, InputError, LabelError
from classify.estimators.asked import Asked
from classify.labels import LabelSet
from classify.labels.names import suggestion
from classify.rows.encoding import Row
from classify.rows.from_cells import candidates_of_cells, rows_of_cells
from classify.rows.results import row_results
from classify.rows.scorer import Scorer
from classify.serve.answers import answer, listed_results
from classify.serve.service import Service

__all__ = [
    "EXAMPLES",
    "ClassifyRequest",
    "ClassifyResponse",
    "Decisions",
    "classify_rows",
]

EXAMPLES = {
    "texts": {
        "summary": "Texts, and the labels of the server",
        "value": {"texts": ["Where is my parcel?", "I was charged twice."]},
    },
    "labels": {
        "summary": "Labels given in the request",
        "value": {
            "texts": ["Where is my parcel?"],
            "labels": {"shipping": "parcels", "billing": "payments"},
        },
    },
    "rows": {
        "summary": "Rows, for a prompt with several columns",
        "value": {"rows": [{"text": "Where is my parcel?"}]},
    },
}


class ClassifyRequest(BaseModel):
    """Texts or rows to classify."""

    model_config = ConfigDict(extra="forbid")

    texts: Annotated[
        list[Any] | None, Field(description="Texts, if the prompt has only {text}.")
    ] = None
    rows: Annotated[
        list[dict[str, Any]] | None,
        Field(description="Rows with the columns that the prompt needs."),
    ] = None
    labels: Annotated[
        list[str] | dict[str, Any] | None,
        Field(
            description="Names select some of the server's labels. A mapping of names "
            "to descriptions (or null, or words) gives other labels. Default: all "
            "labels of the server."
        ),
    ] = None
    questions: Annotated[
        list[str] | None,
        Field(
            description="Names of questions to answer, if the server has several. "
            "Default: all."
        ),
    ] = None


class Result(BaseModel):
    """The result for one text, or for a question about it."""

    label: Annotated[str | None, Field(description="null: abstained, or an error.")] = (
        None
    )
    labels: Annotated[
        list[str] | None,
        Field(description="The labels that apply, if any number of them may."),
    ] = None
    uncertain: Annotated[
        list[str] | None, Field(description="Further labels that may apply.")
    ] = None
    probability: float | None = None
    lower: Annotated[
        float | dict[str, float] | None,
        Field(
            description="Lower bound of the probability, or of each label's if any "
            "number of labels may apply."
        ),
    ] = None
    upper: Annotated[
        float | dict[str, float] | None,
        Field(description="Upper bound, likewise."),
    ] = None
    certain: Annotated[
        bool | None, Field(description="Whether no other label can be more probable.")
    ] = None
    probabilities: dict[str, float] | None = None
    label_mass: Annotated[
        float | None,
        Field(description="Probability that the model answers with any label."),
    ] = None
    unresolved: Annotated[
        float | None, Field(description="Label mass that was not read.")
    ] = None
    truncated: Annotated[
        bool | None, Field(description="Whether the text was cut to fit the model.")
    ] = None
    abstained: Annotated[
        str | None, Field(description="Why there is no label, if a threshold applies.")
    ] = None
    label_set: Annotated[
        list[str] | None, Field(description="The prediction set, if requested.")
    ] = None
    expected: Annotated[
        float | None, Field(description="Expected value of an ordinal question.")
    ] = None
    expected_lower: Annotated[
        float | None, Field(description="Lower bound of that value.")
    ] = None
    expected_upper: Annotated[
        float | None, Field(description="Upper bound of that value.")
    ] = None
    standard_deviation: Annotated[
        float | None, Field(description="Standard deviation of that value.")
    ] = None
    q10: Annotated[float | None, Field(description="Its 10 % quantile.")] = None
    q50: Annotated[float | None, Field(description="Its median.")] = None
    q90: Annotated[float | None, Field(description="Its 90 % quantile.")] = None
    node: Annotated[
        str | None, Field(description="Deepest node of a tree that is sure enough.")
    ] = None
    node_probability: Annotated[
        float | None, Field(description="Probability of that node.")
    ] = None
    agreement: Annotated[
        float | None,
        Field(description="Agreement of several prompts, or of several chains."),
    ] = None
    cut: Annotated[
        bool | None, Field(description="Whether the model's reasoning was cut off.")
    ] = None
    standard_error: Annotated[
        float | None,
        Field(description="Standard error of the probability, over several chains."),
    ] = None
    questions: Annotated[
        "dict[str, Result] | None",
        Field(description="The result for each question, if the server has several."),
    ] = None
    error: Annotated[str | None, Field(description="Why this text has no result.")] = (
        None
    )


class ClassifyResponse(BaseModel):
    """A result for each text, in their order."""

    model: str
    results: list[Result]


class Decisions(NamedTuple):
    """The decisions made from scores with the labels of the server.

    Attributes
    ----------
    calibrator : LabelCalibrator or None
    selective : SelectiveClassifier or None
    sets : SplitConformalSets or None
    """

    calibrator: LabelCalibrator | None = None
    selective: SelectiveClassifier | None = None
    sets: SplitConformalSets | None = None


class _Asked(NamedTuple):
    """How a request is scored: `listed` are the candidates of each row."""

    scorer: Scorer
    listed: Sequence[Sequence[str] | InputError] | None
    decisions: Decisions


async def classify_rows(
    service: Service,
    request: ClassifyRequest,
    decisions: Decisions,
    *,
    questions: Sequence[Asked] = (),
    text_column: str,
    labels_column: str | None,
) -> list[dict[str, Any]]:
    """Return a result for each text of a request; a bad text has its error.

    With `questions`, these are answered. Without, the question is that of the service,
    which has one answer, and the request may have labels of its own.

    Raises
    ------
    RefusedError, InputError
        The request as a whole cannot be answered.
    """
    given = request.texts if request.rows is None else request.rows
    if given is None or (request.texts is not None and request.rows is not None):
        raise InputError("Give texts or rows, and not both.")
    service.check_count(len(given), "texts", service.settings.max_texts)
    if questions:
        chosen = _chosen(questions, request)
        return await answer(
            service,
            chosen,
            [
                _rows(service, request, text_column, each.scorers()[0].fields)
                for each in chosen
            ],
        )
    _check_unnamed(request.questions)
    asked = _asked(service, request.labels, len(given), decisions)
    if request.rows is not None and request.labels is None and labels_column:
        cells = [row.get(labels_column) for row in request.rows]
        asked = asked._replace(listed=candidates_of_cells(cells, labels_column))
    elif asked.scorer.declared is None:
        raise InputError(
            "There are no labels: give labels, a mapping of names to descriptions or "
            "null."
        )
    rows = _rows(service, request, text_column, service.scorer.fields)
    return await _results(service, asked, rows)


def _chosen(questions: Sequence[Asked], request: ClassifyRequest) -> Sequence[Asked]:
    """Return the questions that a request names, or all."""
    if request.labels is not None:
        raise InputError(
            "A request can have labels if the server has a single question, without a "
            "name, that has one answer: leave labels out."
        )
    by_name = {each.name: each for each in questions}
    if "" in by_name:
        _check_unnamed(request.questions)
    if request.questions is None:
        return questions
    known = list(by_name)
    for name in request.questions:
        if name not in by_name:
            raise InputError(
                f"There is no question {name!r}.{suggestion(name, known)} The "
                f"questions are {', '.join(known)}."
            )
    if not request.questions:
        raise InputError(
            "There are no questions: name some, or leave questions out to get the "
            "answers to all."
        )
    return [by_name[name] for name in dict.fromkeys(request.questions)]


def _check_unnamed(names: Sequence[str] | None) -> None:
    if names is not None:
        raise InputError(
            "This server has a single question, without a name: leave questions out."
        )


def _asked(
    service: Service,
    labels: list[str] | dict[str, Any] | None,
    n_rows: int,
    decisions: Decisions,
) -> _Asked:
    scorer, declared = service.scorer, service.scorer.declared
    if labels is None:
        return _Asked(scorer, None, decisions)
    service.check_count(len(labels), "labels", service.settings.max_labels)
    n_characters, most = len(json.dumps(labels)), service.settings.max_text_length
    service.check_count(n_characters, "characters in its labels", most)
    if isinstance(labels, list) and declared is not None:
        for name in labels:
            if declared.find(name) is None:
                raise LabelError(
                    f"{declared.unknown(name)} To use other labels in a request, give "
                    "a mapping of names to descriptions or null."
                )
        declared.subset(labels)  # at least two, each of them once
        return _Asked(scorer, [labels] * n_rows, decisions)
    own = replace(scorer, declared=LabelSet.parse(labels))
    if declared is None:  # what holds then, holds for any labels
        return _Asked(own, None, decisions)
    if any(each is not None for each in decisions):
        raise LabelError(
            "The calibration, threshold or sets of this server belong to its own "
            "labels: leave labels out, or list some of their names."
        )
    return _Asked(own, None, Decisions())


def _rows(
    service: Service,
    request: ClassifyRequest,
    text_column: str,
    fields: Sequence[str],
) -> list[Row | InputError]:
    if request.rows is None:
        if tuple(fields) != ("text",):
            named = ", ".join(repr(text_column if f == "text" else f) for f in fields)
            raise InputError(f"The prompt needs the columns {named}: give rows.")
        return [
            _row(service, {"text": text}, {"text": "text"})
            for text in request.texts or ()
        ]
    columns = {name: text_column if name == "text" else name for name in fields}
    return [_row(service, row, columns) for row in request.rows]


def _row(
    service: Service, cells: Mapping[str, Any], columns: Mapping[str, str]
) -> Row | InputError:
    """Return the prompt's columns of a row, or why it cannot be used."""
    for column in columns.values():
        if column not in cells:
            return DataError(f"there is no column {column!r}, which the prompt needs.")
    [row] = rows_of_cells({name: [cells[column]] for name, column in columns.items()})
    if isinstance(row, InputError):
        return row
    value = cells[columns["text"]] if "text" in columns else ""
    if not isinstance(value, str):
        return DataError(
            f"the text is a value of type {type(value).__name__}: send a string."
        )
    n_characters, most = sum(map(len, row.values())), service.settings.max_text_length
    if n_characters > most:
        return DataError(
            f"the text has {n_characters:,} characters, but this server allows "
            f"{most:,}: shorten it."
        )
    return row


async def _results(
    service: Service, asked: _Asked, rows: Sequence[Row | InputError]
) -> list[dict[str, Any]]:
    scorer, (calibrator, selective, sets) = asked.scorer, asked.decisions
    scored = await service.scored(len(rows), lambda: scorer.ascore(rows, asked.listed))
    results = row_results(
        scorer,
        len(rows),
        scored,
        posteriors_of=lambda scores: Posteriors.of(scores, calibrator),
        selective=selective,
        sets=sets,
        kind=service.kind if scorer is service.scorer else None,
        probabilities=True,
        bounds=True,
    )
    names = asked.listed
    if names is None:
        names = [scorer.known_labels().names] * len(rows)
    return listed_results(results, names, scorer.declared)
