"""Tables of labelled texts, scored for calibration and evaluation."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from classify.cells import shown
from classify.errors import AnswerError, DataError, InputError, LabelError
from classify.jobs.answers import (
    Reviewed,
    drawn,
    has_label,
    label_of_cell,
    labels_of_cell,
    merged,
)
from classify.jobs.job import Classifier, RowColumns
from classify.labels import LabelSet
from classify.labels.indicators import indicators_of
from classify.labels.names import suggestion
from classify.rows.encoding import Row, candidate_sets
from classify.rows.from_cells import candidates_of_cells
from classify.rows.prompted_model import Progress
from classify.rows.results import NO_MASS
from classify.rows.side_by_side import ScoredRows, score_encoded
from classify.scoring import LabelLogprobs
from classify.tables.chunk import Chunk, joined
from classify.tables.table import Table
from classify.wording import parameter

__all__ = [
    "LabelledRows",
    "ScoredTexts",
    "read_labelled",
    "score_labelled",
    "score_together",
    "usable_texts",
]

_CHUNK_ROWS = 8192
# Values that are not labels, in a message.
_MAX_VALUES = 20


@dataclass(frozen=True, eq=False)
class LabelledRows:
    """Rows of a table whose label is known, or all rows if no labels are read.

    Attributes
    ----------
    rows : list of mapping or InputError
        The prompt's columns of each row, or the reason why it cannot be used.
    candidates : list of sequence of str, or InputError; or None
        The labels that each may get; None: all labels for every row.
    labels : ndarray of str, shape (n_rows,), or None
        True labels; None if they were not read. Where any number may apply, an
        ndarray of int64, shape (n_rows, n_labels): 1 for each that does, sorted.
    unlabelled : Counter of str
        Texts of the table that were left out because they have no label, by reason.
    unreadable : Counter of str
        Rows of the table that could not be read, by reason.
    numbers : list of int
        Which rows of the table they are.
    n_left_out, n_selected : int
        As in `Drawn`.
    """

    rows: list[Row | InputError]
    candidates: list[Sequence[str] | InputError] | None
    labels: npt.NDArray[Any] | None
    unlabelled: Counter[str]
    unreadable: Counter[str]
    numbers: list[int]
    n_left_out: int = 0
    n_selected: int = 0


@dataclass(frozen=True, eq=False)
class ScoredTexts:
    """Texts with their scores, rows that could not be scored left out.

    Attributes
    ----------
    rows : list of mapping, length n_texts
        The prompt's columns.
    labels : ndarray of str, shape (n_texts,), or None
        True labels, as in `LabelledRows`.
    scores : LabelLogprobs
        n_texts rows; where any number of labels may apply, one for each label of each
        text, as `Scorer.score` returns them.
    set_aside : Counter of str
        Rows of the table that were left out, by reason.
    """

    rows: list[Row]
    labels: npt.NDArray[Any] | None
    scores: LabelLogprobs
    set_aside: Counter[str]

    @property
    def texts(self) -> list[str]:
        """The texts, or all columns of the prompt if there is no text column."""
        return [row.get("text") or " ".join(row.values()) for row in self.rows]


def read_labelled(
    table: Table,
    labels: LabelSet | None,
    *,
    fields: Sequence[str],
    text_column: str,
    label_column: str | None,
    labels_column: str | None = None,
    any_number: bool = False,
    reviewed: Reviewed | None = None,
) -> LabelledRows:
    """Read a table with true labels; nothing is scored.

    Rows that several people labelled (of a file that `Review` asks for, or of Label
    Studio) are used once, and set aside where the labels differ.

    Parameters
    ----------
    table : Table
        Read as a whole: there are few labelled texts.
    labels : LabelSet or None
        The allowed labels, in any Unicode normal form. White space around them is
        ignored; a cell that is empty or NaN has no label. None: each row has its own
        candidates, and is set aside if its label is not among these.
    fields : sequence of str
        The columns that the prompt needs.
    text_column : str
    label_column : str or None
        None: labels are not asked for.
    labels_column : str, default=None
        The column with each row's candidate labels. None: all labels for every row.
    any_number : bool, default=False
        Whether cells hold lists of labels, as ``a|b``, or ``[]`` where none applies.
    reviewed : {"random", "all"}, default=None
        Of a file with rows to review, use those that were drawn at random, or all;
        None: the former if there are any.

    Raises
    ------
    LabelError
        Cells hold other labels; the message lists them with their rows.
    DataError
        There is no such column, or no row with a label.
    """
    whole = joined([table.no_rows(), *table.chunks(_CHUNK_ROWS)])
    unreadable = Counter(each.reason for each in whole.unreadable)
    chunk, n_left_out, n_selected = drawn(whole, reviewed)
    n_readable = len(chunk)
    true: npt.NDArray[Any] | None = None
    rows = RowColumns(text=text_column).rows(chunk, fields)
    unlabelled: Counter[str] = Counter()
    if label_column is not None:
        answers = _answers(table, chunk, label_column, labels, any_number=any_number)
        found = merged(chunk, rows, answers)
        unlabelled = found.unlabelled
        chunk = chunk.take(found.positions)
        rows = [found.errors.get(at, rows[at]) for at in found.positions]
        named = [answers[at] or [] for at in found.positions]
        if any_number:
            true = indicators_of(labels, named, len(named)).values
        else:
            true = np.array([name for [name] in named], dtype=np.str_)
    if not rows:
        raise DataError(
            _no_rows(table, label_column, n_readable, unreadable, n_left_out)
        )
    candidates = None
    if labels_column is not None:
        candidates = candidates_of_cells(chunk.cells(labels_column), labels_column)
        if true is not None:
            rows, true = _among_candidates(rows, candidates, true, labels)
    return LabelledRows(
        rows,
        candidates,
        true,
        unlabelled,
        unreadable,
        chunk.numbers.tolist(),
        n_left_out,
        n_selected,
    )


def score_labelled(
    classifier: Classifier,
    labelled: LabelledRows,
    *,
    progress: Progress | None = None,
) -> ScoredTexts:
    """Score rows, and set those aside that cannot be.

    Parameters
    ----------
    classifier : ZeroShotClassifier or ZeroShotMultiLabelClassifier
        Its calibrator is not used.
    labelled : LabelledRows
    progress : callable, default=None
        Called with the number of rows finished since the last call.

    Raises
    ------
    DataError
        No row can be scored.
    AnswerError
        No row can be scored because the model fails.
    """
    [scored] = score_together([classifier], [labelled], progress=progress)
    return usable_texts(labelled, scored)


def score_together(
    classifiers: Sequence[Classifier],
    labelled: Sequence[LabelledRows],
    *,
    progress: Progress | None = None,
) -> list[ScoredRows]:
    """Score rows of one table for several questions; what they share is computed once.

    Parameters
    ----------
    classifiers : sequence of classifier
        One for each question, over one model.
    labelled : sequence of LabelledRows
        Those of each question.
    progress : callable, default=None
        Called with the number of rows finished since the last call, of all questions.
    """
    scorers = [each.scorer() for each in classifiers]
    encoded = []
    for scorer, own in zip(scorers, labelled, strict=True):
        candidates = candidate_sets(own.candidates, scorer.declared)
        encoded += [
            each.encoded(own.rows, candidates)._replace(numbers=own.numbers)
            for each in scorer.each()
        ]
    scored = iter(score_encoded(encoded, progress=progress))
    return [
        scorer.together(len(own.rows), [next(scored) for _ in scorer.each()])
        for scorer, own in zip(scorers, labelled, strict=True)
    ]


def usable_texts(labelled: LabelledRows, scored: ScoredRows) -> ScoredTexts:
    """Return the rows that have scores.

    Raises
    ------
    DataError, AnswerError
        As `score_labelled`.
    """
    scores, errors = scored
    good = [at for at in range(len(labelled.rows)) if at not in errors]
    n_labels = len(scores) // max(len(good), 1)  # scores of a row
    silent = np.isneginf(scores.log_label_mass)[:: max(n_labels, 1)]
    kept = [at for at, is_silent in zip(good, silent, strict=True) if not is_silent]
    set_aside = Counter(str(error) for error in errors.values())
    set_aside[NO_MASS] += int(silent.sum())
    set_aside = +set_aside + labelled.unlabelled + labelled.unreadable
    if not kept:
        # Where it is the model that fails, the input is not to blame.
        of_model = [
            str(each) for each in errors.values() if isinstance(each, AnswerError)
        ]
        reason = next(iter([*of_model, *set_aside]))
        raise (AnswerError if of_model else DataError)(
            f"None of the {len(labelled.rows):,} rows can be used: {reason}"
        )
    rows = [row for at in kept if not isinstance(row := labelled.rows[at], InputError)]
    true = None if labelled.labels is None else labelled.labels[kept]
    return ScoredTexts(rows, true, scores[~silent.repeat(n_labels)], set_aside)


def _answers(
    table: Table,
    chunk: Chunk,
    column: str,
    labels: LabelSet | None,
    *,
    any_number: bool,
) -> list[list[str] | None]:
    """Return the labels in the cells of a column; None where there is none."""
    cells = [
        labels_of_cell(cell, labels) if any_number else label_of_cell(cell)
        for cell in chunk.cells(column)
    ]
    known = [at for at, cell in enumerate(cells) if has_label(cell, labels)]
    named = [[each] if isinstance(each := cells[at], str) else each for at in known]
    if labels is not None:
        _check_labels(named, chunk.take(known), column, table, labels)
        named = [[labels.of_cell(name) or name for name in each] for each in named]
    answers: list[list[str] | None] = [None] * len(chunk)
    for at, names in zip(known, named, strict=True):
        answers[at] = names
    return answers


def _among_candidates(
    rows: Sequence[Row | InputError],
    candidates: Sequence[Sequence[str] | InputError],
    true: npt.NDArray[np.str_],
    labels: LabelSet | None,
) -> tuple[list[Row | InputError], npt.NDArray[np.str_]]:
    """Return rows, those with a label that is no candidate as errors; and the labels.

    A label is spelled as its row's candidate is.
    """
    found: list[Row | InputError] = []
    spelled = []
    sets = candidate_sets(candidates, labels)
    assert sets is not None, "there are candidates"
    for row, allowed, name in zip(rows, sets, true.tolist(), strict=True):
        own = None if isinstance(allowed, InputError) else allowed.of_cell(name)
        spelled.append(own or name)
        if own is None and not isinstance(allowed, InputError):
            row = LabelError(f"its label {name!r} is not one of its candidates.")
        found.append(row)
    return found, np.array(spelled, dtype=np.str_)


def _check_labels(
    named: Sequence[Sequence[str]],
    chunk: Chunk,
    column: str,
    table: Table,
    labels: LabelSet,
) -> None:
    """Raise LabelError with every value that is not a label, and where it is."""
    rows: dict[str, list[int]] = {}
    for names, number in zip(named, chunk.numbers.tolist(), strict=True):
        for name in names:
            if labels.of_cell(name) is None:
                rows.setdefault(name, []).append(number + 1)
    if not rows:
        return
    by_count = sorted(rows.items(), key=lambda item: -len(item[1]))
    values = [
        f"{shown(cell)}: {_places(at)}.{suggestion(cell, labels.names)}"
        for cell, at in by_count[:_MAX_VALUES]
    ]
    if len(rows) > _MAX_VALUES:
        values.append(f"And {len(rows) - _MAX_VALUES:,} more.")
    what = "a value that is not a label"
    if len(rows) > 1:
        what = f"{len(rows):,} values that are not labels"
    raise LabelError(
        f"Column {column!r} of {table.name} holds {what}. {' '.join(values)} The "
        f"labels are {labels.listed}. Correct these cells, or empty them to leave "
        "their rows out."
    )


def _places(rows: Sequence[int]) -> str:
    if len(rows) == 1:
        return f"row {rows[0]:,}"
    return f"{len(rows):,} rows, the first is row {rows[0]:,}"


def _no_rows(
    table: Table,
    label_column: str | None,
    n_readable: int,
    unreadable: Counter[str],
    n_left_out: int,
) -> str:
    if unreadable and not n_readable:
        return (
            f"None of the {unreadable.total():,} rows of {table.name} can be read: "
            f"{next(iter(unreadable))}"
        )
    if label_column is None or not n_readable:
        return f"There are no rows in {table.name}."
    which, others = "", ""
    if n_left_out:
        which = " of the rows drawn at random"
        others = f", or use all rows with {parameter('reviewed', 'all')}"
    return (
        f"There are no labels in column {label_column!r} of {table.name}: fill in "
        f"those of some{which or ' rows'}{others}."
    )
