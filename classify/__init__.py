"""Text classification from the token log-probabilities of a language model.

Names are loaded when they are first used, so that `import classify` stays fast.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from classify.classifier import ZeroShotClassifier
    from classify.errors import ClassifyError
    from classify.labels import Label, LabelSet
    from classify.prompts import PromptTemplate
    from classify.scoring import LabelLogprobs
    from classify.verbalizer import Verbalizer

__version__ = "0.1.0.dev0"

__all__ = [
    "ClassifyError",
    "Label",
    "LabelLogprobs",
    "LabelSet",
    "PromptTemplate",
    "Verbalizer",
    "ZeroShotClassifier",
    "__version__",
]

_HOMES = {
    "ClassifyError": "classify.errors",
    "Label": "classify.labels",
    "LabelLogprobs": "classify.scoring",
    "LabelSet": "classify.labels",
    "PromptTemplate": "classify.prompts",
    "Verbalizer": "classify.verbalizer",
    "ZeroShotClassifier": "classify.classifier",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
