"""Pools that score texts: an engine in this process, or workers elsewhere.

A pool is given texts and answers with their scores, packed as a store keeps them. The
`classify.jobs.scheduler` knows nothing else of what computes them.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol, Self

from classify.errors import InputError
from classify.jobs.score_records import pack_scores
from classify.labels import LabelSet
from classify.rows.encoding import Row
from classify.rows.scorer import Scorer
from classify.scoring import Flight, LabelLogprobs, Strategy, TextScore
from classify.verbalizer import ScorablePrompt

__all__ = ["Answer", "LocalPool", "OpenPool", "Pool", "Texts", "score_texts"]

# Texts that are encoded at a time: an engine computes meanwhile what it has already.
_ENCODED_TEXTS = 256
# Chunks that may wait for one slow text of the first of them.
_MAX_CHUNKS = 8


class Texts(NamedTuple):
    """Texts, each different from the others.

    Attributes
    ----------
    keys : sequence of bytes
        What the answers are called.
    rows : sequence of mapping
        What the prompt needs of each.
    candidates : sequence of LabelSet or None
        The labels that each may get. None: all labels.
    questions : sequence of int or None
        Which of the pool's scorers each is for. None: the only one.
    """

    keys: Sequence[bytes]
    rows: Sequence[Row]
    candidates: Sequence[LabelSet] | None
    questions: Sequence[int] | None = None


class Answer(NamedTuple):
    """The outcome for some texts.

    Attributes
    ----------
    records : dict of bytes to bytes or str
        By key: the scores of a text from `pack_scores`, or why it has none.
    n_tokens : int
        Of the prompts of those with scores.
    n_begun : int
        Other texts of which the model has read something.
    """

    records: dict[bytes, bytes | str]
    n_tokens: int = 0
    n_begun: int = 0


class Pool(Protocol):
    """Scores texts, in any order; true as long as answers are to come."""

    @property
    def max_chunks(self) -> int:
        """How many chunks may wait for their texts at a time."""
        ...

    @property
    def has_room(self) -> bool:
        """Whether to ask about another chunk now."""
        ...

    @property
    def n_texts(self) -> int:
        """Texts that are being scored."""
        ...

    def __bool__(self) -> bool: ...

    def ask(self, texts: Texts) -> None:
        """Ask for the scores of a chunk's texts; what is asked alike, scores alike."""
        ...

    def answers(self) -> Answer:
        """Wait for answers; return them, or nothing where none comes soon.

        Raises
        ------
        EngineError
            The engine failed.
        """
        ...

    def stop(self) -> None:
        """Forget the texts that have not been started."""
        ...


# Opens a pool for scorers that share an engine. The callable is asked before each text
# that begins here: whether to begin no more of them.
OpenPool = Callable[
    [Sequence[Scorer], Callable[[], bool]], AbstractContextManager[Pool]
]


class LocalPool:
    """The engine of this process. Use it as a context.

    Texts of the next chunk join those in flight where the engine is asynchronous. An
    engine that computes in batches finishes a chunk before the next begins, and forgets
    what it keeps of it: so a chunk's values are the same to the last digit in whatever
    order chunks come, and whether or not a job was interrupted before it.
    """

    max_chunks = _MAX_CHUNKS

    def __init__(
        self,
        scorers: Sequence[Scorer],
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._scorers = scorers
        self._strategies = [each.read_strategy() for each in scorers]
        self._stopping = stopping
        # Opened when there is something to ask: it loads the engine.
        self._flight: Flight[bytes] | None = None
        # Texts that have no prompt, until the next answers.
        self._refused: dict[bytes, bytes | str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._flight is not None:
            self._flight.close()

    def __bool__(self) -> bool:
        return bool(self._refused or self._flight)

    @property
    def has_room(self) -> bool:
        """Whether no other chunk computed at the same time would change its values."""
        if self._flight is None or not self._flight.asynchronous:
            return not self
        return self._flight.fill()

    @property
    def n_texts(self) -> int:
        """Texts in flight."""
        return 0 if self._flight is None else len(self._flight)

    def ask(self, texts: Texts) -> None:
        """Let the texts of a chunk begin as there is room for them."""
        if self._flight is None:
            engine = self._scorers[0].model.load_engine()
            self._flight = Flight(engine, stopping=self._stopping)
        self._flight.forget_reads()
        self._flight.feed(self._encoded(texts))

    def answers(self) -> Answer:
        """Let the engine make progress; return what is finished, perhaps nothing."""
        landed: list[tuple[bytes, TextScore]] = []
        if self._flight is not None and not self._refused:
            for key, score in self._flight.poll():
                if isinstance(score, TextScore):
                    landed.append((key, score))
                else:
                    self._refused[key] = str(score)
        records, self._refused = self._refused, {}
        records |= _packed(landed)
        return Answer(
            records,
            sum(score.prompt.n_tokens for _, score in landed),
            0 if self._flight is None else self._flight.n_begun,
        )

    def stop(self) -> None:
        """Forget the texts that the engine has not started."""
        if self._flight is not None:
            self._flight.take_back()

    def _encoded(self, texts: Texts) -> Iterator[tuple[bytes, Strategy]]:
        """Yield texts with their strategies; set those aside that have no prompt."""
        which = texts.questions or [0] * len(texts.keys)
        for start in range(0, len(texts.keys), _ENCODED_TEXTS):
            some = slice(start, start + _ENCODED_TEXTS)
            candidates = None if texts.candidates is None else texts.candidates[some]
            prompts = self._prompts(which[some], texts.rows[some], candidates)
            for key, question, prompt in zip(
                texts.keys[some], which[some], prompts, strict=True
            ):
                if isinstance(prompt, InputError):
                    self._refused[key] = str(prompt)
                else:
                    yield key, self._strategies[question](prompt)

    def _prompts(
        self,
        which: Sequence[int],
        rows: Sequence[Row],
        candidates: Sequence[LabelSet] | None,
    ) -> list[ScorablePrompt | InputError]:
        """Encode rows, each for the scorer of this number."""
        prompts: dict[int, ScorablePrompt | InputError] = {}
        for one, scorer in enumerate(self._scorers):
            at = [place for place, each in enumerate(which) if each == one]
            if at:
                some = None if candidates is None else [candidates[each] for each in at]
                encoded = scorer.encode([rows[each] for each in at], some)
                prompts |= zip(at, encoded, strict=True)
        return [prompts[place] for place in range(len(which))]


def score_texts(scorers: Sequence[Scorer], texts: Texts) -> Answer:
    """Score texts alone, as the pool of this process scores a chunk.

    Raises
    ------
    EngineError
        The engine failed.
    """
    records: dict[bytes, bytes | str] = {}
    n_tokens = 0
    with LocalPool(scorers) as pool:
        pool.ask(texts)
        while pool:
            answer = pool.answers()
            records |= answer.records
            n_tokens += answer.n_tokens
    return Answer(records, n_tokens)


def _packed(landed: Sequence[tuple[bytes, TextScore]]) -> dict[bytes, bytes]:
    """Return scores as a store keeps them, each with the labels of its own."""
    groups: dict[int, list[tuple[bytes, TextScore]]] = {}
    for key, score in landed:
        groups.setdefault(id(score.labels), []).append((key, score))
    packed: dict[bytes, bytes] = {}
    for group in groups.values():
        keys, scores = zip(*group, strict=True)
        classes = sorted(scores[0].labels.names)
        records = pack_scores(LabelLogprobs.of(scores, classes))
        packed.update(zip(keys, records, strict=True))
    return packed
