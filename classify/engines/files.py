"""Which files a model consists of, so that a model that was saved again is detected."""

import os
import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

__all__ = ["Files", "files_of", "parts_of"]

# Of each file its path, and what the file system says of it: size, time, number.
Files = tuple[tuple[str, int, int, int], ...]

# What a model, an adapter or a tokenizer is loaded from. A folder may hold results and
# logs besides, which come and go.
_PATTERNS = (
    "config.json",
    "generation_config.json",
    "*.safetensors",
    "*.bin",
    "*.gguf",
    "*.index.json",
    "adapter*",
    "*.py",
    "tokenizer*",
    "*.model",
    "*.tiktoken",
    "tekken.json",
    "vocab*",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
    "chat_template*",
    "*.jinja",
)
_TEMPLATES = "additional_chat_templates"
# How llama.cpp names the files of a split model: which one it is, and how many.
_PART = re.compile(r"(.*)-\d{5}-of-(\d{5})\.gguf", re.DOTALL)


def files_of(model: Any, options: Any = None) -> Files:
    """Return the files that a model is loaded from, if it is a folder or a file.

    Parameters
    ----------
    model : str, path or other
        A folder or a file; a hub id and a model object have none, and give nothing.
    options : mapping, sequence, str or path, optional
        In which further folders may be named: an adapter, a draft model.

    Returns
    -------
    Files
        Equal as long as nothing was saved. Links are followed, as in the hub's cache.

    Examples
    --------
    >>> files_of("org/name", {"dtype": "auto"})
    ()
    """
    folders = dict.fromkeys([*_folders(model), *_folders(options)])
    return tuple(
        (path, stat.st_size, stat.st_mtime_ns, stat.st_ino)
        for folder in folders
        for path, stat in _stats(folder)
    )


def parts_of(file: Path) -> list[Path]:
    """Return the file, or all the files that a GGUF model was split into.

    Examples
    --------
    >>> [path.name for path in parts_of(Path("model.gguf"))]
    ['model.gguf']
    """
    split = _PART.fullmatch(file.name)
    if split is None:
        return [file]
    start, n_parts = split.groups()
    names = (
        f"{start}-{part:05}-of-{n_parts}.gguf" for part in range(1, int(n_parts) + 1)
    )
    parts = map(file.with_name, names)
    return [part for part in parts if part == file or part.is_file()]


def _folders(value: Any) -> Iterator[str]:
    if isinstance(value, str | os.PathLike):
        path = str(Path(value).expanduser())
        if os.path.exists(path):  # noqa: PTH110 a text of any length may be a value
            yield path
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _folders(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _folders(each)


def _stats(folder: str) -> Iterator[tuple[str, os.stat_result]]:
    try:
        with os.scandir(folder) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
    except NotADirectoryError:
        for part in parts_of(Path(folder)):
            yield str(part), part.stat()
        return
    except OSError:
        return  # whoever loads from it says what is wrong
    for entry in entries:
        if entry.name == _TEMPLATES:
            yield from _stats(entry.path)
        elif any(fnmatch(entry.name, pattern) for pattern in _PATTERNS):
            try:
                yield entry.path, entry.stat()
            except OSError:
                continue  # a link to nowhere
