"""The values that define a job, and how it is run."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import InitVar, dataclass, field, replace
from pathlib import Path

from classify.decision import SelectiveClassifier, SplitConformalSets
from classify.errors import ConfigError, InputError, TooManyErrorsError
from classify.estimators.asked import (
    Asked,
    AskedQuestion,
    dated_question,
    given_questions,
)
from classify.estimators.classifier import ZeroShotClassifier
from classify.estimators.multi_label import ZeroShotMultiLabelClassifier
from classify.jobs.pool import LocalPool, OpenPool
from classify.jobs.review import ReviewFile
from classify.jobs.summary import Summary
from classify.rows.encoding import Row
from classify.rows.from_cells import rows_of_cells
from classify.rows.results import ROW_RESULTS, kinds_of, own_names
from classify.rows.scorer import Scorer
from classify.tables.chunk import Chunk
from classify.tables.formats import ResultKind
from classify.tables.table import Table
from classify.wording import no_effect, parameter

__all__ = [
    "Classification",
    "Classifier",
    "ErrorLimit",
    "JobRun",
    "JobWatcher",
    "Outcome",
    "RowColumns",
    "check_table",
]

_PART_ROWS = 2048

Classifier = ZeroShotClassifier | ZeroShotMultiLabelClassifier


@dataclass(frozen=True, kw_only=True)
class RowColumns:
    """Which columns of a table are used for what.

    Attributes
    ----------
    text : str
        The column that is the prompt's ``{text}``.
    labels : str or None
        The column with each row's candidate labels; None: all labels for every row.
    """

    text: str = "text"
    labels: str | None = None

    def check_fields(self, table: Table, fields: Iterable[str]) -> None:
        """Raise DataError if a table lacks a column that the prompt shows."""
        for name in fields:
            if name == "text":
                table.check_column(self.text, "with the text", "text_column")
            else:
                table.check_column(name, f"for the prompt's {{{name}}}")

    def rows(self, chunk: Chunk, fields: Iterable[str]) -> list[Row | InputError]:
        """Return the prompt's columns of each row, or the error of the row."""
        return rows_of_cells(
            {
                name: chunk.cells(self.text if name == "text" else name)
                for name in fields
            }
        )


