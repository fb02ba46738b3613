"""The state of a job, which a kill cannot lose: one SQLite file in its folder.

It holds what the job is, its finished parts, and the scores of texts.
"""

import json
import logging
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from filelock import BaseFileLock

from classify.errors import ConfigError, DataError
from classify.jobs.database import Database
from classify.jobs.job_file import (
    LOCK,
    check_folder,
    delete_file,
    explained,
    locked,
    opened_file,
)
from classify.jobs.manifest import dates, differences, other_versions
from classify.jobs.store import ScoreStore
from classify.wording import parameter

__all__ = ["JobState", "saved_fingerprint"]

_logger = logging.getLogger(__name__)

# SQLite holds no blob of more than 1e9 bytes, and reads one as a whole.
_PIECE_BYTES = 1 << 26
# A kill takes nothing that was written; a loss of power, the last second.
_SECONDS_BETWEEN_SYNCS = 1.0
_MAX_STORE_BYTES = 1 << 30


class JobState:
    """An open job; make it with `open`, and use it as a context.

    Attributes
    ----------
    folder : Path
    part_rows : int
        Rows of a part, as the job was started.
    finished : dict of int to mapping
        The records of the finished parts, by index.
    version_notes : tuple of str
        Which packages had another version in earlier runs of the job.
    scores : ScoreStore
        Of the job's own texts.

    Examples
    --------
    >>> import tempfile
    >>> manifest = {"fingerprint": {}, "versions": {}, "part_rows": 2}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "out.csv.job")
    ...     with JobState.open(path, manifest) as job:
    ...         job.add_part(0, b"rows", b"", {"n_rows": 1})
    ...     with JobState.open(path, manifest) as job:
    ...         print(job.finished, list(job.parts(1)))
    ...         job.remove()
    ...     path.exists()
    {0: {'n_rows': 1}} [b'rows']
    False
    """

    def __init__(
        self,
        folder: Path,
        *,
        lock: BaseFileLock,
        database: Database,
        manifest: Mapping[str, Any],
        version_notes: tuple[str, ...],
    ) -> None:
        self.folder = folder
        self.part_rows: int = manifest["part_rows"]
        self.dates = dates(manifest)
        self.version_notes = version_notes
        self._lock = lock
        self._database = database
        self.scores = ScoreStore(
            database, place=f"the job {str(folder)!r}", max_bytes=_MAX_STORE_BYTES
        )
        self._synced = 0.0
        self.finished = self._intact()

    @classmethod
    def open(
        cls, folder: str | Path, manifest: Mapping[str, Any], *, restart: bool = False
    ) -> "JobState":
        """Begin a job, or resume it.

        Parameters
        ----------
        folder : str or Path
            Made where it is missing; the folder around it must exist.
        manifest : mapping
            What the job is, as JSON has it: ``fingerprint`` and other sections, which
            are mappings, and ``inputs``, a list of mappings with ``path``, ``size`` and
            ``digest``; all of these must be as they were. ``versions``, a mapping of
            str to str, may differ (see `version_notes`), and so may ``part_rows``, of
            which the first stays.
        restart : bool, default=False
            Throw away what is finished, and start over.

        Raises
        ------
        ConfigError
            The job was started with something else; the message names what differs.
        DataError
            The folder cannot be written, holds something else, is damaged, or is in
            use by another process.
        """
        folder = Path(folder)
        with explained(folder), ExitStack() as undo:
            check_folder(folder)
            folder.mkdir(exist_ok=True)
            lock = locked(folder)
            undo.callback(lock.release)
            database = opened_file(folder, restart=restart)
            undo.callback(database.close)
            stored, notes = _begun(database, folder, manifest)
            job = cls(
                folder,
                lock=lock,
                database=database,
                manifest=stored,
                version_notes=notes,
            )
            undo.pop_all()
            return job

    def add_part(
        self,
        index: int,
        data: bytes,
        errors: bytes,
        record: Mapping[str, Any],
        *,
        review: bytes = b"",
    ) -> None:
        """Keep a part; no crash takes it away from then on.

        Parameters
        ----------
        index : int
            Its place among all parts, from 0; parts may come in any order. One that is
            there already is replaced.
        data : bytes
        errors : bytes
            The lines of its bad rows; empty if it has none.
        record : mapping
            Comes back in `finished`, also in a later run; as JSON has it.
        review : bytes, default=b""
            Its rows that may be written for review; see `ReviewRows.add`.

        Raises
        ------
        DataError
            The disk is full, or the file cannot be written. Earlier parts stay.
        """
        contents = {"rows": data, "errors": errors, "review": review}
        pieces = [
            piece
            for kind, content in contents.items()
            for piece in _pieces(index, kind, content)
        ]
        text = json.dumps(record, allow_nan=False)
        with self._database.turn() as connection:
            if is_synced := time.monotonic() - self._synced >= _SECONDS_BETWEEN_SYNCS:
                connection.execute("PRAGMA synchronous = FULL")
            try:
                with self._database.transaction():
                    connection.execute("DELETE FROM pieces WHERE place = ?", (index,))
                    connection.executemany(
                        "INSERT INTO pieces VALUES (?, ?, ?, ?, ?)", pieces
                    )
                    connection.execute(
                        "INSERT OR REPLACE INTO parts VALUES (?, ?, ?)",
                        (index, len(pieces), text),
                    )
            finally:
                connection.execute("PRAGMA synchronous = NORMAL")
            if is_synced:
                self._synced = time.monotonic()
        self.finished[index] = json.loads(text)

    def parts(self, n_parts: int) -> Sequence[bytes]:
        """Return parts 0 to `n_parts` - 1, each read when it is asked for.

        Raises
        ------
        DataError
            One of them is not finished.
        """
        self._check_finished(n_parts)
        return _Parts(self, n_parts)

    def errors(self, n_parts: int) -> Iterator[bytes]:
        """Return the lines of the bad rows of parts 0 to `n_parts` - 1.

        Raises
        ------
        DataError
            One of these parts is not finished.
        """
        self._check_finished(n_parts)
        with self._database.turn() as connection:
            found = connection.execute(
                "SELECT place FROM pieces WHERE kind = 'errors' AND number = 0 "
                "AND place < ? ORDER BY place",
                (n_parts,),
            ).fetchall()
        return (self.content(place, "errors") for (place,) in found)

    def content(self, place: int, kind: str) -> bytes:
        """Return the ``rows``, ``errors`` or ``review`` of a part."""
        with self._database.turn() as connection:
            pieces = connection.execute(
                "SELECT data FROM pieces WHERE place = ? AND kind = ? ORDER BY number",
                (place, kind),
            ).fetchall()
        return b"".join([piece for (piece,) in pieces])

    def remove(self) -> None:
        """Remove the job, and close it.

        The folder stays, with a warning, if something in it is not of the job.

        Raises
        ------
        DataError
            A file cannot be removed.
        """
        with explained(self.folder):
            self._database.close()
            delete_file(self.folder)
            (self.folder / LOCK).unlink(missing_ok=True)
            self._lock.release()
            others = sorted(path.name for path in self.folder.iterdir())
            if not others:
                self.folder.rmdir()
                return
        _logger.warning(
            "The folder %r is kept, since it contains files that do not belong to the "
            "job: %s.",
            str(self.folder),
            ", ".join(map(repr, others)),
        )

    def close(self) -> None:
        """Let another process have the job; what is finished stays."""
        self._database.close()
        self._lock.release()

    def __enter__(self) -> "JobState":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _intact(self) -> dict[int, dict[str, Any]]:
        """Return the records of the parts whose pieces are all there and whole."""
        n_intact: dict[int, int] = {}
        with self._database.turn() as connection:
            for place, checksum, data in connection.execute(
                "SELECT place, checksum, data FROM pieces"
            ):
                if zlib.crc32(data) == checksum:
                    n_intact[place] = n_intact.get(place, 0) + 1
            parts = connection.execute(
                "SELECT place, n_pieces, record FROM parts ORDER BY place"
            ).fetchall()
        damaged = [
            place for place, n_pieces, _ in parts if n_intact.get(place, 0) != n_pieces
        ]
        if damaged:
            _logger.warning(
                "Finished parts of %r are damaged and will be redone: %s.",
                str(self.folder),
                ", ".join(map(str, damaged)),
            )
        return {
            place: json.loads(record)
            for place, _, record in parts
            if place not in damaged
        }

    def _check_finished(self, n_parts: int) -> None:
        missing = [index for index in range(n_parts) if index not in self.finished]
        if missing:
            raise DataError(
                f"Part {missing[0]} of {str(self.folder)!r} is not finished: run the "
                "same command again."
            )


