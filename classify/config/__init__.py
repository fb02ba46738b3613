"""What to classify into, how to ask and what to ask, as YAML."""

from classify.config.task import PromptSpec, Task, VerbalizerSpec, labels_from_yaml

__all__ = ["PromptSpec", "Task", "VerbalizerSpec", "labels_from_yaml"]
