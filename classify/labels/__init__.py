"""The classes of a task: names, meanings, words, values, and who stands below whom."""

from classify.labels.label import Label
from classify.labels.label_set import Labels, LabelSet

__all__ = ["Label", "LabelSet", "Labels"]
