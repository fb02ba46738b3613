"""Scores by key on disk, so that identical texts are scored once.

A database of SQLite: one file that survives a kill, that several jobs may share, and
in which values are bytes and nothing else.
"""

# Not diskcache: it unpickles what it finds, and its last release is of 2023.
import logging
import sqlite3
import threading
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

from classify.errors import DataError

__all__ = ["ScoreStore"]

_logger = logging.getLogger(__name__)

_FILE = "scores.sqlite"
_LOCK = "scores.lock"
# "clas" in ASCII: what tells our databases from those of other programs.
_APPLICATION_ID = 0x636C6173
_SCHEMA_VERSION = 1
_SCHEMA = (
    """CREATE TABLE scores (
        id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE,
        checksum INTEGER NOT NULL, value BLOB NOT NULL
    )""",
    # One row, so that nobody has to add the sizes of millions up.
    "CREATE TABLE size (n_bytes INTEGER NOT NULL)",
    "INSERT INTO size VALUES (0)",
    f"PRAGMA application_id = {_APPLICATION_ID}",
    f"PRAGMA user_version = {_SCHEMA_VERSION}",
)
_PAGE_BYTES = 32_768  # a dozen texts with 100 labels; 4,096 take five times as long
_CACHE_KIB = 16_384
_WAIT_SECONDS = 60.0
_KEYS_A_QUERY = 1_024
# Two copies of the key, two row ids, checksum, lengths, and what pages leave unused.
_ENTRY_BYTES = 64
# Of its bound a store is freed at a time: rarely enough, and not for long.
_FREED_SHARE = 32


