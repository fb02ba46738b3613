"""What the engine must know of a server's API: their common interface."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from classify.engines.answers import Answer, Request
from classify.engines.server.connection import Connection
from classify.engines.server.retrying import Patience
from classify.engines.server.selftest import SelfTestCase
from classify.tracking import ReadRequest, TokenTree

__all__ = ["Endpoint"]


class Endpoint(ABC):
    """One model of a server, asked in the way of one API.

    Parameters
    ----------
    connection : Connection
    model : str
        Its name there.
    vocab_size : int
    context_length : int
        Most tokens, prompt and continuation together.

    Attributes
    ----------
    api : str
        As the option `api` names it.
    server : str
        What runs there, in words.
    concurrency : int
        Requests at once where nothing else is said.
    shows : str
        Which log-probabilities it shows, in words.
    needs : str
        What such a server must be, for the error of one that does not answer right.
    """

    api: ClassVar[str]
    server: str
    concurrency: int = 64
    shows: str
    needs: str

    def __init__(
        self,
        connection: Connection,
        model: str,
        *,
        vocab_size: int,
        context_length: int,
    ) -> None:
        self.model, self.vocab_size = model, vocab_size
        self.context_length = context_length
        self._connection = connection
        # Any model can answer this.
        last = min(1, vocab_size - 1)
        self.simple = ReadRequest((0,), TokenTree([(0,), (last,)]), (0,))

    @abstractmethod
    async def answer(
        self, request: Request, patience: Patience | None = None
    ) -> Answer:
        """Answer a request, which was checked.

        Raises
        ------
        AnswerError
            What came cannot be used.
        RequestFailedError
            The server refused, or failed for longer than there is patience.
        """

    @abstractmethod
    async def self_test(self) -> list[SelfTestCase]:
        """Ask questions with known answers, up to the first that is answered wrong."""

    @abstractmethod
    def check(self, request: Request) -> None:
        """Raise InputError for what this server cannot be asked, whatever the model."""

    def describe(self) -> Mapping[str, Any]:
        """Return further facts about how the server is asked, by name."""
        return {"shows": self.shows}