@dataclass(frozen=True, kw_only=True)
class Classification:
    """How the rows of a table are classified, and what is written for each.

    Attributes
    ----------
    questions : tuple of Asked
        What is asked about each row: one question, or several with names.
    classifier, selective, sets
        In place of `questions`, the one question without a name: see `AskedQuestion`.
    columns : RowColumns
    probabilities : bool
        A column ``p(<label>)`` for each class.
    bounds : bool
        The columns ``lower``, ``upper`` and ``certain``, or ``uncertain`` where any
        number of labels apply. They are always written if the engine, the strategy or
        a shortlist gives bounds only.
    reasoning : bool
        A column ``reasoning`` with what the model thought first.
    reading : mapping of str to str
        How the input is read, and which of its rows, in words; a job is not resumed
        after a change of these.
    """

    questions: tuple[Asked, ...] = ()
    classifier: InitVar[Classifier | None] = None
    selective: InitVar[SelectiveClassifier | None] = None
    sets: InitVar[SplitConformalSets | None] = None
    columns: RowColumns = field(default_factory=RowColumns)
    probabilities: bool = False
    bounds: bool = False
    reasoning: bool = False
    reading: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(
        self,
        classifier: Classifier | None,
        selective: SelectiveClassifier | None,
        sets: SplitConformalSets | None,
    ) -> None:
        questions = given_questions(
            "A job asks", classifier, self.questions, selective=selective, sets=sets
        )
        object.__setattr__(self, "questions", questions)

    @property
    def part_rows(self) -> int:
        """Rows of a part.

        Enough for an engine to group texts of similar length, few enough that little
        is repeated after a crash; and fewer if rows have their own labels, since scores
        have a column for each label of a part.
        """
        has_own_labels = (
            self.columns.labels and self.questions[0].classifier.labels is None
        )
        return _PART_ROWS // 8 if has_own_labels else _PART_ROWS

    def scorers(self) -> tuple[Scorer, ...]:
        """Return what scores rows, all questions in order; nothing is loaded."""
        return tuple(scorer for each in self.questions for scorer in each.scorers())

    def dated(self, dates: Mapping[str, str]) -> "Classification":
        """Return the same with these dates in place of today's, by question.

        So a job that is resumed on another day sends the same prompts as before.
        """
        dated = [
            dated_question(each, dates.get(each.name, "")) for each in self.questions
        ]
        return replace(self, questions=tuple(dated))

    def check(self, table: Table) -> None:
        """Raise InputError if a table lacks what is needed; no model is loaded."""
        for each in self.questions:
            check_table(
                table,
                each.classifier,
                text_column=self.columns.text,
                labels_column=self.columns.labels,
                probabilities=self.probabilities,
            )
            self._check_names(each, table)
        self._check_reasoning()

    def _check_reasoning(self) -> None:
        """Raise ConfigError if a column with thoughts is asked for in vain."""
        if not self.reasoning:
            return
        thoughtful = [
            each
            for each in self.questions
            if any(scorer.scoring.strategy == "reason" for scorer in each.scorers())
        ]
        if not thoughtful:
            raise ConfigError(no_effect("reasoning", parameter("strategy", "reason")))
        if not any(isinstance(each, AskedQuestion) for each in thoughtful):
            raise ConfigError(
                f"{parameter('reasoning')} adds a column with the model's thought, but "
                "a question of kind multi has a thought for each label: leave "
                f"{parameter('reasoning')} out."
            )

    def _check_names(self, question: Asked, table: Table) -> None:
        """Raise ConfigError if a question's columns have the names of others."""
        if not question.name:
            return
        for column in self._kinds_of(question):
            if column in table.columns and column not in ROW_RESULTS:
                raise ConfigError(
                    f"The question {question.name!r} writes a column {column!r}, and "
                    f"{table.name} has one already: rename the question, or the "
                    "column."
                )

    def renamed(self, table_columns: Sequence[str]) -> dict[str, str]:
        """Return the results whose names a table already has, and their new names."""
        own = own_names(self.kinds(()), table_columns)
        return {name: each for name, each in own.items() if name != each}

    def kinds(self, table_columns: Sequence[str]) -> dict[str, ResultKind]:
        """Return the contents of each column of results, by its name in the output."""
        kinds = kinds_of([self._kinds_of(each) for each in self.questions])
        own = own_names(kinds, table_columns)
        return {own[name]: kind for name, kind in kinds.items()}

    def _kinds_of(self, question: Asked) -> dict[str, ResultKind]:
        return question.kinds(
            probabilities=self.probabilities,
            bounds=self.bounds,
            reasoning=self.reasoning,
        )


@dataclass(frozen=True)
class ErrorLimit:
    """A number of rows, or a share of all of them.

    Attributes
    ----------
    value : float
        A number from 0; or a share in [0, 1].
    is_share : bool
    """

    value: float
    is_share: bool = False

    @classmethod
    def parse(cls, text: str) -> "ErrorLimit":
        """Read ``100`` or ``5%``.

        Examples
        --------
        >>> ErrorLimit.parse("100"), ErrorLimit.parse("5%")
        (ErrorLimit(value=100, is_share=False), ErrorLimit(value=0.05, is_share=True))
        """
        number = text.strip()
        if number.isdecimal():
            return cls(int(number))
        try:
            share = float(number.removesuffix("%")) / 100
        except ValueError:
            share = -1.0
        if not (number.endswith("%") and 0 <= share <= 1):
            raise ConfigError(
                f"{parameter('max_errors')} must be a number of rows, such as 100, or "
                f"a share of them, such as 5%. Got {text!r} instead."
            )
        return cls(share, is_share=True)

    def check(self, summary: Summary, n_rows: int | None, kept: Path | None) -> None:
        """Raise TooManyErrorsError if a job has set more rows aside.

        Parameters
        ----------
        summary : Summary
        n_rows : int or None
            All rows of the job; None if unknown, when no share can be computed.
        kept : Path or None
            Where finished rows are kept.
        """
        n_bad = summary.n_set_aside
        if self.is_share and n_rows is None:
            return
        most = self.value * (n_rows or 0) if self.is_share else self.value
        if n_bad <= most:
            return
        reason, count = summary.reasons.most_common(1)[0]
        allowed = f"{self.value:.4g}" if not self.is_share else f"{self.value:.4%}"
        goes_on = (
            ""
            if kept is None
            else f" The rows finished so far are kept in {str(kept)!r}: fix the input "
            f"and start over with {parameter('restart', True)}, or allow more errors "
            "and run the job again to resume."
        )
        raise TooManyErrorsError(
            f"{n_bad:,} of {summary.n_rows:,} rows could not be classified, and "
            f"{parameter('max_errors')} allows {allowed}. {count:,} of them: "
            f"{reason}{goes_on}"
        )


