"""From scored chunks to the columns that a job writes, and its invalid rows."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from classify.jobs.job import Classification
from classify.jobs.scheduler import ScoredChunk
from classify.jobs.summary import Summary
from classify.rows.results import (
    Column,
    RowResults,
    columns_of,
    errors_of,
    own_names,
)
from classify.tables.chunk import Chunk
from classify.tables.text_output import csv_bytes

__all__ = ["ERRORS_HEADER", "ClassifiedChunk", "classified"]

ERRORS_HEADER = b"row,place,error,content\n"


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
    of_questions : dict of str to RowResults
        What is known of the readable rows, by question.
    """

    index: int
    chunk: Chunk
    results: dict[str, list[Any]]
    errors: dict[int, str]
    summary: Summary
    of_questions: dict[str, RowResults]

    def error_lines(self) -> bytes:
        """Return the lines of OUTPUT.errors.csv for the rows that were set aside.

        Each has the number of the row in the input (from 1) and the reason; for
        an unreadable row, also its line and its raw text.
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


def classified(job: Classification, scored: ScoredChunk) -> ClassifiedChunk:
    """Return the results of a chunk's scores."""
    chunk = scored.chunk
    answers = iter(scored.answers)
    results = {
        question.name: question.results(
            len(chunk),
            [next(answers) for _ in question.scorers()],
            probabilities=job.probabilities,
            bounds=job.bounds,
            reasoning=job.reasoning,
        )
        for question in job.questions
    }
    errors = errors_of(results)
    columns = {name: _spread(each) for name, each in columns_of(results).items()}
    columns["error"] = [errors.get(at) for at in range(len(chunk))]
    own = own_names(columns, chunk.columns)
    unreadable = Counter(each.reason for each in chunk.unreadable)
    return ClassifiedChunk(
        scored.index,
        chunk,
        {own[name]: columns[name] for name in job.kinds(())},
        errors,
        Summary.of(results, unreadable),
        results,
    )


def _spread(column: Column) -> list[Any]:
    """Return a value for each row: None for those that are not scored."""
    values, scored = column
    if scored.all():
        return list(values.tolist())
    cells = np.full(len(scored), None, dtype=object)
    # Lists are a value each, and no rows of a table.
    cells[scored] = values if values.dtype == object else values.tolist()
    return cells.tolist()
