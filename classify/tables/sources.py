"""Where the bytes of a table come from: files, which can be read again, and streams."""

import codecs
import difflib
import io
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from classify.errors import ConfigError, DataError
from classify.tables.compression import (
    Compression,
    compression_of,
    decompressed,
    reported_damage,
)
from classify.tables.content import MAX_START_BYTES
from classify.wording import parameter

if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = [
    "MAX_CHARACTERS",
    "FileSource",
    "Source",
    "StreamSource",
    "check_file",
    "checked_encoding",
    "encoding_hint",
    "is_stream",
    "marked_bytes",
    "shown_bytes",
    "text_lines",
]

# Of a row: a quote that is never closed shall not read a whole file into memory.
MAX_CHARACTERS = 1 << 26

_BLOCK_BYTES = 1 << 18


class Source(Protocol):
    """Bytes with a name.

    Attributes
    ----------
    path : str
        As given.
    name : str
        As in messages: quoted, if it is a path.
    start : bytes
        What it begins with, decompressed: 4 bytes at least, if there are as many.
    """

    path: str
    name: str
    start: bytes

    def opened(self, digest: "_Hash | None" = None) -> AbstractContextManager[BinaryIO]:
        """Give the bytes; a digest is updated with them as they come from a file."""
        ...


class FileSource:
    """A file, which must stay as it is while it is read.

    Parameters
    ----------
    path : str
    compression : {"", "gz", "zst"}
        As its name says; "" leaves it to the first bytes.

    Attributes
    ----------
    size : int
        In bytes, as it lies on the disk.

    Raises
    ------
    DataError
        There is no such file, or it cannot be read.
    """

    def __init__(self, path: str, compression: Compression) -> None:
        self.path, self.name = path, repr(path)
        check_file(path)
        self.size, self._modified = self._state()
        with self._reported(), Path(path).open("rb") as raw:
            # Whoever forgot the name's end has not forgotten to compress.
            self._compression = compression or compression_of(raw.read(4))
            raw.seek(0)
            with reported_damage(self.name, self._compression):
                file = decompressed(raw, self._compression)
                self.start = file.read(MAX_START_BYTES)

    def described(self, digest: "_Hash") -> Mapping[str, str | int | None]:
        """Return the identity of this file, given the digest of its bytes."""
        return {"path": self.path, "size": self.size, "digest": digest.hexdigest()}

    @contextmanager
    def opened(self, digest: "_Hash | None" = None) -> Iterator[BinaryIO]:
        """Give what the file holds, decompressed.

        Parameters
        ----------
        digest : hash object, default=None
            Is updated with the file's bytes as they lie on the disk.

        Raises
        ------
        DataError
            The file is damaged, or was changed since the table was opened.
        """
        self.check_unchanged()
        with (
            reported_damage(self.name, self._compression),
            self._reported(),
            Path(self.path).open("rb", buffering=0) as raw,
        ):
            bytes_in = raw if digest is None else _Digested(raw, digest)
            buffered = io.BufferedReader(bytes_in, _BLOCK_BYTES)
            yield decompressed(buffered, self._compression)
            for _ in iter(partial(buffered.read, _BLOCK_BYTES), b""):
                pass  # what a decompressor left, so that the digest is that of all
        self.check_unchanged()

    def check_unchanged(self) -> None:
        """Raise DataError if the file is not the one that was opened."""
        if self._state() != (self.size, self._modified):
            raise DataError(
                f"{self.name} changed while it was being read: start again when "
                "nothing writes to it any more."
            )

    def _state(self) -> tuple[int, int]:
        with self._reported():
            found = Path(self.path).stat()
        return found.st_size, found.st_mtime_ns

    @contextmanager
    def _reported(self) -> Iterator[None]:
        with _reported_reading(self.name):
            yield


class StreamSource:
    """Bytes that come once: stdin, a named pipe.

    Parameters
    ----------
    path : str
    stream : BufferedIOBase
        Compressed or not; its first bytes tell.
    name : str
    is_ours : bool
        Whether the stream is to be closed at its end.
    """

    def __init__(
        self, path: str, stream: io.BufferedIOBase, name: str, *, is_ours: bool
    ) -> None:
        self.path, self.name = path, name
        self._ours = stream if is_ours else None
        with _reported_reading(name):
            start = stream.read(4)
        self._compression = compression_of(start)
        with reported_damage(name, self._compression), _reported_reading(name):
            rest = io.BufferedReader(_Continued(start, stream), _BLOCK_BYTES)
            # Only what is there already: who writes may wait for a result.
            self._rest: io.BufferedReader[Any] | None = decompressed(
                rest, self._compression
            )
            self.start = self._rest.peek()

    @contextmanager
    def opened(self, digest: "_Hash | None" = None) -> Iterator[BinaryIO]:
        """Give what the stream holds, decompressed; `digest` plays no part."""
        assert self._rest is not None, "a stream is read once"
        buffered, self._rest = self._rest, None
        with (
            reported_damage(self.name, self._compression),
            _reported_reading(self.name),
        ):
            try:
                yield buffered
            finally:
                if self._ours is not None:
                    self._ours.close()


def check_file(path: str) -> None:
    """Raise DataError if there is no such file, or it is a folder."""
    place = Path(path)
    if place.is_dir():
        raise DataError(f"{path!r} is a folder, not a file.{_files_in(place)}")
    if not place.exists():
        raise DataError(f"There is no file {path!r}.{_nearest_file(place)}")


