"""Texts of many callers in one run over an engine, in a thread of its own."""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future

from classify.engines import Engine
from classify.errors import RowError
from classify.scoring.driver import Flight, equal_prompts, for_each
from classify.scoring.strategies import Strategy
from classify.scoring.text_score import TextScore
from classify.verbalizer import ScorablePrompt

__all__ = ["LiveRun"]

Scores = list[TextScore | RowError]


class LiveRun:
    """A run that texts join while others are scored, so that callers share batches.

    The thread begins with the first text, and ends when there is none left. Callers
    take turns: a text of one is followed by a text of the next.

    Parameters
    ----------
    engine : Engine

    Examples
    --------
    >>> from classify.engines import FakeEngine
    >>> LiveRun(FakeEngine()).submit([], lambda prompt: iter(())).result()
    []
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._pid = os.getpid()
        self._lock = threading.Lock()
        # Callers with texts that have not started, and all that wait for a result.
        self._coming: deque[_Asked] = deque()
        self._open: set[_Asked] = set()
        self._is_running = False

    def runs_on(self, engine: Engine) -> bool:
        """Return whether it asks this engine, in this process.

        The thread of a run does not exist in a forked child.
        """
        return self._engine is engine and self._pid == os.getpid()

    def submit(
        self,
        prompts: Sequence[ScorablePrompt],
        strategy: Callable[[ScorablePrompt], Strategy],
    ) -> "Future[Scores]":
        """Let prompts join; equal ones are asked once.

        Returns
        -------
        Future of list of TextScore or RowError, length n_texts
            To cancel it drops the texts that have not begun. Its exception is an
            EngineError if the engine failed.
        """
        asked = _Asked(prompts, strategy)
        if not prompts:
            asked.future.set_result([])
            return asked.future
        with self._lock:
            self._coming.append(asked)
            self._open.add(asked)
            if not self._is_running:
                self._is_running = True
                # A model that never answers must not keep the process alive.
                threading.Thread(
                    target=self._run, name="classify-live-run", daemon=True
                ).start()
        return asked.future

    def _run(self) -> None:
        try:
            with Flight[tuple[_Asked, int]](self._engine) as flight:
                while self._has_texts(flight):
                    if flight.fill():
                        flight.feed(self._texts())
                    for (asked, which), score in flight.poll():
                        if asked.land(which, score):
                            self._forget(asked)
        except BaseException as error:  # noqa: BLE001 raised to everyone who waits
            self._fail(error)

    def _has_texts(self, flight: Flight[tuple["_Asked", int]]) -> bool:
        with self._lock:
            self._is_running = bool(self._coming or flight)
            return self._is_running

    def _texts(self) -> Iterator[tuple[tuple["_Asked", int], Strategy]]:
        """Yield a text of each caller in turn, each only when there is room for it."""
        while (asked := self._next_caller()) is not None:
            yield asked.begin()

    def _next_caller(self) -> "_Asked | None":
        with self._lock:
            while self._coming:
                asked = self._coming.popleft()
                if asked.future.cancelled():
                    self._open.discard(asked)
                    continue
                if asked.n_coming > 1:
                    self._coming.append(asked)
                return asked
        return None

    def _forget(self, asked: "_Asked") -> None:
        with self._lock:
            self._open.discard(asked)

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            failed = list(self._open)
            self._open.clear()
            self._coming.clear()
            self._is_running = False
        for asked in failed:
            if asked.future.set_running_or_notify_cancel():
                asked.future.set_exception(error)


class _Asked:
    """What one caller asked for.

    Attributes
    ----------
    future : Future
    n_coming : int
        Distinct prompts that have not started.
    """

    def __init__(
        self,
        prompts: Sequence[ScorablePrompt],
        strategy: Callable[[ScorablePrompt], Strategy],
    ) -> None:
        self.future: Future[Scores] = Future()
        self._prompts, self._strategy = prompts, strategy
        self._members = equal_prompts(prompts)
        self.n_coming = len(self._members)
        self._scores: dict[int, TextScore | RowError] = {}

    def begin(self) -> tuple[tuple["_Asked", int], Strategy]:
        which = len(self._members) - self.n_coming
        self.n_coming -= 1
        return (self, which), self._strategy(self._prompts[self._members[which][0]])

    def land(self, which: int, score: TextScore | RowError) -> bool:
        """Keep the result of a prompt; return whether there are no more to come."""
        self._scores |= for_each(score, self._prompts, self._members[which])
        is_done = len(self._scores) == len(self._prompts)
        if is_done and self.future.set_running_or_notify_cancel():
            scores = self._scores
            self.future.set_result([scores[at] for at in range(len(self._prompts))])
        return is_done
