"""A table to a labelled file, to a table on a terminal, or into a pipe."""

import gc
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import typer

from classify.cli.console import Notes, Progress
from classify.cli.groups import JobOptions, Reading, is_stream
from classify.cli.interruption import graceful_interruption
from classify.cli.job_log import JobLog, Watchers
from classify.cli.job_progress import JobProgress
from classify.cli.loading import asked_questions, load_classifiers, with_text_column
from classify.cli.overwriting import check_log, check_places, check_rows, replacing
from classify.cli.report import (
    N_ASKED,
    report_estimate,
    report_likeliest,
    report_summary,
)
from classify.cli.review import report_review, review_of
from classify.cli.tables import (
    Shown,
    ShownRow,
    joined_labels,
    on_one_line,
    results_table,
)
from classify.cli.task import declared_labels
from classify.cli.terminal import streams_elsewhere, visible
from classify.cli.tune_job import choose_prompt
from classify.config import Task
from classify.config.decisions import Rules
from classify.engines import Engine
from classify.engines.protocol import with_defaults
from classify.engines.speculation import SpeculationFigures
from classify.errors import ConfigError, EngineError, InputError
from classify.jobs import (
    Classification,
    ClassifiedChunk,
    ErrorLimit,
    JobRun,
    Outcome,
    Review,
    RowColumns,
    check_output,
    job_folder,
    output_format,
    run_job,
    stream_rows,
)
from classify.jobs.chunk_texts import ChunkTexts
from classify.prompts.shortlist import shortlist_of
from classify.rows.results import column_name
from classify.rows.scorer import Scorer
from classify.scoring.doubts import MAX_DOUBTFUL_MASS
from classify.tables.table import Table

__all__ = ["predict_table"]

# More than anybody reads on a terminal; the rest belongs into a file.
_MAX_SHOWN = 500


def predict_table(
    task: Task,
    rules: Mapping[str, Rules],
    sources: Sequence[str],
    reading: Reading,
    options: JobOptions,
    notes: Notes,
) -> None:
    """Classify a table; write or show it; report what became of its rows."""
    limit = None if options.max_errors is None else ErrorLimit.parse(options.max_errors)
    table = reading.table(sources)
    is_auto = any(part.prompt.is_auto for part in task.by_question().values())
    if is_auto:
        _check_auto(task, options)
        task = replace(task, prompt=task.prompt.without_auto())
    task = with_text_column(task, table, notes)
    questions = asked_questions(
        {name: part.classifier() for name, part in task.by_question().items()}, rules
    )
    job = Classification(
        questions=tuple(questions),
        columns=RowColumns(text=task.text_column, labels=task.labels_column),
        probabilities=options.probabilities,
        bounds=options.bounds,
        reasoning=options.reasoning,
        reading=reading.selection,
    )
    job.check(table)
    workers = _pool_of(options)
    review = review_of(options, job, table)
    sink = _sink_of(job, table, options, notes, review)
    check_places(options, table, review)
    where = _where(options.output)
    with ExitStack() as stack:
        log = None
        if options.log_json is not None:
            check_log(options.log_json)
            log = stack.enter_context(JobLog(options.log_json))
        classifiers = load_classifiers(
            task, notes, rules, with_engine=options.ray is None
        )
        if is_auto:
            folder = _folder_of(options)
            choose_prompt(classifiers[""], job.columns, table, folder, notes)
        loaded = [each.asking(classifiers[each.name]) for each in questions]
        job = replace(job, questions=tuple(loaded))
        if options.dry_run:
            report_estimate(job, table, notes)
            return
        # A model is a million objects, which every collection would look through; and
        # the rows of a chunk are many, which none of them frees.
        gc.collect()
        gc.freeze()
        gc.set_threshold(100_000, 50, 50)
        interruption = stack.enter_context(graceful_interruption(notes))
        engine = None
        if options.ray is None:
            engine = loaded[0].classifier.load_engine()
        progress = stack.enter_context(
            JobProgress(notes, lambda: _speculation_figures(engine))
        )
        run = JobRun(
            cache=options.cache,
            max_errors=limit,
            stopping=interruption,
            watcher=progress if log is None else Watchers([progress, log]),
            **workers,
        )
        outcome = sink(job, table, run)
        if log is not None:
            log.ends(outcome)
    if not outcome.is_complete:
        _report_stop(outcome, table, notes)
        raise typer.Exit(interruption.exit_code)
    _report(outcome, job, table, task, where, notes, engine)
    if review is not None and outcome.review is not None:
        report_review(outcome.review, review, notes)


