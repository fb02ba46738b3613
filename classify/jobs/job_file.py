"""The file of a job: created, recognized, opened by one process only, deleted."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from classify.errors import DataError
from classify.jobs.database import Database, ForeignFileError, Problem, Schema
from classify.jobs.store import SCORE_TABLES
from classify.wording import parameter

__all__ = [
    "LOCK",
    "check_folder",
    "delete_file",
    "explained",
    "locked",
    "opened_file",
]

_FILE = "job.sqlite"
LOCK = "lock"
# With the files that SQLite keeps next to an open database, or after a kill.
_OURS = (_FILE, f"{_FILE}-wal", f"{_FILE}-shm", f"{_FILE}-journal")
_SCHEMA = Schema(
    0x636C6A62,  # "cljb" in ASCII
    1,
    (
        *SCORE_TABLES,
        "CREATE TABLE manifest (content TEXT NOT NULL)",
        """CREATE TABLE parts (
            place INTEGER PRIMARY KEY, n_pieces INTEGER NOT NULL, record TEXT NOT NULL
        )""",
        """CREATE TABLE pieces (
            place INTEGER NOT NULL, kind TEXT NOT NULL, number INTEGER NOT NULL,
            checksum INTEGER NOT NULL, data BLOB NOT NULL,
            UNIQUE (place, kind, number)
        )""",
    ),
)


class _DamagedError(DataError):
    """The file is damaged: it may be deleted, if it is ours."""


def check_folder(folder: Path) -> None:
    """Raise DataError if there is something that is not the folder of a job."""
    if folder.is_dir():
        names = {path.name for path in folder.iterdir()}
        # A job killed while it began has no file yet.
        if _FILE in names or names <= {LOCK}:
            return
    elif not folder.exists():
        return
    raise DataError(
        f"{str(folder)!r} is needed for the job, but is something else: move it away, "
        "delete it, or give the output another name."
    )


def locked(folder: Path) -> BaseFileLock:
    """Take the lock of a job; raise DataError if another process has it."""
    # Parts may be finished, and the job closed, by different threads.
    lock = FileLock(folder / LOCK, thread_local=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise DataError(
            f"Another process is working on {str(folder)!r}: wait for it, or stop it."
        ) from None
    return lock


def opened_file(folder: Path, *, restart: bool) -> Database:
    """Open the file of a job, a new one to start over."""
    file = folder / _FILE
    explain = _explaining(folder)

    def opened() -> Database:
        return Database.open(file, _SCHEMA, explain, journal="WAL")

    try:
        # Opened in either case: only our own file may be deleted.
        database = opened()
    except ForeignFileError as error:
        if error.version is None:
            raise _not_a_job(file) from None
        if not restart:
            raise DataError(
                f"The job in {str(folder)!r} was started by another version of "
                "classify: continue with that version, or start over with "
                f"{parameter('restart', True)}."
            ) from None
    except _DamagedError:
        if not _is_ours(file):
            raise _not_a_job(file) from None
        if not restart:
            raise
    else:
        if not restart:
            return database
        database.close()
    delete_file(folder)
    return opened()


def _is_ours(file: Path) -> bool:
    """Return whether the head of a file is that of a job, whatever follows."""
    with file.open("rb") as opened:
        head = opened.read(72)
    id_bytes = _SCHEMA.application_id.to_bytes(4, "big")
    return head.startswith(b"SQLite format 3\0") and head[68:] == id_bytes


def _not_a_job(file: Path) -> DataError:
    return DataError(
        f"{str(file)!r} is not the file of a job: move the folder that it is in away, "
        "or delete it if it is not needed."
    )


def delete_file(folder: Path) -> None:
    """Delete the file, and what SQLite keeps with it."""
    # The file last: without it, the rest would not be taken for a job.
    for name in reversed(_OURS):
        (folder / name).unlink(missing_ok=True)


def _explaining(folder: Path) -> Callable[[Problem, str], DataError]:
    def explain(problem: Problem, reason: str) -> DataError:
        if problem is Problem.FULL:
            return DataError(
                f"The disk is full. Finished rows are kept in {str(folder)!r}: free "
                "some space and run the same command again."
            )
        if problem is Problem.DAMAGED:
            return _DamagedError(
                f"The file of the job in {str(folder)!r} is damaged ({reason}): start "
                f"over with {parameter('restart', True)}."
            )
        return _unusable(folder, reason)

    return explain


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Raise DataError where the disk refuses."""
    try:
        yield
    except OSError as error:
        raise _unusable(folder, error.strerror or str(error)) from None


def _unusable(folder: Path, reason: str) -> DataError:
    return DataError(
        f"The job directory {str(folder)!r} cannot be used: {reason}. Finished rows "
        "are kept in it: fix that and run the same command again."
    )
