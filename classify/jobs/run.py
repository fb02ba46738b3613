"""Runs a table through a classifier: into a crash-safe file, or as a stream."""

import itertools
import logging
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import Any

from classify.errors import ConfigError, EngineError
from classify.jobs.identity import job_fingerprints, score_digests, versions
from classify.jobs.job import Classification, JobRun, Outcome
from classify.jobs.output import JobOutput, check_apart, job_places
from classify.jobs.results import ClassifiedChunk, classified
from classify.jobs.review import Review
from classify.jobs.review_rows import ReviewRows
from classify.jobs.scheduler import Scheduler
from classify.jobs.state import JobState
from classify.jobs.store import ScoreStore
from classify.jobs.summary import Summary
from classify.scoring.doubts import doubt_one_label
from classify.tables.chunk import Chunk
from classify.tables.table import Table
from classify.tables.writing import OutputFormat, output_format
from classify.wording import parameter

__all__ = ["classified_chunks", "run_job", "stream_rows"]

_logger = logging.getLogger(__name__)

# Scores that a cache keeps, of many jobs.
_CACHE_BYTES = 10 << 30


def run_job(
    job: Classification,
    table: Table,
    output: str | Path,
    *,
    run: JobRun | None = None,
    output_as: OutputFormat | None = None,
    restart: bool = False,
    keep: bool = False,
    part_rows: int | None = None,
    review: Review | None = None,
) -> Outcome:
    """Classify a table into a file; resume where an earlier run was interrupted.

    Finished parts and the scores of texts are kept in a folder ``OUTPUT.job`` until
    the output is complete. Rows that were set aside are also listed in
    ``OUTPUT.errors.csv``, with their reasons.

    Parameters
    ----------
    job : Classification
    table : Table
    output : str or Path
        Replaced if it exists, when all rows are finished.
    run : JobRun, default=None
    output_as : OutputFormat, default=None
        None: by the file extension of the output.
    restart : bool, default=False
        Forget what an earlier run finished.
    keep : bool, default=False
        Keep the folder of the job.
    part_rows : int, default=None
        Rows that are saved at a time; an earlier run's number stays.
    review : Review, default=None
        Also writes rows for a person to label, when all rows are finished.

    Returns
    -------
    Outcome

    Raises
    ------
    ConfigError
        An earlier run was another job; the message says what differs.
    DataError
        A file cannot be read or written.
    TooManyErrorsError
        More rows were set aside than allowed; what is finished is kept.
    EngineError
        The model failed; what is finished is kept.
    """
    job.check(table)
    run, started = run or JobRun(), time.monotonic()
    written = output_format(output) if output_as is None else output_as
    result = JobOutput(Path(output), written, table, job)
    check_apart(job_places(result.path, review, run.cache))
    manifest = _manifest(job, table, written, part_rows or job.part_rows)
    review_rows = None
    if review is not None:
        review_rows = ReviewRows(review, job, table, result.path)
        manifest["review"] = review.described()
    with JobState.open(result.folder, manifest, restart=restart) as state:
        if state.finished and not table.resumable:
            raise ConfigError(
                f"The job in {str(result.folder)!r} cannot be resumed: its rows came "
                f"from {table.name}, which cannot be read again. Start over with "
                f"{parameter('restart', True)}."
            )
        if state.version_notes:
            _logger.warning(
                "Earlier runs of this job had other versions: %s.",
                "; ".join(state.version_notes),
            )
        job = job.dated(state.dates)
        rows = _SavedRows(job, table, result, state, run, review_rows)
        rows.finish()
        outcome = rows.outcome(started=started, keep=keep)
    if outcome.is_complete:
        _doubt_labels(outcome.summary)
    return outcome


def stream_rows(
    job: Classification,
    table: Table,
    write: Callable[[ClassifiedChunk], object],
    *,
    run: JobRun | None = None,
    part_rows: int | None = None,
    review: Review | None = None,
) -> Outcome:
    """Classify a table and return each chunk as it is finished; nothing is saved.

    Parameters
    ----------
    job : Classification
    table : Table
    write : callable
        Called with the chunks, in order; with an empty one if the table has no rows.
    run : JobRun, default=None
    part_rows : int, default=None
        Rows of a chunk.
    review : Review, default=None
        As in `run_job`.
    """
    job.check(table)
    run, started = run or JobRun(), time.monotonic()
    summary = Summary()
    check_apart(job_places(None, review, run.cache))
    review_rows = None if review is None else ReviewRows(review, job, table)
    run.watcher.begins(table.n_rows, 0)
    n_rows = 0

    def counted() -> Iterator[tuple[int, Chunk]]:
        nonlocal n_rows
        for index, chunk in enumerate(_chunks(table, part_rows or job.part_rows)):
            n_rows += chunk.n_rows
            yield index, chunk

    with (
        _known_scores(run.cache) as store,
        closing(classified_chunks(job, counted(), store, run)) as chunks,
    ):
        for chunk in chunks:
            write(chunk)
            if review_rows is not None:
                review_rows.add(chunk)
            summary.add(chunk.summary)
            run.watcher.finished(summary)
            _check_limit(run, summary, table.n_rows)
            _warn_if_all_fail(run, chunk.summary, summary, table.n_rows)
    is_complete = not run.stopping() or summary.n_rows == n_rows == table.n_rows
    if is_complete:
        _check_limit(run, summary, summary.n_rows)
        _doubt_labels(summary)
    return Outcome(
        summary=summary,
        seconds=time.monotonic() - started,
        is_complete=is_complete,
        review=review_rows.write() if review_rows and is_complete else None,
    )


