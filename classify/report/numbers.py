"""Numbers as a report writes them."""

import math

from classify.report.measures import Measure

__all__ = [
    "decimals",
    "percent",
    "percent_with_interval",
    "plural",
]

_UNDEFINED = "not defined"
# A number and its unit stay in one line.
_PERCENT = "\N{NO-BREAK SPACE}%"


def decimals(value: float | None) -> str:
    """Return three decimals; "not defined" for None.

    Examples
    --------
    >>> decimals(0.12345), decimals(math.inf), decimals(None)
    ('0.123', '∞', 'not defined')
    """
    if value is None:
        return _UNDEFINED
    return "∞" if math.isinf(value) else f"{value:.3f}"


def percent(share: float | None) -> str:
    """Return a share in per cent, so that only 0 and 1 are written as 0 and 100.

    Examples
    --------
    >>> [percent(p).split() for p in (0.8371, 1.0, 0.9999)]
    [['83.7', '%'], ['100', '%'], ['>', '99.9', '%']]
    """
    if share is None:
        return _UNDEFINED
    if share in (0.0, 1.0):
        written = f"{100 * share:.0f}"
    elif share < 0.0005:
        written = "<\N{NO-BREAK SPACE}0.1"
    elif share > 0.9995:
        written = ">\N{NO-BREAK SPACE}99.9"
    else:
        written = f"{100 * share:.1f}"
    return written + _PERCENT


def percent_with_interval(measure: Measure) -> str:
    r"""Return a share in per cent, with its interval.

    Examples
    --------
    >>> percent_with_interval(Measure(0.5, 0.25, 0.75)).replace("\xa0", " ")
    '50.0 % (25.0–75.0 %)'
    """
    value = percent(measure.value)
    if measure.low is None or measure.high is None:
        return value
    return f"{value} ({100 * measure.low:.1f}–{100 * measure.high:.1f}{_PERCENT})"


def plural(count: int, noun: str) -> str:
    """Return a count with its noun.

    Examples
    --------
    >>> plural(1, "text"), plural(2000, "text")
    ('1 text', '2,000 texts')
    """
    return f"{count:,} {noun}{'s' * (count != 1)}"
