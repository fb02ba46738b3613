"""An HTTP server over a classifier: `classify serve`, or `make_app` in Python.

Clients are served concurrently: their texts share one run over the engine.
"""

from typing import TYPE_CHECKING

from classify.lazy import lazy_names
from classify.serve.settings import ServeSettings

if TYPE_CHECKING:
    from classify.serve.app import make_app

__all__ = ["ServeSettings", "make_app"]

# FastAPI takes a second to import, and is not always installed.
__getattr__, __dir__ = lazy_names(__name__, {".app": ["make_app"]})
