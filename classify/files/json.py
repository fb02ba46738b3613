"""Fitted objects as JSON files, and JSON objects whose keys are unique."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from classify.errors import DataError
from classify.files.atomic import atomic_file

__all__ = ["read_json", "unique_keys", "write_json"]


def unique_keys(
    pairs: Sequence[tuple[str, Any]], refused: Callable[[str], Exception]
) -> dict[str, Any]:
    """Return a JSON object; as an `object_pairs_hook`, once `refused` is given.

    Python would keep the last value of a key that an object has twice, and drop the
    others without a word.

    Parameters
    ----------
    pairs : sequence of (str, object)
    refused : callable
        Makes the error to raise, of such a key.

    Examples
    --------
    >>> unique_keys([("a", 1), ("b", 2)], KeyError)
    {'a': 1, 'b': 2}
    """
    made = dict(pairs)
    if len(made) < len(pairs):
        keys = [key for key, _ in pairs]
        raise refused(next(key for key in keys if keys.count(key) > 1))
    return made


def write_json(
    path: str | os.PathLike[str],
    content: Mapping[str, Any],
    *,
    what: str = "The calibration",
) -> None:
    """Write JSON; the file appears complete or not at all.

    Parameters
    ----------
    path : str or Path
        Replaced if it exists; a link is followed.
    content : mapping
    what : str, default="The calibration"
        Begins the sentence of an error.

    Raises
    ------
    DataError
        The file cannot be written.
    """
    text = json.dumps(content, ensure_ascii=False, indent=2, allow_nan=False)
    try:
        with atomic_file(path) as file:
            file.write(text.encode() + b"\n")
    except OSError as error:
        raise DataError(
            f"{what} {os.fspath(path)!r} cannot be written: {error.strerror}. "
            "Name a file in a folder that exists."
        ) from None


def read_json(
    path: str | os.PathLike[str], *, writer: str, kind: str = "calibration"
) -> Any:
    """Read JSON, whatever it holds.

    Parameters
    ----------
    path : str or Path
    writer : str
        What writes such files, for the sentence of an error.
    kind : str, default="calibration"
        What such a file holds, for the sentence of an error.

    Raises
    ------
    DataError
        The file cannot be read, or is not JSON.
    """
    shown = os.fspath(path)
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(
            f"The {kind} {shown!r} cannot be read: {error.strerror}. Give a file "
            f"that {writer} wrote."
        ) from None
    except ValueError as error:
        raise DataError(
            f"{shown!r} is no {kind}: it is not JSON ({error}). Give a file that "
            f"{writer} wrote."
        ) from None
