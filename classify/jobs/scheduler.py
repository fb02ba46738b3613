"""Chunks of rows through a pool: cached scores are reused, other texts scored once.

The one loop of all jobs, whatever scores the texts.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from typing import cast

import numpy as np

from classify.errors import DataError, RowError
from classify.jobs.chunk_texts import ChunkTexts
from classify.jobs.job import JobWatcher, RowColumns
from classify.jobs.pool import Answer, Pool, Texts
from classify.jobs.score_records import PlacedScores, combine_scores, unpack_scores
from classify.jobs.store import ScoreStore
from classify.labels import LabelSet
from classify.rows.encoding import Row
from classify.rows.scorer import ScoredRows, Scorer
from classify.tables.chunk import Chunk

__all__ = ["Scheduler", "ScoredChunk"]

# Scores of chunks that are not finished, before they are put into the store.
_MAX_UNSAVED = 4096


@dataclass(frozen=True, eq=False)
class ScoredChunk:
    """A chunk whose rows are scored.

    Attributes
    ----------
    index : int
        Its place among all chunks of the table.
    chunk : Chunk
    answers : list of ScoredRows
        What became of the readable rows, for each scorer.
    """

    index: int
    chunk: Chunk
    answers: list[ScoredRows]


class Scheduler:
    """Scores chunks in order.

    The store is looked up first, and added to before a chunk is handed out. The texts
    of a chunk that are not known, and that no earlier chunk asks for, are asked for
    together: what is computed in one batch depends only on the table.

    Parameters
    ----------
    scorers : sequence of Scorer
        One for each question.
    columns : RowColumns
    digests : sequence of bytes
        For each: of everything that its scores depend on besides a row's own fields and
        candidates.
    store : ScoreStore
    pool : Pool
    watcher : JobWatcher, default=None
    stopping : callable, optional
        Whether to start no more texts. Those that have started are finished and put
        into the store.
    """

    def __init__(
        self,
        scorers: Sequence[Scorer],
        columns: RowColumns,
        *,
        digests: Sequence[bytes],
        store: ScoreStore,
        pool: Pool,
        watcher: JobWatcher | None = None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._scorers, self._columns, self._digests = scorers, columns, digests
        self._store, self._pool = store, pool
        self._watcher = watcher or JobWatcher()
        self._stopping = stopping
        self._open: deque[_OpenChunk] = deque()
        # What waits for a text, by its key.
        self._asked: dict[bytes, list[_OpenQuestion]] = {}
        self._unsaved: dict[bytes, bytes] = {}

    def score(self, chunks: Iterable[tuple[int, Chunk]]) -> Generator[ScoredChunk]:
        """Yield chunks with their scores, in order; fewer if it is to stop.

        Parameters
        ----------
        chunks : iterable of (int, Chunk)
            Each with its place among all chunks; taken only as the pool has room.

        Raises
        ------
        EngineError
            The engine failed. What it finished before is in the store.
        """
        coming = iter(chunks)
        has_more = True
        try:
            while has_more or self._pool:
                if self._stopping():
                    has_more = False
                    self._stop()
                if has_more and self._takes_chunks():
                    following = next(coming, None)
                    if following is None:
                        has_more = False
                    else:
                        self._begin(*following)
                elif self._pool:
                    self._land(self._pool.answers())
                yield from self._finished()
        finally:
            self._save()
            self._open.clear()
            self._asked.clear()

    def _takes_chunks(self) -> bool:
        return self._pool.has_room and len(self._open) < self._pool.max_chunks

    def _stop(self) -> None:
        if self._pool:
            self._pool.stop()
            self._watcher.stopping(self._pool.n_texts)

    def _begin(self, index: int, chunk: Chunk) -> None:
        """Look a chunk's texts up, and ask for those that are not known."""
        texts = [
            ChunkTexts.of(chunk, scorer, self._columns, digest)
            for scorer, digest in zip(self._scorers, self._digests, strict=True)
        ]
        opened = _OpenChunk(index, chunk, texts)
        self._open.append(opened)
        keys = {key for waiting in opened.questions for key in waiting.positions}
        found = self._store.get_many(list(keys))
        for key in self._unsaved.keys() & keys:
            found[key] = self._unsaved[key]
        n_done = len(chunk.unreadable) + opened.know(found)
        if n_done:
            self._watcher.progressed(n_done, 0)
        new = opened.missing_texts(self._asked.keys())
        # What an earlier chunk waits for comes with it.
        for waiting in opened.questions:
            for key in waiting.missing:
                self._asked.setdefault(key, []).append(waiting)
        if new.keys:
            self._pool.ask(new)

    def _land(self, answer: Answer) -> None:
        """Keep what is answered, and give it to the chunks that wait for it."""
        self._watcher.reading(answer.n_begun)
        n_rows = 0
        for key, record in answer.records.items():
            if isinstance(record, bytes):
                self._unsaved[key] = record
            for waiting in self._asked.pop(key):
                n_rows += waiting.take(key, record)
        if answer.records:
            self._watcher.progressed(n_rows, answer.n_tokens)
        if len(self._unsaved) >= _MAX_UNSAVED:
            self._save()

    def _finished(self) -> Iterator[ScoredChunk]:
        while self._open and self._open[0].is_finished:
            self._save()
            scored = self._open.popleft().scored()
            for scorer, answers in zip(self._scorers, scored.answers, strict=True):
                scorer.model.warn_of_low_mass(answers.scores, scorer.question)
            yield scored

    def _save(self) -> None:
        """Put what was answered into the store."""
        unsaved, self._unsaved = self._unsaved, {}
        if unsaved:
            self._store.put_many(unsaved.items())


