"""gzip and zstd, both ways, one block at a time."""

import gzip
import io
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, BinaryIO, Literal, cast

from classify.errors import DataError, missing_dependency

__all__ = [
    "Compression",
    "compressed",
    "compression_of",
    "concatenate",
    "decompressed",
    "reported_damage",
]

Compression = Literal["", "gz", "zst"]

_BLOCK_BYTES = 1 << 18
_MAGIC: dict[bytes, Compression] = {b"\x1f\x8b": "gz", b"\x28\xb5\x2f\xfd": "zst"}
_NAMES = {"gz": "gzip", "zst": "zstd"}


class _DamagedError(Exception):
    """A zstd file cannot be decompressed."""


def compression_of(start: bytes) -> Compression:
    """Return how a file is compressed that begins with these bytes.

    Examples
    --------
    >>> compression_of(gzip.compress(b"text"))
    'gz'
    >>> compression_of(b"text")
    ''
    """
    return next((each for magic, each in _MAGIC.items() if start.startswith(magic)), "")


def decompressed(
    file: "io.BufferedReader[Any]", compression: Compression
) -> "io.BufferedReader[Any]":
    """Return the contents of a compressed file; several frames are joined.

    Raises
    ------
    MissingDependencyError
        The package zstandard is needed, and is not installed.
    """
    if compression == "gz":
        return io.BufferedReader(gzip.GzipFile(fileobj=file, mode="rb"), _BLOCK_BYTES)
    if compression == "zst":
        return io.BufferedReader(_ZstdReader(file), _BLOCK_BYTES)
    return file


@contextmanager
def reported_damage(name: str, compression: Compression) -> Iterator[None]:
    """Turn what decompression raises into a DataError that names the file."""
    kind = _NAMES.get(compression)
    try:
        yield
    except EOFError:
        raise DataError(
            f"{name} ends in the middle of its {kind} data: copy it or write it again."
        ) from None
    except (gzip.BadGzipFile, zlib.error, _DamagedError) as error:
        raise DataError(
            f"{name} is not a valid {kind} file: {error}. If it is not compressed, "
            f"rename it without .{compression}; else copy it or write it again."
        ) from None


@contextmanager
def compressed(file: BinaryIO, compression: Compression) -> Iterator[BinaryIO]:
    """Give a file to write to, that compresses into `file`, which stays open.

    The same bytes in give the same bytes out: neither time nor name is written.

    Examples
    --------
    >>> target = io.BytesIO()
    >>> with compressed(target, "gz") as out:
    ...     _ = out.write(b"text")
    >>> gzip.decompress(target.getvalue())
    b'text'
    """
    if compression == "gz":
        with gzip.GzipFile("", "wb", 6, file, mtime=0) as packed:
            yield cast(BinaryIO, packed)
    elif compression == "zst":
        compressor = _zstandard().ZstdCompressor()
        with compressor.stream_writer(file, closefd=False) as packed:
            yield packed
    else:
        yield file


def concatenate(
    parts: Iterable[bytes], header: bytes, target: BinaryIO, compression: Compression
) -> None:
    """Write a header and parts of text, compressed or as they are."""
    with compressed(target, compression) as out:
        out.write(header)
        for part in parts:
            out.write(part)


class _ZstdReader(io.RawIOBase):
    """Decompresses; unlike the package's own reader it notices a missing end."""

    def __init__(self, file: BinaryIO) -> None:
        zstandard = _zstandard()
        self._file = file
        self._error: type[Exception] = zstandard.ZstdError
        self._decompressor = zstandard.ZstdDecompressor()
        self._frame = self._decompressor.decompressobj()
        self._is_fresh = True
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        room = memoryview(buffer)  # type: ignore[arg-type]
        while not self._ready:
            block = self._file.read(_BLOCK_BYTES)
            if not block:
                if not self._is_fresh:
                    raise EOFError
                return 0
            self._ready = memoryview(self._decompress(block))
        n_bytes = min(len(room), len(self._ready))
        room[:n_bytes] = self._ready[:n_bytes]
        self._ready = self._ready[n_bytes:]
        return n_bytes

    def _decompress(self, block: bytes) -> bytes:
        pieces = []
        try:
            while block:
                pieces.append(self._frame.decompress(block))
                self._is_fresh = False
                block = b""
                if self._frame.eof:
                    block = self._frame.unused_data
                    self._frame = self._decompressor.decompressobj()
                    self._is_fresh = True
        except self._error as error:
            raise _DamagedError(str(error)) from None
        return b"".join(pieces)


def _zstandard() -> ModuleType:
    try:
        import zstandard
    except ImportError as error:
        raise missing_dependency(
            "Files that end in .zst need the package zstandard", "files"
        ) from error
    return zstandard
