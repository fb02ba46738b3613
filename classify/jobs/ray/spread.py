"""Chunks of rows whose texts are scored by many workers, each different text once."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol, cast

from classify.encoding import Row
from classify.jobs.chunk_texts import ChunkTexts, RowColumns
from classify.jobs.ray.texts import Texts
from classify.jobs.run import IndexedChunk, JobRun
from classify.jobs.score_records import unpack_scores
from classify.jobs.scored_chunks import ScoredChunk, WaitingChunk
from classify.jobs.store import ScoreStore
from classify.labels import LabelSet
from classify.scored_rows import RowScorer
from classify.tables.chunk import Chunk

__all__ = ["Answer", "IndexedScores", "SpreadScoring", "TextPool"]


class Answer(NamedTuple):
    """The scores of texts, or why they have none.

    Attributes
    ----------
    keys : list of bytes
        Those they were asked with.
    records : list of bytes or str
    n_tokens : int
        Both as in `classify.jobs.ray.texts.Records`.
    """

    keys: list[bytes]
    records: list[bytes | str]
    n_tokens: int


class TextPool(Protocol):
    """Workers that are asked about texts, and answer in any order."""

    @property
    def has_room(self) -> bool:
        """Whether a further call would keep a worker from being idle."""
        ...

    @property
    def is_busy(self) -> bool:
        """Whether an answer is to come."""
        ...

    @property
    def n_texts(self) -> int:
        """Texts that workers have been given, and not answered."""
        ...

    def ask(self, keys: Sequence[bytes], texts: Texts) -> None:
        """Ask for the scores of texts, with a key for each."""
        ...

    def stop(self) -> None:
        """Forget what no worker has begun."""
        ...

    def answer(self) -> Answer | None:
        """Wait for an answer; None where none comes soon."""
        ...


class IndexedScores(NamedTuple):
    """A chunk that is scored, and its place among all chunks of a table."""

    at: int
    scored: ScoredChunk


class SpreadScoring:
    """Scores chunks with a pool of workers.

    The texts of a chunk that nobody knows and no earlier chunk asks for go to one
    worker, together: what is computed beside what depends on the table alone, not on
    how many workers there are, which of them dies, or where an earlier run stopped.
    """

    def __init__(
        self,
        scorer: RowScorer,
        store: ScoreStore,
        digest: bytes,
        columns: RowColumns,
        pool: TextPool,
        run: JobRun,
    ) -> None:
        self._scorer = scorer
        self._store = store
        self._digest = digest
        self._columns = columns
        self._pool = pool
        self._run = run
        self._open: dict[int, WaitingChunk] = {}
        # The chunks that wait for a text, by its key.
        self._asked: dict[bytes, list[WaitingChunk]] = {}

    def score(
        self, chunks: Iterator[IndexedChunk], *, most_open: int
    ) -> Iterator[IndexedScores]:
        """Yield chunks with their scores as they are finished, in any order.

        Parameters
        ----------
        chunks : iterator of IndexedChunk
            In order.
        most_open : int
            Chunks that are held at a time.
        """
        takes = True
        while takes or self._pool.is_busy:
            if self._run.stopping():
                takes = False
                self._pool.stop()
                self._run.watcher.stopping(self._pool.n_texts)
            if takes and self._pool.has_room and len(self._open) < most_open:
                indexed = next(chunks, None)
                if indexed is None:
                    takes = False
                else:
                    self._begin(*indexed)
            elif self._pool.is_busy:
                self._land(self._pool.answer())
            yield from self._finished()

    def _begin(self, at: int, chunk: Chunk) -> None:
        """Look a chunk's texts up, and ask for those that nobody knows."""
        texts = ChunkTexts.of(chunk, self._scorer, self._columns, self._digest)
        waiting = self._open[at] = WaitingChunk.of(chunk, texts)
        found = self._store.get_many(list(waiting.positions))
        for classes, keys in waiting.groups(found).items():
            placed = unpack_scores([found[key] for key in keys], classes)
            # What is damaged, or of other labels, is as good as absent.
            for which in placed.at.tolist():
                waiting.records[keys[which]] = found[keys[which]]
        unknown = [key for key in waiting.positions if key not in waiting.records]
        n_done = sum(len(waiting.positions[key]) for key in waiting.records)
        n_done += len(texts.errors) + len(chunk.unreadable)
        if n_done:
            self._run.watcher.progressed(n_done, 0)
        waiting.n_missing = len(unknown)
        mine = [key for key in unknown if key not in self._asked]
        for key in unknown:
            self._asked.setdefault(key, []).append(waiting)
        if mine:
            self._pool.ask(mine, _texts_of(waiting, mine))

    def _land(self, answer: Answer | None) -> None:
        """Keep what a worker answers, and tell the chunks that wait for it."""
        if answer is None:
            return
        n_rows = 0
        scored = []
        for key, record in zip(answer.keys, answer.records, strict=True):
            if isinstance(record, bytes):
                scored.append((key, record))
            for waiting in self._asked.pop(key):
                if isinstance(record, bytes):
                    waiting.n_missing -= 1
                    waiting.records[key] = record
                    n_rows += len(waiting.positions[key])
                else:
                    n_rows += waiting.set_aside(key, record)
        self._store.put_many(scored)
        self._run.watcher.progressed(n_rows, answer.n_tokens)

    def _finished(self) -> Iterator[IndexedScores]:
        for at in [at for at, each in self._open.items() if not each.n_missing]:
            scored = self._open.pop(at).scored()
            self._scorer.model.warn_of_low_mass(scored.scores)
            yield IndexedScores(at, scored)


def _texts_of(waiting: WaitingChunk, keys: list[bytes]) -> Texts:
    """Return the texts of a chunk that have some keys."""
    texts = waiting.texts
    first = [waiting.positions[key][0] for key in keys]
    rows = [texts.rows[at] for at in first]
    candidates = texts.candidates
    listed = None if candidates is None else [candidates[at] for at in first]
    # Rows with errors have no keys among those that are asked.
    return Texts(cast(list[Row], rows), cast(list[LabelSet] | None, listed))