class ScoreStore:
    """Bytes by key. Open it with `temporary` or `at`, and close it.

    A key keeps its first value, whoever else puts one. Calls from several threads take
    turns; several processes may share a folder on a disk of their machine.

    Parameters
    ----------
    database : sqlite3.Connection
        With the tables of a store.
    place : str
        What errors call it.
    most_bytes : int or None
        See `at`.

    Examples
    --------
    >>> with ScoreStore.temporary() as store:
    ...     store.put_many([(b"a", b"first"), (b"b", b"other"), (b"a", b"second")])
    ...     store.get_many([b"a", b"c"])
    {b'a': b'first'}
    """

    def __init__(
        self, database: sqlite3.Connection, *, place: str, most_bytes: int | None
    ) -> None:
        self._database = database
        self._place = place
        self._most_bytes = most_bytes
        self._turn = threading.Lock()
        self._has_warned = False

    @classmethod
    def temporary(cls) -> "ScoreStore":
        """Open a store that nobody else sees, and that is gone when it is closed.

        It takes 16 MiB of memory, and a file in the folder of temporary files.
        """
        # An empty name is SQLite's for a database of its own on disk.
        place = "a temporary file (the environment variable TMPDIR names its folder)"
        database = _connected("")
        with _explained(place):
            _set_up(database, journal="MEMORY")
        return cls(database, place=place, most_bytes=None)

    @classmethod
    def at(cls, folder: str | Path, *, most_bytes: int | None) -> "ScoreStore":
        """Open the store in a folder; both are made where they are missing.

        Parameters
        ----------
        folder : str or Path
        most_bytes : int or None
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
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # SQLite lets two that make a database at once fail instead of wait.
            with FileLock(folder / _LOCK, timeout=_WAIT_SECONDS), _explained(place):
                database = _connected(folder / _FILE)
                try:
                    _set_up(database, journal="WAL")
                    _check(database, place)
                except BaseException:
                    database.close()
                    raise
        except Timeout:
            raise _busy(place) from None
        except OSError as error:
            raise DataError(
                f"The store of scores cannot be in {place}: {error.strerror}. Name a "
                "folder that you may write to."
            ) from None
        store = cls(database, place=place, most_bytes=most_bytes)
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
        with self._turn, _explained(self._place):
            for start in range(0, len(keys), _KEYS_A_QUERY):
                some = keys[start : start + _KEYS_A_QUERY]
                marks = ",".join("?" * len(some))
                # The question marks are all that is put together here.
                query = (
                    "SELECT key, checksum, value FROM scores "  # noqa: S608
                    f"WHERE key IN ({marks})"
                )
                found += self._database.execute(query, some).fetchall()
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
        with self._turn, _explained(self._place), self._transaction():
            last = self._number("SELECT coalesce(max(id), 0) FROM scores")
            self._database.executemany(
                "INSERT OR IGNORE INTO scores (key, checksum, value) VALUES (?, ?, ?)",
                records,
            )
            # The last ones were just written, so that this reads nothing from the disk.
            added = self._number(
                "SELECT coalesce(sum(length(value) + ?), 0) FROM scores WHERE id > ?",
                _ENTRY_BYTES,
                last,
            )
            self._resize(added)
            # Freed pages are used again: the file stays at the greatest size it had.
            self._drop_first()

    def close(self) -> None:
        """Close the database; a temporary one is gone then."""
        with self._turn:
            self._database.close()

    def __enter__(self) -> "ScoreStore":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _shrink(self) -> None:
        """Bring the file of an earlier, greater bound down to the present one."""
        with self._turn, _explained(self._place):
            with self._transaction():
                has_dropped = self._drop_first()
            if has_dropped:
                # A statement that yields rows without columns: `execute` would take
                # one, for one page.
                self._database.executescript("PRAGMA incremental_vacuum")

    def _drop_first(self) -> bool:
        """Drop what was put first where there is too much; return whether there was."""
        n_bytes = self._number("SELECT n_bytes FROM size")
        if self._most_bytes is None or n_bytes <= self._most_bytes:
            return False
        excess = n_bytes - self._most_bytes + self._most_bytes // _FREED_SHARE
        freed, last = 0, 0
        for last, n_value_bytes in self._database.execute(  # noqa: B007
            "SELECT id, length(value) FROM scores ORDER BY id"
        ):
            freed += n_value_bytes + _ENTRY_BYTES
            if freed >= excess:
                break
        self._database.execute("DELETE FROM scores WHERE id <= ?", (last,))
        self._resize(-freed)
        return True

    def _take_out(self, keys: list[bytes]) -> None:
        if not self._has_warned:
            _logger.warning(
                "Some scores in %s are damaged: they are computed anew.", self._place
            )
            self._has_warned = True
        with self._turn, _explained(self._place), self._transaction():
            for key in keys:
                n_bytes = self._number(
                    "SELECT coalesce(sum(length(value) + ?), 0) FROM scores "
                    "WHERE key = ?",
                    _ENTRY_BYTES,
                    key,
                )
                self._database.execute("DELETE FROM scores WHERE key = ?", (key,))
                self._resize(-n_bytes)

    def _resize(self, n_bytes: int) -> None:
        self._database.execute("UPDATE size SET n_bytes = n_bytes + ?", (n_bytes,))

    def _number(self, query: str, *values: int | bytes) -> int:
        return int(self._database.execute(query, values).fetchone()[0])

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        # IMMEDIATE waits for other writers now; a lock that was only for reading could
        # not become one for writing behind them.
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._database.execute("COMMIT")
        except BaseException:
            # SQLite has rolled back by itself after some errors.
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise


def _connected(file: str | Path) -> sqlite3.Connection:
    # Transactions are begun by hand; `ScoreStore._turn` keeps threads apart.
    return sqlite3.connect(
        file, timeout=_WAIT_SECONDS, isolation_level=None, check_same_thread=False
    )


def _set_up(database: sqlite3.Connection, *, journal: str) -> None:
    """Set a connection up, and make the tables in a database that has none."""
    # The first two have an effect in a new file only.
    database.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
    database.execute("PRAGMA auto_vacuum = INCREMENTAL")
    database.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    is_new = database.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    if is_new:
        database.execute("BEGIN IMMEDIATE")
        for statement in _SCHEMA:
            database.execute(statement)
        database.execute("COMMIT")
    if is_new or _application_id(database) == _APPLICATION_ID:
        database.execute(f"PRAGMA journal_mode = {journal}")
        # With a journal of this kind, a loss of power costs the last puts and no more.
        database.execute("PRAGMA synchronous = NORMAL")


def _check(database: sqlite3.Connection, place: str) -> None:
    if _application_id(database) != _APPLICATION_ID:
        raise DataError(
            f"The file {_FILE!r} in {place} is a database of another program: name "
            "another folder for the scores, or delete that file if nobody needs it."
        )
    version = database.execute("PRAGMA user_version").fetchone()[0]
    if version != _SCHEMA_VERSION:
        raise DataError(
            f"The store of scores in {place} is of version {version}, and this is "
            f"version {_SCHEMA_VERSION}: name another folder, or delete this one. It "
            "can be deleted: the scores are then computed anew."
        )


def _application_id(database: sqlite3.Connection) -> int:
    return int(database.execute("PRAGMA application_id").fetchone()[0])


@contextmanager
def _explained(place: str) -> Iterator[None]:
    """Raise DataError where SQLite fails."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", None)
        if code is None:
            # Raised by Python: a mistake of ours.
            raise
        # The lowest byte is the kind of error.
        raise _explanation(code & 0xFF, str(error), place) from None


def _explanation(code: int, reason: str, place: str) -> DataError:
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return _busy(place)
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return DataError(
            f"The store of scores in {place} is damaged ({reason}). It can be deleted: "
            "the scores are then computed anew."
        )
    if code == sqlite3.SQLITE_FULL:
        return DataError(
            f"The disk is full: no more scores fit in {place}. Free some space and run "
            "the same command again."
        )
    return DataError(
        f"The store of scores in {place} cannot be read or written: {reason}. See "
        "whether its disk is full, and whether you may write there; then run the same "
        "command again."
    )


def _busy(place: str) -> DataError:
    return DataError(
        f"The store of scores in {place} is in use: another process has kept it for "
        f"more than {_WAIT_SECONDS:.0f} seconds. Wait for it, or name another folder."
    )
