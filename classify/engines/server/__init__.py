"""The engine over a running vLLM server."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from classify.engines.server.engine import ServerEngine

__all__ = ["ServerEngine"]


def __getattr__(name: str) -> object:
    if name != "ServerEngine":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from classify.engines.server.engine import ServerEngine

    return ServerEngine
