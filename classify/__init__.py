"""Text classification from the token log-probabilities of a language model.

Names are loaded on first use, so that `import classify` stays fast.
"""

import importlib
from typing import TYPE_CHECKING, Any

from classify.distribution import VERSION

if TYPE_CHECKING:
    from classify.calibration import LabelCalibrator, PriorShift
    from classify.decision import SelectiveClassifier, SplitConformalSets
    from classify.errors import ClassifyError
    from classify.estimators.classifier import ZeroShotClassifier
    from classify.estimators.multi_label import ZeroShotMultiLabelClassifier
    from classify.estimators.tuning import tune_prompt
    from classify.labels import Label, LabelSet
    from classify.metrics import (
        ReliabilityDisplay,
        RiskCoverageDisplay,
        TrackDisplay,
        calibration_error,
    )
    from classify.prompts import PromptTemplate
    from classify.questions.question import Question
    from classify.scoring import LabelLogprobs
    from classify.task_classifier import TaskClassifier
    from classify.verbalizer import Verbalizer
    from classify.word_tracking import track

__version__ = VERSION

__all__ = [
    "ClassifyError",
    "Label",
    "LabelCalibrator",
    "LabelLogprobs",
    "LabelSet",
    "PriorShift",
    "PromptTemplate",
    "Question",
    "ReliabilityDisplay",
    "RiskCoverageDisplay",
    "SelectiveClassifier",
    "SplitConformalSets",
    "TaskClassifier",
    "TrackDisplay",
    "Verbalizer",
    "ZeroShotClassifier",
    "ZeroShotMultiLabelClassifier",
    "__version__",
    "calibration_error",
    "track",
    "tune_prompt",
]

_HOMES = {
    "ClassifyError": "classify.errors",
    "Label": "classify.labels",
    "LabelCalibrator": "classify.calibration",
    "LabelLogprobs": "classify.scoring",
    "LabelSet": "classify.labels",
    "PriorShift": "classify.calibration",
    "PromptTemplate": "classify.prompts",
    "Question": "classify.questions.question",
    "ReliabilityDisplay": "classify.metrics",
    "RiskCoverageDisplay": "classify.metrics",
    "SelectiveClassifier": "classify.decision",
    "SplitConformalSets": "classify.decision",
    "TaskClassifier": "classify.task_classifier",
    "TrackDisplay": "classify.metrics",
    "Verbalizer": "classify.verbalizer",
    "ZeroShotClassifier": "classify.estimators.classifier",
    "ZeroShotMultiLabelClassifier": "classify.estimators.multi_label",
    "calibration_error": "classify.metrics",
    "track": "classify.word_tracking",
    "tune_prompt": "classify.estimators.tuning",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
