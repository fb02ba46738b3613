"""Options that are checked, and fields that are read back from JSON."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from classify.errors import ConfigError
from classify.parameters import number

__all__ = ["SHARE", "StoredFields", "from_json_number", "read_stored"]

# What a risk or a confidence level may be.
SHARE = number("between 0 and 1, both excluded", lambda value: 0.0 < value < 1.0)


class StoredFields(NamedTuple):
    """The contents of a stored decision.

    Attributes
    ----------
    options : dict of str to object
        Arguments of the constructor.
    learned : dict of str to object
        What was fitted.
    """

    options: dict[str, Any]
    learned: dict[str, Any]


def read_stored(
    stored: Mapping[str, Any],
    what: str,
    *,
    options: Sequence[str],
    learned: Sequence[str],
) -> StoredFields:
    """Take exactly these keys out of a stored decision.

    Raises
    ------
    ConfigError
        Keys are missing, or there are others.

    Examples
    --------
    >>> read_stored({"level": 0.9, "n": 3}, "Sets", options=["level"], learned=["n"])
    StoredFields(options={'level': 0.9}, learned={'n': 3})
    """
    wrong = set(stored) ^ {*options, *learned}
    if wrong:
        raise ConfigError(
            f"This is not a stored {what}: {', '.join(map(repr, sorted(wrong)))} "
            f"missing or unknown. Give what {what}.to_dict() returned."
        )
    return StoredFields(
        {key: stored[key] for key in options}, {key: stored[key] for key in learned}
    )


def from_json_number(value: float | None, *, null: float = math.inf) -> float:
    """Return the number; null stands for one that JSON does not have."""
    return null if value is None else float(value)
