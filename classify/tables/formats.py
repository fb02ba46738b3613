"""File formats: their extensions, and what they can store."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from classify.errors import ConfigError, DataError
from classify.tables.compression import Compression
from classify.wording import parameter

__all__ = [
    "FileFormat",
    "FormatName",
    "ResultKind",
    "check_unique_columns",
    "checked_format",
    "format_of",
]

FormatName = Literal["csv", "tsv", "jsonl", "parquet"]
# Of the columns with results.
ResultKind = Literal["str", "float", "bool", "list", "json_list"]

_BY_SUFFIX: dict[str, FormatName] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_COMPRESSED: dict[str, Compression] = {".gz": "gz", ".zst": "zst"}


class FileFormat(NamedTuple):
    """How a file is written.

    Attributes
    ----------
    name : {"csv", "tsv", "jsonl", "parquet"}
    compression : {"", "gz", "zst"}
    """

    name: FormatName
    compression: Compression


def format_of(path: str, given: str | None, *, name: str) -> FileFormat:
    """Return the format of a file by its name, or what is given instead.

    Parameters
    ----------
    path : str
    given : str or None
        A `FormatName`.
    name : str
        Of the parameter that `given` is a value of.

    Raises
    ------
    ConfigError
        The name says nothing and nothing is given; or Parquet is to be compressed.

    Examples
    --------
    >>> format_of("tickets.tsv.gz", None, name="input_format")
    FileFormat(name='tsv', compression='gz')
    """
    suffixes = [each.lower() for each in Path(path).suffixes[-2:]]
    compression: Compression = ""
    if suffixes and suffixes[-1] in _COMPRESSED:
        compression = _COMPRESSED[suffixes.pop()]
    kind = _BY_SUFFIX.get(suffixes[-1] if suffixes else "")
    if given is not None:
        kind = checked_format(given, name=name)
    if kind is None:
        *some, last = _BY_SUFFIX
        raise ConfigError(
            f"The name {path!r} does not show the format of the file: give "
            f"{parameter(name)}, which is csv, tsv, jsonl or parquet, or a name that "
            f"ends in {', '.join(some)} or {last}."
        )
    if kind == "parquet" and compression:
        raise ConfigError(
            f"{path!r} cannot be read or written: Parquet is compressed inside its "
            f"file. Remove the .{compression}."
        )
    return FileFormat(kind, compression)


def checked_format(given: str, *, name: str) -> FormatName:
    """Return a format's name.

    Raises
    ------
    ConfigError
        There is no such format.

    Examples
    --------
    >>> checked_format("JSONL", name="input_format")
    'jsonl'
    """
    for kind in get_args(FormatName):
        if re.fullmatch(kind, given.strip(), re.IGNORECASE):
            known: FormatName = kind
            return known
    raise ConfigError(
        f"{parameter(name)} must be csv, tsv, jsonl or parquet. Got {given!r} instead."
    )


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
