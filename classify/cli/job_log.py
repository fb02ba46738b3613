"""The progress of a job as JSON lines, for other programs."""

import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from classify.errors import DataError
from classify.jobs import JobWatcher, Outcome, Summary

__all__ = ["JobLog", "Watchers"]

# How often the state of a job is written at most.
_PAUSE_SECONDS = 1.0


class Watchers(JobWatcher):
    """Forwards progress to each of several watchers."""

    def __init__(self, watchers: Sequence[JobWatcher]) -> None:
        self._watchers = watchers

    def begins(self, n_rows: int | None, n_done: int) -> None:
        """Hand it on."""
        for each in self._watchers:
            each.begins(n_rows, n_done)

    def progressed(self, n_rows: int, n_tokens: int) -> None:
        """Hand it on."""
        for each in self._watchers:
            each.progressed(n_rows, n_tokens)

    def reading(self, n_texts: int) -> None:
        """Hand it on."""
        for each in self._watchers:
            each.reading(n_texts)

    def stopping(self, n_texts: int) -> None:
        """Hand it on."""
        for each in self._watchers:
            each.stopping(n_texts)

    def finished(self, summary: Summary) -> None:
        """Hand it on."""
        for each in self._watchers:
            each.finished(summary)


class JobLog(JobWatcher):
    """Appends a JSON object a line to a file: ``begin``, ``progress``, ``end``.

    Each has ``time`` (ISO 8601, UTC), ``event``, ``seconds`` since the beginning,
    ``rows`` finished by this run and earlier ones, and ``tokens`` read by this one;
    ``progress`` and ``end`` have the counts of `classify.jobs.Summary`.

    Parameters
    ----------
    path : Path

    Raises
    ------
    DataError
        The file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._file: IO[str] = path.open("a", encoding="utf-8")
        except OSError as error:
            raise DataError(
                f"The log {str(path)!r} cannot be written: {error.strerror}."
            ) from None
        self._started = self._last = time.monotonic()
        self._n_rows = self._n_tokens = 0

    def __enter__(self) -> "JobLog":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self._write("error", {"error": kind.__name__ if kind else ""})
        self._file.close()

    def begins(self, n_rows: int | None, n_done: int) -> None:
        """Write ``begin``, with the number of rows of the whole job in ``of``."""
        self._n_rows = n_done
        self._write("begin", {"of": n_rows})

    def progressed(self, n_rows: int, n_tokens: int) -> None:
        """Count."""
        self._n_rows += n_rows
        self._n_tokens += n_tokens

    def finished(self, summary: Summary) -> None:
        """Write ``progress``, at most once a second."""
        now = time.monotonic()
        if now - self._last >= _PAUSE_SECONDS:
            self._last = now
            self._write("progress", summary.as_json())

    def ends(self, outcome: Outcome) -> None:
        """Write ``end``."""
        complete = {"complete": outcome.is_complete, "resumed": outcome.n_resumed}
        self._write("end", complete | outcome.summary.as_json())

    def _write(self, event: str, content: dict[str, Any]) -> None:
        line = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "event": event,
            "seconds": round(time.monotonic() - self._started, 3),
            "rows": self._n_rows,
            "tokens": self._n_tokens,
            **content,
        }
        self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
        self._file.flush()
