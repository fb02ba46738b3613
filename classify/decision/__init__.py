"""From probabilities to actions: thresholds and sets with guarantees."""

from classify.decision.conformal import SplitConformalSets
from classify.decision.label_thresholds import LabelThresholds, fit_thresholds
from classify.decision.selective import Decisions, SelectiveClassifier

__all__ = [
    "Decisions",
    "LabelThresholds",
    "SelectiveClassifier",
    "SplitConformalSets",
    "fit_thresholds",
]
