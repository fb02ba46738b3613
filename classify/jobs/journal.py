"""The journal of a job: a line for each finished part."""

import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from classify.atomic import atomic_file
from classify.errors import DataError
from classify.wording import parameter

__all__ = ["Content", "Entry", "Journal"]

# A crash takes nothing that was written; a loss of power, what was not yet on the disk.
_SECONDS_BETWEEN_SYNCS = 1.0


@dataclass(frozen=True)
class Content:
    """What a file must hold.

    Attributes
    ----------
    n_bytes : int
    crc32 : int
    """

    n_bytes: int
    crc32: int


@dataclass(frozen=True)
class Entry:
    """A finished part.

    Attributes
    ----------
    index : int
        Its place among all parts, from 0.
    part : Content
        Of the file of its rows.
    errors : Content or None
        Of the file of its bad rows. None: it has none.
    record : mapping
        What the job wants to know again of it, as JSON has it.
    """

    index: int
    part: Content
    errors: Content | None
    record: Mapping[str, Any]

    def to_line(self) -> bytes:
        """Return the entry as a line of JSON."""
        return json.dumps(asdict(self), allow_nan=False).encode() + b"\n"

    @classmethod
    def of_line(cls, line: bytes) -> "Entry":
        """Return what `to_line` made a line of; raise ValueError for any other."""
        try:
            entry = cls(**json.loads(line))
            part = _content(entry.part)
            errors = None if entry.errors is None else _content(entry.errors)
        except TypeError as error:
            raise ValueError(str(error)) from None
        if type(entry.index) is not int or not isinstance(entry.record, dict):
            raise ValueError("index must be a number, and record a mapping")
        return cls(entry.index, part, errors, entry.record)


class Journal:
    """An open journal, that lines are added to.

    A line that was cut off by a kill is taken away when the journal is opened.

    Parameters
    ----------
    path : Path
        Made where it is missing.

    Attributes
    ----------
    entries : dict of int to Entry
        As found; where a part occurs twice, the later line counts.

    Raises
    ------
    DataError
        A line is damaged.
    OSError

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "journal.jsonl")
    ...     journal = Journal(path)
    ...     journal.append(Entry(3, Content(0, 0), None, {"n_rows": 5}))
    ...     journal.close()
    ...     again = Journal(path)
    ...     again.close()
    >>> again.entries[3].record
    {'n_rows': 5}
    """

    def __init__(self, path: Path) -> None:
        if not path.exists():
            with atomic_file(path):
                pass
        # No buffer: what a failed write left in one would come back with the next.
        self._file = path.open("r+b", buffering=0)
        self._synced = 0.0
        try:
            # What follows the last line end is empty, unless a kill cut it off.
            *lines, torn = self._file.readall().split(b"\n")
            self.entries = _entries(lines, path)
            self._n_bytes = sum(len(line) + 1 for line in lines)
            if torn:
                self._file.truncate(self._n_bytes)
            self._file.seek(self._n_bytes)
        except BaseException:
            self._file.close()
            raise

    def append(self, entry: Entry) -> None:
        """Add a line; no crash takes it away, nor a loss of power a second later.

        Raises
        ------
        OSError
            The line is not in the journal then.
        """
        rest = memoryview(entry.to_line())
        n_bytes = len(rest)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
            if time.monotonic() - self._synced >= _SECONDS_BETWEEN_SYNCS:
                os.fsync(self._file.fileno())
                self._synced = time.monotonic()
        except BaseException:
            # The next line must not be the end of this one.
            with suppress(OSError):
                self._file.truncate(self._n_bytes)
                self._file.seek(self._n_bytes)
            raise
        self._n_bytes += n_bytes

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _entries(lines: list[bytes], path: Path) -> dict[int, Entry]:
    entries = {}
    for number, line in enumerate(lines, start=1):
        try:
            entry = Entry.of_line(line)
        except ValueError:
            raise DataError(
                f"Line {number:,} of the journal {str(path)!r} is damaged: start "
                f"the job over with {parameter('restart', True)}."
            ) from None
        entries[entry.index] = entry
    return entries


def _content(fields: Any) -> Content:
    content = Content(**fields)
    if type(content.n_bytes) is not int or type(content.crc32) is not int:
        raise ValueError("sizes and checksums must be numbers")
    return content
