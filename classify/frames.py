"""The edge to pandas: rows out of texts and frames, results back into frames."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from classify.decision import SelectiveClassifier, SplitConformalSets
from classify.decision.posteriors import Posteriors
from classify.encoding import Row
from classify.errors import DataError, InputError
from classify.scoring import LabelLogprobs

__all__ = [
    "RowResults",
    "add_results",
    "candidates_of_cells",
    "candidates_of_frame",
    "own_names",
    "row_results",
    "rows_and_candidates",
    "rows_of_cells",
    "rows_of_frame",
    "rows_of_texts",
]

_BLANK = "there is no text: it is empty or missing."
_NO_MASS = "none of the labels has any probability (label mass 0)."


def rows_and_candidates(
    X: Any, labels: Any, fields: Sequence[str]
) -> tuple[list[Row | InputError], list[Sequence[str] | InputError] | None]:
    """Return the rows of what a user passed, and each one's candidate labels.

    Parameters
    ----------
    X : sequence of str, Series, array, or DataFrame
    labels : sequence of sequences of str, str, or None
        The candidates of each text, or the column of `X` that lists them.
    fields : sequence of str
        What the prompt needs of a row.

    Raises
    ------
    InputError
        X is nothing that holds texts; labels name a column though X is no DataFrame, or
        do not match the number of texts.
    """
    is_frame = isinstance(X, pd.DataFrame)
    rows = rows_of_frame(X, fields, "text") if is_frame else rows_of_texts(X, fields)
    if labels is None:
        return rows, None
    if isinstance(labels, str):
        if is_frame:
            return rows, candidates_of_frame(X, labels)
        raise InputError(
            f"labels={labels!r} names a column, but X is no DataFrame: give a sequence "
            "of candidate labels for each text."
        )
    if len(labels) != len(rows):
        raise InputError(
            f"labels must hold the candidates of each text: got {len(labels)} for "
            f"{len(rows)} texts."
        )
    return rows, list(labels)


def rows_of_texts(texts: Any, fields: Sequence[str]) -> list[Row | InputError]:
    """Return a row for each text; its error where the text is missing or empty.

    Parameters
    ----------
    texts : list, tuple, Series or array of str
    fields : sequence of str
        What the prompt needs; only ``("text",)`` can be had from bare texts.

    Raises
    ------
    InputError
        `texts` is a single string, has more than one dimension, or holds something
        that is no string; or the prompt needs further columns.
    """
    if isinstance(texts, str | bytes) or np.ndim(texts) == 0:
        raise InputError(
            f"Texts must be a sequence of strings. Got {texts!r} instead: put a single "
            "text in a list."
        )
    if np.ndim(texts) != 1:
        raise InputError(
            f"Texts must have one dimension. Got shape {np.shape(texts)} instead: pass "
            "one column."
        )
    if tuple(fields) != ("text",):
        others = ", ".join(repr(name) for name in fields if name != "text")
        raise InputError(
            f"The prompt needs the columns {others}: pass a DataFrame that has them."
        )
    rows: list[Row | InputError] = []
    for at, text in enumerate(texts):
        if _is_missing(text) or (isinstance(text, str) and not text.strip()):
            rows.append(DataError(_BLANK))
        elif isinstance(text, str):
            rows.append({"text": str(text)})
        else:
            raise InputError(
                f"Texts must be strings. Text {at} is {text!r} of type "
                f"{type(text).__name__} instead: convert it first."
            )
    return rows


def rows_of_frame(
    frame: pd.DataFrame, fields: Sequence[str], text_column: str
) -> list[Row | InputError]:
    """Return the columns that the prompt needs, as strings, one row for each text.

    A missing value in another column than the text's is an empty string. A row is an
    error where the text, or all that the prompt shows of it, is missing or blank.

    Raises
    ------
    DataError
        A column that the prompt needs is not in the frame.
    """
    column_of: dict[str, str] = {
        name: text_column if name == "text" else name for name in fields
    }
    for name, column in column_of.items():
        if column not in frame.columns:
            present = ", ".join(map(repr, frame.columns)) or "none"
            wanted = "text" if name == "text" else f"prompt's {{{name}}}"
            raise DataError(
                f"There is no column {column!r} for the {wanted}. Columns: {present}."
            )
        if isinstance(frame[column], pd.DataFrame):
            raise DataError(f"There is more than one column {column!r}: rename one.")
    return rows_of_cells(
        {name: frame[column].tolist() for name, column in column_of.items()}
    )


def rows_of_cells(columns: Mapping[str, Sequence[Any]]) -> list[Row | InputError]:
    """Return rows of the cells of each of the prompt's fields; see `rows_of_frame`."""
    essential = "text" if "text" in columns else None
    rows: list[Row | InputError] = []
    for values in zip(*columns.values(), strict=True):
        row = {
            name: "" if _is_missing(value) else str(value)
            for name, value in zip(columns, values, strict=True)
        }
        shown = row[essential] if essential else "".join(row.values())
        rows.append(row if shown.strip() else DataError(_BLANK))
    return rows


def candidates_of_frame(
    frame: pd.DataFrame, column: str | None
) -> list[Sequence[str] | InputError] | None:
    """Return each row's candidate labels: lists, JSON lists, or ``a|b|c``.

    No column gives None: every label is a candidate.
    """
    if column is None:
        return None
    if column not in frame.columns:
        columns = ", ".join(map(repr, frame.columns)) or "none"
        raise DataError(
            f"There is no column {column!r} with labels. Columns: {columns}."
        )
    return candidates_of_cells(frame[column].tolist(), column)


