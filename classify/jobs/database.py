"""SQLite files of our own: opened, checked, written in transactions.

What a job keeps and the cache of scores are both such files. Errors become sentences of
those who keep something in them.
"""

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from classify.errors import DataError

__all__ = ["WAIT_SECONDS", "Database", "ForeignFileError", "Problem", "Schema"]

WAIT_SECONDS = 60.0
_PAGE_BYTES = 32_768  # a dozen texts with 100 labels; 4,096 take five times as long
_CACHE_KIB = 16_384


class Problem(Enum):
    """The errors of a database."""

    BUSY = "busy"
    DAMAGED = "damaged"
    FULL = "full"
    OTHER = "other"


Explain = Callable[[Problem, str], DataError]


class ForeignFileError(Exception):
    """The file is not one of ours, or of another version.

    Attributes
    ----------
    version : int or None
        The version of ours that it has; None if it is of another program.
    """

    def __init__(self, version: int | None) -> None:
        super().__init__(version)
        self.version = version


@dataclass(frozen=True)
class Schema:
    """The schema of a kind of database.

    Attributes
    ----------
    application_id : int
        Tells our databases from those of other programs.
    version : int
    statements : tuple of str
        Make the tables, and what is in them from the beginning.
    """

    application_id: int
    version: int
    statements: tuple[str, ...]


class Database:
    """An open database; threads take turns.

    Parameters
    ----------
    connection : sqlite3.Connection
    explain : callable
        Makes the error to raise of a `Problem` and SQLite's own words.
    """

    def __init__(self, connection: sqlite3.Connection, explain: Explain) -> None:
        self.connection = connection
        self._explain = explain
        self._turn = threading.RLock()

    @classmethod
    def open(
        cls,
        file: str | Path,
        schema: Schema,
        explain: Explain,
        *,
        journal: str,
    ) -> "Database":
        """Open a file, and make the tables in a new one.

        Parameters
        ----------
        file : str or Path
            "" is a database of its own on disk, gone when it is closed.
        schema : Schema
        explain : callable
        journal : str
            SQLite's journal mode.

        Raises
        ------
        ForeignFileError
            It is another program's, or of another version.
        DataError
            It cannot be opened, or is damaged.
        """
        # Transactions are started explicitly; `turn` serializes threads.
        database = cls(
            sqlite3.connect(
                file,
                timeout=WAIT_SECONDS,
                isolation_level=None,
                check_same_thread=False,
            ),
            explain,
        )
        try:
            with database.turn():
                database._set_up(schema, journal)
        except BaseException:
            database.close()
            raise
        return database

    @contextmanager
    def turn(self) -> Iterator[sqlite3.Connection]:
        """Use the connection alone; DataError is raised where SQLite fails."""
        with self._turn:
            try:
                yield self.connection
            except sqlite3.Error as error:
                code = getattr(error, "sqlite_errorcode", None)
                if code is None:
                    # Raised by Python: a mistake of ours.
                    raise
                # The lowest byte is the kind of error.
                raise self._explain(_problem(code & 0xFF), str(error)) from None

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Change it as a whole or, after an error, not at all."""
        with self.turn() as connection:
            # IMMEDIATE waits for other writers now; a lock that was only for reading
            # could not become one for writing after them.
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                # SQLite has already rolled back after some errors.
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def number(self, query: str, values: Sequence[Any] = ()) -> int:
        """Return the only value of a query."""
        return int(self.connection.execute(query, values).fetchone()[0])

    def close(self) -> None:
        """Close it."""
        with self._turn:
            self.connection.close()

    def _set_up(self, schema: Schema, journal: str) -> None:
        execute = self.connection.execute
        # The first two have an effect in a new file only.
        execute(f"PRAGMA page_size = {_PAGE_BYTES}")
        execute("PRAGMA auto_vacuum = INCREMENTAL")
        execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        is_new = self.number("SELECT count(*) FROM sqlite_master") == 0
        if is_new:
            with self.transaction():
                for statement in schema.statements:
                    execute(statement)
                execute(f"PRAGMA application_id = {schema.application_id}")
                execute(f"PRAGMA user_version = {schema.version}")
        if self.number("PRAGMA application_id") != schema.application_id:
            raise ForeignFileError(None)
        version = self.number("PRAGMA user_version")
        if version != schema.version:
            raise ForeignFileError(version)
        execute(f"PRAGMA journal_mode = {journal}")
        # With a write-ahead log, a loss of power costs the last changes and no more.
        execute("PRAGMA synchronous = NORMAL")


def _problem(code: int) -> Problem:
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return Problem.BUSY
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return Problem.DAMAGED
    if code == sqlite3.SQLITE_FULL:
        return Problem.FULL
    return Problem.OTHER