class JobWatcher:
    """Receives the progress of a job; this class ignores it."""

    def begins(self, n_rows: int | None, n_done: int) -> None:
        """Rows of the job, as far as known, and how many an earlier run finished."""

    def progressed(self, n_rows: int, n_tokens: int) -> None:
        """Rows finished, and prompt tokens read, since the last call."""

    def reading(self, n_texts: int) -> None:
        """Texts that the model has started, and that are not finished."""

    def stopping(self, n_texts: int) -> None:
        """Texts that are still to be finished after the job was asked to stop."""

    def finished(self, summary: Summary) -> None:
        """Called with the counts of all rows that have been returned or saved."""


@dataclass(frozen=True, kw_only=True)
class JobRun:
    """How a job is run; none of these settings changes the output.

    Attributes
    ----------
    cache : Path or None
        Folder with the scores of earlier jobs, shared and added to.
    max_errors : ErrorLimit or None
        How many rows may be set aside before the job stops.
    stopping : callable
        Called before each text: whether to finish the texts in progress and stop.
    watcher : JobWatcher
    pool : callable
        Opens what scores the texts: the engine of this process, or the workers of
        `classify.jobs.ray.ray_pool`.
    """

    cache: Path | None = None
    max_errors: ErrorLimit | None = None
    stopping: Callable[[], bool] = lambda: False
    watcher: JobWatcher = field(default_factory=JobWatcher)
    pool: OpenPool = LocalPool


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The outcome of a job.

    Attributes
    ----------
    summary : Summary
        Of all rows that are finished, by this run or an earlier one.
    n_resumed : int
        Rows that an earlier run had finished.
    seconds : float
        Wall-clock time of this run.
    is_complete : bool
        False if it was stopped before the end.
    folder : Path or None
        The folder of the job, if it is kept.
    errors : Path or None
        The file with the rows that were set aside, if there are any.
    review : ReviewFile or None
        The file with rows to review, if it was requested.
    """

    summary: Summary
    n_resumed: int = 0
    seconds: float
    is_complete: bool
    folder: Path | None = None
    errors: Path | None = None
    review: ReviewFile | None = None


def check_table(
    table: Table,
    classifier: Classifier,
    *,
    text_column: str = "text",
    labels_column: str | None = None,
    probabilities: bool = False,
) -> None:
    """Raise InputError if the table lacks what the task needs; no model is loaded."""
    RowColumns(text=text_column).check_fields(table, classifier.scorer().fields)
    if isinstance(classifier, ZeroShotMultiLabelClassifier):
        if labels_column is not None:
            raise ConfigError(
                f"{parameter('labels_column')} gives each row its own labels, one of "
                "which is the answer. With kind multi, all rows have the same labels: "
                f"leave {parameter('labels_column')} out."
            )
        return
    if labels_column is not None:
        table.check_column(labels_column, "with the candidate labels", "labels_column")
        if classifier.tree_scoring == "levels":
            raise ConfigError(
                f"{parameter('tree_scoring', 'levels')} asks for all labels of a "
                f"level, but {parameter('labels_column')} gives each row some: use "
                f"{parameter('tree_scoring', 'paths')}."
            )
        if classifier.escape is not None:
            raise ConfigError(
                f"{parameter('escape', classifier.escape)} adds a label to all rows, "
                f"but {parameter('labels_column')} gives each row its own: write it "
                f"into that column, and leave {parameter('escape')} out."
            )
    elif classifier.labels is None:
        raise ConfigError(
            f"There are no labels: give {parameter('labels')}, or "
            f"{parameter('labels_column')}, the column with the labels of each row."
        )
    if probabilities and classifier.labels is None:
        raise ConfigError(
            f"{parameter('probabilities')} has a column for each label, and the labels "
            f"are not known beforehand: give {parameter('labels')} together with "
            f"{parameter('labels_column')}."
        )
