"""The engine over a vLLM server, somewhere else, that speaks the API of OpenAI."""

import logging
import weakref
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Self
from weakref import WeakSet

from classify.engines.answers import Answer, Request
from classify.engines.home import Home
from classify.engines.protocol import BaseEngine, Finding, check_request
from classify.engines.server.address import authorization, base_url
from classify.engines.server.asking import SHORT, ServedCompletions
from classify.engines.server.connection import Connection
from classify.engines.server.line import ServerLine
from classify.engines.server.retrying import Patience
from classify.engines.server.selftest import SelfTestCase, self_test
from classify.engines.server.served import ServedModel, choose_model, vocabulary_size
from classify.engines.sharing import CLOSED
from classify.errors import ConfigError, EngineError, InputError
from classify.tracking import Completed, TrackedRequest
from classify.wording import parameter

__all__ = ["ServerEngine"]

_logger = logging.getLogger(__name__)

# Requests at once where nothing else is said: enough to fill a GPU's batches.
_CONCURRENCY = 64
# vLLM refuses any above.
_HIGHEST_TEMPERATURE = 2.0


class ServerEngine(BaseEngine):
    """Answer requests with a vLLM server, many at once.

    Made with `ServerEngine.load`.

    Parameters
    ----------
    connection : Connection
    served : ServedModel
        The model that is asked.
    vocab_size : int
        Its number of tokens.
    concurrency : int
        Requests at once, and texts that a driver keeps in flight.
    version : str
        The server's, for messages.
    """

    name = "server"
    # Requests may be added while others are answered.
    asynchronous = True

    def __init__(
        self,
        connection: Connection,
        served: ServedModel,
        *,
        vocab_size: int,
        concurrency: int,
        version: str,
    ) -> None:
        self.vocab_size = vocab_size
        # vLLM always generates a token more than a read needs.
        self.context_length = served.max_model_len - 1
        self.window = concurrency
        self.closed = False
        self._home = Home()
        self._connection = connection
        self._completions = ServedCompletions(
            connection, served.name, vocab_size=vocab_size
        )
        self._served = served
        self._version = version
        self._lines: WeakSet[ServerLine] = WeakSet()
        # No cycle of references: an engine that no one uses is to end at once.
        here = weakref.proxy(self)
        self._own = ServerLine(
            lambda request: here._start(request),  # noqa: PLW0108 a method would be one
            lambda: here.closed,
        )
        # Ends the thread of an engine that nobody closed, at the latest at exit.
        self._finish = weakref.finalize(self, connection.close)

    @classmethod
    def load(
        cls,
        model: str | Path,
        *,
        url: str | None = None,
        api_key_env: str | None = None,
        served_model_name: str | None = None,
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
            Most requests at once; "auto" is 64.
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
        name = str(model)
        concurrency = _concurrency(batch_size)
        headers = authorization(base, api_key_env)
        vocab_size = vocabulary_size(name, revision)
        connection = Connection(
            base,
            headers,
            concurrency=concurrency,
            timeout=timeout,
            patience=Patience(retries, patience),
        )
        try:
            listing = connection.start(connection.get(f"{base}/models", patience=SHORT))
            served = choose_model(
                listing.result(), name, base=base, served_model_name=served_model_name
            )
            engine = cls(
                connection,
                served,
                vocab_size=vocab_size,
                concurrency=concurrency,
                version=connection.start(_version(connection)).result(),
            )
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
        return f"ServerEngine({self._connection.base!r}, {self._served.name!r})"

    def describe(self) -> dict[str, str]:
        """Return what runs where, in words, by name."""
        return {
            "server": f"{self._connection.base}, vLLM {self._version}",
            "model": self._served.name,
            "context": f"{self.context_length:,} tokens",
            "in flight": f"{self.window} texts, {self.window} requests at once",
        }

    def self_test(self) -> list[SelfTestCase]:
        """Ask questions with known answers; return how they were answered."""
        cases = self_test(
            self._completions.ask_once,
            vocab_size=self.vocab_size,
            context_length=self.context_length,
        )
        return self._connection.start(cases).result()

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
        if isinstance(request, TrackedRequest):
            self._check_generation(request)
        return self._connection.start(self._completions.answer(request))

    def _check(self) -> None:
        """Raise EngineError unless the server's tracked values are right."""
        cases = self.self_test()
        for harm in {case.harm for case in cases if case.harm}:
            _logger.warning(
                "While the server at %s is used like this, %s: a fault of vLLM's. Use "
                "a server that nobody else asks for them.",
                self._connection.base,
                harm,
            )
        failed = [case for case in cases if case.problem]
        if failed:
            what = "; ".join(f"{case.name}: {case.problem}" for case in failed)
            raise EngineError(
                f"The server at {self._connection.base} (vLLM {self._version}) did not "
                f"pass the test of its log-probabilities, so it is not used. {what}. "
                "It must be vLLM 0.26 or newer, which knows logprob_token_ids, without "
                "--speculative-config and with its default --logprobs-mode. Or use "
                f"{parameter('engine', 'vllm')}, which needs none of that."
            )

    def _check_generation(self, request: TrackedRequest) -> None:
        if request.allowed is None and request.temperature > _HIGHEST_TEMPERATURE:
            raise InputError(
                f"temperature must be at most {_HIGHEST_TEMPERATURE:g} with the server "
                f"engine. Got {request.temperature!r} instead."
            )
        needed = len(request.prompt_token_ids) + request.max_tokens
        if request.top_logprobs and needed > self.context_length:
            raise InputError(
                f"The request needs {needed} tokens of context for its top_logprobs, "
                f"but the model takes {self.context_length}: shorten the prompt."
            )


async def _version(connection: Connection) -> str:
    """Return which version a server says that it has."""
    # vLLM answers this beside /v1, not below it; what stands in front may hide it.
    address = connection.base.removesuffix("/v1") + "/version"
    try:
        body = await connection.get(address, patience=SHORT)
    except EngineError:
        body = None
    if isinstance(body, Mapping) and "version" in body:
        return str(body["version"])
    return "of unknown version"


def _concurrency(batch_size: Any) -> int:
    if batch_size == "auto":
        return _CONCURRENCY
    if (
        not isinstance(batch_size, int)
        or isinstance(batch_size, bool)
        or batch_size < 1
    ):
        raise ConfigError(
            "batch_size must be 'auto' or an integer from 1: with the server engine, "
            f"most requests at once. Got {batch_size!r}."
        )
    return batch_size
