"""Engines: token ids in, tracked log-probabilities out.

Importing this package loads neither numpy-heavy frameworks nor models: every name is
fetched when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from classify.engines.choice import choose_engine
    from classify.engines.fake import FakeEngine
    from classify.engines.loading import clear_engines, load_engine
    from classify.engines.protocol import BaseEngine, Engine, check_request
    from classify.engines.sharing import generate, read

__all__ = [
    "BaseEngine",
    "Engine",
    "FakeEngine",
    "check_request",
    "choose_engine",
    "clear_engines",
    "generate",
    "load_engine",
    "read",
]

_HOME = {
    "BaseEngine": "protocol",
    "Engine": "protocol",
    "FakeEngine": "fake",
    "check_request": "protocol",
    "choose_engine": "choice",
    "clear_engines": "loading",
    "generate": "sharing",
    "load_engine": "loading",
    "read": "sharing",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
