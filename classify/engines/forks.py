"""What must not come along when a process that uses models is forked.

gunicorn with ``--preload``, Celery and `multiprocessing` on older Pythons fork workers
from a process in which models may have run.
"""

import os
import sys

__all__ = ["torch_was_forked"]

_TOKENIZERS = "TOKENIZERS_PARALLELISM"
# What holds for this process since it was forked.
_state = {"torch": False, "quiet": False}


def torch_was_forked() -> bool:
    """Whether PyTorch was imported before this process was forked.

    Its threads are not here then, and GNU OpenMP waits for them for ever.
    """
    return _state["torch"]


def _before() -> None:
    # A forked tokenizer stops using threads, and says so on stderr unless it is told.
    if "tokenizers" in sys.modules and _TOKENIZERS not in os.environ:
        os.environ[_TOKENIZERS] = "false"
        _state["quiet"] = True


def _in_parent() -> None:
    if _state["quiet"]:
        _state["quiet"] = False
        os.environ.pop(_TOKENIZERS, None)


def _in_child() -> None:
    _state["torch"] = "torch" in sys.modules


os.register_at_fork(
    before=_before, after_in_parent=_in_parent, after_in_child=_in_child
)
