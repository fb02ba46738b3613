"""Ctrl-C is for the process that was started, not for those that vLLM starts below it.

A terminal sends SIGINT to all processes of the foreground group. vLLM's engine process
and its workers end when they get it, and with them the texts that the user's process
wants to finish first.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from threading import Event, Thread

__all__ = ["children_without_interrupts"]


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
    # Somebody must take what comes meanwhile, and tell the main thread: loading a large
    # model lasts minutes.
    finished = Event()
    Thread(target=finished.wait, name="classify-interrupts", daemon=True).start()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        finished.set()
