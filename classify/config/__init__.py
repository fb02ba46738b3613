"""What to classify into, how to ask and what to ask, as YAML."""

from classify.config.task import Task
from classify.config.writing import task_yaml

__all__ = ["Task", "task_yaml"]
