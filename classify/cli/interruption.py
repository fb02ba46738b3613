"""Ctrl-C during a job: once to finish texts in progress, twice to stop immediately."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from threading import Thread
from types import FrameType

from classify.cli.console import Notes

__all__ = ["Interruption", "graceful_interruption"]

# Those by which people, terminals and schedulers ask a process to end.
_SIGNALS = (signal.SIGINT, signal.SIGTERM)

_STOPPING = (
    "Stopping: texts in progress are finished and saved first. Press Ctrl-C again to "
    "stop immediately."
)


class Interruption:
    """Whether the job was asked to stop."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        self._signal = 0
        # A handler runs in the midst of whatever the main thread does, which may be
        # writing to the same console: so another thread does the writing.
        self._is_asked: SimpleQueue[bool] = SimpleQueue()
        self._teller = Thread(target=self._tell, daemon=True)

    def __call__(self) -> bool:
        """Return whether to begin nothing more."""
        return self._signal != 0

    @property
    def exit_code(self) -> int:
        """What a shell expects of a process that a signal ended."""
        return 128 + self._signal

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._signal:
            raise KeyboardInterrupt
        self._signal = number
        self._is_asked.put(True)  # which may be called in a handler

    def _tell(self) -> None:
        if self._is_asked.get():
            self._notes.warn(_STOPPING)


@contextmanager
def graceful_interruption(notes: Notes) -> Iterator[Interruption]:
    """Let the first Ctrl-C (or SIGTERM) only be noted, while the context lasts."""
    interruption = Interruption(notes)
    interruption._teller.start()
    before = {
        number: signal.signal(number, interruption._handle) for number in _SIGNALS
    }
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        interruption._is_asked.put(False)
        interruption._teller.join()
