"""Where a model comes from: a folder or the hub; or why it cannot be found.

Looked at before anything is loaded: what libraries say of a folder that is not there,
of half a file or of a missing connection comes late, and means something else.
"""

import json
import socket
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from classify.engines.registry import kind_of_file
from classify.engines.turns import Shelf
from classify.errors import ModelLoadError

__all__ = [
    "check_config",
    "check_source",
    "check_weights",
    "damaged",
    "other_kind",
    "snapshot_of",
]

_EXAMPLE = "'Qwen/Qwen2.5-0.5B'"
# Seconds that the hub has to be found.
_PROBE_TIMEOUT = 3.0
# Seconds for which that is remembered: a tokenizer is followed by its model.
_PROBE_LASTS = 60
# What files are loaded by name, or named by an index.
_WEIGHTS = ("model.safetensors", "adapter_model.safetensors", "pytorch_model.bin")
_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_LFS = b"version https://git-lfs"

_probes: Shelf[tuple[str, int], str] = Shelf(4)


def check_source(model: str | Path, *, revision: str | None = None) -> bool:
    """See whether a model is where it is said to be.

    Parameters
    ----------
    model : str or path
        A folder or a hub id.
    revision : str, default=None
        Revision of a hub model.

    Returns
    -------
    bool
        Whether only the hub's local cache is to be asked, since the hub cannot be.

    Raises
    ------
    ModelLoadError
        There is no such folder; or it is a hub id, and the model is not in the local
        cache while the hub cannot be reached.
    """
    name = str(model)
    if Path(name).expanduser().is_dir():
        return False
    if Path(name).is_file():
        raise ModelLoadError(
            f"{name!r} is a file: give the folder that holds the model, or a hub id "
            f"such as {_EXAMPLE}."
        )
    if _looks_like_path(name) or not _may_be_hub_id(name):
        raise ModelLoadError(
            f"There is no folder {name!r} (looked in {Path.cwd()}). Give a folder with "
            f"config.json and weights, or a hub id such as {_EXAMPLE}."
        )
    from huggingface_hub.constants import ENDPOINT, is_offline_mode

    if is_offline_mode():
        unreachable = "the hub was not asked, because HF_HUB_OFFLINE is set"
    else:
        fault = _probed(ENDPOINT)
        if not fault:
            return False
        unreachable = f"the hub at {ENDPOINT} cannot be reached ({fault})"
    if _is_cached(name, revision):
        return True
    raise ModelLoadError(
        f"There is no model {name!r}: no such folder in {Path.cwd()}, not in the local "
        f"hub cache, and {unreachable}. Check the name, or give a folder."
    )


def snapshot_of(model: str, revision: str | None) -> str:
    """Return the folder of the local cache that holds a hub model."""
    from huggingface_hub import snapshot_download

    return str(snapshot_download(model, revision=revision, local_files_only=True))


def check_config(model: str | Path) -> None:
    """Raise ModelLoadError if a folder holds no model, or a damaged configuration."""
    folder = Path(model).expanduser()
    if not folder.is_dir():
        return
    config = folder / "config.json"
    if not config.is_file():
        if (folder / "adapter_config.json").is_file():
            return
        files = sorted(str(each) for each in folder.iterdir() if kind_of_file(each))
        if files:
            raise ModelLoadError(
                f"The folder {str(model)!r} has no config.json, but it contains a "
                f"model in a single file: give the path of that file, {files[0]!r}."
            )
        raise ModelLoadError(
            f"The folder {str(model)!r} contains no model: it has no config.json. Give "
            "the folder of a saved or downloaded model."
        )
    try:
        is_mapping = isinstance(json.loads(config.read_text("utf-8")), dict)
        fault = None if is_mapping else "it contains no settings"
    except (OSError, ValueError) as error:
        fault = other_kind(config) or f"it is not JSON ({error})"
    if fault is not None:
        raise ModelLoadError(
            f"{str(config)!r} is damaged or not fully downloaded: {fault}. Download "
            "or save the model again."
        )


