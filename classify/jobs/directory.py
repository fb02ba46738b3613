"""The directory in which a job keeps what is finished, so that a kill loses nothing."""

import errno
import logging
import re
import shutil
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from filelock import BaseFileLock, FileLock, Timeout

from classify.atomic import atomic_file
from classify.errors import ConfigError, DataError
from classify.jobs.journal import Content, Entry, Journal
from classify.jobs.manifest import (
    differences,
    other_versions,
    read_manifest,
    write_manifest,
)
from classify.wording import parameter

__all__ = ["JobDirectory"]

_logger = logging.getLogger(__name__)

_LOCK = "lock"
_MANIFEST = "manifest.json"
_JOURNAL = "journal.jsonl"
_STORE = "scores"
_PART_FILE = r"(?:part|errors)-\d{7,}\.[a-z.]+"
# Files of ours, by their own names or those that `atomic_file` gives them meanwhile.
_PARTS = re.compile(_PART_FILE)
_UNFINISHED = re.compile(
    rf"\.(?:{_PART_FILE}|manifest\.json|journal\.jsonl)\.\d+\.part"
)


class JobDirectory:
    """An open job directory; make it with `open`, and use it as a context.

    A part is finished once its files are written and the journal says so. Whatever
    else a kill leaves behind does not count, and is written over.

    Attributes
    ----------
    folder : Path
    part_rows : int
        Rows of a part, as the job was begun.
    finished : dict of int to mapping
        The records of the finished parts, by index.
    version_notes : tuple of str
        Which packages had another version in earlier runs of the job.

    Examples
    --------
    >>> import tempfile
    >>> manifest = {"fingerprint": {}, "versions": {}, "part_rows": 2}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "out.csv.job")
    ...     with JobDirectory.open(path, manifest, part_suffix=".csv") as job:
    ...         job.add_part(0, b"rows", b"", {"n_rows": 1})
    ...     with JobDirectory.open(path, manifest, part_suffix=".csv") as job:
    ...         print(job.finished)
    ...         job.remove()
    ...     path.exists()
    {0: {'n_rows': 1}}
    False
    """

    def __init__(
        self,
        folder: Path,
        *,
        lock: BaseFileLock,
        journal: Journal,
        part_suffix: str,
        part_rows: int,
        version_notes: tuple[str, ...],
    ) -> None:
        self.folder = folder
        self.part_rows = part_rows
        self.version_notes = version_notes
        self._lock = lock
        self._journal = journal
        self._part_suffix = part_suffix
        self._entries = {
            index: entry
            for index, entry in sorted(journal.entries.items())
            if self._is_intact(entry)
        }
        self.finished = {index: each.record for index, each in self._entries.items()}
        damaged = sorted(set(journal.entries) - set(self._entries))
        if damaged:
            _logger.warning(
                "Finished parts of %r are missing or damaged, and are done again: %s.",
                str(folder),
                ", ".join(map(str, damaged)),
            )

    @classmethod
    def open(
        cls,
        folder: str | Path,
        manifest: Mapping[str, Any],
        *,
        part_suffix: str,
        restart: bool = False,
    ) -> "JobDirectory":
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
        part_suffix : str
            What names of parts end in, such as ``".csv"``.
        restart : bool, default=False
            Throw away what is finished, and begin anew.

        Raises
        ------
        ConfigError
            The job was begun with something else; the sentence names what differs.
        DataError
            The folder cannot be written, holds something else, is damaged, or is in
            use by another process.
        """
        folder = Path(folder)
        with _explained(folder), ExitStack() as undo:
            _check_ours(folder)
            folder.mkdir(exist_ok=True)
            lock = _locked(folder)
            undo.callback(lock.release)
            stored = _begun(folder, manifest, restart=restart)
            journal = Journal(folder / _JOURNAL)
            undo.callback(journal.close)
            job = cls(
                folder,
                lock=lock,
                journal=journal,
                part_suffix=part_suffix,
                part_rows=stored["part_rows"],
                version_notes=tuple(
                    other_versions(stored["versions"], manifest["versions"])
                ),
            )
            undo.pop_all()
            return job

    @property
    def store_path(self) -> Path:
        """Where the job's own `classify.jobs.store.ScoreStore` may be."""
        return self.folder / _STORE

    def add_part(
        self, index: int, data: bytes, errors: bytes, record: Mapping[str, Any]
    ) -> None:
        """Keep a part; no crash takes it away from then on.

        The journal holds checksums, so that what a loss of power took of the last
        second is noticed, and done again.

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

        Raises
        ------
        DataError
            The disk is full, or the directory cannot be written. Earlier parts stay.
        """
        entry = Entry(
            index, _content(data), _content(errors) if errors else None, dict(record)
        )
        with _explained(self.folder):
            with atomic_file(self._part_path(index), is_synced=False) as file:
                file.write(data)
            if errors:
                with atomic_file(self._errors_path(index), is_synced=False) as file:
                    file.write(errors)
            self._journal.append(entry)
        self._entries[index] = entry
        self.finished[index] = entry.record

    def part_paths(self, n_parts: int) -> list[Path]:
        """Return the files of parts 0 to `n_parts` - 1.

        Raises
        ------
        DataError
            One of them is not finished.
        """
        self._check_finished(n_parts)
        return [self._checked(self._part_path(index)) for index in range(n_parts)]

    def error_paths(self, n_parts: int) -> list[Path]:
        """Return the files with bad rows of parts 0 to `n_parts` - 1, where there are.

        Raises
        ------
        DataError
            One of these parts is not finished.
        """
        self._check_finished(n_parts)
        return [
            self._checked(self._errors_path(index))
            for index in range(n_parts)
            if self._entries[index].errors is not None
        ]

    def remove(self) -> None:
        """Remove the directory, and close it.

        It stays, with a warning, if there is something in it that is not of the job.

        Raises
        ------
        DataError
            A file cannot be removed.
        """
        with _explained(self.folder):
            self._journal.close()
            _clear(self.folder)
            # Last: without it, nobody would take the rest for a job.
            (self.folder / _MANIFEST).unlink(missing_ok=True)
            (self.folder / _LOCK).unlink(missing_ok=True)
            self._lock.release()
            others = sorted(path.name for path in self.folder.iterdir())
            if not others:
                self.folder.rmdir()
                return
        _logger.warning(
            "The folder %r is kept, since it holds what is not of the job: %s.",
            str(self.folder),
            ", ".join(map(repr, others)),
        )

    def close(self) -> None:
        """Let another process have the directory; what is finished stays in it."""
        self._journal.close()
        self._lock.release()

    def __enter__(self) -> "JobDirectory":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _part_path(self, index: int) -> Path:
        return self.folder / f"part-{index:07d}{self._part_suffix}"

    def _errors_path(self, index: int) -> Path:
        return self.folder / f"errors-{index:07d}.csv"

    def _is_intact(self, entry: Entry) -> bool:
        return _holds(self._part_path(entry.index), entry.part) and (
            entry.errors is None or _holds(self._errors_path(entry.index), entry.errors)
        )

    def _check_finished(self, n_parts: int) -> None:
        missing = [index for index in range(n_parts) if index not in self._entries]
        if missing:
            raise DataError(
                f"Part {missing[0]} of {str(self.folder)!r} is not finished: run the "
                "same command again."
            )

    def _checked(self, path: Path) -> Path:
        if not path.is_file():
            raise DataError(
                f"{str(path)!r} was removed while the job ran: run the same command "
                "again, which does that part again."
            )
        return path


