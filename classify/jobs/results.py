"""Scored chunks to the columns that a job writes, and the rows that it sets aside."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from classify.classifier import ZeroShotClassifier
from classify.decision import SelectiveClassifier, SplitConformalSets
from classify.jobs.checks import check_table
from classify.jobs.chunk_texts import RowColumns
from classify.jobs.scheduler import ScoredChunk
from classify.jobs.summary import Summary
from classify.label_names import need_json
from classify.results import own_names, row_results
from classify.tables.chunk import Chunk
from classify.tables.csv_output import csv_bytes
from classify.tables.result_kinds import ResultKind
from classify.tables.table import Table

__all__ = ["ERRORS_HEADER", "Classification", "ClassifiedChunk"]

_PART_ROWS = 2048
ERRORS_HEADER = b"row,place,error,content\n"


@dataclass(frozen=True, kw_only=True)
class Classification:
    """How the rows of a table are classified, and what is written of each.

    Attributes
    ----------
    classifier : ZeroShotClassifier
    columns : RowColumns
    probabilities : bool
        A column ``p(<label>)`` for each class.
    selective : SelectiveClassifier or None
        Fitted: withholds labels; the column ``abstained``.
    sets : SplitConformalSets or None
        Fitted: the column ``label_set``, of lists; in CSV as `join_names` has them.
    reading : mapping of str to str
        How the input is read and which of its rows, in words, so that a job is not
        gone on with after a change of it.
    """

    classifier: ZeroShotClassifier
    columns: RowColumns = field(default_factory=RowColumns)
    probabilities: bool = False
    selective: SelectiveClassifier | None = None
    sets: SplitConformalSets | None = None
    reading: Mapping[str, str] = field(default_factory=dict)

    @property
    def part_rows(self) -> int:
        """Rows of a part.

        Enough for an engine to group texts of similar length, few enough that little
        is done again after a crash; and fewer where rows bring labels of their own, as
        scores have a column for each label of a part.
        """
        has_own_labels = self.columns.labels and self.classifier.labels is None
        return _PART_ROWS // 8 if has_own_labels else _PART_ROWS

    def with_classifier(self, classifier: ZeroShotClassifier) -> "Classification":
        """Return the same with another classifier."""
        return replace(self, classifier=classifier)

    def check(self, table: Table) -> None:
        """Raise InputError if a table lacks what is needed; no model is loaded."""
        check_table(
            table,
            self.classifier,
            text_column=self.columns.text,
            labels_column=self.columns.labels,
            probabilities=self.probabilities,
        )

    def renamed(self, table_columns: Sequence[str]) -> dict[str, str]:
        """Return the results whose name a table has already, and their own names."""
        own = own_names(self._kinds(), table_columns)
        return {name: each for name, each in own.items() if name != each}

    def kinds(self, table_columns: Sequence[str]) -> dict[str, ResultKind]:
        """Return what each column of results holds, by its name beside the table's."""
        kinds = self._kinds()
        own = own_names(kinds, table_columns)
        return {own[name]: kind for name, kind in kinds.items()}

    def _kinds(self) -> dict[str, ResultKind]:
        names: dict[str, ResultKind] = {"label": "str", "probability": "float"}
        if self.selective is not None:
            names["abstained"] = "str"
        if self.sets is not None:
            labels = self.classifier.scorer().declared
            is_plain = labels is None or not need_json(labels.names)
            names["label_set"] = "list" if is_plain else "json_list"
        if self.probabilities:
            for name in self.classifier.classes_:
                names[f"p({name})"] = "float"
        names |= {
            "label_mass": "float",
            "unresolved": "float",
            "truncated": "bool",
            "error": "str",
        }
        return names

    def classified(self, scored: ScoredChunk) -> "ClassifiedChunk":
        """Return what the scores of a chunk say."""
        chunk = scored.chunk
        results = row_results(
            len(chunk),
            scored.scores,
            scored.errors,
            log_proba_of=self.classifier.log_proba_of,
            selective=self.selective,
            sets=self.sets,
            probabilities=self.probabilities,
        )
        columns = {
            name: _spread(values, results.scored)
            for name, values in results.columns.items()
        }
        columns["error"] = [results.errors.get(at) for at in range(len(chunk))]
        own = own_names(columns, chunk.columns)
        unreadable = Counter(each.reason for each in chunk.unreadable)
        return ClassifiedChunk(
            scored.index,
            chunk,
            {own[name]: cells for name, cells in columns.items()},
            results.errors,
            Summary.of(results, unreadable),
        )


@dataclass(frozen=True, eq=False)
class ClassifiedChunk:
    """A chunk with its results.

    Attributes
    ----------
    index : int
        Its place among all chunks of the table.
    chunk : Chunk
    results : dict of str to list
        Each with a value for each readable row; None where there is none.
    errors : dict of int to str
        Positions of readable rows that have no label, and why.
    summary : Summary
    """

    index: int
    chunk: Chunk
    results: dict[str, list[Any]]
    errors: dict[int, str]
    summary: Summary

    def error_lines(self) -> bytes:
        """Return the lines of OUTPUT.errors.csv for the rows that were set aside.

        Each has the number of the row in the input (from 1), where an unreadable one
        stands there and what it holds, and the reason.
        """
        if not self.errors and not self.chunk.unreadable:
            return b""
        lines = [
            (int(self.chunk.numbers[at]), "", reason, "")
            for at, reason in self.errors.items()
        ]
        lines += [
            (each.number, each.place, each.reason, each.raw)
            for each in self.chunk.unreadable
        ]
        numbers, *others = zip(*sorted(lines), strict=True)
        return csv_bytes([[number + 1 for number in numbers], *others])


def _spread(values: npt.NDArray[Any], scored: npt.NDArray[np.bool_]) -> list[Any]:
    """Return a value for each row: None for those that are not scored."""
    if scored.all():
        return list(values.tolist())
    cells = np.full(len(scored), None, dtype=object)
    # Lists are a value each, and no rows of a table.
    cells[scored] = values if values.dtype == object else values.tolist()
    return cells.tolist()
