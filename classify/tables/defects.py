"""Pieces of a text file that are no rows."""

from typing import NamedTuple

from classify.tables.sources import shown_bytes

__all__ = ["Defect", "defect"]

_MOST_SHOWN = 10_000


class Defect(NamedTuple):
    """Why a piece of a file is no row: `classify.tables.Unreadable` says more."""

    place: str
    reason: str
    raw: str


def defect(place: str, reason: str, text: str) -> Defect:
    r"""Return what is wrong with a piece of decoded text.

    Examples
    --------
    >>> print(defect("line 2 of 'a.csv'", "it has 1 field", "caf\udce9\r\n").raw)
    caf\xe9
    """
    raw = text[: _MOST_SHOWN + 2]
    if len(raw) == len(text):
        raw = raw.removesuffix("\n").removesuffix("\r")
    raw = shown_bytes(raw)
    if len(raw) > _MOST_SHOWN:
        raw = raw[:_MOST_SHOWN] + "…"
    return Defect(place, reason, raw)
