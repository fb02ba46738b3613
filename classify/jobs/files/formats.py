"""What a file's name says about what is in it."""

import re
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from classify.errors import ConfigError
from classify.jobs.files.compression import Compression

__all__ = ["FileFormat", "FormatName", "checked_format", "format_of"]

FormatName = Literal["csv", "tsv", "jsonl", "parquet"]

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


def format_of(path: str, given: str | None, *, option: str) -> FileFormat:
    """Return the format of a file by its name, or what is given instead.

    Parameters
    ----------
    path : str
    given : str or None
        A `FormatName`.
    option : str
        What `given` is called on the command line.

    Raises
    ------
    ConfigError
        The name says nothing and nothing is given; or Parquet is to be compressed.

    Examples
    --------
    >>> format_of("tickets.tsv.gz", None, option="--input-format")
    FileFormat(name='tsv', compression='gz')
    """
    suffixes = [each.lower() for each in Path(path).suffixes[-2:]]
    compression: Compression = ""
    if suffixes and suffixes[-1] in _COMPRESSED:
        compression = _COMPRESSED[suffixes.pop()]
    name = _BY_SUFFIX.get(suffixes[-1] if suffixes else "")
    if given is not None:
        name = checked_format(given, option=option)
    if name is None:
        *some, last = _BY_SUFFIX
        raise ConfigError(
            f"The name {path!r} does not say how the file is written: give {option} "
            f"csv, tsv, jsonl or parquet, or a name that ends in {', '.join(some)} or "
            f"{last}."
        )
    if name == "parquet" and compression:
        raise ConfigError(
            f"{path!r} cannot be read or written: Parquet is compressed inside its "
            f"file. Take the .{compression} off."
        )
    return FileFormat(name, compression)


def checked_format(given: str, *, option: str) -> FormatName:
    """Return a format's name.

    Raises
    ------
    ConfigError
        There is no such format.

    Examples
    --------
    >>> checked_format("JSONL", option="--input-format")
    'jsonl'
    """
    for name in get_args(FormatName):
        if re.fullmatch(name, given.strip(), re.IGNORECASE):
            known: FormatName = name
            return known
    raise ConfigError(
        f"{option} must be csv, tsv, jsonl or parquet. Got {given!r} instead."
    )
