"""The progress of a running job: a bar on a terminal, or else occasional lines."""

import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from classify.cli.console import Notes, Progress, clock
from classify.engines.speculation import SpeculationFigures
from classify.jobs import JobWatcher, Summary

if TYPE_CHECKING:
    from rich.console import Group

__all__ = ["JobProgress", "Pace"]

_MAX_LABELS = 4
_BAR_CELLS = 16
# In less, the figures need the room.
_MIN_WIDTH_OF_BAR = 60
# The first read of a text is the most of its work.
_WORTH_OF_BEGUN = 0.5
# Speeds are those of the last so many seconds.
_SPEED_SECONDS = 30.0
# Evidence for an estimate: so much time since the first result, or less time and a
# share of what is to be done.
_MIN_SECONDS = 3.0
_MIN_SECONDS_WITH_SHARE = 1.0
_MIN_SHARE = 0.1


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

    def __exit__(self, *_: object) -> None:
        self._notes.end_drawing()

    def begins(self, n_rows: int | None, n_done: int) -> None:
        """Show the bar, or say what an earlier run has finished."""
        self._n_rows, self._n_done = n_rows, n_done
        self._pace = Pace(n_rows, n_done)
        self._last_line = self._now()
        if n_done:
            total = "" if n_rows is None else f" of {n_rows:,}"
            self._notes.note(
                f"Resuming: {n_done:,}{total} rows were finished by an earlier run."
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
            self._notes.note(f"Texts in progress: {n_texts:,}.")
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


class _Reached(NamedTuple):
    time: float
    done: float
    tokens: int


class Pace:
    """The speed of a job, measured from its first result on.

    What comes before the first result (a model that starts, a first batch) says little
    about the rest, and would make the rest look slow.

    Parameters
    ----------
    total : float or None
        What is to be done, as far as known.
    done : float, default=0
        What was done before.

    Examples
    --------
    >>> pace = Pace(100)
    >>> for second in range(60, 66):  # after a minute of loading
    ...     pace.reached(10.0 * (second - 59), 0, now=second)
    >>> pace.speed, pace.seconds_left(now=65)
    (10.0, 4.0)
    """

    def __init__(self, total: float | None, done: float = 0) -> None:
        self._total = total
        self._before = done
        self._recent: deque[_Reached] = deque()
        self._first: _Reached | None = None
        self._longest_gap = 0.0

    def reached(self, done: float, tokens: int, *, now: float) -> None:
        """Note what is done by now, and how many tokens were read for it."""
        if done <= (self._recent[-1].done if self._recent else self._before):
            return
        reached = _Reached(now, done, tokens)
        if self._first is None:
            self._first = reached
        elif now > self._recent[-1].time:
            self._longest_gap = max(self._longest_gap, now - self._recent[-1].time)
        self._recent.append(reached)
        while len(self._recent) > 2 and now - self._recent[0].time > _SPEED_SECONDS:
            self._recent.popleft()

    @property
    def speed(self) -> float | None:
        """What is done a second; None as long as too little is known."""
        seconds, since, last = self._measured()
        return (last.done - since.done) / seconds if seconds else None

    @property
    def token_speed(self) -> float | None:
        """Tokens a second; None as long as too little is known, or without any."""
        seconds, since, last = self._measured()
        read = last.tokens - since.tokens
        return read / seconds if seconds and read else None

    def seconds_left(self, *, now: float) -> float | None:
        """Return how long the rest will take; None without evidence."""
        speed = self.speed
        if self._total is None or not speed or not self._is_evident(now):
            return None
        last = self._recent[-1]
        return max((self._total - last.done) / speed - (now - last.time), 0.0)

    def _is_evident(self, now: float) -> bool:
        assert self._first is not None, "there is a speed"
        last = self._recent[-1]
        # A server that is away, a batch that takes far longer than those before.
        if now - last.time > max(3 * self._longest_gap, _MIN_SECONDS):
            return False
        seconds = last.time - self._first.time
        share = (last.done - self._first.done) / (self._total or 1)
        return seconds >= _MIN_SECONDS or (
            seconds >= _MIN_SECONDS_WITH_SHARE and share >= _MIN_SHARE
        )

    def _measured(self) -> tuple[float, _Reached, _Reached]:
        """Return seconds, and the first and the last result in them; 0 for none."""
        if not self._recent:
            nothing = _Reached(0.0, 0.0, 0)
            return 0.0, nothing, nothing
        since, last = self._recent[0], self._recent[-1]
        seconds = last.time - since.time
        return (seconds if seconds >= _MIN_SECONDS_WITH_SHARE else 0.0), since, last
