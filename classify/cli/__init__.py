"""The command line: demo, predict, labels, tune, calibrate, evaluate and doctor.

Results go to stdout, everything else to stderr. Exit codes: 0 done, 1 failure, 2 misuse
or bad input, 130 interrupted.

What is heavy (pandas, torch, …) is imported inside commands, so that help is quick.
"""

import signal
from typing import Annotated

import typer

from classify import __version__
from classify.cli.audit_labels import LABELS_HELP, labels_command
from classify.cli.calibrate import CALIBRATE_HELP, calibrate_command
from classify.cli.command import Command, Group
from classify.cli.demo import DEMO_HELP, demo_command
from classify.cli.doctor import DOCTOR_HELP, doctor_command
from classify.cli.evaluate import EVALUATE_HELP, evaluate_command
from classify.cli.predict import PREDICT_HELP, predict_command
from classify.cli.tune import TUNE_HELP, tune_command

__all__ = ["app", "main"]

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
app.command(
    "demo",
    cls=Command,
    help=DEMO_HELP,
    short_help="Classify bundled tickets, or write files to try things on.",
)(demo_command)
app.command(
    "predict",
    cls=Command,
    help=PREDICT_HELP,
    short_help="Label the rows of a CSV file, or one text.",
)(predict_command)
app.command(
    "labels",
    cls=Command,
    help=LABELS_HELP,
    short_help="Show how label words become tokens.",
)(labels_command)
app.command(
    "tune",
    cls=Command,
    help=TUNE_HELP,
    short_help="Find the prompt that suits the model, on some dozens of texts.",
)(tune_command)
app.command(
    "calibrate",
    cls=Command,
    help=CALIBRATE_HELP,
    short_help="Learn from labelled texts how far probabilities can be trusted.",
)(calibrate_command)
app.command(
    "evaluate",
    cls=Command,
    help=EVALUATE_HELP,
    short_help="Measure labels and probabilities on labelled texts.",
)(evaluate_command)
app.command(
    "doctor",
    cls=Command,
    help=DOCTOR_HELP,
    short_help="Show what is installed, load an engine, and test its answers.",
)(doctor_command)


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


def main() -> None:
    """Run the command line; the console script `classify`."""
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):  # Windows has no SIGHUP
            signal.signal(getattr(signal, name), _stop)
    app(prog_name="classify")


def _stop(number: int, _frame: object) -> None:
    # An exception, unlike the signal itself, lets half-written files be removed.
    raise SystemExit(128 + number)
