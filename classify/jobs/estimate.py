"""The expected cost of a job, measured on some of its rows."""

import time
from collections import Counter
from dataclasses import dataclass

from classify.errors import InputError
from classify.jobs.chunk_texts import ChunkTexts
from classify.jobs.job import Classification
from classify.rows.side_by_side import Encoded, score_encoded
from classify.tables.chunk import Chunk
from classify.tables.selection import select_rows
from classify.tables.table import Table
from classify.verbalizer import ScorablePrompt

__all__ = ["Estimate", "estimate_job"]

_FIRST_ROWS = 16
_SECONDS = 5.0
# More tells nothing new about the mean.
_MAX_SAMPLED = 4096


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """The expected cost of a job.

    Attributes
    ----------
    n_rows : int or None
        Rows of the job; None if they can only be counted by reading all of them.
    n_drawn : int
        Rows that were drawn at random and read.
    bad : Counter of str
        Those among them that cannot be scored, by reason.
    n_sampled : int
        Those among them that were scored.
    tokens_a_row : float
        Mean prompt tokens of a row.
    reads_a_row : float
        Mean trie nodes read for a row.
    rows_per_second : float
        Of the last and largest batch.
    """

    n_rows: int | None
    n_drawn: int
    bad: Counter[str]
    n_sampled: int
    tokens_a_row: float
    reads_a_row: float
    rows_per_second: float

    @property
    def seconds(self) -> float | None:
        """Time for all rows; None if their number is unknown."""
        if self.n_rows is None or not self.rows_per_second:
            return None
        return self.n_rows / self.rows_per_second


def estimate_job(job: Classification, table: Table) -> Estimate:
    """Score rows drawn at random, twice as many each time, for at least five seconds.

    Larger batches are faster per text; the speed is that of the last batch, so a long
    job is faster if this batch was small.

    Parameters
    ----------
    job : Classification
    table : Table
        For a pipe, the first rows are used.
    """
    if table.n_rows is None:
        sampled = select_rows(table, limit=_MAX_SAMPLED)
    else:
        sampled = select_rows(table, sample=min(table.n_rows, _MAX_SAMPLED))
    chunk = next(sampled.chunks(_MAX_SAMPLED), table.no_rows())
    questions, bad = _encoded(job, chunk)
    bad += Counter(each.reason for each in chunk.unreadable)
    n_rows = len(questions[0].prompts)
    n_asked, n_scored, n_reads, speed = 0, 0, 0, 0.0
    started = time.monotonic()
    while n_asked < n_rows and time.monotonic() - started < _SECONDS:
        some = slice(n_asked, max(_FIRST_ROWS, 2 * n_asked))
        batch = [each._replace(prompts=each.prompts[some]) for each in questions]
        begun = time.monotonic()
        scored = score_encoded(batch)
        n_batch = len(batch[0].prompts)
        speed = n_batch / (time.monotonic() - begun)
        n_asked += n_batch
        n_reads += sum(int(each.scores.n_reads.sum()) for each in scored)
        failed = {at: error for each in scored for at, error in each.errors.items()}
        n_scored += n_batch - len(failed)
        bad.update(map(str, failed.values()))
    n_tokens = sum(
        each.n_tokens
        for question in questions
        for each in question.prompts
        if isinstance(each, ScorablePrompt)
    )
    return Estimate(
        n_rows=table.n_rows,
        n_sampled=n_asked,
        bad=bad,
        n_drawn=chunk.n_rows,
        tokens_a_row=n_tokens / max(n_rows, 1),
        reads_a_row=n_reads / max(n_scored, 1),
        rows_per_second=speed,
    )


def _encoded(job: Classification, chunk: Chunk) -> tuple[list[Encoded], Counter[str]]:
    """Return the prompts of rows that can be asked, and what is wrong with others."""
    encoded = []
    for scorer in job.scorers():
        texts = ChunkTexts.of(chunk, scorer, job.columns, b"")
        encoded.append(scorer.encoded(texts.rows, texts.candidates))
    rows, bad = [], Counter[str]()
    for prompts in zip(*(each.prompts for each in encoded), strict=True):
        errors = [each for each in prompts if isinstance(each, InputError)]
        if errors:
            bad[str(errors[0])] += 1
        else:
            rows.append(prompts)
    by_question = [list(each) for each in zip(*rows, strict=True)]
    asked = zip(encoded, by_question or [[]] * len(encoded), strict=True)
    return [each._replace(prompts=prompts) for each, prompts in asked], bad
