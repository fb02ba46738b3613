"""How a job goes, while it runs: a bar on a terminal, else a line now and then."""

import time
from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING

from classify.cli.console import Notes, clock
from classify.engines.vllm.speculation import SpeculationFigures
from classify.jobs import JobWatcher, Summary

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.progress import Progress

__all__ = ["JobProgress"]

# The speed shown is that of the last so many seconds.
_SPEED_SECONDS = 30.0
_MOST_LABELS = 4


class JobProgress(JobWatcher):
    """Shows rows/s, tokens/s and time left; each label's share, errors, acceptance.

    Parameters
    ----------
    notes : Notes
    speculation : callable
        Returns how well tokens were drafted so far, or None.
    seconds_between_lines : float, default=10.0
        How often to write a line where there is no terminal.
    """

    def __init__(
        self,
        notes: Notes,
        speculation: "Callable[[], SpeculationFigures | None]",
        *,
        seconds_between_lines: float = 10.0,
    ) -> None:
        self._notes = notes
        self._speculation = speculation
        self._pause = seconds_between_lines
        self._n_rows: int | None = None
        self._n_done = self._n_tokens = 0
        # (time, rows, tokens by then), as far back as speeds are measured.
        self._recent: deque[tuple[float, int, int]] = deque()
        self._detail = ""
        self._bar: Progress | None = None

    def __enter__(self) -> "JobProgress":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begins(self, n_rows: int | None, n_done: int) -> None:
        """Show the bar, or say what an earlier run has finished."""
        self._n_rows, self._n_done = n_rows, n_done
        self._last_line = time.monotonic()
        self._recent.append((self._last_line, n_done, 0))
        if n_done:
            total = "" if n_rows is None else f" of {n_rows:,}"
            self._notes.note(
                f"Going on: {n_done:,}{total} rows were finished by an earlier run."
            )
        if self._notes.console.is_terminal and not self._notes.quiet:
            self._bar = _make_bar(self._notes)
            self._task = self._bar.add_task(
                "", total=n_rows, completed=n_done, state=self._state(), detail=""
            )
            self._bar.start()

    def progressed(self, n_rows: int, n_tokens: int) -> None:
        """Count rows that are finished and tokens that were read."""
        self._n_done += n_rows
        self._n_tokens += n_tokens
        now = time.monotonic()
        # A job that does not wait for a model finishes rows far faster than anybody
        # can read.
        if now - self._recent[-1][0] < 0.05 and self._n_done != self._n_rows:
            return
        self._recent.append((now, self._n_done, self._n_tokens))
        while len(self._recent) > 2 and now - self._recent[0][0] > _SPEED_SECONDS:
            self._recent.popleft()
        if self._bar is not None:
            self._bar.update(self._task, completed=self._n_done, state=self._state())
        elif now - self._last_line >= self._pause:
            self._last_line = now
            self._notes.note("; ".join(filter(None, (self._state(), self._detail))))

    def finished(self, summary: Summary) -> None:
        """Show what became of the rows so far."""
        self._detail = _detail(summary, self._speculation())
        if self._bar is not None:
            self._bar.update(self._task, detail=self._detail)

    def _state(self) -> str:
        (since, n_rows, n_tokens), (now, n_done, n_read) = (
            self._recent[0],
            self._recent[-1],
        )
        seconds = max(now - since, 1e-9)
        speed = (n_done - n_rows) / seconds
        parts = [f"{n_done:,} rows", f"{_figure(speed)} rows/s"]
        if n_read > n_tokens:
            parts.append(f"{_figure((n_read - n_tokens) / seconds)} tokens/s")
        if self._n_rows is not None:
            parts[0] = f"{n_done:,} of {self._n_rows:,} rows"
            if self._bar is None:
                parts.insert(0, f"{n_done / max(self._n_rows, 1):4.0%}")
            if speed:
                parts.append(f"{clock((self._n_rows - n_done) / speed)} left")
        return ", ".join(parts)


def _detail(summary: Summary, speculation: SpeculationFigures | None) -> str:
    parts = []
    if summary.n_labelled:
        shown = [
            f"{name} {count / summary.n_labelled:.0%}"
            for name, count in summary.label_counts.most_common(_MOST_LABELS)
        ]
        if len(summary.label_counts) > _MOST_LABELS:
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


def _make_bar(notes: Notes) -> "Progress":
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.table import Column

    class _TwoLines(Progress):
        """The bar, and under it what became of the rows."""

        def get_renderables(self):  # type: ignore[no-untyped-def]
            yield self.make_tasks_table(self.tasks)
            for task in self.tasks:
                if task.fields["detail"]:
                    yield detail.render(task)

    one_line = Column(no_wrap=True, overflow="ellipsis")
    detail = TextColumn("{task.fields[detail]}", style="dim", table_column=one_line)
    return _TwoLines(
        BarColumn(bar_width=16),
        TextColumn("{task.fields[state]}", table_column=one_line),
        console=notes.console,
        transient=True,
    )