def _check_auto(task: Task, options: JobOptions) -> None:
    """Refuse what a prompt that is chosen on the first texts cannot be used with."""
    if task.questions:
        raise ConfigError(
            "--template auto chooses the prompt of one question: choose those of "
            "several with classify tune --question NAME first."
        )
    declared_labels(task)
    if options.ray is not None or task.calibration is not None:
        other = "--calibration" if options.ray is None else "--ray"
        raise ConfigError(
            f"--template auto cannot be combined with {other}: choose a prompt with "
            "classify tune first."
        )


def _folder_of(options: JobOptions) -> Path | None:
    """Return the folder of the job that would be resumed, if there is a file."""
    output = options.output
    if output is None or is_stream(output) or options.restart:
        return None
    return job_folder(output)


def _sink_of(
    job: Classification,
    table: Table,
    options: JobOptions,
    notes: Notes,
    review: Review | None,
) -> Callable[[Classification, Table, JobRun], Outcome]:
    """Return where rows go; what cannot be written to is refused before a model."""
    output = options.output
    if output is not None and is_stream(output):
        return _Piped(output, options, table, notes, review)
    if output is None and (options.as_table or sys.stdout.isatty()):
        return _ShownTable(job.columns.text, notes, review)
    if output is None:
        return _Piped(Path("-"), options, table, notes, review)
    written = output_format(output, output_format=options.output_format)
    check_output(output, written, table)
    if not options.overwrite:
        check_rows(output, job, table, written)
    return lambda job, table, run: run_job(
        job,
        table,
        output,
        run=run,
        output_as=written,
        restart=options.restart,
        keep=options.keep_job,
        review=review,
    )


def _where(output: Path | None) -> str | None:
    """Say where rows are written, before they are."""
    if output is None or str(output) == "-":
        return None
    return replacing(output, "an earlier output")


def _pool_of(options: JobOptions) -> dict[str, Any]:
    """Return what scores texts, for `JobRun`: this process unless Ray is asked for."""
    if options.ray is None:
        return {}
    from classify.jobs.ray import ray_pool

    return {"pool": ray_pool(address=options.ray, n_workers=options.workers)}


def _report(
    outcome: Outcome,
    job: Classification,
    table: Table,
    task: Task,
    where: str | None,
    notes: Notes,
    engine: Engine | None,
) -> None:
    report_summary(
        outcome,
        notes,
        strategy=task.scoring.strategy,
        lists_only=engine is not None and with_defaults(engine).lists_only,
        shortlisted=any(
            shortlist_of(each.scorers()[0].model.template) for each in job.questions
        ),
        renamed=job.renamed(table.columns),
        speculation=_speculation_figures(engine),
    )
    summary = outcome.summary
    if engine is not None and table.resumable:
        for question in job.questions:
            scorer = question.scorers()[0]
            counts = summary.questions.get(question.name, summary)
            mass = counts.mean_label_mass
            if counts.n_scored and mass < MAX_DOUBTFUL_MASS:
                with suppress(InputError):  # the input may be gone by now
                    _report_likeliest(scorer, job.columns, table, mass, notes)
    if where is not None:
        notes.say(f"Written to {where}.")
    if outcome.errors is not None:
        notes.say(f"The rows without a label are listed in {outcome.errors}.")
    if outcome.folder is not None:
        notes.note(f"The parts of the job are kept in {outcome.folder}.")
    if summary.n_rows and not summary.n_scored:
        raise typer.Exit(1)


def _report_likeliest(
    scorer: Scorer, columns: RowColumns, table: Table, mass: float, notes: Notes
) -> None:
    """Say what the model begins its answers to the first rows with."""
    chunk = next(table.chunks(N_ASKED))
    texts = ChunkTexts.of(chunk, scorer, columns, b"")
    report_likeliest(scorer, texts.rows, mass, notes, candidates=texts.candidates)


def _report_stop(outcome: Outcome, table: Table, notes: Notes) -> None:
    n_done = outcome.summary.n_rows
    total = "" if table.n_rows is None else f" of {table.n_rows:,}"
    if outcome.folder is None:
        notes.warn(f"Stopped after {n_done:,}{total} rows.")
    else:
        notes.warn(
            f"Stopped: {n_done:,}{total} rows are finished and kept in "
            f"{outcome.folder}. Run the same command again to resume."
        )


