"""Output on stderr: notes, warnings, progress, and error messages."""

import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from typing import TYPE_CHECKING

import typer
from rich.console import Console, RenderableType
from rich.text import Text

from classify.cli.terminal import make_console
from classify.engines.registry import is_engine_option
from classify.errors import ClassifyError, InputError, ModelLoadError
from classify.wording import NO_VALUE, spelled_by

if TYPE_CHECKING:
    from rich.live import Live

__all__ = ["Notes", "Progress", "as_option", "clock", "reported_errors"]

# Parameters of Python whose option has another name.
_OTHER_NAMES = {
    "X_unlabeled": "--unlabeled",
    "address": "--ray",
    "n_workers": "--workers",
    "template_arguments": "--template-argument",
    "y": "--label-column",
}


class Progress(Enum):
    """How it is shown on stderr that something is under way."""

    BAR = "a bar, which is drawn again and again"
    LINES = "a line now and then"
    NONE = "not at all"


class Notes:
    """Writes notes and warnings to stderr; shows those that are logged, each once.

    Stdout and stderr may be one terminal. So results are written to the console of
    `results` alone, which ends what is drawn on stderr.

    Parameters
    ----------
    quiet : bool, default=False
        Leave notes out; warnings stay.

    Attributes
    ----------
    progress : Progress
        How to show it; those who write rows while it runs may change it.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self.console = make_console(sys.stderr)
        # Of the stream: FORCE_COLOR makes rich take any file for a terminal.
        is_drawable = sys.stderr.isatty() and not self.console.is_dumb_terminal
        self.progress = Progress.BAR if is_drawable else Progress.LINES
        if quiet:
            self.progress = Progress.NONE
        self._drawn: Live | None = None

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
        if self.progress is not Progress.BAR:
            yield
            return
        with self.console.status(Text(text), spinner="line"):
            yield

    def results(self, *, narrow: bool = False) -> Console:
        """Return the console on stdout, for results.

        Parameters
        ----------
        narrow : bool, default=False
            Whether lines have 80 cells where stdout is no terminal; see `make_console`.
        """
        self.end_drawing()
        return make_console(sys.stdout, narrow=narrow)

    def draw(self, render: Callable[[], RenderableType]) -> None:
        """Draw something below all notes, again and again, until `end_drawing`."""
        from rich.live import Live

        self.end_drawing()
        self._drawn = Live(
            get_renderable=render,
            console=self.console,
            refresh_per_second=5,
            transient=True,
            redirect_stdout=False,
        )
        # At once: what is short would be over before it is drawn.
        self._drawn.start(refresh=True)

    def end_drawing(self) -> None:
        """Take away what is drawn, if anything is."""
        if self._drawn is not None:
            self._drawn.stop()
            self._drawn = None

    def _write(self, text: Text) -> None:
        # A log file is read without a width; sentences stay in one line there.
        self.console.print(text, soft_wrap=not sys.stderr.isatty())

    def __enter__(self) -> "Notes":
        self._handler = _OnceHandler(self.warn)
        logging.getLogger("classify").addHandler(self._handler)
        return self

    def __exit__(self, *_: object) -> None:
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


@contextmanager
def reported_errors(
    *, debug: bool, interrupted: Callable[[], str] = lambda: "Interrupted."
) -> Iterator[None]:
    """Turn exceptions into one sentence on stderr and an exit code.

    Parameters
    ----------
    debug : bool
        Let exceptions through, with their traceback.
    interrupted : callable, optional
        What to say at Ctrl-C.
    """
    try:
        with spelled_by(as_option):
            yield
    except KeyboardInterrupt:
        _fail(interrupted(), 130)
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
    console = make_console(sys.stderr)
    start, colon, rest = sentence.partition("Error:")
    text = Text.assemble(start, (colon, "bold red"), rest)
    console.print(text, soft_wrap=not sys.stderr.isatty())
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


def as_option(name: str, value: object) -> str:
    """Return an option, with a value as one types it.

    Examples
    --------
    >>> as_option("max_errors", NO_VALUE), as_option("engine", "vllm")
    ('--max-errors', '--engine vllm')
    >>> as_option("restart", True), as_option("chat", False)
    ('--restart', '--no-chat')
    >>> as_option("served_model_name", NO_VALUE), as_option("prior", {"a": 0.5})
    ('--engine-option served_model_name=…', '--prior a=0.5')
    """
    if is_engine_option(name):
        shown = "…" if value is NO_VALUE else _typed(value)
        return f"--engine-option {name}={shown}"
    option = _OTHER_NAMES.get(name, f"--{name.replace('_', '-')}")
    if value is NO_VALUE or value is True:
        return option
    if value is False:
        return f"--no-{option.removeprefix('--')}"
    return f"{option} {_typed(value)}"


def _typed(value: object) -> str:
    if isinstance(value, Mapping):
        return ",".join(f"{key}={each}" for key, each in value.items())
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) and (not value or set(value) & set(" \t;|&'\"\\$*?")):
        return repr(value)
    return str(value)
