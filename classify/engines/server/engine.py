"""The engine over a running server: vLLM, llama.cpp, Ollama, LM Studio and others."""

import logging
import weakref
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Self
from weakref import WeakSet

from classify.engines.answers import Answer, Request
from classify.engines.forks import Home
from classify.engines.protocol import BaseEngine, Finding, check_request
from classify.engines.server.address import authorization, base_url
from classify.engines.server.connection import Connection
from classify.engines.server.endpoint import Endpoint
from classify.engines.server.line import CheckedAnswers, ServerLine
from classify.engines.server.lists import ListEndpoint
from classify.engines.server.probing import Wanted, connect
from classify.engines.server.retrying import Patience
from classify.engines.server.selftest import SelfTestCase
from classify.engines.sharing import CLOSED
from classify.errors import ConfigError, EngineError
from classify.tracking import Completed

__all__ = ["ServerEngine"]

_logger = logging.getLogger(__name__)


class ServerEngine(BaseEngine):
    """Answer requests with a server, many at once.

    Made with `ServerEngine.load`.

    Parameters
    ----------
    connection : Connection
    endpoint : Endpoint
        The model that is asked, and in which API.
    concurrency : int
        Requests at once, and texts that a driver keeps in flight.
    """

    name = "server"
    # Requests may be added while others are answered.
    asynchronous = True

    def __init__(
        self, connection: Connection, endpoint: Endpoint, *, concurrency: int
    ) -> None:
        self.vocab_size = endpoint.vocab_size
        self.context_length = endpoint.context_length
        self.lists_only = isinstance(endpoint, ListEndpoint)
        self.window = concurrency
        self.closed = False
        self._home = Home()
        self._connection, self._endpoint = connection, endpoint
        self._answers = CheckedAnswers(connection, endpoint)
        self._lines: WeakSet[ServerLine] = WeakSet()
        # No cycle of references: an engine that no one uses is to end at once.
        here = weakref.proxy(self)
        self._own = ServerLine(
            lambda request: here._start(request),  # noqa: PLW0108 a method would be one
            lambda: here.closed,
        )
        # Ends the thread of an engine that was not closed, at exit at the latest.
        self._finish = weakref.finalize(self, connection.close)

    @classmethod
    def load(
        cls,
        model: str | Path,
        *,
        url: str | None = None,
        api_key_env: str | None = None,
        served_model_name: str | None = None,
        api: str = "auto",
        top_logprobs: int | None = None,
        timeout: float = 120.0,
        retries: int = 5,
        patience: float = 300.0,
        self_test: bool = True,
        batch_size: int | str = "auto",
        trust_remote_code: bool = False,  # noqa: ARG003
        revision: str | None = None,
    ) -> Self:
        """Connect to a server.

        Parameters
        ----------
        model : str or path
            The hub id or folder of the model that the server runs: its tokenizer makes
            the token ids, and its ``config.json`` says how many there are.
        url : str
            Where the server is, such as ``http://localhost:8000``.
        api_key_env : str, optional
            The environment variable that holds the server's key. The key itself is
            never an option, so that no file and no history of commands has it.
        served_model_name : str, optional
            Which of the server's models to ask; needed where it has several, none of
            which is called as `model` is.
        api : {"auto", "vllm", "llamacpp", "ollama", "openai"}, default="auto"
            Which API the server speaks. "auto" asks it.
        top_logprobs : int, optional
            How many of the most likely tokens to ask for, if the server shows
            no others. By default 1000 of llama.cpp's server, 20 of others.
        timeout : float, default=120.0
            Seconds that an answer may take.
        retries : int, default=5
            How often a request is tried again whose answer broke off, came too late,
            or was an error of the server (HTTP 500).
        patience : float, default=300.0
            For how many seconds a request is tried again while the server is away
            (no connection, HTTP 502 to 504) or busy (429).
        self_test : bool, default=True
            Compare tracked values with values that the server computes apart, before
            the first text, and refuse a server that answers wrong.
        batch_size : int or "auto", default="auto"
            Most requests at once; "auto" is 64 with vLLM, the number of slots with
            llama.cpp's server, and fewer with others.
        trust_remote_code : bool, default=False
            Of no use here: no model is loaded.
        revision : str, optional
            Revision of a hub model.

        Returns
        -------
        ServerEngine

        Raises
        ------
        ConfigError
            An address or a key is not allowed, or the server has no such model.
        ModelLoadError
            The model's ``config.json`` cannot be read.
        MissingDependencyError
            httpx is not installed.
        EngineError
            The server cannot be reached, refuses the key, or answers wrong.
        """
        base = base_url(url)
        _check_batch_size(batch_size)
        wanted = Wanted(str(model), revision, served_model_name, api, top_logprobs)
        headers = authorization(base, api_key_env)
        connection = Connection(
            base, headers, timeout=timeout, patience=Patience(retries, patience)
        )
        try:
            endpoint = connection.start(connect(connection, wanted)).result()
            concurrency = (
                batch_size if isinstance(batch_size, int) else endpoint.concurrency
            )
            connection.allow(concurrency)
            engine = cls(connection, endpoint, concurrency=concurrency)
            if self_test:
                engine._check()
        except BaseException:
            connection.close()
            raise
        return engine

    @property
    def n_requests(self) -> int:
        """Requests sent to the server so far, each try counted."""
        return self._connection.n_requests

    def __repr__(self) -> str:
        if self.closed:
            return "ServerEngine(closed)"
        return f"ServerEngine({self._connection.base!r}, {self._endpoint.model!r})"

    def describe(self) -> dict[str, str]:
        """Return a description of server and model, by name."""
        return {
            "server": f"{self._connection.base}, {self._endpoint.server}",
            "model": self._endpoint.model,
            **self._endpoint.describe(),
            "context": f"{self.context_length:,} tokens",
            "in flight": f"{self.window} texts, {self.window} requests at once",
        }

    def self_test(self) -> list[SelfTestCase]:
        """Ask questions with known answers; return how they were answered."""
        return self._connection.start(self._endpoint.self_test()).result()

    def findings(self) -> list[Finding]:
        """Return the results of `self_test`."""
        return [
            Finding(case.name, case.said(), bool(case.problem))
            for case in self.self_test()
        ]

    def open_line(self) -> ServerLine:
        """Return a line of one's own; see `classify.engines.sharing`."""
        line = ServerLine(self._start, lambda: self.closed)
        self._lines.add(line)
        return line

    def submit(self, request: Request) -> int:
        """Take a request, send it, and return its ticket."""
        return self._own.submit(request)

    def poll(self) -> list[Completed]:
        """Wait until at least one request is answered; see `ServerLine.poll`."""
        return self._own.poll()

    def close(self) -> None:
        """Break off what is in flight, and disconnect."""
        self.closed = True
        self._own.close()
        for line in list(self._lines):
            line.wake()
        self._finish()

    def _start(self, request: Request) -> "Future[Answer]":
        """Check a request, and send it."""
        self._home.check()
        if self.closed:
            raise EngineError(CLOSED)
        check_request(
            request, vocab_size=self.vocab_size, context_length=self.context_length
        )
        self._endpoint.check(request)
        return self._connection.start(self._answers.answer(request))

    def _check(self) -> None:
        """Raise EngineError unless the server's tracked values are right."""
        cases = self.self_test()
        for harm in {case.harm for case in cases if case.harm}:
            _logger.warning(
                "While the server at %s is used like this, %s: this is a bug in "
                "vLLM. Use a server where other clients do not request them.",
                self._connection.base,
                harm,
            )
        failed = [case for case in cases if case.problem]
        if failed:
            what = "; ".join(f"{case.name}: {case.problem}" for case in failed)
            raise EngineError(
                f"The server at {self._connection.base} ({self._endpoint.server}) did "
                "not pass the test of its log-probabilities, so it is not used. "
                f"{what}. {self._endpoint.needs}"
            )


def _check_batch_size(batch_size: Any) -> None:
    if batch_size != "auto" and (
        not isinstance(batch_size, int)
        or isinstance(batch_size, bool)
        or batch_size < 1
    ):
        raise ConfigError(
            "batch_size must be 'auto' or an integer from 1: with the server engine, "
            f"most requests at once. Got {batch_size!r}."
        )
