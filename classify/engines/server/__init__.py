"""The engine over a running vLLM server."""

from typing import TYPE_CHECKING

from classify.lazy import lazy_names

if TYPE_CHECKING:
    from classify.engines.server.engine import ServerEngine

__all__ = ["ServerEngine"]

__getattr__, __dir__ = lazy_names(__name__, {".engine": ["ServerEngine"]})
