"""The rows for a person to review: found chunk by chunk, written at the end."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from classify import __version__
from classify.cells import need_json
from classify.errors import ConfigError, DataError, InputError
from classify.estimators.asked import Asked
from classify.estimators.multi_label import ZeroShotMultiLabelClassifier
from classify.files.atomic import atomic_file
from classify.jobs.job import Classification
from classify.jobs.label_studio import (
    AnswerField,
    Prediction,
    interface,
    task,
    tasks_bytes,
)
from classify.jobs.output import check_apart, check_place, job_places
from classify.jobs.results import ClassifiedChunk
from classify.jobs.review import (
    LABELS,
    RANDOM,
    REASON,
    RESERVED,
    SAMPLE,
    SELECTED,
    Review,
    ReviewFile,
    answer_column,
)
from classify.questions.kinds import Tree
from classify.rows.doubts import Doubts
from classify.rows.from_cells import candidates_of_cells
from classify.rows.results import column_name, own_names
from classify.tables.annotations import REVIEW_ROW
from classify.tables.chunk import Chunk
from classify.tables.formats import ResultKind
from classify.tables.rows import DictRows, ListRows, Rows
from classify.tables.table import Table
from classify.tables.text_output import JsonlOutput
from classify.tables.values import json_text
from classify.tables.writing import OutputFormat, output_format

__all__ = ["ReviewRows", "review_kinds"]

_Floats: TypeAlias = npt.NDArray[np.float64]
_Keys: TypeAlias = npt.NDArray[np.uint64]


class _Row(NamedTuple):
    """A row that may be written.

    Attributes
    ----------
    number : int
        In the input, from 0.
    worth : float
        Rows with lower values are more useful to review.
    key : int
        The rows with the lowest keys are the random ones.
    cells : list
        Of the input, in the order of its columns.
    results : list
        In the order of `Classification.kinds`.
    answers : dict of str to [list of str, float]
        For each question with a score, the predicted labels and their probability.
    reason : str
    """

    number: int
    worth: float
    key: int
    cells: list[Any]
    results: list[Any]
    answers: dict[str, tuple[list[str], float]]
    reason: str


class ReviewRows:
    """Keeps the rows of a job that are most useful to review.

    Parameters
    ----------
    review : Review
    job : Classification
    table : Table
        The input.
    output : Path, default=None
        The output of the job.

    Raises
    ------
    InputError
        See `check_review`.
    """

    def __init__(
        self,
        review: Review,
        job: Classification,
        table: Table,
        output: Path | None = None,
    ) -> None:
        check_review(review, job, table, output)
        self._review, self._job, self._columns = review, job, table.columns
        self._rows: list[_Row] = []

    def add(self, classified: ClassifiedChunk) -> bytes:
        """Add the rows of a chunk, and return the bytes that `restore` needs."""
        chunk = classified.chunk
        of_questions = classified.of_questions
        doubts = {name: each.doubts() for name, each in of_questions.items()}
        scored = {name: each.scored for name, each in of_questions.items()}
        worth = np.full(len(chunk), np.inf)
        for name, each in doubts.items():
            # A margin is at most 1.
            own = 2.0 * each.rank + each.margin
            worth[scored[name]] = np.minimum(worth[scored[name]], own)
        keys = _random_keys(chunk.numbers)
        at = self._candidates(worth, keys)
        results = list(classified.results.values())
        rows = [
            _Row(
                int(chunk.numbers[one]),
                float(worth[one]),
                int(keys[one]),
                cells,
                [values[one] for values in results],
                *_told(int(one), doubts, scored),
            )
            for one, cells in zip(at, chunk.take(at).lists(), strict=True)
        ]
        lines = "".join(f"{json_text(row)}\n" for row in rows).encode()
        # What is written must not depend on whether the job was interrupted.
        self.restore(lines)
        return lines

    def restore(self, lines: bytes) -> None:
        """Add the rows that `add` returned, in this run or an earlier one."""
        rows = [*self._rows, *(_Row(*json.loads(line)) for line in lines.splitlines())]
        self._rows = sorted(rows, key=lambda row: (row.worth, row.number))
        drawn = self._drawn()
        self._rows = [
            row
            for at, row in enumerate(self._rows)
            if at < self._review.n_rows or row.number in drawn
        ]

    def write(self) -> ReviewFile:
        """Write the file, with the rows that are most useful first.

        Raises
        ------
        DataError
            It cannot be written.
        """
        review, drawn = self._review, self._drawn()
        n_others = review.n_rows - len(drawn)
        others = [row.number for row in self._rows if row.number not in drawn]
        chosen = {*others[:n_others], *drawn}
        rows = [row for row in self._rows if row.number in chosen]
        samples = [RANDOM if row.number in drawn else SELECTED for row in rows]
        fields = answer_fields(self._job, self._columns)
        try:
            if review.is_tasks:
                with atomic_file(review.interface) as file:
                    file.write(interface(fields))
            with atomic_file(review.file) as file:
                if review.is_tasks:
                    file.write(self._tasks(rows, samples, fields))
                else:
                    self._write_table(rows, samples, fields, file)
        except OSError as error:
            raise DataError(
                f"The rows to review cannot be written to {str(review.file)!r}: "
                f"{error.strerror}."
            ) from None
        columns = tuple(field.column for field in fields)
        return ReviewFile(review.file, len(rows), len(drawn), columns)

    def _drawn(self) -> set[int]:
        """Return the numbers of the rows that are drawn at random."""
        by_key = sorted(self._rows, key=lambda row: (row.key, row.number))
        return {row.number for row in by_key[: self._review.n_random]}

    def _candidates(self, worth: _Floats, keys: _Keys) -> npt.NDArray[np.int64]:
        """Return the positions of rows in a chunk that may be written, ascending."""
        n_rows, n_random = self._review.n_rows, self._review.n_random
        scored = np.flatnonzero(np.isfinite(worth))
        # Sorted stably: of equal rows the first.
        useful = scored[np.argsort(worth[scored], kind="stable")][:n_rows]
        if len(self._rows) >= n_rows:
            useful = useful[worth[useful] <= self._rows[n_rows - 1].worth]
        drawn = scored[np.argsort(keys[scored], kind="stable")][:n_random]
        return np.union1d(useful, drawn)

    def _write_table(
        self,
        rows: Sequence[_Row],
        samples: Sequence[str],
        fields: Sequence[AnswerField],
        file: BinaryIO,
    ) -> None:
        written = output_format(self._review.file)
        columns = (REVIEW_ROW, *self._columns)
        cells = [[row.number + 1, *row.cells] for row in rows]
        kinds = review_kinds(self._job, self._columns)
        by_result = zip(*(row.results for row in rows), strict=True)
        added: list[Sequence[Any]] = [
            *([None] * len(rows) for _ in fields),
            *(by_result if rows else [[]] * len(self._job.kinds(()))),
            *([self._labels_of(row, field) for row in rows] for field in fields),
            [row.reason for row in rows],
            samples,
        ]
        part = written.encode(
            Chunk(_rows(columns, cells), np.arange(len(rows))),
            dict(zip(kinds, added, strict=True)),
            kinds,
        )
        written.assemble([part], written.header(columns, list(kinds)), file)

    def _tasks(
        self,
        rows: Sequence[_Row],
        samples: Sequence[str],
        fields: Sequence[AnswerField],
    ) -> bytes:
        model = self._job.scorers()[0].model.spec.model
        shown = dict.fromkeys(
            self._job.columns.text if name == "text" else name
            for scorer in self._job.scorers()
            for name in scorer.fields
        )
        tasks = []
        for row, sample in zip(rows, samples, strict=True):
            cells = dict(zip(self._columns, row.cells, strict=True))
            texts = {name: str(cells[name]) for name in shown}
            predicted = [
                Prediction(field, *row.answers[field.question])
                for field in fields
                if field.question in row.answers
            ]
            data: dict[str, Any] = {
                REVIEW_ROW: row.number + 1,
                **cells,
                REASON: row.reason,
                SAMPLE: sample,
            }
            if not fields[0].labels:  # then there is one question only
                names = self._labels_of(row, fields[0])
                data[LABELS] = [{"value": name} for name in names]
            tasks.append(
                task(data, texts, predicted, f"{model} (classify {__version__})")
            )
        return tasks_bytes(tasks)

    def _labels_of(self, row: _Row, field: AnswerField) -> list[str]:
        """Return the labels that a person may give a row."""
        column = self._job.columns.labels
        if column is None:
            return [label.name for label in field.labels]
        cell = row.cells[self._columns.index(column)]
        [names] = candidates_of_cells([cell], column)
        assert not isinstance(names, InputError), "the row has a score"
        return list(names)


def check_review(
    review: Review, job: Classification, table: Table, output: Path | None
) -> None:
    """Raise InputError if the rows to review cannot be written."""
    fields = answer_fields(job, table.columns)
    added = [*RESERVED, *(field.column for field in fields)]
    for name in added:
        if name in table.columns:
            raise ConfigError(
                f"{table.name} already has a column {name!r}, which is needed for the "
                "rows to review: rename the column."
            )
    written: OutputFormat = JsonlOutput("")
    if not review.is_tasks:
        written = output_format(review.file)
    written.check_columns(table.columns, table.name)
    for path in review.files:
        check_place(path, table)
    check_apart(job_places(output, review))


def answer_fields(
    job: Classification, columns: tuple[str, ...]
) -> tuple[AnswerField, ...]:
    """Return the questions that a person answers about each row."""
    return tuple(_field(each, columns) for each in job.questions)


def review_kinds(
    job: Classification, columns: tuple[str, ...]
) -> dict[str, ResultKind]:
    """Return the kinds of the columns after those of the input."""
    fields = answer_fields(job, columns)
    kinds: dict[str, ResultKind] = {field.column: "str" for field in fields}
    results = job.kinds(())
    # A person answers in the column label, so none is called labels.
    own = own_names(results, (*RESERVED, *columns, *kinds, "labels"))
    kinds |= {own[name]: kind for name, kind in results.items()}
    names = [label.name for field in fields for label in field.labels]
    lists: ResultKind = "json_list" if need_json(names) else "list"
    kinds |= {column_name(field.question, LABELS): lists for field in fields}
    return {**kinds, REASON: "str", SAMPLE: "str"}


def _field(question: Asked, columns: tuple[str, ...]) -> AnswerField:
    column, classifier = answer_column(question.name, columns), question.classifier
    if isinstance(classifier, ZeroShotMultiLabelClassifier):
        labels = classifier.scorer().about
        return AnswerField(question.name, column, labels, is_multi=True)
    kind, declared = classifier.question_kind(), classifier.scorer().declared
    tree = kind.tree if isinstance(kind, Tree) else None
    return AnswerField(question.name, column, tuple(declared or ()), tree=tree)


def _rows(columns: tuple[str, ...], cells: list[list[Any]]) -> Rows:
    if len(set(columns)) < len(columns):  # in CSV only
        return ListRows(columns, cells)
    return DictRows(columns, [dict(zip(columns, row, strict=True)) for row in cells])


def _told(
    at: int, doubts: Mapping[str, Doubts], scored: Mapping[str, npt.NDArray[np.bool_]]
) -> tuple[dict[str, tuple[list[str], float]], str]:
    """Return the answers to all questions about a row, and why to review it."""
    answers, reasons = {}, []
    for question, each in doubts.items():
        if not scored[question][at]:
            continue
        place = int(scored[question][:at].sum())
        answers[question] = (each.answers(place), float(each.probability[place]))
        about = f"{question}: " if question else ""
        reasons.append(about + "; ".join(each.reasons(place)))
    return answers, ". ".join(reasons)


def _random_keys(numbers: npt.NDArray[np.int64]) -> _Keys:
    """Return a number for each row that depends on its place in the input alone.

    Rows with the least are a sample without replacement, however they are divided into
    chunks. The generator is SplitMix64 (Steele, Lea and Flood, 2014).
    """
    state = (numbers.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(state ^ (state >> np.uint64(31)))
