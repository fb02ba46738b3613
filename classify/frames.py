"""The edge to pandas: rows out of texts and frames, results back into frames."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from classify.cells import is_missing, no_text, shown, text_of, texts_list
from classify.column_hints import choice_hint
from classify.decision import SelectiveClassifier, SplitConformalSets
from classify.decision.posteriors import Posteriors
from classify.encoding import Row
from classify.errors import DataError, InputError, RowError
from classify.label_names import join_names, need_json
from classify.prompted_model import Refuse
from classify.scoring import LabelLogprobs

__all__ = [
    "NO_MASS",
    "RowResults",
    "add_results",
    "candidates_of_cells",
    "candidates_of_frame",
    "frame_of",
    "own_names",
    "row_refusal",
    "row_results",
    "rows_and_candidates",
    "rows_of_cells",
    "rows_of_frame",
    "rows_of_texts",
]

NO_MASS = "none of the labels has any probability (label mass 0)."


def rows_and_candidates(
    X: Any, labels: Any, fields: Sequence[str]
) -> tuple[list[Row | InputError], list[Sequence[str] | InputError] | None]:
    """Return the rows of what a user passed, and each one's candidate labels.

    Parameters
    ----------
    X, labels
        As in `ZeroShotClassifier.label_logprobs`.
    fields : sequence of str
        What the prompt needs of a row.

    Raises
    ------
    InputError
        X is nothing that holds texts, or labels do not fit it.
    """
    frame = pandas_of(X)
    rows = rows_of_texts(X, fields) if frame is None else rows_of_frame(frame, fields)
    if labels is None:
        return rows, None
    if isinstance(labels, str):
        if frame is not None:
            return rows, candidates_of_frame(frame, labels)
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


def pandas_of(table: Any) -> pd.DataFrame | None:
    """Return a table of pandas, polars, pyarrow or datasets; None if it is none."""
    if not isinstance(table, pd.DataFrame) and hasattr(table, "to_pandas"):
        table = table.to_pandas()
    return table if isinstance(table, pd.DataFrame) else None


def frame_of(table: Any) -> pd.DataFrame:
    """Return a table as a DataFrame, or raise an InputError if it is none."""
    if (frame := pandas_of(table)) is not None:
        return frame
    raise InputError(
        "classify_frame takes a table with named columns, such as a DataFrame. Got a "
        f"value of type {type(table).__name__} instead: use "
        "pandas.DataFrame({'text': texts})."
    )


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
    values = texts_list(texts)
    if tuple(fields) != ("text",):
        others = ", ".join(repr(name) for name in fields if name != "text")
        raise InputError(
            f"The prompt needs the columns {others}: pass a DataFrame that has them."
        )
    for at, value in enumerate(values):
        if not (isinstance(value, str | bytes) or is_missing(value)):
            raise InputError(
                f"Texts must be strings. Text {at} is {shown(value)} of type "
                f"{type(value).__name__} instead: convert it first."
            )
    return rows_of_cells({"text": values})


def rows_of_frame(
    frame: pd.DataFrame, fields: Sequence[str], text_column: str | None = None
) -> list[Row | InputError]:
    """Return the columns that the prompt needs, as strings, one row for each text.

    The texts are in the column "text" if no other is given. A missing value in another
    column than the text's is an empty string. A row is an
    error where the text, or all that the prompt shows of it, is missing or blank.

    Raises
    ------
    DataError
        A column that the prompt needs is not in the frame.
    """
    column_of: dict[str, str] = {
        name: text_column or name if name == "text" else name for name in fields
    }
    for name, column in column_of.items():
        if column not in frame.columns:
            present = ", ".join(map(repr, frame.columns)) or "none"
            wanted = "text" if name == "text" else f"prompt's {{{name}}}"
            is_chosen = name == "text" and text_column is not None
            hint = choice_hint(
                column,
                list(map(str, frame.columns)),
                "text_column" if is_chosen else None,
            )
            raise DataError(
                f"There is no column {column!r} for the {wanted}. Columns: {present}."
                f"{hint}"
            )
        if isinstance(frame[column], pd.DataFrame):
            raise DataError(f"There is more than one column {column!r}: rename one.")
    return rows_of_cells(
        {name: frame[column].tolist() for name, column in column_of.items()}
    )


def rows_of_cells(columns: Mapping[str, Sequence[Any]]) -> list[Row | InputError]:
    """Return rows of the cells of each of the prompt's fields; see `rows_of_frame`."""
    names = list(columns)
    return [
        _row(dict(zip(names, values, strict=True)))
        for values in zip(*columns.values(), strict=True)
    ]


