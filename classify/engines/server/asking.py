"""Questions to one model of a server; and if one fails, whether it is the text."""

from classify.engines.answers import Answer, Request, checked_answer
from classify.engines.server.connection import SHORT, Connection, RequestFailedError
from classify.engines.server.endpoint import Endpoint
from classify.engines.server.retrying import Patience
from classify.errors import AnswerError, EngineError

__all__ = ["CheckedAnswers"]


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