def check_weights(model: str | Path) -> None:
    """Raise ModelLoadError if weights in a folder are missing in part, or damaged."""
    folder = Path(model).expanduser()
    for path in _weights_in(folder) if folder.is_dir() else ():
        fault = _fault_of_weights(path)
        if fault is not None:
            raise damaged(model, f"{path.name}: {fault}")


def damaged(model: str | Path, fault: str) -> ModelLoadError:
    """Return the error for weights that cannot be read."""
    return ModelLoadError(
        f"The weights of the model {str(model)!r} are damaged or not fully downloaded. "
        f"{fault}. Download or save the model again."
    )


def _looks_like_path(name: str) -> bool:
    return name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name


def _may_be_hub_id(name: str) -> bool:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def _is_cached(name: str, revision: str | None) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return any(
        isinstance(try_to_load_from_cache(name, each, revision=revision), str)
        for each in ("config.json", "tokenizer.json", "tokenizer_config.json")
    )


def _probed(endpoint: str) -> str:
    """Return why a hub cannot be reached; empty if it can."""
    minute = int(time.monotonic() // _PROBE_LASTS)
    return _probes.get((endpoint, minute), lambda: _probe(endpoint))


def _probe(endpoint: str) -> str:
    address = urlsplit(endpoint)
    proxies = {} if proxy_bypass(address.netloc) else getproxies()
    proxy = proxies.get(address.scheme) or proxies.get("all")
    if proxy:
        address = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    port = address.port or (80 if address.scheme == "http" else 443)
    faults: SimpleQueue[str] = SimpleQueue()

    def connect() -> None:
        try:
            where = (address.hostname or "", port)
            socket.create_connection(where, timeout=_PROBE_TIMEOUT).close()
        except OSError as error:
            faults.put(str(error) or type(error).__name__)
        else:
            faults.put("")

    # A name may take far longer to be looked up than a connection to be made.
    Thread(target=connect, name="classify-probe", daemon=True).start()
    try:
        return faults.get(timeout=_PROBE_TIMEOUT)
    except Empty:
        return f"no connection within {_PROBE_TIMEOUT:g} s"


def _weights_in(folder: Path) -> Iterator[Path]:
    for name in _WEIGHTS:
        # Also a link to what was deleted.
        if (folder / name).exists() or (folder / name).is_symlink():
            yield folder / name
    for name in _INDEXES:
        index = folder / name
        if index.exists():
            yield index
            yield from (folder / shard for shard in _shards_of(index))


def _shards_of(index: Path) -> list[str]:
    try:
        listed: Any = json.loads(index.read_text("utf-8"))["weight_map"]
        return sorted(set(listed.values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


def _fault_of_weights(path: Path) -> str | None:
    if not path.is_file():
        return "it is missing"
    fault = other_kind(path)
    if fault is not None:
        return fault
    if path.suffix == ".json":
        return None if _shards_of(path) else "it names no files"
    if path.suffix == ".safetensors":
        return _fault_of_safetensors(path)
    with path.open("rb") as file:
        is_zip = file.read(2) == b"PK"
    if is_zip and not zipfile.is_zipfile(path):
        return "its end is missing"
    return None


def other_kind(path: Path) -> str | None:
    """Return what a file is, if it is not what it should be after a broken download."""
    with path.open("rb") as file:
        start = file.read(256)
    if not start:
        return "it is empty"
    if start.startswith(_LFS):
        return "it is a pointer of Git LFS, not the file itself (run `git lfs pull`)"
    if start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return "it is a web page"
    return None


def _fault_of_safetensors(path: Path) -> str | None:
    n_bytes = path.stat().st_size
    with path.open("rb") as file:
        n_header = int.from_bytes(file.read(8), "little")
        if n_bytes < 8 or n_header > n_bytes - 8:
            return f"it ends after {n_bytes:,} bytes, within its header"
        try:
            header = json.loads(file.read(n_header))
            tensors = [header[key] for key in header if key != "__metadata__"]
            ends = [int(each["data_offsets"][1]) for each in tensors]
        except (ValueError, KeyError, TypeError, IndexError, AttributeError):
            return "its header cannot be read"
    expected = 8 + n_header + max(ends, default=0)
    if n_bytes < expected:
        return f"it has {n_bytes:,} of {expected:,} bytes"
    return None
