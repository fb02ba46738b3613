"""Questions to one model of a server; and if one fails, whether it is the text."""

from collections.abc import Mapping
from typing import Any

from classify.engines.answers import Answer, Request, checked_answer
from classify.engines.decoding import start_generations
from classify.engines.server.completions import choice_of
from classify.engines.server.connection import Connection, RequestFailedError
from classify.engines.server.generation import run_generation
from classify.engines.server.reading import read_nodes, together
from classify.engines.server.retrying import Patience
from classify.errors import AnswerError, EngineError
from classify.tracking import ReadRequest, TokenTree

__all__ = ["SHORT", "ServedCompletions"]

# Of the first questions, whose failure should be known soon.
SHORT = Patience(retries=0, seconds=3.0)


class ServedCompletions:
    """Asks a model of a server.

    Parameters
    ----------
    connection : Connection
    model : str
        Its name there.
    vocab_size : int
    """

    def __init__(self, connection: Connection, model: str, *, vocab_size: int) -> None:
        self._connection = connection
        self._model = model
        # Any model can answer this.
        last = min(1, vocab_size - 1)
        self._simple = ReadRequest((0,), TokenTree([(0,), (last,)]), (0,))

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

    async def ask(
        self, fields: Mapping[str, Any], patience: Patience | None = None
    ) -> Mapping[str, Any]:
        """Send a request's fields, and return the answer's one choice."""
        return await self._connection.post(
            f"{self._connection.base}/completions",
            {"model": self._model, **fields},
            understand=choice_of,
            patience=patience,
        )

    async def ask_once(self, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        """Send a request's fields, without trying again for long."""
        return await self.ask(fields, SHORT)

    async def _answer(
        self, request: Request, patience: Patience | None = None
    ) -> Answer:
        async def ask(fields: Mapping[str, Any]) -> Mapping[str, Any]:
            return await self.ask(fields, patience)

        answer: Answer
        if isinstance(request, ReadRequest):
            answer = await read_nodes(ask, request)
        else:
            generations = start_generations(request)
            answer = tuple(
                await together(
                    run_generation(ask, generation) for generation in generations
                )
            )
        return checked_answer(request, answer)

    async def _see_that_it_answers(self, patience: Patience | None) -> None:
        """Raise EngineError if a simple request fails too: it is not the text then."""
        try:
            await self._answer(self._simple, patience)
        except AnswerError as error:
            raise EngineError(
                f"The server at {self._connection.base} gives no usable answer, even "
                f"to a prompt of one token. {error}"
            ) from error
