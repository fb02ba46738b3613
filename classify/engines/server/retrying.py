"""Which failures of a server are retried, and for how long."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import numpy as np

from classify.errors import EngineError

__all__ = ["Fault", "Patience", "Trial", "fault_of_status", "seconds_to_wait"]

# Waits double from the first to the longest, in seconds.
_FIRST_WAIT = 0.25
_LONGEST_WAIT = 10.0
# Too many requests; and what proxies and starting servers say.
_AWAY = frozenset({408, 425, 429, 502, 503, 504, 521, 522, 523, 524, 529})

_jitter = np.random.default_rng()


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a request is tried again.

    Attributes
    ----------
    retries : int
        How often, after an answer that broke off, came too late or was an error of
        the server: the same request may be what breaks it.
    seconds : float
        How long, while a server is away or busy: one that is restarted needs
        minutes.
    """

    retries: int = 5
    seconds: float = 300.0


@dataclass(frozen=True, slots=True)
class Fault:
    """A failure that a retry may resolve.

    Attributes
    ----------
    what : str
        In words.
    away : bool
        The server is not there, or busy; else it was there, and failed.
    wait : float
        Seconds that the server asks to be left alone.
    """

    what: str
    away: bool
    wait: float = 0.0


def fault_of_status(status: int, said: str, retry_after: str | None) -> Fault | None:
    """Return the fault that an HTTP status stands for; None if a retry is of no use.

    Examples
    --------
    >>> fault_of_status(429, "slow down", "3").wait, fault_of_status(404, "", None)
    (3.0, None)
    """
    if status not in _AWAY and status < 500:
        return None
    return Fault(
        f"HTTP {status}: {said}", status in _AWAY, seconds_to_wait(retry_after)
    )


def seconds_to_wait(retry_after: str | None) -> float:
    """Return the seconds in a Retry-After header; 0 if there are none.

    Examples
    --------
    >>> seconds_to_wait("1.5"), seconds_to_wait("soon"), seconds_to_wait(None)
    (1.5, 0.0, 0.0)
    """
    if retry_after is None:
        return 0.0
    try:
        seconds = float(retry_after)
    except ValueError:
        seconds = _seconds_until(retry_after)
    return max(0.0, seconds) if np.isfinite(seconds) else 0.0


class Trial:
    """The tries of one request.

    Parameters
    ----------
    patience : Patience
    clock : callable, default=time.monotonic
        Returns the time in seconds.
    """

    def __init__(
        self, patience: Patience, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._patience = patience
        self._clock = clock
        self._n_broken = 0
        self._n_tries = 0
        self._away_since: float | None = None

    def wait(self, fault: Fault) -> float:
        """Return how many seconds to wait before the next try.

        A draw from 0 to a bound that doubles from try to try: requests that failed
        together do not come back together.

        Raises
        ------
        EngineError
            There is no next try; the message says what failed, and how often.
        """
        now = self._clock()
        self._n_tries += 1
        bound = min(_LONGEST_WAIT, _FIRST_WAIT * 2.0 ** min(self._n_tries - 1, 10))
        drawn = max(fault.wait, float(_jitter.uniform(0.0, bound)))
        if not fault.away:
            self._away_since = None
            self._n_broken += 1
            too_long = fault.wait > self._patience.seconds
            if too_long or self._n_broken > self._patience.retries:
                raise self._over(fault)
            return drawn
        if self._away_since is None:
            self._away_since = now
        left = self._away_since + self._patience.seconds - now
        if left <= 0.0 or fault.wait > left:
            raise self._over(fault)
        return min(drawn, left)

    def _over(self, fault: Fault) -> EngineError:
        tries = f" (tried {self._n_tries} times)" if self._n_tries > 1 else ""
        return EngineError(f"{fault.what}{tries}")


def _seconds_until(date: str) -> float:
    try:
        then = parsedate_to_datetime(date)
        if then.tzinfo is None:
            then = then.replace(tzinfo=UTC)
        return (then - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return 0.0
