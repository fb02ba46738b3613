"""The parameters of estimators and recipes: what they may be, checked in one way."""

import math
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, NamedTuple

from classify.cells import shown
from classify.errors import ConfigError, InputError
from classify.wording import parameter

__all__ = ["Allowed", "check_parameters", "instance_of", "number", "one_of", "optional"]


class Allowed(NamedTuple):
    """What a parameter may be.

    Attributes
    ----------
    says : str
        Goes on from "must be ".
    holds : callable
        Whether a value is so.
    """

    says: str
    holds: Callable[[Any], bool]


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
    )


def instance_of(says: str, *types: type) -> Allowed:
    """Allow instances of these types."""
    return Allowed(says, lambda value: isinstance(value, types))


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
    )


def optional(allowed: Allowed) -> Allowed:
    """Allow None too."""
    return Allowed(
        f"{allowed.says}, or None",
        lambda value: value is None or allowed.holds(value),
    )