def _speculation_figures(engine: Engine | None) -> SpeculationFigures | None:
    """Return how well tokens were drafted, where the engine drafts any."""
    return None if engine is None else with_defaults(engine).speculation_figures()


class _Piped:
    """Writes rows to stdout, a pipe or a device, as they are finished."""

    def __init__(
        self,
        output: Path,
        options: JobOptions,
        table: Table,
        notes: Notes,
        review: Review | None,
    ) -> None:
        self._output, self._notes, self._review = output, notes, review
        self._format = output_format(output, output_format=options.output_format)
        self._format.check_columns(table.columns, table.name)
        if self._format.name == "parquet":
            raise ConfigError(
                "Parquet cannot be written into a pipe: give --output FILE.parquet, or "
                "--output-format jsonl."
            )

    def __call__(self, job: Classification, table: Table, run: JobRun) -> Outcome:
        if str(self._output) == "-":
            return self._write(job, table, run, sys.stdout.buffer)
        with self._output.open("wb") as file:
            return self._write(job, table, run, file)

    def _write(
        self, job: Classification, table: Table, run: JobRun, file: BinaryIO
    ) -> Outcome:
        kinds = job.kinds(table.columns)
        is_terminal = file.isatty()
        if is_terminal:
            self._notes.progress = Progress.NONE  # the rows show it
        elif streams_elsewhere(file) and self._notes.progress is Progress.BAR:
            self._notes.progress = Progress.LINES

        def write(rows: bytes) -> None:
            # As `ls` does: what a terminal obeys is for files and programs only.
            file.write(visible(rows.decode()).encode() if is_terminal else rows)
            file.flush()

        write(self._format.header(table.columns, list(kinds)))
        return stream_rows(
            job,
            table,
            lambda chunk: write(self._format.encode(chunk.chunk, chunk.results, kinds)),
            run=run,
            review=self._review,
        )


class _ShownTable:
    """Keeps what the table shows of the first rows, and prints it at the end."""

    def __init__(self, text_column: str, notes: Notes, review: Review | None) -> None:
        self._text_column, self._notes, self._review = text_column, notes, review
        self._rows: list[ShownRow] = []
        self._n_left_out = 0

    def __call__(self, job: Classification, table: Table, run: JobRun) -> Outcome:
        own = job.kinds(table.columns)
        names = dict(zip(job.kinds([]), own, strict=True))
        questions = [each.name for each in job.questions]
        try:
            outcome = stream_rows(
                job,
                table,
                lambda chunk: self._add(chunk, names, questions),
                run=run,
                review=self._review,
            )
        except EngineError:
            # What an engine finished before it failed is right, and was paid for.
            self._print()
            raise
        self._print()
        return outcome

    def _add(
        self,
        classified: ClassifiedChunk,
        names: dict[str, str],
        questions: Sequence[str],
    ) -> None:
        chunk = classified.chunk
        wanted = self._text_column
        texts = chunk.cells(wanted if wanted in chunk.columns else chunk.columns[0])
        n_rows = len(chunk)
        empty: list[Any] = [None] * n_rows

        def cells(question: str, result: str) -> list[Any]:
            own = names.get(column_name(question, result), "")
            return classified.results.get(own, empty)

        answers = [
            [cells(question, field) for field in Shown._fields]
            for question in questions
        ]
        for question, columns in zip(questions, answers, strict=True):
            # With a name, a question's column is called alike whatever it holds.
            lists = columns[0] if question else cells(question, "labels")
            columns[0] = [
                joined_labels(each) if isinstance(each, list) else one
                for each, one in zip(lists, columns[0], strict=True)
            ]
        room = max(0, _MAX_SHOWN - len(self._rows))
        self._n_left_out += max(0, n_rows - room)
        for at, text in enumerate(texts[:room]):
            shown = {
                question: Shown(*(cells[at] for cells in columns))
                for question, columns in zip(questions, answers, strict=True)
            }
            self._rows.append(ShownRow(on_one_line(str(text or "")), shown))

    def _print(self) -> None:
        console = self._notes.results()
        console.print(results_table(self._rows, console.width))
        if self._n_left_out:
            console.print(
                f"… {self._n_left_out:,} more rows: write them with --output."
            )