def candidates_of_cells(
    cells: Iterable[Any], column: str
) -> list[Sequence[str] | InputError]:
    """Return the candidate labels that cells of a column list."""
    candidates: list[Sequence[str] | InputError] = []
    for value in cells:
        if isinstance(value, list | tuple | np.ndarray):
            candidates.append([str(name) for name in value])
        elif _is_missing(value) or not str(value).strip():
            candidates.append(DataError(f"there are no labels in column {column!r}."))
        else:
            candidates.append(_parse_candidates(str(value), column))
    return candidates


class RowResults(NamedTuple):
    """What is known of rows, a column a name.

    Attributes
    ----------
    columns : dict of str to ndarray, each of shape (n_scored,)
        ``label``, ``probability``, ``abstained``, ``label_set``, ``p(…)``,
        ``label_mass``, ``unresolved`` and ``truncated`` of the rows that have a score.
    scored : ndarray of bool, shape (n_rows,)
        Which these are.
    errors : dict of int to str
        Positions of the other rows, and why they have none.
    """

    columns: dict[str, npt.NDArray[Any]]
    scored: npt.NDArray[np.bool_]
    errors: dict[int, str]


def row_results(
    n_rows: int,
    scores: LabelLogprobs,
    errors: Mapping[int, str],
    *,
    log_proba_of: Callable[[LabelLogprobs], npt.NDArray[np.float64]],
    selective: SelectiveClassifier | None = None,
    sets: SplitConformalSets | None = None,
    probabilities: bool = False,
) -> RowResults:
    """Return what scores say of rows.

    Parameters
    ----------
    n_rows : int
    scores : LabelLogprobs
        Scores of the rows that are not in `errors`, in their order.
    errors : mapping of int to str
        Row positions that have no score, and why.
    log_proba_of : callable
        From scores to class log-probabilities, calibrated or not.
    selective : SelectiveClassifier, default=None
        Fitted: withholds labels, and adds the column ``abstained``.
    sets : SplitConformalSets, default=None
        Fitted: adds the column ``label_set``.
    probabilities : bool, default=False
        Whether to add a column for each class.
    """
    scored = np.ones(n_rows, dtype=np.bool_)
    scored[list(errors)] = False
    # A row whose labels have no probability at all has no label either.
    silent = np.isneginf(scores.log_label_mass)
    if silent.any():
        unlabelled = np.flatnonzero(scored)[silent]
        errors = {**errors, **dict.fromkeys(unlabelled.tolist(), _NO_MASS)}
        scored[unlabelled] = False
        scores = scores[~silent]
    posteriors = Posteriors(log_proba_of(scores), scores.classes, scores.label_mass)
    columns = _label_columns(posteriors, selective, sets)
    if probabilities:
        proba = np.exp(posteriors.log_proba)
        for at, name in enumerate(scores.classes):
            columns[f"p({name})"] = proba[:, at]
    columns["label_mass"] = scores.label_mass
    columns["unresolved"] = scores.unresolved
    columns["truncated"] = scores.truncated
    return RowResults(columns, scored, dict(errors))


def own_names(names: Iterable[str], taken: Iterable[str]) -> dict[str, str]:
    """Return what each column of results is called beside columns that there are.

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


def add_results(
    frame: pd.DataFrame, results: RowResults, *, with_errors: bool
) -> pd.DataFrame:
    """Return the frame with results in further columns.

    Parameters
    ----------
    frame : DataFrame, n_rows rows
    results : RowResults
    with_errors : bool
        Whether to add the column ``error``.
    """
    columns = {
        name: _spread(values, results.scored, frame.index)
        for name, values in results.columns.items()
    }
    if with_errors:
        columns["error"] = pd.Series(
            [results.errors.get(at, "") for at in range(len(frame))],
            index=frame.index,
            dtype=object,
        )
    named = own_names(columns, map(str, frame.columns))
    renamed = {named[name]: column for name, column in columns.items()}
    return pd.concat([frame, pd.DataFrame(renamed, index=frame.index)], axis=1)


def _label_columns(
    posteriors: Posteriors,
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
    }
    if selective is not None:
        decisions = selective.decide(posteriors)
        columns["label"] = decisions.label
        columns["abstained"] = decisions.reason
    if sets is not None:
        # A full set holds all labels, but not those that are no candidates.
        member = sets.predict_set(posteriors) & ~np.isneginf(log_proba)
        columns["label_set"] = np.array(
            ["|".join(classes[row].tolist()) for row in member], dtype=object
        )
    return columns


def _spread(
    values: npt.NDArray[Any], scored: npt.NDArray[np.bool_], index: pd.Index
) -> pd.Series:
    """Return a column with the values of scored rows, and nothing elsewhere."""
    missing: Any = np.nan if values.dtype.kind == "f" else None
    filled = np.full(len(scored), missing, dtype=object)
    filled[scored] = values
    column = pd.Series(filled, index=index)
    if values.dtype.kind == "f":
        return column.astype(np.float64)
    return column.astype("boolean") if values.dtype.kind == "b" else column


def _is_missing(value: Any) -> bool:
    return (
        value is None or value is pd.NA or (isinstance(value, float) and value != value)
    )


def _parse_candidates(text: str, column: str) -> Sequence[str] | InputError:
    if not text.lstrip().startswith("["):
        return [name.strip() for name in text.split("|")]
    try:
        names = json.loads(text)
    except json.JSONDecodeError as error:
        return DataError(
            f"column {column!r} holds {text!r}, which is no list: {error}."
        )
    return [str(name) for name in names]
