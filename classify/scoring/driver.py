"""Keeps many texts in flight over one engine.

There are no waves: a strategy's next request goes to the engine at once, together with
the first requests of texts that have just started, so that a slow text does not hold up
others.
"""

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar

from classify.engines import Engine
from classify.engines.answers import Answer, Request, checked_answer
from classify.engines.sharing import open_line
from classify.errors import AnswerError, InputError, RowError
from classify.scoring.strategies import Strategy
from classify.scoring.text_score import TextScore
from classify.verbalizer import ScorablePrompt

__all__ = ["Flight", "drive", "equal_prompts", "for_each", "score_prompts"]

Key = TypeVar("Key", bound=Hashable)


@dataclass(slots=True, eq=False)
class _Round(Generic[Key]):
    """What a strategy waits for: the answers to a request, or to several at once."""

    key: Key
    strategy: Strategy
    requests: Sequence[Request]
    is_several: bool
    answers: dict[int, Answer]

    def take(self, at: int, answer: Answer) -> "Request | list[Request] | None":
        """Take an answer; with the last, let the strategy make its next request.

        None: answers are missing.
        """
        self.answers[at] = checked_answer(self.requests[at], answer)
        if len(self.answers) < len(self.requests):
            return None
        answers = [self.answers[place] for place in range(len(self.requests))]
        return self.strategy.send(answers if self.is_several else answers[0])


class Flight(Generic[Key]):
    """The texts in flight over an engine, on a line of their own.

    Close it, or use it as a context manager, so that requests in flight are dropped.

    Parameters
    ----------
    engine : Engine
    window : int or None, default=None
        How many texts to keep in flight. None: as many as the engine likes.
    stopping : callable, optional
        Asked before each text: whether to begin no more of them.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        window: int | None = None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._line = open_line(engine)
        self._room = engine.window if window is None else window
        self._stopping = stopping
        self._coming: deque[Iterator[tuple[Key, Strategy]]] = deque()
        self._rounds: set[_Round[Key]] = set()  # one for each text
        # The round of each ticket, and which of its requests it is.
        self._waiting: dict[int, tuple[_Round[Key], int]] = {}
        # Tickets of first requests: of the others' texts a part was read.
        self._fresh: set[int] = set()
        # Texts that the engine refused, until the next poll.
        self._refused: list[tuple[Key, RowError]] = []

    @property
    def n_begun(self) -> int:
        """How many texts in flight have an answer to their first request."""
        return len(self._rounds) - len(self._fresh)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        """How many texts are in flight."""
        return len(self._rounds) + len(self._refused)

    @property
    def asynchronous(self) -> bool:
        """Whether texts that begin while others are read join them."""
        return self._line.asynchronous

    def __bool__(self) -> bool:
        """Whether `poll` has more to return, now or later."""
        return bool(self._rounds or self._refused or self._coming)

    def feed(self, texts: Iterable[tuple[Key, Strategy]]) -> None:
        """Let texts begin in their order, each taken only when there is room for it."""
        self._coming.append(iter(texts))
        self.fill()

    def fill(self) -> bool:
        """Let texts begin as there is room; return whether all that were fed have."""
        while self._coming and len(self) < self._room:
            following = next(self._coming[0], None)
            if following is None:
                self._coming.popleft()
                continue
            if self._stopping():
                self._coming.appendleft(iter([following]))
                break
            key, strategy = following
            tickets = self._ask(key, strategy, next(strategy))
            if len(tickets) == 1:
                self._fresh.add(tickets[0])
        return not self._coming

    def poll(self) -> list[tuple[Key, TextScore | RowError]]:
        """Let the engine make progress; return what is finished, perhaps nothing.

        A text without a usable answer has its error in place of a score.
        """
        if not self.fill() and len(self) < self._room:
            return []  # to stop: some that are in flight may be taken back
        landed: list[tuple[Key, TextScore | RowError]] = [*self._refused]
        self._refused.clear()
        if landed:
            return landed  # waiting for the engine would hold them up
        for ticket, result in self._line.poll():
            if ticket not in self._waiting:
                continue  # of a text that another of its requests has ended
            asked, at = self._waiting.pop(ticket)
            self._fresh.discard(ticket)
            try:
                following = asked.take(at, result)
            except StopIteration as finished:
                landed.append((asked.key, finished.value))
            except (InputError, AnswerError) as error:
                landed.append((asked.key, error))
                self._forget(asked)
            else:
                if following is None:
                    continue
                self._ask(asked.key, asked.strategy, following)
            self._rounds.discard(asked)
        return landed

    def take_back(self) -> None:
        """Drop the texts that the engine has not started."""
        self._coming.clear()
        taken = self._line.withdraw(self._fresh)
        self._fresh -= taken
        for ticket in taken:
            asked, _ = self._waiting.pop(ticket)
            self._rounds.discard(asked)

    def forget_reads(self) -> None:
        """Drop what is kept of earlier texts; see `classify.engines.protocol.Line`."""
        self._line.forget_reads()

    def close(self) -> None:
        """Give up the texts in flight."""
        self._coming.clear()
        self._rounds.clear()
        self._waiting.clear()
        self._refused.clear()
        self._fresh.clear()
        self._line.close()

    def _ask(
        self, key: Key, strategy: Strategy, wanted: Request | list[Request]
    ) -> list[int]:
        """Submit what a strategy asks; return the tickets, or [] if it was refused."""
        requests = wanted if isinstance(wanted, list) else [wanted]
        asked = _Round(key, strategy, requests, isinstance(wanted, list), {})
        tickets = []
        for at, request in enumerate(requests):
            try:
                ticket = self._line.submit(request)
            except (InputError, AnswerError) as error:
                self._refused.append((key, error))
                self._forget(asked)
                return []
            self._waiting[ticket] = asked, at
            tickets.append(ticket)
        self._rounds.add(asked)
        return tickets

    def _forget(self, asked: _Round[Key]) -> None:
        """Take back what is left of a round; answers that come are left alone."""
        tickets = {ticket for ticket, (its, _) in self._waiting.items() if its is asked}
        self._line.withdraw(tickets)
        for ticket in tickets:
            del self._waiting[ticket]


def drive(
    strategies: Iterable[Strategy], engine: Engine, *, window: int | None = None
) -> Iterator[tuple[int, TextScore | RowError]]:
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
    (int, TextScore or RowError)
        The position of the strategy in the iterable, and its result, or why it has
        none. The order is that of completion.
    """
    flight: Flight[int] = Flight(engine, window=window)
    with flight:
        flight.feed(enumerate(strategies))
        while flight:
            yield from flight.poll()


