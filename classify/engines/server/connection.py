"""Requests to a server: concurrent, with retries, from a separate thread."""

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

from classify.engines.hosts import is_loopback
from classify.engines.server.kind import HTTPX
from classify.engines.server.replies import (
    Refusal,
    parsed_json,
    refusal_in,
    sentence_of,
)
from classify.engines.server.retrying import Fault, Patience, Trial, fault_of_status
from classify.errors import ConfigError, EngineError
from classify.wording import parameter

if TYPE_CHECKING:
    import httpx

__all__ = ["SHORT", "Connection", "RequestFailedError"]

_logger = logging.getLogger(__name__)

_Answer = TypeVar("_Answer")

# Seconds to find a server; an answer may take far longer.
_CONNECT_TIMEOUT = 10.0
# Seconds for what is in flight to be broken off.
_CLOSE_TIMEOUT = 5.0
# Of the first questions, whose failure should be known soon.
SHORT = Patience(retries=0, seconds=3.0)


class RequestFailedError(EngineError):
    """A request was refused, or failed for longer than there is patience.

    Attributes
    ----------
    what : str
        What happened, in few words.
    is_away : bool
        The server was not there, or busy.
    is_of_all : bool
        No other request will fare better: the key or the address is wrong.
    """

    def __init__(
        self, message: str, *, what: str, is_away: bool = False, is_of_all: bool = False
    ) -> None:
        super().__init__(message)
        self.what, self.is_away, self.is_of_all = what, is_away, is_of_all


