"""What to classify into, how to ask and what to ask, as YAML."""

from classify.config.task import Task, labels_from_yaml
from classify.config.writing import task_yaml

__all__ = ["Task", "labels_from_yaml", "task_yaml"]
