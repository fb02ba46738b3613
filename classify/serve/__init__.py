"""An HTTP server over a classifier: `classify serve`, or `make_app` in Python.

Clients are served concurrently: their texts share one run over the engine.
"""

from typing import TYPE_CHECKING, Any

from classify.serve.settings import ServeSettings

if TYPE_CHECKING:
    from classify.serve.app import make_app

__all__ = ["ServeSettings", "make_app"]


def __getattr__(name: str) -> Any:
    # FastAPI takes a second to import, and is not always installed.
    if name == "make_app":
        from classify.serve.app import make_app

        return make_app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
