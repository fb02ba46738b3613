"""Text classification from the token log-probabilities of a language model.

Names are loaded on first use, so that `import classify` stays fast.
"""

from typing import TYPE_CHECKING

from classify.distribution import VERSION
from classify.lazy import lazy_names

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

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        ".calibration": ["LabelCalibrator", "PriorShift"],
        ".decision": ["SelectiveClassifier", "SplitConformalSets"],
        ".errors": ["ClassifyError"],
        ".estimators.classifier": ["ZeroShotClassifier"],
        ".estimators.multi_label": ["ZeroShotMultiLabelClassifier"],
        ".estimators.tuning": ["tune_prompt"],
        ".labels": ["Label", "LabelSet"],
        ".metrics": [
            *("ReliabilityDisplay", "RiskCoverageDisplay", "TrackDisplay"),
            "calibration_error",
        ],
        ".prompts": ["PromptTemplate"],
        ".questions.question": ["Question"],
        ".scoring": ["LabelLogprobs"],
        ".task_classifier": ["TaskClassifier"],
        ".verbalizer": ["Verbalizer"],
        ".word_tracking": ["track"],
    },
)
