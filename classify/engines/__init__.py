"""Engines: token ids in, tracked log-probabilities out.

Importing this package loads neither numpy-heavy frameworks nor models: every name is
fetched when it is first used.
"""

from typing import TYPE_CHECKING

from classify.lazy import lazy_names

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

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        ".choice": ["choose_engine"],
        ".fake": ["FakeEngine"],
        ".loading": ["clear_engines", "load_engine"],
        ".protocol": ["BaseEngine", "Engine", "check_request"],
        ".sharing": ["generate", "read"],
    },
)
