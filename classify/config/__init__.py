"""Task files: labels, prompt, model and other settings, as YAML."""

from classify.config.task import Task
from classify.config.writing import task_yaml

__all__ = ["Task", "task_yaml"]
