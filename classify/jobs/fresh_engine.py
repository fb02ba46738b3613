"""Engines that have seen nothing yet, so that values do not depend on what they saw."""

from classify.engines import Engine

__all__ = ["forget_reads"]


def forget_reads(engine: Engine) -> None:
    """Let an engine drop what it kept of earlier texts, if it keeps any here.

    What is computed behind keys and values of other texts can differ in its last
    digits from what is computed alone. An engine that forgets before each chunk gives
    it the same values in whatever order chunks come, and after a restart.
    """
    free_memory = getattr(engine, "free_memory", None)
    if free_memory is not None:
        free_memory()
