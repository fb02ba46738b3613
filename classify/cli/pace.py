"""How fast something goes and when it will be done, from what is done by when."""

from collections import deque
from typing import NamedTuple

__all__ = ["Pace"]

# Speeds are those of the last so many seconds.
_SPEED_SECONDS = 30.0
# Evidence for an estimate: so much time since the first result, or less time and a
# share of what is to be done.
_MIN_SECONDS = 3.0
_MIN_SECONDS_WITH_SHARE = 1.0
_MIN_SHARE = 0.1


class _Reached(NamedTuple):
    time: float
    done: float
    tokens: int


class Pace:
    """The speed of a job, measured from its first result on.

    What comes before the first result (a model that starts, a first batch) says little
    about the rest, and would make the rest look slow.

    Parameters
    ----------
    total : float or None
        What is to be done, as far as known.
    done : float, default=0
        What was done before.

    Examples
    --------
    >>> pace = Pace(100)
    >>> for second in range(60, 66):  # after a minute of loading
    ...     pace.reached(10.0 * (second - 59), 0, now=second)
    >>> pace.speed, pace.seconds_left(now=65)
    (10.0, 4.0)
    """

    def __init__(self, total: float | None, done: float = 0) -> None:
        self._total = total
        self._before = done
        self._recent: deque[_Reached] = deque()
        self._first: _Reached | None = None
        self._longest_gap = 0.0

    def reached(self, done: float, tokens: int, *, now: float) -> None:
        """Note what is done by now, and how many tokens were read for it."""
        if done <= (self._recent[-1].done if self._recent else self._before):
            return
        reached = _Reached(now, done, tokens)
        if self._first is None:
            self._first = reached
        elif now > self._recent[-1].time:
            self._longest_gap = max(self._longest_gap, now - self._recent[-1].time)
        self._recent.append(reached)
        while len(self._recent) > 2 and now - self._recent[0].time > _SPEED_SECONDS:
            self._recent.popleft()

    @property
    def speed(self) -> float | None:
        """What is done a second; None as long as too little is known."""
        seconds, since, last = self._measured()
        return (last.done - since.done) / seconds if seconds else None

    @property
    def token_speed(self) -> float | None:
        """Tokens a second; None as long as too little is known, or without any."""
        seconds, since, last = self._measured()
        read = last.tokens - since.tokens
        return read / seconds if seconds and read else None

    def seconds_left(self, *, now: float) -> float | None:
        """Return how long the rest will take; None without evidence."""
        speed = self.speed
        if self._total is None or not speed or not self._is_evident(now):
            return None
        last = self._recent[-1]
        return max((self._total - last.done) / speed - (now - last.time), 0.0)

    def _is_evident(self, now: float) -> bool:
        assert self._first is not None, "there is a speed"
        last = self._recent[-1]
        # A server that is away, a batch that takes far longer than those before.
        if now - last.time > max(3 * self._longest_gap, _MIN_SECONDS):
            return False
        seconds = last.time - self._first.time
        share = (last.done - self._first.done) / (self._total or 1)
        return seconds >= _MIN_SECONDS or (
            seconds >= _MIN_SECONDS_WITH_SHARE and share >= _MIN_SHARE
        )

    def _measured(self) -> tuple[float, _Reached, _Reached]:
        """Return seconds, and the first and the last result in them; 0 for none."""
        if not self._recent:
            nothing = _Reached(0.0, 0.0, 0)
            return 0.0, nothing, nothing
        since, last = self._recent[0], self._recent[-1]
        seconds = last.time - since.time
        return (seconds if seconds >= _MIN_SECONDS_WITH_SHARE else 0.0), since, last