def _row(cells: Mapping[str, Any]) -> Row | InputError:
    row = {}
    for name, value in cells.items():
        if type(value) is str and value.isascii():  # nearly all cells
            row[name] = value
            continue
        try:
            row[name] = text_of(value)
        except DataError as error:
            where = "the text" if name == "text" else f"column {name!r}"
            return DataError(f"{where} {error}")
    problem = no_text(row["text"] if "text" in row else "".join(row.values()))
    return DataError(problem) if problem else row


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
    return [_candidates(value, column) for value in cells]


def _candidates(cell: Any, column: str) -> Sequence[str] | InputError:
    try:
        if isinstance(cell, list | tuple | np.ndarray) and not is_missing(cell):
            return [text_of(name) for name in cell]
        text = text_of(cell)
        if no_text(text):
            return DataError(f"there are no labels in column {column!r}.")
        if not text.lstrip().startswith("["):
            return [name.strip() for name in text.split("|")]
        return [text_of(name) for name in json.loads(text)]
    except json.JSONDecodeError as error:
        return DataError(
            f"column {column!r} holds {text!r}, which is no list: {error}."
        )
    except DataError as error:
        return DataError(f"column {column!r} {error}")


class RowResults(NamedTuple):
    """What is known of rows, a column a name.

    Attributes
    ----------
    columns : dict of str to ndarray, each of shape (n_scored,)
        ``label``, ``probability``, ``abstained``, ``label_set`` (lists), ``p(…)``,
        ``label_mass``, ``unresolved`` and ``truncated`` of the rows that have a score.
    scored : ndarray of bool, shape (n_rows,)
        Which these are.
    errors : dict of int to str
        Positions of the other rows, and why they have none.
    classes : ndarray of str, shape (n_labels,)
        All labels.
    """

    columns: dict[str, npt.NDArray[Any]]
    scored: npt.NDArray[np.bool_]
    errors: dict[int, str]
    classes: npt.NDArray[np.str_]


def row_refusal(index: pd.Index) -> Refuse:
    """Return what makes the exception of a frame's row, which it names."""

    def refuse(at: int, error: RowError) -> RowError:
        kind = DataError if isinstance(error, InputError) else type(error)
        go_on = "Pass on_error='set_aside' to go on with the other rows."
        return kind(f"Row {index[at]}: {error} {go_on}")

    return refuse


def row_results(
    n_rows: int,
    scores: LabelLogprobs,
    errors: Mapping[int, str],
    *,
    refuse: Refuse | None = None,
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
    refuse : callable, default=None
        Makes the exception that a row raises whose labels have no probability. None:
        it is set aside.
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
        if refuse is not None:
            raise refuse(int(unlabelled[0]), DataError(NO_MASS))
        errors = {**errors, **dict.fromkeys(unlabelled.tolist(), NO_MASS)}
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
    return RowResults(columns, scored, dict(errors), scores.classes)


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
    if "label_set" in columns:
        join = partial(join_names, as_json=need_json(results.classes))
        columns["label_set"] = columns["label_set"].map(join, na_action="ignore")
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
        columns["label_set"] = np.fromiter(
            (classes[row].tolist() for row in member), dtype=object, count=n_texts
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
