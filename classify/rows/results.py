"""From the scores of rows to the columns that a user gets."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from classify.decision import SelectiveClassifier, SplitConformalSets
from classify.decision.posteriors import Posteriors
from classify.errors import DataError
from classify.questions.kinds import Kind
from classify.rows.doubts import Doubts, choice_doubts
from classify.rows.prompted_model import Refuse
from classify.rows.scorer import ScoredRows, Scorer
from classify.scoring import LabelLogprobs, Reasoning
from classify.spec import Scoring
from classify.tables import ResultKind

__all__ = [
    "BOUNDS",
    "LISTS",
    "NO_MASS",
    "ROW_RESULTS",
    "Column",
    "RowResults",
    "column_name",
    "columns_of",
    "errors_of",
    "kinds_of",
    "of_reasoning",
    "own_names",
    "reasoning_kinds",
    "row_results",
]


_Held = TypeVar("_Held")

# Results of a row, whatever the number of questions.
ROW_RESULTS = ("truncated", "error")
# What is known of the label and its probability.
BOUNDS: dict[str, ResultKind] = {"lower": "float", "upper": "float", "certain": "bool"}
# Results that hold several labels.
LISTS = ("label_set", "labels", "uncertain")
NO_MASS = "none of the labels has any probability (label mass 0)."


class RowResults(NamedTuple):
    """The results of rows, one column per name.

    Attributes
    ----------
    columns : dict of str to ndarray, each of shape (n_scored,)
        ``label``, ``probability``, those of `BOUNDS`, ``abstained``, ``label_set``
        (lists), ``p(…)``, ``label_mass``, ``unresolved``, ``agreement``,
        ``truncated``, and those of `reasoning_kinds`, of the rows that have a score.
    scored : ndarray of bool, shape (n_rows,)
        Which these are.
    errors : dict of int to str
        Positions of the other rows, and why they have none.
    classes : ndarray of str, shape (n_labels,)
        All labels.
    doubts : callable
        Works out which of the scored rows a person should look at, and why.
    n_uncertain : int, default=0
        Scored rows for which another label may be more likely by more than the
        tolerance, or a label may apply that is not given.
    n_inexact : int, default=0
        Where bounds are given: scored rows whose probability is known less exactly
        than the tolerance.
    uncertain_labels : sequence of str, default=()
        Where any number of labels apply: those that may apply to a row and are not
        given, once for each such row.
    """

    columns: dict[str, npt.NDArray[Any]]
    scored: npt.NDArray[np.bool_]
    errors: dict[int, str]
    classes: npt.NDArray[np.str_]
    doubts: Callable[[], Doubts]
    n_uncertain: int = 0
    n_inexact: int = 0
    uncertain_labels: Sequence[str] = ()


def row_results(
    scorer: Scorer,
    n_rows: int,
    scored_rows: ScoredRows,
    *,
    refuse: Refuse | None = None,
    posteriors_of: Callable[[LabelLogprobs], Posteriors],
    selective: SelectiveClassifier | None = None,
    sets: SplitConformalSets | None = None,
    kind: Kind | None = None,
    probabilities: bool = False,
    bounds: bool = False,
    reasoning: bool = False,
) -> RowResults:
    """Return the results of rows from their scores.

    Parameters
    ----------
    scorer : Scorer
        Has scored the rows.
    n_rows : int
    scored_rows : ScoredRows
    refuse : callable, default=None
        Makes the exception that a row raises whose labels have no probability. None:
        it is set aside.
    posteriors_of : callable
        From scores to probabilities, calibrated or not.
    selective : SelectiveClassifier, default=None
        Fitted: withholds labels, and adds the column ``abstained``.
    sets : SplitConformalSets, default=None
        Fitted: adds the column ``label_set``.
    kind : Ordinal, Tree or None
        Adds its columns.
    probabilities : bool, default=False
        Whether to add a column for each class.
    bounds : bool, default=False
        Whether to add the columns of `BOUNDS`, and those of the kind that are alike,
        even if the scorer leaves no more than its tolerance unknown.
    reasoning : bool, default=False
        Whether to add the thoughts to the other columns of `reasoning_kinds`.
    """
    scores, tolerance = scored_rows.scores, scorer.scoring.tolerance
    errors = {at: str(error) for at, error in scored_rows.errors.items()}
    bounds = bounds or scorer.gives_bounds
    scored = np.ones(n_rows, dtype=np.bool_)
    scored[list(errors)] = False
    # A row whose labels have no probability at all has no label either.
    silent = np.isneginf(scores.log_label_mass)
    if silent.any():
        unlabelled = np.flatnonzero(scored)[silent]
        if refuse is not None:
            raise refuse(int(unlabelled[0]), DataError(NO_MASS))
        errors = {**errors, **dict.fromkeys(unlabelled.tolist(), NO_MASS)}
        scored[unlabelled] = False
        scores = scores[~silent]
    posteriors = posteriors_of(scores)
    known = posteriors.known(tolerance)
    columns = _label_columns(
        posteriors, known._asdict() if bounds else {}, selective, sets
    )
    if kind is not None:
        columns |= _of_kind(kind, posteriors, bounds=bounds)
    if probabilities:
        proba = np.exp(posteriors.log_proba)
        for at, name in enumerate(scores.classes):
            columns[f"p({name})"] = proba[:, at]
    columns["label_mass"] = scores.label_mass
    columns["unresolved"] = scores.unresolved
    if scorer.asks_repeatedly and scores.agreement is not None:
        columns["agreement"] = scores.agreement
    columns["truncated"] = scores.truncated
    best = posteriors.best if len(scores) else np.empty(0, dtype=np.int64)
    for name in reasoning_kinds(scorer.scoring, with_text=reasoning):
        columns[name] = of_reasoning(name, scores.reasoning or (), best)
    return RowResults(
        columns,
        scored,
        dict(errors),
        scores.classes,
        partial(choice_doubts, columns, posteriors, known.certain),
        n_uncertain=int((~known.certain).sum()),
        n_inexact=int((known.upper - known.lower > tolerance).sum()) * bounds,
    )


def reasoning_kinds(scoring: Scoring, *, with_text: bool) -> dict[str, ResultKind]:
    """Return the columns that say how the model thought, and what they hold.

    ``reasoning``, the thoughts; ``cut``, whether one was; and of several chains
    ``agreement``, the share of which the most likely label is that of their average,
    and ``standard_error``, of the label's probability before it is calibrated.

    Examples
    --------
    >>> reasoning_kinds(Scoring("reason"), with_text=True)
    {'reasoning': 'str', 'cut': 'bool'}
    >>> reasoning_kinds(Scoring("exact"), with_text=True)
    {}
    """
    kinds: dict[str, ResultKind] = {}
    if scoring.strategy == "reason":
        if with_text:
            kinds["reasoning"] = "str"
        kinds["cut"] = "bool"
        if scoring.n_chains > 1:
            kinds |= {"agreement": "float", "standard_error": "float"}
    return kinds


class Column(NamedTuple):
    """A column of results.

    Attributes
    ----------
    values : ndarray, shape (n_scored,)
    scored : ndarray of bool, shape (n_rows,)
        Which rows have a value.
    """

    values: npt.NDArray[Any]
    scored: npt.NDArray[np.bool_]


def column_name(question: str, result: str) -> str:
    """Return the column that holds a result of a question.

    Examples
    --------
    >>> column_name("topic", "label"), column_name("topic", "label_mass")
    ('topic', 'topic.label_mass')
    >>> column_name("", "label")
    'label'
    """
    if not question or result in ROW_RESULTS:
        return result
    return question if result in ("label", "labels") else f"{question}.{result}"


def columns_of(results: Mapping[str, RowResults]) -> dict[str, Column]:
    """Return the columns of all questions, by the questions' names.

    A row is truncated if its text was cut for any of them.
    """
    columns: dict[str, Column] = {}
    for question, each in results.items():
        for result, values in each.columns.items():
            name, column = column_name(question, result), Column(values, each.scored)
            columns[name] = _either(columns.get(name), column)
    return columns if len(results) == 1 else _rows_last(columns)


def kinds_of(questions: Sequence[Mapping[str, ResultKind]]) -> dict[str, ResultKind]:
    """Return the columns of all questions, those of the row at the end.

    Examples
    --------
    >>> topic: dict[str, ResultKind] = {"topic": "str", "truncated": "bool"}
    >>> list(kinds_of([topic, {"tone": "str", "truncated": "bool"}]))
    ['topic', 'tone', 'truncated']
    """
    if len(questions) == 1:
        return dict(questions[0])
    kinds = {name: kind for each in questions for name, kind in each.items()}
    return _rows_last(kinds)


def _rows_last(columns: Mapping[str, _Held]) -> dict[str, _Held]:
    return {
        **{name: columns[name] for name in columns if name not in ROW_RESULTS},
        **{name: columns[name] for name in ROW_RESULTS if name in columns},
    }


def errors_of(results: Mapping[str, RowResults]) -> dict[int, str]:
    """Return what is wrong with each row for which a question has no answer.

    Where it is not wrong for all questions, each that it concerns is named.
    """
    reasons: dict[int, dict[str, str]] = {}
    for question, each in results.items():
        for at, reason in each.errors.items():
            reasons.setdefault(at, {})[question] = reason
    return {at: _told(reasons[at], len(results)) for at in sorted(reasons)}


def _told(reasons: Mapping[str, str], n_questions: int) -> str:
    texts = dict.fromkeys(reasons.values())
    if len(texts) == 1 and len(reasons) == n_questions:
        return next(iter(texts))
    return " ".join(f"{question}: {reason}" for question, reason in reasons.items())


def _either(one: Column | None, other: Column) -> Column:
    """Return whether either of two booleans is true, for rows that have one."""
    if one is None:
        return other
    found, scored = np.zeros(len(one.scored), dtype=np.bool_), one.scored | other.scored
    for each in (one, other):
        found[each.scored] |= each.values
    return Column(found[scored], scored)


def of_reasoning(
    name: str, reasoning: Sequence[Reasoning], best: npt.NDArray[np.int64]
) -> npt.NDArray[Any]:
    """Return a column of `reasoning_kinds`, of texts with these most likely labels."""
    if name == "reasoning":
        return np.array([each.text for each in reasoning], dtype=object)
    if name == "cut":
        return np.array([each.cut for each in reasoning], dtype=np.bool_)
    if name == "agreement":
        return np.array([each.agreement for each in reasoning], dtype=np.float64)
    pairs = zip(reasoning, best.tolist(), strict=True)
    errors = [each.standard_error[label] for each, label in pairs]
    return np.array(errors, dtype=np.float64)


def own_names(names: Iterable[str], taken: Iterable[str]) -> dict[str, str]:
    """Return the names of result columns, given the existing columns.

    Examples
    --------
    >>> own_names(["label", "probability"], ["text", "label"])
    {'label': 'predicted_label', 'probability': 'probability'}
    """
    used = set(taken)
    renamed = {}
    for name in names:
        own = name
        while own in used:
            own = f"predicted_{own}"
        used.add(own)
        renamed[name] = own
    return renamed


def _of_kind(
    kind: Kind, posteriors: Posteriors, *, bounds: bool
) -> dict[str, npt.NDArray[Any]]:
    names = [*kind.columns, *(kind.bounds if bounds else ())]
    # Where there is no row there may be no column either.
    if not len(posteriors.log_proba):
        return {name: np.empty(0, dtype=object) for name in names}
    found = kind.results(posteriors)
    return {name: found[name] for name in names}


def _label_columns(
    posteriors: Posteriors,
    known: Mapping[str, npt.NDArray[Any]],
    selective: SelectiveClassifier | None,
    sets: SplitConformalSets | None,
) -> dict[str, npt.NDArray[Any]]:
    """Return the label of each text, its probability, and what was decided."""
    log_proba, classes = posteriors.log_proba, posteriors.classes
    assert classes is not None, "scores have classes"
    n_texts = len(log_proba)
    # Where there is no row there may be no column either.
    best = posteriors.best if n_texts else np.empty(0, dtype=np.int64)
    columns: dict[str, npt.NDArray[Any]] = {
        "label": classes[best],
        "probability": np.exp(log_proba[np.arange(n_texts), best]),
        **known,
    }
    if selective is not None:
        decisions = selective.decide(posteriors)
        columns["label"] = decisions.label
        columns["abstained"] = decisions.reason
    if sets is not None:
        # A full set holds all labels, but not those that are not candidates.
        member = sets.predict_set(posteriors) & ~np.isneginf(log_proba)
        columns["label_set"] = np.fromiter(
            (classes[row].tolist() for row in member), dtype=object, count=n_texts
        )
    return columns
