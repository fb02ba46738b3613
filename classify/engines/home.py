"""Which process an engine belongs to."""

import os

from classify.errors import EngineError

__all__ = ["Home"]


class Home:
    """The process that an engine works in: the one that loaded it.

    Threads, device contexts and connections do not come along into a forked child.
    """

    def __init__(self) -> None:
        self._pid = os.getpid()

    def __reduce__(self) -> tuple[type["Home"], tuple[()]]:
        return Home, ()  # what was unpickled in a process belongs there

    @property
    def is_here(self) -> bool:
        """Whether this is the process that loaded the engine."""
        return os.getpid() == self._pid

    def check(self) -> None:
        """Raise EngineError in a forked child."""
        if not self.is_here:
            raise EngineError(
                f"This engine was loaded by process {self._pid}, and cannot be used in "
                f"process {os.getpid()}, which was forked from it. Load the engine in "
                "each worker, after the fork, or start the workers with 'spawn' "
                "(multiprocessing.get_context('spawn'))."
            )
