"""Several files as one table."""

from collections.abc import Sequence
from itertools import zip_longest

from classify.errors import DataError
from classify.tables.sources import Source

__all__ = ["check_same_columns", "name_of_all"]


def name_of_all(sources: Sequence[Source]) -> str:
    """Return what messages call these sources together."""
    if len(sources) == 1:
        return sources[0].name
    first, last = sources[0].name, sources[-1].name
    return f"the table of {len(sources):,} files ({first} to {last})"


def check_same_columns(named: Sequence[tuple[str, tuple[str, ...]]]) -> None:
    """Raise DataError unless all files have the columns of the first, in its order.

    Examples
    --------
    >>> check_same_columns([("'a.csv'", ("id", "text")), ("'b.csv'", ("id",))])
    Traceback (most recent call last):
     ...
    classify.errors.DataError: 'b.csv' has other columns than 'a.csv': column 2 is
    missing, not 'text'. All files must have the same columns in the same order.
    """
    first, columns = named[0]
    for name, others in named[1:]:
        if others == columns:
            continue
        pairs = enumerate(zip_longest(others, columns), start=1)
        at, (own, wanted) = next(pair for pair in pairs if pair[1][0] != pair[1][1])
        raise DataError(
            f"{name} has other columns than {first}: column {at} is {_named(own)}, not "
            f"{_named(wanted)}. All files must have the same columns in the same order."
        )


def _named(column: str | None) -> str:
    return "missing" if column is None else repr(column)