def is_stream(path: str) -> bool:
    """Return whether a path is no plain file: a named pipe, a terminal.

    Examples
    --------
    >>> is_stream("/dev/null")
    True
    """
    place = Path(path)
    return place.exists() and not (
        stat.S_ISREG(mode := place.stat().st_mode) or stat.S_ISDIR(mode)
    )


def text_lines(
    source: Source,
    encoding: str,
    *,
    newline: str,
    most_characters: int,
    digest: "_Hash | None" = None,
) -> Iterator[str]:
    r"""Yield the lines of a text with their ends; a byte order mark is skipped.

    A byte that cannot be decoded stands there as a lone surrogate (`marked_bytes`).

    Parameters
    ----------
    source : Source
    encoding : str
        Checked.
    newline : str
        As in `open`: ``""`` for lines that end in any way, ``"\n"``.
    most_characters : int
        A longer line is cut, but not so far as to look like an allowed one.
    digest : hash object, default=None
        As in `FileSource.opened`.
    """
    at_most = most_characters + 2  # a byte order mark, and one too many
    with source.opened(digest) as binary:
        text = io.TextIOWrapper(binary, encoding, _MARKED, newline)
        readline = partial(text.readline, at_most)
        line = readline()
        if start := line.removeprefix("\ufeff"):
            yield start
        is_cut = len(line) == at_most
        for line in iter(readline, ""):
            if not is_cut:
                yield line
            is_cut = len(line) == at_most and not line.endswith(("\r", "\n"))
        text.detach()


def checked_encoding(encoding: str) -> str:
    """Return the encoding's usual name.

    Raises
    ------
    ConfigError
        Python does not know it.

    Examples
    --------
    >>> checked_encoding("UTF8")
    'utf-8'
    """
    try:
        name = codecs.lookup(encoding).name
        "".encode(name)
    except LookupError:
        raise ConfigError(
            f"Unknown encoding {encoding!r}. Common ones are utf-8, utf-16 and cp1252."
        ) from None
    # A byte order mark is skipped in any case.
    return name.removesuffix("-sig")


def encoding_hint(encoding: str) -> str:
    """Return a hint for bytes that are not in an encoding.

    Examples
    --------
    >>> encoding_hint("utf-8")
    "Name the file's encoding, for example encoding='cp1252'."
    """
    guess = "cp1252" if encoding.startswith("utf") else "utf-8"
    return f"Name the file's encoding, for example {parameter('encoding', guess)}."


def marked_bytes(text: str) -> list[int]:
    r"""Return the bytes in a decoded text that could not be decoded.

    Examples
    --------
    >>> marked_bytes(b"caf\xe9".decode("utf-8", "classify.marked"))
    [233]
    """
    return [ord(mark) - _FIRST_MARK for mark in _MARKS.findall(text)]


def shown_bytes(text: str) -> str:
    r"""Return a decoded text with bytes that could not be decoded as they are.

    Examples
    --------
    >>> print(shown_bytes(b"caf\xe9".decode("utf-8", "classify.marked")))
    caf\xe9
    """
    return _MARKS.sub(lambda mark: f"\\x{ord(mark[0]) - _FIRST_MARK:02x}", text)


# "surrogateescape" does the same, but not for UTF-16, nor for bytes below 128.
_MARKED, _FIRST_MARK = "classify.marked", 0xDC00
_MARKS = re.compile("[\udc00-\udcff]")


def _mark(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError), "it is used for decoding only"
    wrong = error.object[error.start : error.end]
    return "".join(chr(_FIRST_MARK + byte) for byte in wrong), error.end


codecs.register_error(_MARKED, _mark)


class _Digested(io.RawIOBase):
    """Reads a file and updates a digest with what it reads."""

    def __init__(self, raw: io.RawIOBase, digest: "_Hash") -> None:
        self._raw, self._digest = raw, digest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int | None:
        room = memoryview(buffer)  # type: ignore[arg-type]
        n_bytes = self._raw.readinto(room)
        self._digest.update(room[:n_bytes])
        return n_bytes


class _Continued(io.RawIOBase):
    """A stream whose first bytes were read already; closing leaves it open."""

    def __init__(self, start: bytes, stream: io.BufferedIOBase) -> None:
        self._start, self._stream = start, stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        room = memoryview(buffer)  # type: ignore[arg-type]
        block = self._start[: len(room)] or self._stream.read1(len(room))
        self._start = self._start[len(block) :]
        room[: len(block)] = block
        return len(block)


@contextmanager
def _reported_reading(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # Those of gzip have no number, and are reported by their own name.
        if error.errno is None:
            raise
        raise DataError(f"{name} cannot be read: {error.strerror}.") from None


def _files_in(folder: Path) -> str:
    for pattern in ("*.csv", "*.tsv", "*.jsonl", "*.parquet"):
        if any(folder.glob(pattern)):
            return f" Its files are {str(folder / pattern)!r}."
    return ""


def _nearest_file(path: Path) -> str:
    if not path.parent.is_dir():
        return f" There is no folder {str(path.parent)!r} either."
    names = [each.name for each in path.parent.iterdir() if each.is_file()]
    near = difflib.get_close_matches(path.name, names, n=1)
    return f" Did you mean {str(path.parent / near[0])!r}?" if near else ""