class Connection:
    """A pool of connections to one server.

    An event loop in a thread of its own does the work, so that an engine may be called
    from code that knows nothing of asyncio.

    Parameters
    ----------
    base : str
        The address, from `base_url`.
    headers : mapping of str to str
        Sent with every request, and never shown.
    timeout : float
        Seconds that an answer may take.
    patience : Patience
        How long a request is tried again.

    Attributes
    ----------
    n_requests : int
        Requests sent so far, each try counted.
    root : str
        The address without ``/v1``.
    """

    def __init__(
        self,
        base: str,
        headers: Mapping[str, str],
        *,
        timeout: float,
        patience: Patience,
    ) -> None:
        self.base, self.root = base, base.removesuffix("/v1")
        self.n_requests = 0
        self._httpx = _require_httpx()
        self._headers = dict(headers)
        self._timeout = timeout
        self._connect_timeout = min(timeout, _CONNECT_TIMEOUT)
        self._patience = patience
        self._is_away = False
        # One connection each: a pool looks through all of its connections for every
        # request, which takes longer than the request.
        try:
            self._verify = self._httpx.create_ssl_context()
            self._idle = [self._new_client()]
        except (ImportError, OSError, ValueError) as error:
            raise ConfigError(
                "The environment's settings for proxies and certificates (HTTPS_PROXY, "
                f"ALL_PROXY, SSL_CERT_FILE, …) cannot be used: {error}"
            ) from error
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._slots = asyncio.Semaphore(1)
        started = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(started,), name="classify-server", daemon=True
        )
        self._thread.start()
        started.wait()

    def allow(self, concurrency: int) -> None:
        """Let so many requests be sent at once; only one before this is called."""
        self._slots = asyncio.Semaphore(concurrency)

    def start(self, work: Coroutine[Any, Any, _Answer]) -> Future[_Answer]:
        """Let work begin; its future is of `concurrent.futures`."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def get(self, url: str, *, patience: Patience) -> Any:
        """Return the JSON at an address of the server."""
        return await self._ask("GET", url, None, patience, lambda body: body)

    async def get_or_none(self, url: str) -> Any:
        """Return the JSON at an address, or None if there is none."""
        try:
            return await self.get(url, patience=SHORT)
        except RequestFailedError:
            return None

    async def post(
        self,
        url: str,
        payload: Mapping[str, Any],
        *,
        understand: Callable[[Any], _Answer],
        patience: Patience | None = None,
    ) -> _Answer:
        """Send JSON to an address of the server, and return its answer.

        Parameters
        ----------
        url : str
        payload : mapping
        understand : callable
            Takes the answer out of the JSON that comes back. Its ValueError says what
            came instead, after "it answered"; then the request is tried again.
        patience : Patience, default=None
            None: the connection's.

        Raises
        ------
        RequestFailedError
            The server refused the request, or failed for longer than there is
            patience.
        """
        answer: _Answer = await self._ask(
            "POST", url, payload, patience or self._patience, understand
        )
        return answer

    def close(self) -> None:
        """Break off what is in flight, and end the thread."""
        if not self._thread.is_alive():
            return
        self._loop.call_soon_threadsafe(self._stop.set)
        # The garbage collector may call this from any thread.
        if threading.current_thread() is not self._thread:
            self._thread.join(_CLOSE_TIMEOUT)

    def _run(self, started: threading.Event) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve(started))

    async def _serve(self, started: threading.Event) -> None:
        started.set()
        await self._stop.wait()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        for client in self._idle:
            await client.aclose()

    def _new_client(self) -> "httpx.AsyncClient":
        client: httpx.AsyncClient = self._httpx.AsyncClient(
            headers=self._headers,
            timeout=self._httpx.Timeout(self._timeout, connect=self._connect_timeout),
            limits=self._httpx.Limits(max_connections=1, max_keepalive_connections=1),
            verify=self._verify,
            # A proxy has no way to this machine.
            trust_env=not is_loopback(self.base),
        )
        return client

    async def _ask(
        self,
        method: str,
        url: str,
        payload: Any,
        patience: Patience,
        understand: Callable[[Any], Any],
    ) -> Any:
        trial = Trial(patience)
        while True:
            fault, answer = await self._try(method, url, payload, understand)
            if fault is None:
                self._is_away = False
                return answer
            try:
                wait = trial.wait(fault)
            except EngineError as error:
                raise RequestFailedError(
                    f"The server at {self.base} did not answer: {error}. Check that it "
                    f"is running and that {parameter('url')} is its address.",
                    what=str(error),
                    is_away=fault.away,
                ) from error
            self._warn(fault, patience)
            await asyncio.sleep(wait)

    async def _try(
        self, method: str, url: str, payload: Any, understand: Callable[[Any], Any]
    ) -> tuple[Fault | None, Any]:
        """Return the failure, or else the answer."""
        async with self._slots:
            self.n_requests += 1
            client = self._idle.pop() if self._idle else self._new_client()
            try:
                # A limit of its own: httpx waits as long for each part of an answer.
                async with asyncio.timeout(self._connect_timeout + self._timeout):
                    response = await client.request(method, url, json=payload)
            except BaseException as error:
                # Not used again: a request that is cancelled while it connects may keep
                # the client's only connection for good.
                await client.aclose()
                if not isinstance(error, TimeoutError | self._httpx.RequestError):
                    raise
                return self._fault_of(error), None
            self._idle.append(client)
        refusal = None
        if response.is_success:
            try:
                body = parsed_json(response.content)
                refusal = refusal_in(body)
                if refusal is None:
                    return None, understand(body)
            except ValueError as error:
                said = self._without_key(str(error))
                return Fault(f"it answered {said}", away=False), None
        if refusal is None:
            refusal = Refusal(response.status_code, _sentence(response))
        return self._fault_of_refusal(refusal, response), None

    def _fault_of_refusal(self, refusal: Refusal, response: "httpx.Response") -> Fault:
        """Return the fault that a refusal is, if the request may be sent again."""
        status = refusal.status
        said = self._without_key(refusal.said) or _phrase(status)
        fault = fault_of_status(status, said, response.headers.get("retry-after"))
        if fault is not None:
            return fault
        what = f"HTTP {status}: {said}"
        advice = self._advice(status, response)
        raise RequestFailedError(
            f"The server at {self.base} refused a request ({what}). "
            + (advice or f"Check that {parameter('api')} is what the server speaks."),
            what=what,
            is_of_all=bool(advice),
        ) from EngineError(what)

    def _fault_of(self, error: "TimeoutError | httpx.RequestError") -> Fault:
        away = isinstance(error, self._httpx.ConnectError | self._httpx.ConnectTimeout)
        is_late = isinstance(error, TimeoutError | self._httpx.TimeoutException)
        if is_late and not away:
            what = f"no answer within {self._timeout:g} s"
        else:
            what = f"{type(error).__name__}: {error}" if str(error) else repr(error)
        return Fault(what.rstrip("."), away)

    def _without_key(self, said: str) -> str:
        """Return a server's message, with the key removed if it repeats it."""
        key = self._headers.get("Authorization", "").removeprefix("Bearer ")
        return said.replace(key, "…") if key else said

    def _advice(self, status: int, response: "httpx.Response") -> str:
        """Return advice if no request can be answered; "" if others may be."""
        if response.is_redirect:
            to = response.headers.get("location", "elsewhere")
            return (
                f"It redirects to {to}, which is not followed: give that address as "
                f"{parameter('url')} if it is the server's."
            )
        if status in (401, 402, 403, 407):
            if "Authorization" in self._headers:
                return (
                    "It does not accept the key: check the environment variable that "
                    f"{parameter('api_key_env')} names."
                )
            return (
                "It may need a key: name the environment variable that holds it with "
                f"{parameter('api_key_env')}."
            )
        if status in (404, 405, 410) or status < 400:
            return (
                f"Check that {parameter('url')} is the address of the server's API, "
                "which usually ends in /v1, and that it runs this model."
            )
        return ""

    def _warn(self, fault: Fault, patience: Patience) -> None:
        if fault.away and not self._is_away:
            self._is_away = True
            _logger.warning(
                "The server at %s does not answer (%s): trying again for up to %g s.",
                self.base,
                fault.what,
                patience.seconds,
            )


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "without a word"


def _sentence(response: "httpx.Response") -> str:
    try:
        return sentence_of(response.json())
    except (ValueError, RecursionError):
        return sentence_of(response.text)


def _require_httpx() -> Any:
    """Return the httpx module, or say how to get it."""
    try:
        import httpx
    except ModuleNotFoundError as error:
        raise HTTPX.missing() from error
    return httpx
