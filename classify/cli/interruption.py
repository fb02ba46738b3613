"""Ctrl-C during a job: once to finish what is in flight, twice to stop at once."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from classify.cli.console import Notes

__all__ = ["Interruption", "graceful_interruption"]

# Those by which people, terminals and schedulers ask a process to end.
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Whether somebody asked the job to stop."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        self._signal = 0

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
        self._notes.warn(
            "Stopping: what is in flight is finished and saved first. Press Ctrl-C "
            "again to stop at once."
        )


@contextmanager
def graceful_interruption(notes: Notes) -> Iterator[Interruption]:
    """Let the first Ctrl-C (or SIGTERM) only be noted, while the context lasts."""
    interruption = Interruption(notes)
    before = {
        number: signal.signal(number, interruption._handle) for number in _SIGNALS
    }
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
