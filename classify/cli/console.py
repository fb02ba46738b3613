"""What goes to stderr: notes, warnings, progress, and the one sentence of an error."""

import logging
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.text import Text

from classify.cli.spelling import as_option
from classify.errors import ClassifyError, InputError, ModelLoadError
from classify.wording import spelled_by

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = ["Notes", "RowProgress", "clock", "reported_errors"]

# The speed shown is that of the last so many seconds.
_SPEED_SECONDS = 30.0


class Notes:
    """Writes notes and warnings to stderr; shows those that are logged, each once.

    Parameters
    ----------
    quiet : bool, default=False
        Leave notes out; warnings stay.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self.console = Console(stderr=True, highlight=False)

    def note(self, text: str) -> None:
        """Write something that is good to know."""
        if not self.quiet:
            self._write(Text(text, style="dim"))

    def say(self, text: str | Text) -> None:
        """Write a result of the run as a whole."""
        if not self.quiet:
            self._write(text if isinstance(text, Text) else Text(text))

    def show(self, text: str) -> None:
        """Write lines that are to be copied: never broken to fit the terminal."""
        if not self.quiet:
            self.console.print(Text(text), soft_wrap=True)

    def warn(self, text: str) -> None:
        """Write something that may spoil the results."""
        self._write(Text.assemble(("Warning: ", "bold yellow"), text))

    @contextmanager
    def waiting(self, text: str) -> Iterator[None]:
        """Show that something takes time, on a terminal."""
        if self.quiet or not self.console.is_terminal:
            yield
            return
        with self.console.status(Text(text)):
            yield

    def _write(self, text: Text) -> None:
        # A log file is read without a width; sentences stay in one line there.
        self.console.print(text, soft_wrap=not self.console.is_terminal)

    def __enter__(self) -> "Notes":
        self._handler = _OnceHandler(self.warn)
        logging.getLogger("classify").addHandler(self._handler)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        logging.getLogger("classify").removeHandler(self._handler)


class _OnceHandler(logging.Handler):
    """Shows a warning once, however often (and with whatever figures) it is logged."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._warn = warn
        self._seen: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Show a record."""
        if record.msg not in self._seen:
            self._seen.add(record.msg)
            self._warn(record.getMessage())


class RowProgress:
    """A bar with rows/s and time left; lines now and then if there is no terminal.

    Parameters
    ----------
    notes : Notes
    n_rows : int
        All rows of the job.
    seconds_between_lines : float, default=10.0
        How often to write a line where there is no terminal.
    """

    def __init__(
        self, notes: Notes, n_rows: int, *, seconds_between_lines: float = 10.0
    ) -> None:
        self._notes = notes
        self._n_rows = n_rows
        self._pause = seconds_between_lines
        self._n_done = 0
        # (time, rows done by then), as far back as the speed is measured.
        self._recent: deque[tuple[float, int]] = deque()
        self._bar: Progress | None = None

    def __enter__(self) -> "RowProgress":
        self._last_line = time.monotonic()
        self._recent.append((self._last_line, 0))
        if self._notes.console.is_terminal and not self._notes.quiet:
            self._bar = _make_bar(self._notes.console)
            self._task = self._bar.add_task(
                "", total=self._n_rows, state=f"0 of {self._n_rows:,} rows"
            )
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, n_rows: int) -> None:
        """Count rows that are finished."""
        self._n_done += n_rows
        now = time.monotonic()
        self._recent.append((now, self._n_done))
        while len(self._recent) > 2 and now - self._recent[0][0] > _SPEED_SECONDS:
            self._recent.popleft()
        if self._bar is not None:
            self._bar.update(self._task, completed=self._n_done, state=self._state())
        elif now - self._last_line >= self._pause:
            self._last_line = now
            share = self._n_done / self._n_rows
            self._notes.note(f"{share:4.0%}  {self._state()}")

    def _state(self) -> str:
        (since, n_before), (now, n_done) = self._recent[0], self._recent[-1]
        speed = (n_done - n_before) / max(now - since, 1e-9)
        per_second = f"{speed:,.0f}" if speed >= 10 else f"{speed:.1f}"
        left = clock((self._n_rows - n_done) / max(speed, 1e-9))
        return f"{n_done:,} of {self._n_rows:,} rows, {per_second} rows/s, {left} left"


def _make_bar(console: Console) -> "Progress":
    from rich.progress import BarColumn, Progress, TextColumn

    return Progress(
        BarColumn(bar_width=24),
        TextColumn("{task.fields[state]}"),
        console=console,
        transient=True,
    )


@contextmanager
def reported_errors(
    *, debug: bool, interrupted: str = "Interrupted."
) -> Iterator[None]:
    """Turn exceptions into one sentence on stderr and an exit code.

    Parameters
    ----------
    debug : bool
        Let exceptions through, with their traceback.
    interrupted : str
        What to say at Ctrl-C.
    """
    try:
        with spelled_by(as_option):
            yield
    except KeyboardInterrupt:
        _fail(interrupted, 130)
    except BrokenPipeError:
        # Whoever read stdout has had enough; python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(1) from None
    except typer.Exit:
        raise
    except Exception as error:  # the last stop before the user
        if debug:
            raise
        if isinstance(error, ClassifyError):
            misuse = isinstance(error, InputError | ModelLoadError)
            told = " ".join([str(error), *getattr(error, "__notes__", ())])
            _fail(f"Error: {told}", 2 if misuse else 1)
        if isinstance(error, OSError) and error.strerror:
            named = f" ({error.filename!r})" if error.filename else ""
            _fail(f"Error: {error.strerror}{named}.", 1)
        _fail(
            f"Error: unexpected {type(error).__name__}: {error}. Run the command with "
            "--debug to see where.",
            1,
        )


def _fail(sentence: str, code: int) -> None:
    console = Console(stderr=True, highlight=False)
    start, colon, rest = sentence.partition("Error:")
    text = Text.assemble(start, (colon, "bold red"), rest)
    console.print(text, soft_wrap=not console.is_terminal)
    raise typer.Exit(code) from None


def clock(seconds: float) -> str:
    """Return a time as hours, minutes and seconds.

    Examples
    --------
    >>> clock(75), clock(3600)
    ('1:15', '1:00:00')
    """
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
