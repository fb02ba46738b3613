"""The parameters of estimators and prompts: their allowed values, checked in one way.

A dataclass of settings holds each of them once: the field has the default, and its
annotation a `Setting`, with the check and the help text. Parameters of estimators, keys
of task files and options of commands are spellings of these fields.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import fields
from numbers import Integral, Real
from typing import Any, NamedTuple

from classify.cells import shown
from classify.errors import ConfigError, InputError
from classify.wording import parameter

__all__ = [
    "BOOLEAN",
    "TEXT",
    "Allowed",
    "Setting",
    "at_least",
    "check_parameters",
    "check_settings",
    "instance_of",
    "listed",
    "number",
    "one_of",
    "optional",
    "settings_of",
]


class Allowed(NamedTuple):
    """The allowed values of a parameter.

    Attributes
    ----------
    says : str
        Goes on from "must be ".
    holds : callable
        Whether a value is so.
    written : str, default=""
        The same for those who write a file or a command; empty: as in Python.
    values : tuple, default=()
        All that is allowed, where that is a few names or booleans.
    """

    says: str
    holds: Callable[[Any], bool]
    written: str = ""
    values: tuple[str | bool, ...] = ()


class Setting(NamedTuple):
    """The contents of a setting's annotation besides its type.

    Attributes
    ----------
    help : str
        One line on the command line; empty if files and Python alone have it.
    allowed : Allowed
    metavar : str, default="NAME"
        What stands for the value in help.
    default : str, default=""
        How help shows the default, where that is not the value itself.
    common : tuple of str, default=()
        Values that a shell completes, where others are allowed too.
    has_variable : bool, default=False
        Whether an environment variable, ``CLASSIFY_NAME``, can hold it.
    option : str, default=""
        The option, if its name differs from the setting; then its short form.
    panel : str, default=""
        The heading that it stands under in help, where that is not its dataclass's.
    read : callable, default=None
        Makes the value of what a file or a command holds; raises ValueError if it is
        not allowed.
    """

    help: str
    allowed: Allowed
    metavar: str = "NAME"
    default: str = ""
    common: tuple[str, ...] = ()
    has_variable: bool = False
    option: str = ""
    panel: str = ""
    read: Callable[[Any], Any] | None = None


def settings_of(kind: Any) -> dict[str, Setting]:
    """Return the settings of a dataclass by name, in the order of its fields.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> from typing import Annotated
    >>> @dataclass
    ... class Shift:
    ...     method: Annotated[str, Setting("How to shift.", TEXT)] = "auto"
    >>> settings_of(Shift)["method"].help
    'How to shift.'
    """
    return {
        each.name: note
        for each in fields(kind)
        for note in getattr(each.type, "__metadata__", ())
        if isinstance(note, Setting)
    }


def check_settings(
    value: Any, owner: str, kind: type[InputError] = ConfigError
) -> None:
    """Raise an error of this kind for the first setting that is not allowed."""
    settings = settings_of(type(value))
    checked = {
        name: (getattr(value, name), settings[name].allowed) for name in settings
    }
    check_parameters(owner, kind, **checked)


def check_parameters(
    owner: str, kind: type[InputError] = ConfigError, /, **checked: tuple[Any, Allowed]
) -> None:
    """Raise an error of this kind for the first value that is not allowed.

    Parameters
    ----------
    owner : str
        The class that has the parameters.
    kind : type of InputError, default=ConfigError
    **checked : tuple of value and Allowed

    Examples
    --------
    >>> check_parameters("Shift", tol=("x", number("above 0", lambda tol: tol > 0)))
    Traceback (most recent call last):
        ...
    classify.errors.ConfigError: The 'tol' parameter of Shift must be a number, above \
0. Got 'x' instead.
    """
    for name, (value, allowed) in checked.items():
        if not allowed.holds(value):
            spelled = parameter(name)
            subject = f"The {name!r} parameter of {owner}"
            raise kind(
                f"{subject if spelled == name else spelled} must be {allowed.says}. "
                f"Got {shown(value)} instead."
            )


def one_of(*values: str | bool) -> Allowed:
    """Allow these values."""
    return Allowed(
        f"one of {', '.join(map(repr, values))}",
        lambda value: isinstance(value, str | bool) and value in values,
        listed(
            [each if isinstance(each, str) else str(each).lower() for each in values]
        ),
        values,
    )


def listed(values: Sequence[str]) -> str:
    """Return values as a sentence lists them.

    Examples
    --------
    >>> listed(("csv", "tsv", "jsonl"))
    'csv, tsv or jsonl'
    """
    *some, last = values
    return f"{', '.join(some)} or {last}" if some else last


def instance_of(says: str, *types: type, written: str = "") -> Allowed:
    """Allow instances of these types."""
    return Allowed(says, lambda value: isinstance(value, types), written)


def number(
    bounds: str, within: Callable[[Any], bool], *, whole: bool = False
) -> Allowed:
    """Allow finite numbers within bounds; a boolean is none."""
    kind = Integral if whole else Real
    return Allowed(
        f"a {'whole ' * whole}number, {bounds}",
        lambda value: (
            isinstance(value, kind)
            and not isinstance(value, bool)
            and math.isfinite(value)
            and within(value)
        ),
        f"a {'whole ' * whole}number {bounds}",
    )


def at_least(low: float, *, whole: bool = False) -> Allowed:
    """Allow finite numbers from a bound on.

    Examples
    --------
    >>> at_least(1, whole=True).says
    'a whole number, at least 1'
    >>> at_least(0).written
    'a number of at least 0'
    """
    bounded = number(f"at least {low:g}", lambda value: value >= low, whole=whole)
    return bounded._replace(written=f"a {'whole ' * whole}number of at least {low:g}")


def optional(allowed: Allowed, *, written: str = "") -> Allowed:
    """Allow None too."""
    return Allowed(
        f"{allowed.says}, or None",
        lambda value: value is None or allowed.holds(value),
        written or f"{allowed.written or allowed.says} or null",
    )


TEXT = instance_of("a string", str)
BOOLEAN = Allowed(
    "a boolean",
    lambda value: isinstance(value, bool),
    "true or false",
    (True, False),
)