def _check_ours(folder: Path) -> None:
    """Raise DataError if there is something that is no job directory."""
    if folder.is_dir():
        names = {path.name for path in folder.iterdir()}
        # A job killed while it began has no manifest yet.
        if _MANIFEST in names or all(
            name == _LOCK or _UNFINISHED.fullmatch(name) for name in names
        ):
            return
    elif not folder.exists():
        return
    raise DataError(
        f"{str(folder)!r} is needed for the job, and is something else: move it away, "
        "delete it, or give the output another name."
    )


def _locked(folder: Path) -> BaseFileLock:
    # Parts may be finished, and the directory closed, by different threads.
    lock = FileLock(folder / _LOCK, thread_local=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise DataError(
            f"Another process works on {str(folder)!r}: wait for it, or stop it."
        ) from None
    return lock


def _begun(
    folder: Path, manifest: Mapping[str, Any], *, restart: bool
) -> dict[str, Any]:
    """Return the manifest of the job that is begun here, or of the one that goes on."""
    path = folder / _MANIFEST
    versions = dict(manifest["versions"])
    if path.exists():
        # Read in either case: only what is ours may be thrown away.
        stored = read_manifest(path)
        if not restart:
            return _resumed(folder, stored, manifest)
    _clear(folder)
    begun = {**manifest, "versions": [versions]}
    write_manifest(path, begun)
    return begun


def _resumed(
    folder: Path, stored: dict[str, Any] | None, manifest: Mapping[str, Any]
) -> dict[str, Any]:
    if stored is None:
        raise DataError(
            f"The job in {str(folder)!r} was begun by a later version of classify: go "
            f"on with that version, or start over with {parameter('restart', True)}."
        )
    found = differences(stored, manifest)
    if found:
        raise ConfigError(
            f"The job in {str(folder)!r} was begun with something else. "
            f"{'; '.join(found)}. Run it as it was begun, or start over with "
            f"{parameter('restart', True)}, which throws its finished parts away."
        )
    for path in _files_like(folder, _UNFINISHED):
        path.unlink()
    versions = dict(manifest["versions"])
    if versions not in stored["versions"]:
        stored = {**stored, "versions": [*stored["versions"], versions]}
        write_manifest(folder / _MANIFEST, stored)
    return stored


def _clear(folder: Path) -> None:
    """Remove all that a job has made but its manifest and its lock."""
    # First: a line must not speak of a part that is gone.
    (folder / _JOURNAL).unlink(missing_ok=True)
    for path in _files_like(folder, _PARTS) + _files_like(folder, _UNFINISHED):
        path.unlink()
    if (folder / _STORE).exists():
        shutil.rmtree(folder / _STORE)


def _files_like(folder: Path, pattern: re.Pattern[str]) -> list[Path]:
    return [path for path in folder.iterdir() if pattern.fullmatch(path.name)]


def _content(data: bytes) -> Content:
    return Content(len(data), zlib.crc32(data))


def _holds(path: Path, content: Content) -> bool:
    try:
        return _content(path.read_bytes()) == content
    except FileNotFoundError:
        return False


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Raise DataError where the disk refuses."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DataError(
                f"The disk is full. What is finished is kept in {str(folder)!r}: free "
                "some space and run the same command again."
            ) from None
        raise DataError(
            f"The job directory {str(folder)!r} cannot be used: {error.strerror}. What "
            "is finished is kept in it: mend that and run the same command again."
        ) from None
