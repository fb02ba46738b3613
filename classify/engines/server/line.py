"""One caller's requests to a server, and the answers to them."""

import itertools
from collections.abc import Callable, Set
from concurrent.futures import CancelledError, Future
from threading import Event

from classify.engines.answers import Answer, Request, checked_answer
from classify.engines.server.connection import SHORT, Connection, RequestFailedError
from classify.engines.server.endpoint import Endpoint
from classify.engines.server.retrying import Patience
from classify.engines.sharing import CLOSED
from classify.errors import AnswerError, EngineError, InputError
from classify.tracking import Completed

__all__ = ["CheckedAnswers", "ServerLine"]


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


class CheckedAnswers:
    """Asks a model of a server, and checks what comes.

    Parameters
    ----------
    connection : Connection
    endpoint : Endpoint
    """

    def __init__(self, connection: Connection, endpoint: Endpoint) -> None:
        self._connection, self._endpoint = connection, endpoint

    async def answer(self, request: Request) -> Answer:
        """Answer a request.

        Raises
        ------
        AnswerError
            The server does not answer this request, or with values that cannot be
            used; it answers others.
        EngineError
            The server answers none.
        """
        try:
            return await self._answer(request)
        except AnswerError as error:
            await self._see_that_it_answers(None)
            raise error from None
        except RequestFailedError as error:
            if error.is_of_all:
                raise
            # One that was away has been waited for.
            await self._see_that_it_answers(SHORT if error.is_away else None)
            raise AnswerError(
                f"The server gave no answer for this text: {error.what.rstrip('.')}."
            ) from error

    async def _answer(
        self, request: Request, patience: Patience | None = None
    ) -> Answer:
        return checked_answer(request, await self._endpoint.answer(request, patience))

    async def _see_that_it_answers(self, patience: Patience | None) -> None:
        """Raise EngineError if a simple request fails too: it is not the text then."""
        try:
            await self._answer(self._endpoint.simple, patience)
        except AnswerError as error:
            raise EngineError(
                f"The server at {self._connection.base} gives no usable answer, even "
                f"to a prompt of one token. {error}"
            ) from error
