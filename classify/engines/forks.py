"""What happens to models and engines when the process that uses them is forked.

gunicorn with ``--preload``, Celery and `multiprocessing` on older Pythons fork workers
from a process in which models may have run.
"""

import os
import sys

from classify.errors import EngineError

__all__ = ["Home", "was_forked_with"]

_TOKENIZERS = "TOKENIZERS_PARALLELISM"
# What holds for this process since it was forked.
_state = {"quiet": False}
_imported: set[str] = set()


def was_forked_with(package: str) -> bool:
    """Whether a package was imported before this process was forked.

    The threads that PyTorch and the like compute on are not here then, and GNU OpenMP
    waits for them for ever.
    """
    return package in _imported


def _before() -> None:
    # A forked tokenizer stops using threads, and says so on stderr unless this is set.
    if "tokenizers" in sys.modules and _TOKENIZERS not in os.environ:
        os.environ[_TOKENIZERS] = "false"
        _state["quiet"] = True


def _in_parent() -> None:
    if _state["quiet"]:
        _state["quiet"] = False
        os.environ.pop(_TOKENIZERS, None)


def _in_child() -> None:
    _imported.update(sys.modules)


os.register_at_fork(
    before=_before, after_in_parent=_in_parent, after_in_child=_in_child
)


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
