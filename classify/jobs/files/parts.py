"""Parts of text, one behind the other."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from classify.jobs.files.compression import Compression, compressed

__all__ = ["concatenate"]


def concatenate(
    parts: Sequence[Path], header: bytes, target: BinaryIO, compression: Compression
) -> None:
    """Write a header and the bytes of files, compressed or as they are."""
    with compressed(target, compression) as out:
        out.write(header)
        for part in parts:
            with part.open("rb") as file:
                shutil.copyfileobj(file, out, 1 << 20)
