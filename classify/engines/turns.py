"""Turns for something that only one thread may use at a time, and a cache.

A `threading.Lock` would do neither: whoever releases it and asks for it again straight
away mostly gets it, so that a long job starves the others; and an interrupt that comes
just after its `acquire`, or a fork while another thread holds it, leaves it taken for
ever.
"""

import os
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from queue import Empty, SimpleQueue
from threading import get_ident
from typing import Generic, TypeVar

__all__ = ["LOADING", "Shelf", "Turns"]

Result = TypeVar("Result")
Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

# Seconds after which a thread looks for itself whether it is next. It is told; but the
# one who tells may be interrupted just then.
_LOOK_AGAIN = 0.1

_Place = tuple[int, SimpleQueue[None]]


class Turns:
    """First come, first served; a thread that has the turn may take it again.

    The line itself says whose turn it is: its first. A forked child begins with an
    empty one, since the threads that stood in its parent's do not exist there.

    Examples
    --------
    >>> Turns().run(lambda: 2 + 2)
    4
    """

    def __init__(self) -> None:
        self._lines: dict[int, deque[_Place]] = {}

    def __reduce__(self) -> tuple[type["Turns"], tuple[()]]:
        return Turns, ()

    @property
    def taken(self) -> bool:
        """Whether some thread has the turn now."""
        return bool(self._line())

    def run(self, work: Callable[[], Result]) -> Result:
        """Wait for the turn, work, and pass the turn on, whatever happens."""
        line = self._line()
        if _is_first(line):
            return work()
        place: _Place = (get_ident(), SimpleQueue())
        try:
            line.append(place)
            while line[0] is not place:
                try:
                    place[1].get(timeout=_LOOK_AGAIN)
                except Empty:
                    continue
            return work()
        finally:
            # CPython lets an interrupt in after a call at the earliest: the first is
            # the one that gives the place up. `suppress` would be a call before it.
            try:  # noqa: SIM105
                line.remove(place)
            except ValueError:
                pass  # interrupted before it was taken
            try:  # noqa: SIM105
                line[0][1].put(None)
            except IndexError:
                pass  # no one waits

    def _line(self) -> deque[_Place]:
        return self._lines.setdefault(os.getpid(), deque())


# Models and tokenizers: transformers changes settings of the whole process, such as
# torch's default type, while it loads.
LOADING = Turns()


def _is_first(line: deque[_Place]) -> bool:
    try:
        return line[0][0] == get_ident()
    except IndexError:
        return False


class Shelf(Generic[Key, Value]):
    """The last few of what is costly to make; each made once, whoever asks meanwhile.

    Parameters
    ----------
    most : int
        How many are kept; the one that was not asked for longest goes first.
    making : Turns, optional
        Things that must not be made at the same time as those of another shelf share
        it.

    Examples
    --------
    >>> shelf = Shelf(most=2)
    >>> shelf.get("a", lambda: "made"), shelf.get("a", lambda: "made again")
    ('made', 'made')
    """

    def __init__(self, most: int, *, making: Turns | None = None) -> None:
        self._most = most
        self._making = Turns() if making is None else making
        self._looking = Turns()
        self._kept: OrderedDict[Key, Value] = OrderedDict()

    def get(
        self,
        key: Key,
        make: Callable[[], Value],
        *,
        good: Callable[[Value], bool] = lambda _: True,
    ) -> Value:
        """Return the cached value of a key if it is still valid; else make it."""

        def find() -> Value | None:
            kept = self._kept.get(key)
            if kept is None or not good(kept):
                return None
            self._kept.move_to_end(key)
            return kept

        def add(value: Value) -> Value:
            self._kept[key] = value
            self._kept.move_to_end(key)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
            return value

        def find_or_make() -> Value:
            kept = self._looking.run(find)
            if kept is not None:
                return kept
            value = make()
            return self._looking.run(lambda: add(value))

        kept = self._looking.run(find)
        return self._making.run(find_or_make) if kept is None else kept

    def drop(self, which: Callable[[Key], bool] = lambda _: True) -> None:
        """Forget what is kept under some keys; under all of them by default."""

        def forget() -> None:
            for key in [key for key in self._kept if which(key)]:
                del self._kept[key]

        self._looking.run(forget)
