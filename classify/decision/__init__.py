"""From probabilities to actions: answers with a promised risk, sets with a coverage."""

from classify.decision.conformal import SplitConformalSets
from classify.decision.selective import Decisions, SelectiveClassifier

__all__ = ["Decisions", "SelectiveClassifier", "SplitConformalSets"]
