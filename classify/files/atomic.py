"""Atomic file writes: a file is complete or absent, even after a power cut."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

__all__ = ["atomic_file"]


@contextmanager
def atomic_file(
    path: str | os.PathLike[str], *, is_synced: bool = True
) -> Iterator[BinaryIO]:
    """Give a file to write to, which takes the place of `path` when all went well.

    It has another name in the same folder, ``.NAME.PID.part``, until it is on the disk;
    after an exception it is removed, and what was at `path` stays. A link is followed
    to its target. What is no plain file (/dev/null, a named pipe) is written in place.

    Parameters
    ----------
    path : str or Path
        Written by one thread of a process at a time.
    is_synced : bool, default=True
        Wait until it is on the disk. Without, a loss of power, though no crash, can
        leave a damaged file, which the caller must notice.

    Yields
    ------
    BinaryIO

    Raises
    ------
    OSError
        From opening, writing, or bringing it to the disk.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "part.csv")
    ...     with atomic_file(path) as file:
    ...         print(file.write(b"text"), path.exists())
    ...     path.read_bytes()
    4 False
    b'text'
    """
    target = Path(path).resolve()
    if target.exists() and not target.is_file():
        with target.open("wb") as file:
            yield file
        return
    partial = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with partial.open("wb") as file:
            yield file
            if is_synced:
                file.flush()
                os.fsync(file.fileno())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    if is_synced:
        _bring_to_disk(target.parent)


def _bring_to_disk(folder: Path) -> None:
    """Make a rename in a folder last."""
    # Windows opens no folders, and makes a rename durable anyway.
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
