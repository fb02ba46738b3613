"""vLLM's own processes, in those that start them: forks, pools and Ctrl-C.

They belong to the process that started them, not to its forks. A terminal sends SIGINT
to all processes of the foreground group; vLLM's end when they get it, and with them the
texts that the user's process wants to finish first.
"""

import multiprocessing.process
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from threading import Event, Thread
from typing import Any
from weakref import WeakSet

from classify.errors import ModelLoadError
from classify.wording import parameter

__all__ = [
    "check_may_start",
    "children_without_interrupts",
    "leave_to_parent_in_forks",
]

_cores: WeakSet[Any] = WeakSet()
# Of the parent, in a forked child: kept, since what is collected is shut down.
_parents: list[Any] = []


def leave_to_parent_in_forks(engine_core: Any) -> None:
    """Let a forked child neither end nor wait for an engine's processes.

    Parameters
    ----------
    engine_core : vllm.v1.engine.core_client.EngineCoreClient
    """
    _cores.add(engine_core)


def check_may_start() -> None:
    """Raise ModelLoadError where vLLM cannot start processes of its own."""
    if _parents:
        raise ModelLoadError(
            f"vLLM runs in the process from which this one ({os.getpid()}) was forked, "
            "and cannot be used or started here. Load the engine in the workers only, "
            "or start them with 'spawn' (multiprocessing.get_context('spawn'))."
        )
    if multiprocessing.current_process().daemon:
        raise ModelLoadError(
            "vLLM starts processes of its own, which a worker of multiprocessing.Pool "
            "may not: use concurrent.futures.ProcessPoolExecutor, or "
            f"{parameter('engine', 'transformers')}."
        )


def _let_go() -> None:
    for core in list(_cores):
        _parents.append(core)
        resources = getattr(core, "resources", None)
        manager = getattr(resources, "engine_manager", None)
        coordinator = getattr(resources, "coordinator", None)
        for owner in (core, manager, coordinator):
            finalizer = getattr(owner, "_finalizer", None)
            if finalizer is not None:
                finalizer.detach()
        # What is in this set is ended when the process exits.
        children: set[Any] = getattr(multiprocessing.process, "_children", set())
        children.difference_update(getattr(manager, "processes", ()))
    _cores.clear()


os.register_at_fork(after_in_child=_let_go)


@contextmanager
def children_without_interrupts() -> Iterator[None]:
    r"""Start processes that SIGINT never reaches, while the context lasts.

    SIGTERM, by which vLLM ends them, does. Where the process itself was interrupted
    meanwhile, ``KeyboardInterrupt`` is raised in it as ever.

    Examples
    --------
    >>> import os, signal, subprocess, sys
    >>> with children_without_interrupts():
    ...     child = subprocess.Popen([sys.executable, "-c", "print(input())"],
    ...         stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    >>> os.kill(child.pid, signal.SIGINT)
    >>> child.communicate("still here")
    ('still here\n', None)
    """
    # What is blocked in the thread that starts a process stays blocked in the process,
    # over fork and exec. Not so a signal that is ignored: vLLM's processes set handlers
    # of their own, and most of them run no code of ours.
    # Starting the tracker, which they all share, would unblock the signal again.
    resource_tracker.ensure_running()
    # Another thread must receive the signals that arrive in the meantime, and tell the
    # main thread: loading a large model takes minutes.
    finished = Event()
    Thread(target=finished.wait, name="classify-interrupts", daemon=True).start()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        finished.set()
