"""One caller's requests to a server, and the answers to them."""

import itertools
from collections.abc import Callable, Set
from concurrent.futures import CancelledError, Future
from threading import Event

from classify.engines.answers import Answer, Request
from classify.engines.sharing import CLOSED
from classify.errors import AnswerError, EngineError, InputError
from classify.tracking import Completed

__all__ = ["ServerLine"]


class ServerLine:
    """A line to a server; see `classify.engines.protocol.Line`.

    Callers share nothing here but the connection, which is made for many threads.

    Parameters
    ----------
    start : callable
        Sends a request, and returns the future of its answer.
    closed : callable
        Whether the engine was closed.
    """

    asynchronous = True

    def __init__(
        self, start: Callable[[Request], Future[Answer]], closed: Callable[[], bool]
    ) -> None:
        self._start, self._closed = start, closed
        self._tickets = itertools.count()
        self._waiting: dict[int, Future[Answer]] = {}
        self._something_done = Event()

    def submit(self, request: Request) -> int:
        """Take a request, send it, and return its ticket."""
        ticket = next(self._tickets)
        future = self._waiting[ticket] = self._start(request)
        future.add_done_callback(lambda _: self._something_done.set())
        return ticket

    def poll(self) -> list[Completed]:
        """Wait until at least one request is answered.

        Raises
        ------
        EngineError
            The server refuses all requests, or failed for longer than there is
            patience. Answers that came before were returned; what is in flight is
            broken off.
        """
        # What is taken off the list was returned, or raised: an interrupt here, at
        # whatever moment, leaves nothing behind that would never be answered.
        while self._waiting:
            self._something_done.clear()
            if self._closed():
                self.close()
                raise EngineError(CLOSED)
            done = [each for each in self._waiting.items() if each[1].done()]
            answers = [
                Completed(ticket, answer)
                for ticket, answer in (
                    (ticket, _failure(future) or future.result())
                    for ticket, future in done
                )
                if not isinstance(answer, BaseException)
                or isinstance(answer, InputError | AnswerError)
            ]
            if answers:
                for answer in answers:
                    del self._waiting[answer.ticket]
                return answers
            if done:
                self.close()
                raise _failure(done[0][1]) or AssertionError
            self._something_done.wait()
        return []

    def withdraw(self, tickets: Set[int]) -> set[int]:
        """Nothing can be taken back: all that is in flight was sent."""
        return set()

    def forget_reads(self) -> None:
        """Nothing is kept here that values depend on."""

    def close(self) -> None:
        """Break off what is in flight."""
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            future.cancel()

    def wake(self) -> None:
        """Let `poll` see that the engine was closed."""
        self._something_done.set()


def _failure(future: Future[Answer]) -> BaseException | None:
    try:
        return future.exception()
    except CancelledError:
        # Its connection ended before it did.
        return EngineError(CLOSED)
