"""What results are, and what columns a file can hold."""

from collections.abc import Sequence
from typing import Literal

from classify.errors import DataError

__all__ = ["ResultKind", "check_unique_columns"]

ResultKind = Literal["str", "float", "bool", "list", "json_list"]


def check_unique_columns(columns: Sequence[str], name: str, what: str) -> None:
    """Raise DataError if two columns have one name.

    Examples
    --------
    >>> check_unique_columns(["a", "b", "a"], "in.csv", "JSONL")
    Traceback (most recent call last):
     ...
    classify.errors.DataError: in.csv has more than one column 'a', which JSONL
    cannot hold: rename one, or write CSV.
    """
    for at, column in enumerate(columns):
        if column in columns[:at]:
            raise DataError(
                f"{name} has more than one column {column!r}, which {what} cannot "
                "hold: rename one, or write CSV."
            )
