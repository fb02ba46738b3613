"""The command line of `classify`, one function a command.

Results go to stdout, everything else to stderr. Exit codes: 0 done, 1 failure, 2 misuse
or bad input, 130 interrupted.
"""

import inspect
import os
import signal
from collections.abc import MutableMapping
from typing import Annotated

import typer

from classify import __version__
from classify.cli.command import Command, Group
from classify.cli.commands import (
    calibrate,
    demo,
    doctor,
    evaluate,
    labels,
    predict,
    tune,
)
from classify.cli.serving import serve
from classify.cli.tracking import track

__all__ = ["app", "main", "spin_briefly"]

_HELP = """Example:

$ classify predict --text "Where is my parcel?" --labels billing,shipping

Classify texts by the exact probability that a causal language model gives
each label. Without --model, a small demo model runs: for trying out only.
"""

app = typer.Typer(
    name="classify",
    cls=Group,
    help=_HELP,
    rich_markup_mode="rich",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_COMMANDS = (demo, predict, labels, tune, calibrate, evaluate, track, serve, doctor)
for _command in _COMMANDS:
    app.command(cls=Command, short_help=inspect.unwrap(_command).__doc__)(_command)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"classify {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            "-V",
            callback=_print_version,
            is_eager=True,
            help="Print the version and exit.",
        ),
    ] = False,
) -> None:
    """Read the options of `classify` itself."""


def spin_briefly(environment: MutableMapping[str, str]) -> None:
    """Let torch's threads sleep soon while they wait for each other.

    By default they spin for milliseconds. On a busy machine that takes the core from
    the thread that they wait for: a command took twice the CPU time. OpenMP reads this
    when torch is loaded.
    """
    if "OMP_WAIT_POLICY" not in environment:
        environment.setdefault("GOMP_SPINCOUNT", "10000")


def main() -> None:
    """Run the command line; the console script `classify`."""
    spin_briefly(os.environ)
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):  # Windows has no SIGHUP
            signal.signal(getattr(signal, name), _stop)
    app(prog_name="classify")


def _stop(number: int, _frame: object) -> None:
    # An exception, unlike the signal itself, lets half-written files be removed.
    raise SystemExit(128 + number)
