"""The engine over a running vLLM server."""

from classify.engines.server.engine import ServerEngine

__all__ = ["ServerEngine"]
