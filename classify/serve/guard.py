"""Checks and records of every request: key, size, log line, and counts.

It is an ASGI application around another, since FastAPI would read a body of any size.
"""

import asyncio
import hmac
import logging
import time
from collections.abc import Collection, MutableMapping
from typing import TYPE_CHECKING, Any

from classify.serve.metrics import Metrics
from classify.serve.refusals import RefusedError, refusal

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["CLIENT_LEFT", "REQUESTS", "ClientLeftError", "Guard", "path_of"]

# One line for each request, without anything that a client wrote.
REQUESTS = logging.getLogger("classify.serve.requests")

CLIENT_LEFT = 499  # as nginx logs it; no one reads the answer


class ClientLeftError(Exception):
    """The client closed the connection before it had an answer."""


class Guard:
    """Refuses requests that are not allowed; logs and counts every request.

    Parameters
    ----------
    app : ASGI application
    metrics : Metrics
    paths : collection of str
        The application's paths; any other is logged as ``(unknown)``.
    key : str or None
        What clients must send for paths below ``/v1/``.
    max_body_bytes : int
    timeout : float
        Seconds that a request may take to arrive.
    """

    def __init__(
        self,
        app: "ASGIApp",
        *,
        metrics: Metrics,
        paths: Collection[str],
        key: str | None,
        max_body_bytes: int,
        timeout: float,
    ) -> None:
        self._app, self._metrics, self._paths = app, metrics, paths
        self._key, self._max_body_bytes = key, max_body_bytes
        self._timeout = timeout

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        # Answers tell how many texts they are about.
        scope["classify.n_texts"] = 0
        status = 0

        async def noting(message: "Message") -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self._pass(scope, receive, noting)
        except ClientLeftError:
            status = CLIENT_LEFT
        except Exception as error:  # noqa: BLE001 told without the client's words
            _log_unexpected(error)
            if not status:
                said = f"Unexpected {type(error).__name__}: see the log of the server."
                await refusal(path_of(scope), 500, said)(scope, receive, noting)
        finally:
            self._note(scope, status, time.perf_counter() - started)

    async def _pass(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        try:
            if path_of(scope).startswith("/v1/"):
                self._check_key(scope)
                async with asyncio.timeout(self._timeout):
                    body = await self._body(scope, receive)
                receive = _again(body, receive)
        except TimeoutError:
            said = f"The request did not arrive within {self._timeout:g} seconds."
            await refusal(path_of(scope), 408, said)(scope, receive, send)
            return
        except RefusedError as error:
            response = error.response(path_of(scope))
            if error.status == 401:
                response.headers["WWW-Authenticate"] = "Bearer"
            await response(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _check_key(self, scope: "Scope") -> None:
        if self._key is None:
            return
        sent = _header(scope, b"authorization")
        scheme, _, key = sent.partition(b" ")
        is_right = hmac.compare_digest(key.strip(), self._key.encode())
        if scheme.lower() != b"bearer" or not is_right:
            raise RefusedError(
                401,
                "The API key is missing or wrong: send it as 'Authorization: Bearer "
                "KEY'.",
            )

    async def _body(self, scope: "Scope", receive: "Receive") -> bytes:
        """Return the body, or refuse it as soon as it is known to be too large."""
        declared = _header(scope, b"content-length")
        if declared.isdigit():
            self._check_size(int(declared))
        parts: list[bytes] = []
        n_bytes, is_more = 0, True
        while is_more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientLeftError
            parts.append(message.get("body", b""))
            n_bytes += len(parts[-1])
            self._check_size(n_bytes)
            is_more = message.get("more_body", False)
        return b"".join(parts)

    def _check_size(self, n_bytes: int) -> None:
        if n_bytes > self._max_body_bytes:
            raise RefusedError(
                413,
                f"The request is larger than the {self._max_body_bytes:,} bytes that "
                "this server allows: send fewer texts in one request.",
            )

    def _note(self, scope: "Scope", status: int, seconds: float) -> None:
        path = path_of(scope)
        path = path if path in self._paths else "(unknown)"
        n_texts = scope["classify.n_texts"]
        self._metrics.count(path, status, seconds, n_texts)
        REQUESTS.info(
            "%s %s %d %d texts %.0f ms",
            scope["method"],
            path,
            status,
            n_texts,
            seconds * 1000,
        )


def path_of(scope: "MutableMapping[str, Any]") -> str:
    """Return the path of a request here, wherever the application is mounted.

    Examples
    --------
    >>> path_of({"path": "/nlp/v1/classify", "root_path": "/nlp"})
    '/v1/classify'
    """
    path, above = str(scope["path"]), str(scope.get("root_path", "")).rstrip("/")
    return path.removeprefix(above) if path.startswith(f"{above}/") else path


def _header(scope: "Scope", name: bytes) -> bytes:
    values: list[bytes] = [value for key, value in scope["headers"] if key == name]
    return values[0] if values else b""


def _again(body: bytes, receive: "Receive") -> "Receive":
    """Return a function that returns a body already read, then what comes after it."""
    is_read = False

    async def receive_again() -> "Message":
        nonlocal is_read
        if is_read:
            return await receive()
        is_read = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again


def _log_unexpected(error: BaseException) -> None:
    # Messages and tracebacks of others' errors can hold the text of a client.
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = "" if place is None else f"{place.tb_frame.f_code.co_filename}:"
    line = 0 if place is None else place.tb_lineno
    REQUESTS.error("Unexpected %s at %s%d.", type(error).__name__, where, line)
