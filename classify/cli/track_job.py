"""`classify track`: a table of values for files, or one on screen for a text."""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from classify.cli.console import Notes
from classify.cli.fitting import TrackOptions
from classify.cli.groups import is_stream
from classify.cli.job_progress import JobProgress
from classify.cli.loading import load_classifier, with_text_column
from classify.cli.overwriting import check_columns
from classify.cli.report import warn_of_rows
from classify.cli.tables import figures_table, on_one_line
from classify.config import Task
from classify.errors import AnswerError, DataError, InputError
from classify.files.atomic import atomic_file
from classify.jobs import RowColumns
from classify.jobs.output import check_place
from classify.rows.encoding import Row
from classify.rows.from_cells import rows_of_texts
from classify.rows.prompted_model import PromptedModel
from classify.spec import Generation
from classify.tables.chunk import joined
from classify.tables.python_tables import frame_table
from classify.tables.table import Table
from classify.tables.writing import OutputFormat, output_format
from classify.verbalizer import Verbalizer
from classify.word_tracking import TrackedWords, track_rows

__all__ = ["track_table", "track_text"]

_CHUNK_ROWS = 8192

Spellings = Mapping[str, Sequence[str]]


def track_text(
    task: Task, words: Spellings, text: str, generation: Generation, notes: Notes
) -> None:
    """Track words over one text, and show the values."""
    task = _free(task)
    rows = rows_of_texts([text], task.prompt.fields)
    tracked = _tracked(task, rows, words, generation, notes)
    for error in tracked.errors.values():
        raise error
    names = [word.name for word in tracked.words]
    for several in tracked.generations.values():
        for one in several:
            shown = [
                [on_one_line(repr(token)), *(f"{value:.3f}" for value in values)]
                for token, values in zip(one.tokens, one.logprobs, strict=True)
            ]
            notes.results(narrow=True).print(figures_table(names, shown))


def track_table(
    task: Task,
    words: Spellings,
    table: Table,
    options: TrackOptions,
    generation: Generation,
    notes: Notes,
) -> None:
    """Track words over a table's texts, and write the values."""
    task = with_text_column(_free(task), table, notes)
    columns = RowColumns(text=task.text_column)
    columns.check_fields(table, task.prompt.fields)
    output = options.output or Path("-")
    written = output_format(output, output_format=options.output_format)
    if not is_stream(output):
        check_place(output, table)
        if not options.overwrite:
            check_columns(output, _columns(generation), written)
    chunk = joined([table.no_rows(), *table.chunks(_CHUNK_ROWS)])
    cells = columns.rows(chunk, task.prompt.fields)
    numbered = dict(zip(chunk.numbers.tolist(), cells, strict=True))
    numbered |= {each.number: DataError(each.reason) for each in chunk.unreadable}
    if not numbered:
        raise DataError(f"There are no rows in {table.name}.")
    numbers = np.array(sorted(numbered))
    rows = [numbered[number] for number in numbers.tolist()]
    tracked = _tracked(task, rows, words, generation, notes)
    if not tracked.generations:
        first = next(iter(tracked.errors.values()))
        kind = AnswerError if isinstance(first, AnswerError) else DataError
        raise kind(f"None of the {len(rows):,} rows can be used: {first}")
    frame = _values(tracked, numbers, generation)
    _write(frame, output, written)
    reasons = Counter(str(error) for error in tracked.errors.values())
    warn_of_rows(reasons, notes, "set aside")
    if tracked.truncated:
        notes.warn(f"{len(tracked.truncated):,} texts were cut to fit the model.")
    if not is_stream(output):
        notes.say(f"Values of {len(tracked.generations):,} texts: {output}")


def _free(task: Task) -> Task:
    """Return the task with the text alone as its prompt, unless it has another."""
    changes = {} if task.prompt.template else {"template": "{text}"}
    if "too_long" not in task.given:
        changes["too_long"] = "error"
    return task.changed(changes) if changes else task


def _tracked(
    task: Task,
    rows: Sequence[Row | InputError],
    words: Spellings,
    generation: Generation,
    notes: Notes,
) -> TrackedWords:
    load_classifier(task, notes)
    model = PromptedModel(
        template=task.prompt, verbalizer=Verbalizer(), spec=task.model, tokenizer=None
    )
    with JobProgress(notes) as progress:
        progress.begins(len(rows), 0)
        tracked = track_rows(
            rows,
            words,
            model,
            generation,
            progress=lambda n_rows: progress.progressed(n_rows, 0),
        )
    for word in tracked.words:
        if not word.is_whole:
            pieces = " or ".join(map(repr, word.pieces))
            notes.note(f"{word.name!r} is tracked by its first token: {pieces}.")
    return tracked


def _columns(generation: Generation) -> list[str]:
    several = ["generation"] if generation.n > 1 else []
    return ["row", *several, "step", "token", "word", "logprob", "error"]


def _values(
    tracked: TrackedWords,
    numbers: "np.ndarray[tuple[int], np.dtype[np.int64]]",
    generation: Generation,
) -> pd.DataFrame:
    """Return the table of values, with rows as they are numbered in the input."""
    frame = tracked.to_frame().reindex(columns=_columns(generation))
    frame["row"] = numbers[frame["row"].to_numpy(dtype=np.int64)] + 1
    return frame


def _write(frame: pd.DataFrame, output: Path, written: OutputFormat) -> None:
    chunk = joined([*frame_table(frame).chunks(max(len(frame), 1))])
    header, part = written.header(chunk.columns, ()), written.encode(chunk, {}, {})
    if str(output) == "-":
        written.assemble([part], header, sys.stdout.buffer)
        return
    with atomic_file(output) as file:
        written.assemble([part], header, file)
