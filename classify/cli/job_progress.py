"""How a job goes, while it runs: a bar on a terminal, else a line now and then."""

import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

from classify.cli.console import Notes, Progress, clock
from classify.cli.pace import Pace
from classify.engines.speculation import SpeculationFigures
from classify.jobs import JobWatcher, Summary

if TYPE_CHECKING:
    from rich.console import Group

__all__ = ["JobProgress"]

_MAX_LABELS = 4
_BAR_CELLS = 16
# In less, the figures need the room.
_MIN_WIDTH_OF_BAR = 60
# The first read of a text is the most of its work.
_WORTH_OF_BEGUN = 0.5


class JobProgress(JobWatcher):
    """Shows rows/s, tokens/s and time left; each label's share, errors, acceptance.

    Parameters
    ----------
    notes : Notes
    speculation : callable, default=None
        Returns how well tokens were drafted so far, or None.
    seconds_between_lines : float, default=10.0
        How often to write a line where there is no terminal.
    now : callable, default=time.monotonic
        The time in seconds.
    """

    def __init__(
        self,
        notes: Notes,
        speculation: Callable[[], SpeculationFigures | None] = lambda: None,
        *,
        seconds_between_lines: float = 10.0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._notes = notes
        self._speculation = speculation
        self._pause = seconds_between_lines
        self._now = now
        self._pace = Pace(None)
        self._n_rows: int | None = None
        self._n_done = self._n_begun = self._n_tokens = 0
        self._n_to_finish: int | None = None
        self._detail = ""

    def __enter__(self) -> "JobProgress":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._notes.end_drawing()

    def begins(self, n_rows: int | None, n_done: int) -> None:
        """Show the bar, or say what an earlier run has finished."""
        self._n_rows, self._n_done = n_rows, n_done
        self._pace = Pace(n_rows, n_done)
        self._last_line = self._now()
        if n_done:
            total = "" if n_rows is None else f" of {n_rows:,}"
            self._notes.note(
                f"Going on: {n_done:,}{total} rows were finished by an earlier run."
            )
        if self._notes.progress is Progress.BAR:
            self._notes.draw(self._drawn)

    def progressed(self, n_rows: int, n_tokens: int) -> None:
        """Count rows that are finished and tokens that were read."""
        self._n_done += n_rows
        self._n_tokens += n_tokens
        self._note_pace()

    def reading(self, n_texts: int) -> None:
        """Note of how many texts a part was read."""
        self._n_begun = n_texts
        self._note_pace()

    def stopping(self, n_texts: int) -> None:
        """Say how many texts are still to be finished."""
        if self._n_to_finish is None:
            self._notes.note(f"Texts that are being read: {n_texts:,}.")
        self._n_to_finish = n_texts

    def finished(self, summary: Summary) -> None:
        """Show what became of the rows so far."""
        self._detail = _detail(summary, self._speculation())

    def _note_pace(self) -> None:
        now = self._now()
        done = self._n_done + _WORTH_OF_BEGUN * self._n_begun
        self._pace.reached(done, self._n_tokens, now=now)
        lines = self._notes.progress is Progress.LINES
        if lines and now - self._last_line >= self._pause:
            self._last_line = now
            share = ""
            if self._n_rows is not None:
                share = f"{self._n_done / max(self._n_rows, 1):4.0%}  "
            said = "; ".join(filter(None, (self._state(), self._detail)))
            self._notes.note(share + said)

    def _state(self) -> str:
        if self._n_to_finish is not None:
            return f"{self._n_done:,} rows, stopping: {self._n_to_finish:,} texts left"
        total = "" if self._n_rows is None else f" of {self._n_rows:,}"
        parts = [f"{self._n_done:,}{total} rows"]
        speed, tokens = self._pace.speed, self._pace.token_speed
        if speed:
            parts.append(f"{_figure(speed)} rows/s")
        if tokens:
            parts.append(f"{_figure(tokens)} tokens/s")
        seconds = self._pace.seconds_left(now=self._now())
        if seconds is not None:
            parts.append(f"{clock(seconds)} left")
        return ", ".join(parts)

    def _drawn(self) -> "Group":
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        def line(text: str, style: str = "") -> Text:
            return Text(text, style=style, no_wrap=True, overflow="ellipsis")

        state = line(self._state())
        rows = [line(self._detail, "dim")] if self._detail else []
        if self._n_rows is None or self._notes.console.width < _MIN_WIDTH_OF_BAR:
            return Group(state, *rows)
        done = self._n_done + _WORTH_OF_BEGUN * self._n_begun
        first = Table.grid(padding=(0, 1, 0, 0))
        first.add_row(ProgressBar(self._n_rows, done, width=_BAR_CELLS), state)
        return Group(first, *rows)


def _detail(summary: Summary, speculation: SpeculationFigures | None) -> str:
    parts = []
    if summary.n_labelled:
        shown = [
            f"{name} {count / summary.n_labelled:.0%}"
            for name, count in summary.label_counts.most_common(_MAX_LABELS)
        ]
        if len(summary.label_counts) > _MAX_LABELS:
            shown.append("…")
        parts.append(", ".join(shown))
    if summary.n_set_aside:
        parts.append(f"{summary.n_set_aside:,} set aside")
    if speculation is not None and speculation.n_draft_tokens:
        share = speculation.n_accepted_tokens / speculation.n_draft_tokens
        parts.append(f"{share:.0%} of drafts accepted")
    return "; ".join(parts)


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"
