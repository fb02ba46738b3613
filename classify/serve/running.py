"""Runs an application until it is stopped, and lets it finish open requests."""

import asyncio
import logging
import math
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import uvicorn

from classify.errors import ConfigError
from classify.wording import parameter

if TYPE_CHECKING:
    from fastapi import FastAPI

__all__ = ["listen", "run"]


def listen(host: str, port: int) -> socket.socket:
    """Take an address, so that it is known to be free before a model is loaded.

    Raises
    ------
    ConfigError
        It cannot be had.
    """
    try:
        [(family, _, _, _, address), *_] = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        )
        listening = socket.socket(family, socket.SOCK_STREAM)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
        except OSError:
            listening.close()
            raise
    except OSError as error:
        raise ConfigError(
            f"The server cannot listen on {parameter('host', host)} "
            f"{parameter('port', port)}: {error.strerror}. Choose another address or "
            "port."
        ) from None
    return listening


def run(
    app: "FastAPI",
    listening: socket.socket,
    *,
    timeout: float,
    started: Callable[[str], object],
) -> None:
    """Serve until SIGTERM or Ctrl-C; a second Ctrl-C does not wait for requests.

    Parameters
    ----------
    app : FastAPI
    listening : socket
        From `listen`.
    timeout : float
        Seconds that a request may take.
    started : callable
        Called with the address when requests are accepted.
    """
    host, port = listening.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        lifespan="off",
        # Requests have their own limit; this is for connections that hang.
        timeout_graceful_shutdown=math.ceil(timeout) + 5,
    )
    logging.getLogger("uvicorn.error").addFilter(_is_error)
    _Server(config, lambda: started(url)).run(sockets=[listening])


def _is_error(record: logging.LogRecord) -> bool:
    """Whether a record is about more than a request that a second Ctrl-C broke off."""
    error = record.exc_info and record.exc_info[1]
    return not isinstance(error, asyncio.CancelledError)


class _Server(uvicorn.Server):
    """A server that tells when it has started, and ends by returning."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], object]) -> None:
        super().__init__(config)
        self._tell = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._tell()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # That of uvicorn raises the signal once more when all is done.
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {each: signal.signal(each, self.handle_exit) for each in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
