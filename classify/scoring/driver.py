"""Keeps many texts in flight over one engine.

There are no waves: whatever a strategy asks next goes to the engine at once, beside
the first requests of texts that have just begun, so that a slow text holds nobody up.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Generic, Self, TypeVar

from classify.engines import Engine
from classify.engines.sharing import open_line
from classify.scoring.result import TextScore
from classify.scoring.strategies import Strategy
from classify.verbalizer import ScorablePrompt

__all__ = ["Flight", "drive", "score_prompts"]

Key = TypeVar("Key", bound=Hashable)


class Flight(Generic[Key]):
    """The texts in flight over an engine, on a line of their own.

    Close it, or use it as a context, so that what is in flight in the end is given up.

    Parameters
    ----------
    engine : Engine
    window : int or None, default=None
        How many texts to keep in flight. None: as many as the engine likes.
    """

    def __init__(self, engine: Engine, *, window: int | None = None) -> None:
        self._line = open_line(engine)
        self._room = engine.window if window is None else window
        self._waiting: dict[int, tuple[Key, Strategy]] = {}
        # Tickets of first requests: of the others' texts a part was read.
        self._fresh: set[int] = set()

    @property
    def n_begun(self) -> int:
        """How many texts in flight have an answer to their first request."""
        return len(self._waiting) - len(self._fresh)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        """How many texts are in flight."""
        return len(self._waiting)

    @property
    def full(self) -> bool:
        """Whether to `poll` before the next text is added."""
        return len(self._waiting) >= self._room

    def add(self, key: Key, strategy: Strategy) -> None:
        """Let a text begin."""
        ticket = self._line.submit(next(strategy))
        self._waiting[ticket] = (key, strategy)
        self._fresh.add(ticket)

    def poll(self) -> list[tuple[Key, TextScore]]:
        """Let the engine make progress; return what is finished, perhaps nothing."""
        landed = []
        for ticket, result in self._line.poll():
            key, strategy = self._waiting.pop(ticket)
            self._fresh.discard(ticket)
            try:
                request = strategy.send(result)
            except StopIteration as finished:
                landed.append((key, finished.value))
            else:
                self._waiting[self._line.submit(request)] = (key, strategy)
        return landed

    def forget_reads(self) -> None:
        """Drop what is kept of earlier texts; see `classify.engines.sharing.Line`."""
        self._line.forget_reads()

    def close(self) -> None:
        """Give up the texts in flight."""
        self._waiting.clear()
        self._line.close()


def drive(
    strategies: Iterable[Strategy], engine: Engine, *, window: int | None = None
) -> Iterator[tuple[int, TextScore]]:
    """Run strategies over an engine; yield their results as they come.

    Parameters
    ----------
    strategies : iterable of Strategy
        One for each text; taken from the iterable only as room appears.
    engine : Engine
    window : int or None, default=None
        How many texts to keep in flight. None: as many as the engine likes.

    Yields
    ------
    (int, TextScore)
        The position of the strategy in the iterable, and its result. The order is that
        of completion.
    """
    flight: Flight[int] = Flight(engine, window=window)
    with flight:
        for at, strategy in enumerate(strategies):
            while flight.full:
                yield from flight.poll()
            flight.add(at, strategy)
        while flight:
            yield from flight.poll()


def score_prompts(
    prompts: Sequence[ScorablePrompt],
    strategy: Callable[[ScorablePrompt], Strategy],
    engine: Engine,
    *,
    progress: Callable[[int], object] | None = None,
) -> list[TextScore]:
    """Score prompts with one strategy, in their order; equal prompts once.

    Parameters
    ----------
    prompts : sequence of ScorablePrompt, length n_texts
    strategy : callable
        Makes the strategy of a prompt.
    engine : Engine
    progress : callable, default=None
        Called with the number of texts finished since the last call.

    Returns
    -------
    list of TextScore, length n_texts
    """
    same: dict[tuple[tuple[int, ...], int], list[int]] = {}
    for at, prompt in enumerate(prompts):
        same.setdefault((prompt.token_ids, id(prompt.trie)), []).append(at)
    members = list(same.values())
    scores: dict[int, TextScore] = {}
    for which, score in drive((strategy(prompts[m[0]]) for m in members), engine):
        for at in members[which]:
            # Texts with equal prompts can differ in whether they were cut to it.
            scores[at] = score.for_prompt(prompts[at])
        if progress is not None:
            progress(len(members[which]))
    return [scores[at] for at in range(len(prompts))]