class _OpenChunk:
    """A chunk on its way.

    Attributes
    ----------
    questions : list of _OpenQuestion
    """

    def __init__(self, index: int, chunk: Chunk, texts: Sequence[ChunkTexts]) -> None:
        self._index, self._chunk = index, chunk
        # How many questions about each row have no answer yet.
        self._n_missing = np.full(len(chunk), len(texts))
        self.questions = [_OpenQuestion(each, self._answered) for each in texts]

    @property
    def is_finished(self) -> bool:
        """Whether all rows have all their answers."""
        return not any(each.missing for each in self.questions)

    def know(self, found: dict[bytes, bytes]) -> int:
        """Take the scores that are known; return how many rows are finished."""
        return sum(each.know(found) for each in self.questions)

    def missing_texts(self, asked: Set[bytes]) -> Texts:
        """Return the texts without scores, but those that others have asked for.

        All questions about a row come one after the other, so that an engine still has
        what it has read of the row.
        """
        new: dict[bytes, tuple[int, int]] = {}
        for which, question in enumerate(self.questions):
            for key in question.missing:
                if key not in asked:
                    new.setdefault(key, (question.positions[key][0], which))
        places = sorted((place, key) for key, place in new.items())
        texts = [self.questions[which].text_at(at) for (at, which), _ in places]
        has_own_labels = any(labels is not None for _, labels in texts)
        return Texts(
            [key for _, key in places],
            [row for row, _ in texts],
            [cast(LabelSet, labels) for _, labels in texts] if has_own_labels else None,
            [which for (_, which), _ in places],
        )

    def scored(self) -> ScoredChunk:
        """Return the chunk with the scores of its rows; none of them is missing."""
        answers = [each.answers() for each in self.questions]
        return ScoredChunk(self._index, self._chunk, answers)

    def _answered(self, rows: Sequence[int]) -> int:
        """Note that rows have an answer; return how many now have all of them."""
        at = np.asarray(rows, dtype=np.int64)
        self._n_missing[at] -= 1
        return int((self._n_missing[at] == 0).sum())


class _OpenQuestion:
    """A question about the rows of a chunk on its way.

    Attributes
    ----------
    positions : dict of bytes to list of int
        The rows of each text that can be asked, by its key.
    missing : dict of bytes to None
        The keys of texts that have no scores yet, in the order of the rows.
    """

    def __init__(
        self, texts: ChunkTexts, answered: Callable[[Sequence[int]], int]
    ) -> None:
        self._texts, self._answered = texts, answered
        self._errors = dict(texts.errors)
        self.positions: dict[bytes, list[int]] = {}
        for at, key in enumerate(texts.keys):
            if at not in texts.errors:
                self.positions.setdefault(key, []).append(at)
        self.missing = dict.fromkeys(self.positions)
        self._placed: list[PlacedScores] = []
        self._landed: dict[bytes, bytes] = {}

    def know(self, found: dict[bytes, bytes]) -> int:
        """Take the scores that are known; return how many rows are finished."""
        records = {key: found[key] for key in self.positions if key in found}
        self._placed = self._unpacked(records)
        n_finished = self._answered(list(self._errors))
        # What is damaged, or of other labels, is as good as absent.
        for placed in self._placed:
            at = placed.at.tolist()
            n_finished += self._answered(at)
            for each in at:
                self.missing.pop(self._texts.keys[each], None)
        return n_finished

    def take(self, key: bytes, record: bytes | str) -> int:
        """Take the scores of a text, or why it has none; return how many rows end."""
        del self.missing[key]
        positions = self.positions[key]
        if isinstance(record, bytes):
            self._landed[key] = record
        else:
            self._errors.update(dict.fromkeys(positions, record))
        return self._answered(positions)

    def text_at(self, at: int) -> tuple[Row, LabelSet | None]:
        """Return a row that can be asked, and the labels of its own, if it has any."""
        row = self._texts.rows[at]
        candidates = self._texts.candidates
        labels = None if candidates is None else candidates[at]
        # Rows with errors have no keys among those that are asked.
        return cast(Row, row), cast(LabelSet | None, labels)

    def answers(self) -> ScoredRows:
        """Return the scores of the rows; none of them is missing."""
        n_rows = len(self._texts.rows)
        good = np.ones(n_rows, dtype=np.bool_)
        good[list(self._errors)] = False
        place = np.cumsum(good) - 1
        groups = [
            PlacedScores(scores, place[at])
            for scores, at in [*self._placed, *self._unpacked(self._landed)]
        ]
        scores = combine_scores(groups, self._texts.classes, n_texts=int(good.sum()))
        errors: dict[int, RowError] = {
            at: DataError(self._errors[at]) for at in sorted(self._errors)
        }
        return ScoredRows(scores, errors)

    def _unpacked(self, records: dict[bytes, bytes]) -> list[PlacedScores]:
        """Return scores with the positions of their rows, a group a label set."""
        rows = [at for key in records for at in self.positions[key]]
        unpacked = []
        for classes, some in self._texts.by_classes(rows).items():
            keys = self._texts.keys
            scores, at = unpack_scores([records[keys[at]] for at in some], classes)
            unpacked.append(PlacedScores(scores, np.array(some, dtype=np.int64)[at]))
        return unpacked
