"""What to classify into, how to ask and what to ask, as YAML."""

from classify.config.task import Task, labels_from_yaml

__all__ = ["Task", "labels_from_yaml"]
