"""Chunks of rows through a model: many texts in flight, each different text once."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from classify.engines import Engine
from classify.errors import InputError
from classify.jobs.chunk_texts import ChunkTexts, RowColumns
from classify.jobs.score_records import (
    PlacedScores,
    combine_scores,
    pack_scores,
    unpack_scores,
)
from classify.jobs.store import ScoreStore
from classify.jobs.watcher import JobWatcher
from classify.scored_rows import RowScorer
from classify.scoring import Flight, LabelLogprobs, TextScore
from classify.tables.chunk import Chunk
from classify.verbalizer import ScorablePrompt

__all__ = ["ChunkScorer", "ScoredChunk", "WaitingChunk"]

# Chunks that may wait for one slow text of the first of them.
_MOST_WAITING = 8


@dataclass(frozen=True, eq=False)
class ScoredChunk:
    """A chunk whose rows are scored.

    Attributes
    ----------
    chunk : Chunk
    scores : LabelLogprobs
        Of the readable rows that have no error, in their order.
    errors : dict of int to str
        Positions of the other readable rows, and why they have no score.
    """

    chunk: Chunk
    scores: LabelLogprobs
    errors: dict[int, str]


@dataclass(eq=False)
class WaitingChunk:
    """A chunk on its way.

    Attributes
    ----------
    chunk, texts
    positions : dict of bytes to list of int
        The rows of each text that can be asked.
    errors : dict of int to str
    records : dict of bytes to bytes
        The scores that are known, by the key of their text.
    landed : dict of bytes to TextScore
        Those that the engine has given since.
    n_missing : int
        Texts asked for that have not landed.
    """

    chunk: Chunk
    texts: ChunkTexts
    positions: dict[bytes, list[int]]
    errors: dict[int, str]
    records: dict[bytes, bytes] = field(default_factory=dict)
    landed: dict[bytes, TextScore] = field(default_factory=dict)
    n_missing: int = 0

    @classmethod
    def of(cls, chunk: Chunk, texts: ChunkTexts) -> "WaitingChunk":
        """Return a chunk of which no score is known yet."""
        positions: dict[bytes, list[int]] = {}
        for at, key in enumerate(texts.keys):
            if at not in texts.errors:
                positions.setdefault(key, []).append(at)
        return cls(chunk, texts, positions, dict(texts.errors))

    def groups(self, keys: Iterable[bytes]) -> dict[tuple[str, ...], list[bytes]]:
        """Return the keys of texts by the labels that they are scored among."""
        if self.texts.declared is not None:
            return {tuple(self.texts.classes): list(keys)}
        groups: dict[tuple[str, ...], list[bytes]] = {}
        for key in keys:
            classes = self.texts.classes_of(self.positions[key][0])
            groups.setdefault(classes, []).append(key)
        return groups

    def set_aside(self, key: bytes, reason: str) -> int:
        """Give a text up that is missing; return how many rows it has."""
        positions = self.positions.pop(key)
        self.errors.update(dict.fromkeys(positions, reason))
        self.n_missing -= 1
        return len(positions)

    def scored(self) -> ScoredChunk:
        """Return the chunk with the scores of its rows; all of them are known."""
        good = [at for at in range(len(self.texts.rows)) if at not in self.errors]
        place = np.full(len(self.texts.rows), -1)
        place[good] = np.arange(len(good))
        groups = []
        for classes, keys in self.groups(self.positions).items():
            rows = [at for key in keys for at in self.positions[key]]
            records = [self.records[self.texts.keys[at]] for at in rows]
            placed = unpack_scores(records, classes)
            at = place[np.array(rows, dtype=np.int64)]
            groups.append(PlacedScores(placed.scores, at))
        scores = combine_scores(groups, self.texts.classes, n_texts=len(good))
        return ScoredChunk(self.chunk, scores, self.errors)


class ChunkScorer:
    """Scores chunks in order.

    Each different text is asked for once: the store is looked up first, and added to
    before a chunk is handed out. Texts of the next chunk join those in flight where the
    engine is asynchronous. An engine that computes in batches finishes a chunk before
    the next begins: then a chunk's values are the same to their last digit whether or
    not the job was interrupted before it.

    Parameters
    ----------
    scorer : RowScorer
    store : ScoreStore
    digest : bytes
        Of all that scores depend on beside a row's own fields and candidates.
    columns : RowColumns
    watcher : JobWatcher, default=None
    stopping : callable, optional
        Asked before each text and each batch: whether to begin no more of them. Texts
        of which the engine has begun something are finished and put into the store.
    """

    def __init__(
        self,
        scorer: RowScorer,
        store: ScoreStore,
        digest: bytes,
        columns: RowColumns,
        *,
        watcher: JobWatcher | None = None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._scorer = scorer
        self._strategy = scorer.read_strategy()
        self._store = store
        self._digest = digest
        self._columns = columns
        self._watcher = watcher or JobWatcher()
        self._stopping = stopping
        self._queue: deque[WaitingChunk] = deque()
        # The chunks that wait for a text, by its key.
        self._asked: dict[bytes, list[WaitingChunk]] = {}
        self._in_flight: Flight[bytes] | None = None

    def score(self, chunks: Iterable[Chunk]) -> Generator[ScoredChunk]:
        """Yield chunks with their scores, in order; fewer if it is to stop.

        Raises
        ------
        EngineError
            The engine failed. What it finished before is in the store.
        """
        try:
            for chunk in chunks:
                if self._stopping():
                    break
                self._begin(chunk)
                yield from self._finished()
                while self._queue and not self._may_read_on():
                    if not self._land():
                        break
                    yield from self._finished()
            while self._land():
                yield from self._finished()
        finally:
            for waiting in self._queue:
                self._keep(waiting)
            self._queue.clear()
            if self._in_flight is not None:
                self._in_flight.close()

    def _engine(self) -> Engine:
        return self._scorer.model.load_engine()

    def _flight(self) -> Flight[bytes]:
        if self._in_flight is None:
            self._in_flight = Flight(self._engine())
        return self._in_flight

    def _is_asynchronous(self) -> bool:
        return bool(getattr(self._engine(), "asynchronous", False))

    def _may_read_on(self) -> bool:
        return self._is_asynchronous() and len(self._queue) < _MOST_WAITING

    def _begin(self, chunk: Chunk) -> None:
        """Look a chunk's texts up, and let those that nobody knows begin."""
        texts = ChunkTexts.of(chunk, self._scorer, self._columns, self._digest)
        waiting = WaitingChunk.of(chunk, texts)
        found = self._store.get_many(list(waiting.positions))
        for classes, keys in waiting.groups(found).items():
            placed = unpack_scores([found[key] for key in keys], classes)
            # What is damaged, or of other labels, is as good as absent.
            for at in placed.at.tolist():
                waiting.records[keys[at]] = found[keys[at]]
        unknown = waiting.positions.keys() - waiting.records.keys()
        for earlier in self._queue:
            for key in unknown & earlier.landed.keys():
                waiting.landed[key] = earlier.landed[key]
        unknown -= waiting.landed.keys()
        known = (*waiting.records, *waiting.landed)
        n_done = sum(len(waiting.positions[key]) for key in known)
        n_done += len(texts.errors) + len(chunk.unreadable)
        if n_done:
            self._watcher.progressed(n_done, 0)
        # What an earlier chunk waits for comes with it.
        for key in unknown & self._asked.keys():
            self._asked[key].append(waiting)
            waiting.n_missing += 1
            unknown.discard(key)
        self._queue.append(waiting)
        if unknown:
            # In the order of the rows, which a set has not.
            self._ask(waiting, [key for key in waiting.positions if key in unknown])

    def _ask(self, waiting: WaitingChunk, keys: list[bytes]) -> None:
        """Let texts begin."""
        waiting.n_missing += len(keys)
        prompts = self._encoded(waiting, keys)
        if prompts and not self._is_asynchronous():
            # A chunk's values are the same in whatever order chunks come, and after a
            # restart.
            self._flight().forget_reads()
        for key, prompt in prompts.items():
            flight = self._flight()
            while flight.full:
                self._land()
            if self._stopping():
                return
            self._asked[key] = [waiting]
            flight.add(key, self._strategy(prompt))

    def _encoded(
        self, waiting: WaitingChunk, keys: list[bytes]
    ) -> Mapping[bytes, ScorablePrompt]:
        """Return the prompts of texts; those that have none become errors."""
        texts = waiting.texts
        first = [waiting.positions[key][0] for key in keys]
        candidates = texts.candidates
        encoded = self._scorer.encode(
            [texts.rows[at] for at in first],
            None if candidates is None else [candidates[at] for at in first],
        )
        prompts = {}
        for key, prompt in zip(keys, encoded, strict=True):
            if isinstance(prompt, InputError):
                self._watcher.progressed(waiting.set_aside(key, str(prompt)), 0)
            else:
                prompts[key] = prompt
        return prompts

    def _land(self) -> bool:
        """Let the engine make progress; return False when nothing is in flight."""
        if not self._in_flight:
            return False
        if self._stopping():
            for key in self._in_flight.take_back():
                # Its chunks will lack it, and not be handed out.
                del self._asked[key]
            self._watcher.stopping(len(self._in_flight))
            if not self._in_flight:
                return False
        landed = self._in_flight.poll()
        self._watcher.reading(self._in_flight.n_begun)
        for key, score in landed:
            for waiting in self._asked.pop(key):
                if isinstance(score, TextScore):
                    waiting.landed[key] = score
                    waiting.n_missing -= 1
                    n_rows = len(waiting.positions[key])
                else:
                    n_rows = waiting.set_aside(key, str(score))
                self._watcher.progressed(n_rows, 0)
            if isinstance(score, TextScore):
                self._watcher.progressed(0, len(score.prompt.token_ids))
        return True

    def _finished(self) -> Iterator[ScoredChunk]:
        while self._queue and not self._queue[0].n_missing:
            waiting = self._queue.popleft()
            self._keep(waiting)
            scored = waiting.scored()
            self._scorer.model.warn_of_low_mass(scored.scores)
            yield scored

    def _keep(self, waiting: WaitingChunk) -> None:
        """Put what has landed into the store."""
        if not waiting.landed:
            return
        for classes, keys in waiting.groups(waiting.landed).items():
            scores = LabelLogprobs.of([waiting.landed[key] for key in keys], classes)
            packed = pack_scores(scores, np.arange(len(keys)))
            waiting.records.update(zip(keys, packed, strict=True))
        self._store.put_many([(key, waiting.records[key]) for key in waiting.landed])
        waiting.landed.clear()
