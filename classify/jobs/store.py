"""Scores by key on disk, so that identical texts are scored once.

A cache is a file of SQLite that survives a kill and that several jobs may share. A job
without one keeps its scores in its own file. Values are bytes and nothing else.
"""

# Not diskcache: it unpickles what it finds, and its last release is of 2023.
import logging
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from classify.errors import DataError
from classify.jobs.database import (
    WAIT_SECONDS,
    Database,
    ForeignFileError,
    Problem,
    Schema,
)

__all__ = ["SCORE_TABLES", "ScoreStore", "explaining"]

_logger = logging.getLogger(__name__)

_FILE = "scores.sqlite"
_LOCK = "scores.lock"
SCORE_TABLES = (
    """CREATE TABLE scores (
        id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE,
        checksum INTEGER NOT NULL, value BLOB NOT NULL
    )""",
    # One row, so that the sizes of millions need not be added up.
    "CREATE TABLE size (n_bytes INTEGER NOT NULL)",
    "INSERT INTO size VALUES (0)",
)
# "clas" in ASCII.
_SCHEMA = Schema(0x636C6173, 1, SCORE_TABLES)
_KEYS_A_QUERY = 1_024
# Two copies of the key, two row ids, checksum, lengths, and what pages leave unused.
_ENTRY_BYTES = 64
# Of its bound a store is freed at a time: rarely enough, and not for long.
_FREED_SHARE = 32


