"""The classes of a task: names, descriptions, words, values, and parents."""

from classify.labels.label import Label
from classify.labels.label_set import Labels, LabelSet

__all__ = ["Label", "LabelSet", "Labels"]
