"""Questions to a server: many at once, tried again, from a thread of their own."""

import asyncio
import logging
import threading
from collections.abc import Coroutine, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from classify.engines.server.address import is_loopback
from classify.engines.server.retrying import Fault, Patience, Trial, fault_of_status
from classify.errors import ConfigError, EngineError, missing_dependency
from classify.wording import parameter

if TYPE_CHECKING:
    import httpx

__all__ = ["Connection"]

_logger = logging.getLogger(__name__)

_Answer = TypeVar("_Answer")

# Seconds to find a server; an answer may take far longer.
_CONNECT_TIMEOUT = 10.0
# Seconds for what is in flight to be broken off.
_CLOSE_TIMEOUT = 5.0
# Of a text that is no answer, what an error shows.
_SHOWN = 300


class Connection:
    """A pool of connections to one server.

    An event loop in a thread of its own does the work, so that an engine may be called
    from code that knows nothing of asyncio.

    Parameters
    ----------
    base : str
        The address, from `base_url`.
    headers : mapping of str to str
        Sent with every request, and shown to nobody.
    concurrency : int
        Most requests at once.
    timeout : float
        Seconds that an answer may take.
    patience : Patience
        How long a request is tried again.

    Attributes
    ----------
    n_requests : int
        Requests sent so far, each try counted.
    """

    def __init__(
        self,
        base: str,
        headers: Mapping[str, str],
        *,
        concurrency: int,
        timeout: float,
        patience: Patience,
    ) -> None:
        self.base = base
        self.n_requests = 0
        self._httpx = _require_httpx()
        self._headers = dict(headers)
        self._timeout = timeout
        self._patience = patience
        self._is_away = False
        # One connection each: a pool looks through all of its connections for every
        # request, which takes longer than the request.
        try:
            self._verify = self._httpx.create_ssl_context()
            self._idle = [self._new_client()]
        except (ImportError, OSError, ValueError) as error:
            raise ConfigError(
                "What the environment says of proxies and certificates (HTTPS_PROXY, "
                f"ALL_PROXY, SSL_CERT_FILE, …) cannot be used: {error}"
            ) from error
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._slots = asyncio.Semaphore(concurrency)
        started = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(started,), name="classify-server", daemon=True
        )
        self._thread.start()
        started.wait()

    def start(self, work: Coroutine[Any, Any, _Answer]) -> Future[_Answer]:
        """Let work begin; its future is of `concurrent.futures`."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def get(self, url: str, *, patience: Patience) -> Any:
        """Return the JSON at an address of the server."""
        return await self._ask("GET", url, None, patience)

    async def post(
        self, url: str, payload: Mapping[str, Any], *, patience: Patience | None = None
    ) -> Any:
        """Send JSON to an address of the server, and return the JSON that comes back.

        Raises
        ------
        EngineError
            The server refused the request, or failed for longer than there is
            patience.
        """
        return await self._ask("POST", url, payload, patience or self._patience)

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
            timeout=self._httpx.Timeout(self._timeout, connect=_CONNECT_TIMEOUT),
            limits=self._httpx.Limits(max_connections=1, max_keepalive_connections=1),
            verify=self._verify,
            # A proxy has no way to this machine.
            trust_env=not is_loopback(self.base),
        )
        return client

    async def _ask(
        self, method: str, url: str, payload: Any, patience: Patience
    ) -> Any:
        trial = Trial(patience)
        while True:
            fault, answer = await self._try(method, url, payload)
            if fault is None:
                self._is_away = False
                return answer
            try:
                wait = trial.wait(fault)
            except EngineError as error:
                raise EngineError(
                    f"The server at {self.base} did not answer: {error}. See whether "
                    "it runs, and whether url is right. Texts finished before are not "
                    "affected."
                ) from error
            self._warn(fault, patience)
            await asyncio.sleep(wait)

    async def _try(
        self, method: str, url: str, payload: Any
    ) -> tuple[Fault | None, Any]:
        """Return what failed, or else the answer."""
        async with self._slots:
            self.n_requests += 1
            client = self._idle.pop() if self._idle else self._new_client()
            try:
                response = await client.request(method, url, json=payload)
            except self._httpx.TransportError as error:
                return self._fault_of(error), None
            finally:
                self._idle.append(client)
        if response.is_success:
            try:
                return None, response.json()
            except ValueError:
                said = f"no JSON but {response.text[:_SHOWN]!r}"
                return Fault(f"it answered {said}", away=False), None
        said = self._said_by(response)
        retry_after = response.headers.get("retry-after")
        fault = fault_of_status(response.status_code, said, retry_after)
        if fault is None:
            what = f"HTTP {response.status_code}: {said}"
            raise EngineError(
                f"The server at {self.base} refused a request ({what}). "
                f"{_advice(response)}"
            ) from EngineError(what)
        return fault, None

    def _fault_of(self, error: "httpx.TransportError") -> Fault:
        away = isinstance(error, self._httpx.ConnectError | self._httpx.ConnectTimeout)
        if isinstance(error, self._httpx.TimeoutException) and not away:
            what = f"no answer within {self._timeout:g} s"
        else:
            what = f"{type(error).__name__}: {error}" if str(error) else repr(error)
        return Fault(what.rstrip("."), away)

    def _said_by(self, response: "httpx.Response") -> str:
        """Return a server's own sentence, without the key, should it hold that."""
        said = _sentence(response) or "without a word"
        key = self._headers.get("Authorization", "").removeprefix("Bearer ")
        return said.replace(key, "…") if key else said

    def _warn(self, fault: Fault, patience: Patience) -> None:
        if fault.away and not self._is_away:
            self._is_away = True
            _logger.warning(
                "The server at %s does not answer (%s): trying again for up to %g s.",
                self.base,
                fault.what,
                patience.seconds,
            )


def _advice(response: "httpx.Response") -> str:
    if response.is_redirect:
        to = response.headers.get("location", "elsewhere")
        return f"It redirects to {to}, where nothing is sent: set url to that."
    if response.status_code in (401, 403):
        return (
            "Name the environment variable that holds its key: "
            f"{parameter('api_key_env')}."
        )
    return "Texts finished before are not affected."


def _sentence(response: "httpx.Response") -> str:
    try:
        body = response.json()
    except ValueError:
        return " ".join(response.text.split())[:_SHOWN]
    # vLLM's, and what stands in front of servers says it in other places.
    for key in ("error", "message", "detail"):
        if isinstance(body, dict) and key in body:
            body = body[key]
    return str(body)[:_SHOWN]


def _require_httpx() -> Any:
    """Return the httpx module, or say how to get it."""
    try:
        import httpx
    except ModuleNotFoundError as error:
        raise missing_dependency("The server engine needs httpx", "server") from error
    return httpx
