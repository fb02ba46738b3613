"""Turns functions into commands: option groups, one-sentence errors, help."""

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from classify.cli.console import Notes, reported_errors
from classify.cli.given import Given
from classify.cli.groups import Session
from classify.cli.options import Option, options_of
from classify.errors import ConfigError

__all__ = ["Command", "Group", "as_command"]

# What most people need comes first.
_PANELS = (
    *("Server", "Labels", "Data", "Model", "Prompt"),
    *("Calibration", "Calibration and decisions"),
    *("Scoring", "Generation", "Job", "File format", "Other"),
)


def as_command(
    text: str,
    *settings: Option,
    interrupted: Callable[[Mapping[str, Any]], str] = lambda _: "Interrupted.",
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a function into one that typer makes a command of.

    Each parameter of the function whose type is a dataclass of settings is a group of
    options. It may have `given`, all that was given, and `notes`, for stderr. Every
    command has the options of `Session`.

    Parameters
    ----------
    text : str
        What help shows; the function's docstring says it in a line.
    *settings : Option
        Further options, which the function reads from `given`.
    interrupted : callable, optional
        What to say at Ctrl-C; called with the values of the options.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(function).parameters
        groups: dict[str, Any] = {
            name: each.annotation
            for name, each in own.items()
            if is_dataclass(each.annotation) and each.annotation is not Given
        }

        @functools.wraps(function)
        def run(context: typer.Context, **values: Any) -> None:
            with (
                reported_errors(
                    debug=bool(values["debug"]),
                    interrupted=lambda: interrupted(values),
                ),
                Notes(quiet=bool(values["quiet"])) as notes,
            ):
                given = Given.of(context)
                made = {name: given.group(kind) for name, kind in groups.items()}
                known = values | made | {"given": given, "notes": notes}
                function(**{name: known[name] for name in own})

        options = [
            *settings,
            *(each for kind in groups.values() for each in options_of(kind)),
            *options_of(Session),
        ]
        taken = (*groups, "given", "notes")
        run.__doc__ = text
        run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [
                inspect.Parameter(
                    "context",
                    inspect.Parameter.KEYWORD_ONLY,
                    annotation=typer.Context,
                ),
                *(
                    each.replace(kind=inspect.Parameter.KEYWORD_ONLY)
                    for name, each in own.items()
                    if name not in taken
                ),
                *(each.parameter() for each in options),
            ]
        )
        return run

    return decorate


class _Plain:
    """What commands and the group of them have in common."""

    # Of options that name none.
    panel = _PANELS[-1]

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters as help shows them.

        Flags take no value, and arguments are strings: no type is shown.
        """
        parameters: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for each in parameters:
            if each.param_type_name == "argument":
                each.display_type_rich = _no_type
                continue
            each.rich_help_panel = each.rich_help_panel or self.panel
            if each.is_flag and each.metavar is None:
                each.metavar = ""
        return sorted(parameters, key=_place)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return ``[OPTIONS] FILE``; typer puts the file into braces."""
        pieces: list[str] = super().collect_usage_pieces(ctx)  # type: ignore[misc]
        return [piece.strip("{}") for piece in pieces]


class Command(_Plain, TyperCommand):
    """A command of `classify`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments; a shell has split ``--labels a, b`` in two."""
        labels = _split_labels(args)
        if labels is not None:
            with reported_errors(debug=False):
                raise ConfigError(
                    f"--labels {labels} has a space after a comma, where the shell "
                    "begins another argument: leave the space out, or put the names in "
                    f"quotes: --labels '{labels}'."
                )
        return super().parse_args(ctx, args)


class Group(_Plain, TyperGroup):
    """`classify` itself."""

    panel = "Options"


def _place(parameter: Any) -> int:
    panel = parameter.rich_help_panel
    return _PANELS.index(panel) if panel in _PANELS else -1


def _no_type(ctx: Any) -> None:
    """Show no type of an argument."""


def _split_labels(args: list[str]) -> str | None:
    """Return what was to be the value of ``--labels``, if a shell has split it.

    Examples
    --------
    >>> _split_labels(["in.csv", "--labels", "billing,", "shipping", "-o", "out.csv"])
    'billing, shipping'
    >>> _split_labels(["in.csv", "--labels", "billing,shipping"])
    """
    for at, arg in enumerate(args):
        if arg == "--labels":
            parts = args[at + 1 :]
        elif arg.startswith("--labels="):
            parts = [arg.removeprefix("--labels="), *args[at + 1 :]]
        else:
            continue
        n_parts = 1
        while (
            n_parts < len(parts)
            and parts[n_parts - 1].endswith(",")
            and not parts[n_parts].startswith("-")
        ):
            n_parts += 1
        if n_parts > 1:
            return " ".join(parts[:n_parts])
    return None