class _SavedRows:
    """The rows of a job, of which some are finished and on the disk."""

    def __init__(
        self,
        job: Classification,
        table: Table,
        output: JobOutput,
        state: JobState,
        run: JobRun,
        review: ReviewRows | None,
    ) -> None:
        self._job, self._table, self._output = job, table, output
        self._state, self._run, self._review = state, run, review
        self._summary = Summary()
        for record in state.finished.values():
            self._summary.add(Summary.of_json(record["summary"]))
        if review is not None:
            for place in state.finished:
                review.restore(state.content(place, "review"))
        self._n_resumed = self._summary.n_rows
        self._n_parts: int | None = None

    def finish(self) -> None:
        """Classify the rows that are left, and save them part by part."""
        run, state, summary = self._run, self._state, self._summary
        run.watcher.begins(self._table.n_rows, self._n_resumed)
        try:
            with (
                _known_scores(run.cache, state.scores) as store,
                closing(classified_chunks(self._job, self._left(), store, run)) as done,
            ):
                for chunk in done:
                    state.add_part(
                        chunk.index,
                        self._output.encode(chunk),
                        chunk.error_lines(),
                        {"summary": chunk.summary.as_json()},
                        review=b"" if self._review is None else self._review.add(chunk),
                    )
                    summary.add(chunk.summary)
                    run.watcher.finished(summary)
                    _check_limit(run, summary, self._table.n_rows, state.folder)
                    _warn_if_all_fail(run, chunk.summary, summary, self._table.n_rows)
        except EngineError as error:
            error.add_note(
                f"{summary.n_rows:,} rows are finished and kept in "
                f"{str(state.folder)!r}: run the same command again to resume."
            )
            raise
        if self._is_complete:
            _check_limit(run, summary, summary.n_rows, state.folder)

    def outcome(self, *, started: float, keep: bool) -> Outcome:
        """Put the parts together, if they are all there."""
        state = self._state
        errors = review = None
        if self._is_complete:
            errors = self._output.assemble(state, len(state.finished))
            if self._review is not None:
                review = self._review.write()
            if not keep:
                state.remove()
        return Outcome(
            summary=self._summary,
            n_resumed=self._n_resumed,
            seconds=time.monotonic() - started,
            is_complete=self._is_complete,
            folder=state.folder if keep or not self._is_complete else None,
            errors=errors,
            review=review,
        )

    @property
    def _is_complete(self) -> bool:
        return self._n_parts == len(self._state.finished)

    def _left(self) -> Iterator[tuple[int, Chunk]]:
        """Yield the chunks that are not finished, with their places."""
        finished, part_rows = self._state.finished, self._state.part_rows
        first = next(at for at in itertools.count() if at not in finished)
        at = first
        for chunk in _chunks(self._table, part_rows, start=first * part_rows):
            if at not in finished:
                yield at, chunk
            at += 1
        self._n_parts = at


def classified_chunks(
    job: Classification,
    chunks: Iterable[tuple[int, Chunk]],
    store: ScoreStore,
    run: JobRun,
) -> Generator[ClassifiedChunk]:
    """Yield chunks with their results, in order; fewer if the run is to stop."""
    scorers = job.scorers()
    with run.pool(scorers, run.stopping) as pool:
        scheduler = Scheduler(
            scorers,
            job.columns,
            digests=score_digests(scorers),
            store=store,
            pool=pool,
            watcher=run.watcher,
            stopping=run.stopping,
        )
        with closing(scheduler.score(chunks)) as scored:
            for each in scored:
                yield classified(job, each)


def _chunks(table: Table, n_rows: int, *, start: int = 0) -> Iterator[Chunk]:
    """Yield chunks of a table; one without rows if it has none."""
    chunks = table.chunks(n_rows, start=start)
    first = next(chunks, None)
    if first is not None:
        yield first
        yield from chunks
    elif not start:
        yield table.no_rows()


def _manifest(
    job: Classification, table: Table, written: OutputFormat, part_rows: int
) -> dict[str, Any]:
    return {
        **job_fingerprints(job),
        "inputs": table.inputs(),
        "output": {"format": written.name},
        "versions": versions(),
        "part_rows": part_rows,
    }


def _known_scores(
    cache: Path | None, own: ScoreStore | None = None
) -> AbstractContextManager[ScoreStore]:
    """Return the scores of a run: the cache if it has one, else the job's own."""
    if cache is not None:
        return ScoreStore.at(cache, max_bytes=_CACHE_BYTES)
    return ScoreStore.temporary() if own is None else nullcontext(own)


def _doubt_labels(summary: Summary) -> None:
    """Log that nearly all rows get the same label, for each question."""
    for question, each in (summary.questions or {"": summary}).items():
        doubt_one_label(each.label_counts, question=question, n_texts=each.n_labelled)


def _check_limit(
    run: JobRun, summary: Summary, n_rows: int | None, kept: Path | None = None
) -> None:
    if run.max_errors is not None:
        run.max_errors.check(summary, n_rows, kept)


def _warn_if_all_fail(
    run: JobRun, latest: Summary, summary: Summary, n_rows: int | None
) -> None:
    """Log that no row of the first chunk could be classified, if more rows follow."""
    is_first = latest.n_rows == summary.n_rows
    if run.max_errors is not None or not is_first or summary.n_rows == n_rows:
        return
    if summary.n_rows and not summary.n_scored:
        reason, count = summary.reasons.most_common(1)[0]
        _logger.warning(
            "None of the first %s rows could be classified. %s of them: %s The job "
            "continues with the other rows: stop it if they cannot succeed either, or "
            "set %s to let it stop by itself.",
            f"{summary.n_rows:,}",
            f"{count:,}",
            reason,
            parameter("max_errors"),
        )