def score_prompts(
    prompts: Sequence[ScorablePrompt],
    strategy: Callable[[ScorablePrompt], Strategy],
    engine: Engine,
    *,
    refuse: Callable[[int, RowError], Exception] | None = None,
    progress: Callable[[int], object] | None = None,
) -> list[TextScore | RowError]:
    """Score prompts with one strategy, in their order; equal prompts once.

    Parameters
    ----------
    prompts : sequence of ScorablePrompt, length n_texts
    strategy : callable
        Makes the strategy of a prompt.
    engine : Engine
    refuse : callable, default=None
        Makes the exception that a text without a usable answer raises, of its position
        and its error. None: the error stands in place of its score.
    progress : callable, default=None
        Called with the number of texts finished since the last call.

    Returns
    -------
    list of TextScore or RowError, length n_texts
    """
    members = equal_prompts(prompts)
    scores: dict[int, TextScore | RowError] = {}
    for which, score in drive((strategy(prompts[m[0]]) for m in members), engine):
        if not isinstance(score, TextScore) and refuse is not None:
            raise refuse(members[which][0], score) from score
        scores |= for_each(score, prompts, members[which])
        if progress is not None:
            progress(len(members[which]))
    return [scores[at] for at in range(len(prompts))]


def equal_prompts(prompts: Sequence[ScorablePrompt]) -> list[list[int]]:
    """Return the positions of each different prompt, which is asked once."""
    same: dict[Any, list[int]] = {}
    for at, prompt in enumerate(prompts):
        # Of texts that are cut to one prompt, one that is still to come may show more.
        key = tuple(
            (each.token_ids, id(each.trie), each.shortlist and each.shortlist.row)
            for each in prompt.all
        )
        same.setdefault(key, []).append(at)
    return list(same.values())


def for_each(
    score: TextScore | RowError, prompts: Sequence[ScorablePrompt], places: list[int]
) -> dict[int, TextScore | RowError]:
    """Return the result of equal prompts at the place of each of them."""
    # Texts with equal prompts can differ in whether they were cut to it.
    return {
        at: score.for_prompt(prompts[at]) if isinstance(score, TextScore) else score
        for at in places
    }