class _Parts(Sequence[bytes]):
    """The rows of parts, read one part at a time."""

    def __init__(self, state: JobState, n_parts: int) -> None:
        self._state, self._n_parts = state, n_parts

    def __len__(self) -> int:
        return self._n_parts

    def __getitem__(self, at: Any) -> Any:
        if not 0 <= at < self._n_parts:
            raise IndexError(at)
        return self._state.content(at, "rows")


def _pieces(index: int, kind: str, data: bytes) -> Iterator[tuple[Any, ...]]:
    for number, start in enumerate(range(0, len(data), _PIECE_BYTES)):
        piece = data[start : start + _PIECE_BYTES]
        yield index, kind, number, zlib.crc32(piece), piece


def saved_fingerprint(folder: Path) -> Mapping[str, str] | None:
    """Return the fingerprint of a started job; None if there is no job.

    Raises
    ------
    DataError
        As `JobState.open` does.
    """
    if not folder.exists():
        return None
    with explained(folder), ExitStack() as stack:
        check_folder(folder)
        stack.callback(locked(folder).release)
        database = stack.enter_context(closing(opened_file(folder, restart=False)))
        with database.transaction() as connection:
            found = connection.execute("SELECT content FROM manifest").fetchone()
    saved: dict[str, str] | None = found and json.loads(found[0])["fingerprint"]
    return saved


def _begun(
    database: Database, folder: Path, manifest: Mapping[str, Any]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the manifest of the job that starts or resumes here, and its notes."""
    versions = dict(manifest["versions"])
    with database.transaction() as connection:
        found = connection.execute("SELECT content FROM manifest").fetchone()
        if found is None:
            begun = {**manifest, "versions": [versions]}
            connection.execute("INSERT INTO manifest VALUES (?)", (_json(begun),))
            return json.loads(_json(begun)), ()
        stored: dict[str, Any] = json.loads(found[0])
        different = differences(stored, manifest)
        if different:
            raise ConfigError(
                f"The job in {str(folder)!r} was started with something else. "
                f"{'; '.join(different)}. Run it as it was started, or start over with "
                f"{parameter('restart', True)}, which discards its finished parts."
            )
        notes = tuple(other_versions(stored["versions"], versions))
        if versions not in stored["versions"]:
            stored["versions"].append(versions)
            connection.execute("UPDATE manifest SET content = ?", (_json(stored),))
        return stored, notes


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, allow_nan=False)