class ScoreStore:
    """Bytes by key. Open a cache with `at`, another one with `temporary`; close it.

    A key keeps its first value, whoever else puts one. Calls from several threads take
    turns; several processes may share a folder on a disk of their machine.

    Parameters
    ----------
    database : Database
        With the `SCORE_TABLES`.
    place : str
        What warnings call it.
    max_bytes : int or None
        See `at`.

    Examples
    --------
    >>> with ScoreStore.temporary() as store:
    ...     store.put_many([(b"a", b"first"), (b"b", b"other"), (b"a", b"second")])
    ...     store.get_many([b"a", b"c"])
    {b'a': b'first'}
    """

    def __init__(
        self, database: Database, *, place: str, max_bytes: int | None
    ) -> None:
        self._database = database
        self._place = place
        self._max_bytes = max_bytes
        self._has_warned = False

    @classmethod
    def temporary(cls) -> "ScoreStore":
        """Open a store that no one else sees, and that is gone when it is closed.

        It takes 16 MiB of memory, and a file in the folder of temporary files.
        """
        place = "a temporary file (the environment variable TMPDIR names its folder)"
        database = Database.open("", _SCHEMA, explaining(place), journal="MEMORY")
        return cls(database, place=place, max_bytes=None)

    @classmethod
    def at(cls, folder: str | Path, *, max_bytes: int | None) -> "ScoreStore":
        """Open the store in a folder; both are made where they are missing.

        Parameters
        ----------
        folder : str or Path
        max_bytes : int or None
            Where the values need more than this, those that were put first go: down to
            31/32 of it, so that it does not happen with every put. Each counts as 64
            bytes more than it has, for its key. None: none goes.

        Raises
        ------
        DataError
            The folder cannot be used, or what is in it is damaged, of another program
            or of another version.
        """
        folder = Path(folder)
        place = f"the folder {str(folder)!r}"
        explain = explaining(place)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # SQLite lets two that make a database at once fail instead of wait.
            with FileLock(folder / _LOCK, timeout=WAIT_SECONDS):
                database = Database.open(
                    folder / _FILE, _SCHEMA, explain, journal="WAL"
                )
        except Timeout:
            raise explain(Problem.BUSY, "") from None
        except OSError as error:
            raise DataError(
                f"The score cache cannot be in {place}: {error.strerror}. Name a "
                "folder that you may write to."
            ) from None
        except ForeignFileError as error:
            raise DataError(_foreign(place, error.version)) from None
        store = cls(database, place=place, max_bytes=max_bytes)
        store._shrink()
        return store

    def get_many(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return the values of those keys that have one.

        A value that was damaged on the disk is taken out, with a warning.

        Raises
        ------
        DataError
            The store cannot be read.
        """
        found: list[tuple[bytes, int, bytes]] = []
        with self._database.turn() as connection:
            for start in range(0, len(keys), _KEYS_A_QUERY):
                some = keys[start : start + _KEYS_A_QUERY]
                marks = ",".join("?" * len(some))
                # The question marks are all that is put together here.
                query = (
                    "SELECT key, checksum, value FROM scores "  # noqa: S608
                    f"WHERE key IN ({marks})"
                )
                found += connection.execute(query, some).fetchall()
        whole = {
            key: value
            for key, checksum, value in found
            if zlib.crc32(value) == checksum
        }
        if len(whole) < len(found):
            self._take_out([key for key, _, _ in found if key not in whole])
        return whole

    def put_many(self, items: Iterable[tuple[bytes, bytes]]) -> None:
        """Keep values: all of them or, after an error, none.

        Parameters
        ----------
        items : iterable of (key, value)
            A key that has a value already keeps it.

        Raises
        ------
        DataError
            The store cannot be written; the sentence says why.
        """
        first: dict[bytes, bytes] = {}
        for key, value in items:
            first.setdefault(key, value)
        # In the order of the index, neighbours share its pages.
        records = sorted((key, zlib.crc32(each), each) for key, each in first.items())
        with self._database.transaction() as connection:
            last = self._database.number("SELECT coalesce(max(id), 0) FROM scores")
            connection.executemany(
                "INSERT OR IGNORE INTO scores (key, checksum, value) VALUES (?, ?, ?)",
                records,
            )
            # The last ones were just written, so that this reads nothing from the disk.
            added = self._database.number(
                "SELECT coalesce(sum(length(value) + ?), 0) FROM scores WHERE id > ?",
                (_ENTRY_BYTES, last),
            )
            self._resize(added)
            # Freed pages are used again: the file stays at the greatest size it had.
            self._drop_first()

    def close(self) -> None:
        """Close the database; a temporary one is gone then."""
        self._database.close()

    def __enter__(self) -> "ScoreStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _shrink(self) -> None:
        """Bring the file of an earlier, greater bound down to the present one."""
        with self._database.turn() as connection:
            with self._database.transaction():
                has_dropped = self._drop_first()
            if has_dropped:
                # A statement that yields rows without columns: `execute` would take
                # one, for one page.
                connection.executescript("PRAGMA incremental_vacuum")

    def _drop_first(self) -> bool:
        """Drop what was put first where there is too much; return whether there was."""
        n_bytes = self._database.number("SELECT n_bytes FROM size")
        if self._max_bytes is None or n_bytes <= self._max_bytes:
            return False
        excess = n_bytes - self._max_bytes + self._max_bytes // _FREED_SHARE
        freed, last = 0, 0
        execute = self._database.connection.execute
        for last, n_value_bytes in execute(  # noqa: B007
            "SELECT id, length(value) FROM scores ORDER BY id"
        ):
            freed += n_value_bytes + _ENTRY_BYTES
            if freed >= excess:
                break
        execute("DELETE FROM scores WHERE id <= ?", (last,))
        self._resize(-freed)
        return True

    def _take_out(self, keys: list[bytes]) -> None:
        if not self._has_warned:
            _logger.warning(
                "Some scores in %s are damaged and will be computed again.", self._place
            )
            self._has_warned = True
        with self._database.transaction() as connection:
            for key in keys:
                n_bytes = self._database.number(
                    "SELECT coalesce(sum(length(value) + ?), 0) FROM scores "
                    "WHERE key = ?",
                    (_ENTRY_BYTES, key),
                )
                connection.execute("DELETE FROM scores WHERE key = ?", (key,))
                self._resize(-n_bytes)

    def _resize(self, n_bytes: int) -> None:
        self._database.connection.execute(
            "UPDATE size SET n_bytes = n_bytes + ?", (n_bytes,)
        )


def _foreign(place: str, version: int | None) -> str:
    if version is None:
        return (
            f"The file {_FILE!r} in {place} is a database of another program: name "
            "another folder for the scores, or delete that file if it is not needed."
        )
    return (
        f"The score cache in {place} is of version {version}, and this is "
        f"version {_SCHEMA.version}: name another folder, or delete this one. You "
        "can delete it: the scores will be computed again."
    )


def explaining(place: str) -> Callable[[Problem, str], DataError]:
    """Return the errors of a score cache in a place."""

    def explain(problem: Problem, reason: str) -> DataError:
        if problem is Problem.BUSY:
            return DataError(
                f"The score cache in {place} is in use: another process has kept "
                f"it for more than {WAIT_SECONDS:.0f} seconds. Wait for it, or name "
                "another folder."
            )
        if problem is Problem.DAMAGED:
            return DataError(
                f"The score cache in {place} is damaged ({reason}). You can delete "
                "it: the scores will be computed again."
            )
        if problem is Problem.FULL:
            return DataError(
                f"The disk is full: no more scores fit in {place}. Free some space and "
                "run the same command again."
            )
        return DataError(
            f"The score cache in {place} cannot be read or written: {reason}. Check "
            "whether the disk is full, and whether you have permission to write there; "
            "then run the same command again."
        )

    return explain
