"""Tokenizers from a folder or the hub."""

import logging
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from classify.engines.files import files_of
from classify.engines.registry import kind_of_file
from classify.engines.sources import check_config, check_source
from classify.engines.turns import LOADING, Shelf
from classify.errors import ModelLoadError, first_line
from classify.tokenizer.tokenizer import Tokenizer

__all__ = ["load_tokenizer"]

logger = logging.getLogger(__name__)

# What tokenizers are loaded from.
_TOKENIZER_FILES = ("tokenizer.*", "tekken.json", "vocab.*", "*.tiktoken", "spiece.*")
_loaded: Shelf[tuple[object, ...], Tokenizer] = Shelf(4, making=LOADING)


def load_tokenizer(
    model: str | Path, *, revision: str | None = None, trust_remote_code: bool = False
) -> Tokenizer:
    """Load the tokenizer of a model: folder, hub id or file; the last few are kept.

    It is loaded again if files in the folder were saved since.

    Raises
    ------
    ModelLoadError
        There is no tokenizer, or it cannot be downloaded.
    """
    key = (os.getpid(), str(model), files_of(model), revision, trust_remote_code)
    options = {"revision": revision, "trust_remote_code": trust_remote_code}
    return _loaded.get(key, lambda: _load(model, **options))


def _load(model: str | Path, **options: Any) -> Tokenizer:
    kind = kind_of_file(model)
    if kind is not None:
        return Tokenizer(kind.tokenizer_of(str(model)), str(model))
    only_here = check_source(model, revision=options["revision"])
    from transformers import AutoTokenizer

    try:
        # Where mistral-common is installed, transformers would take its tokenizer,
        # which encodes no prompt that is given as text.
        backend = AutoTokenizer.from_pretrained(
            str(model), local_files_only=only_here, mistral_format=False, **options
        )
    # Tokenizers that are damaged raise an Exception of no kind of its own.
    except Exception as error:
        raise _not_loaded(str(model), error) from error
    tokenizer = Tokenizer(backend, str(model))
    if "tekken" in Path(str(backend.init_kwargs.get("vocab_file"))).name:
        _warn_of_tekken(tokenizer)
    return tokenizer


def _warn_of_tekken(tokenizer: Tokenizer) -> None:
    backend = tokenizer.backend
    there = {
        "chat template": tokenizer.has_chat_template,
        "BOS token": backend.bos_token is not None,
        "EOS token": backend.eos_token is not None,
    }
    missing = [name for name, is_there in there.items() if not is_there]
    if missing:
        logger.warning(
            "The tokenizer of %r is made from tekken.json, which names no %s: prompts "
            "are written without. Put the model's tokenizer.json, "
            "tokenizer_config.json and chat_template.jinja into its folder.",
            tokenizer.name,
            " and no ".join(missing),
        )


def _not_loaded(model: str, error: Exception) -> ModelLoadError:
    folder = Path(model).expanduser()
    packages = _missing_packages(folder, error)
    if packages:
        return ModelLoadError(
            f"The tokenizer of the model {model!r} is a SentencePiece model "
            f"(tokenizer.model), which needs the package {' and '.join(packages)}. "
            f"Install it with: pip install {' '.join(packages)}"
        )
    if not folder.is_dir():
        return ModelLoadError(
            f"The tokenizer of the model {model!r} cannot be loaded: "
            f"{first_line(error)}. Check the name; it must be a model that the hub "
            "has with its tokenizer."
        )
    names = sorted(
        path.name
        for pattern in _TOKENIZER_FILES
        for path in folder.glob(pattern)
        if path.is_file()
    )
    if names:
        return ModelLoadError(
            f"The tokenizer in the folder {model!r} cannot be loaded "
            f"({', '.join(names)}): {first_line(error)}. Its files are damaged or not "
            "complete: download or save them again."
        )
    check_config(model)
    return ModelLoadError(
        f"The folder {model!r} has no tokenizer: it must hold tokenizer.json or the "
        "like. Save the model's tokenizer there too "
        "(`tokenizer.save_pretrained(folder)`)."
    )


def _missing_packages(folder: Path, error: Exception) -> list[str]:
    """Return the packages that a SentencePiece model needs and that are missing."""
    if folder.is_dir():
        # One that is made for tiktoken has another name.
        names = {path.name for path in folder.iterdir()}
        needed = "tokenizer.model" in names and "tokenizer.json" not in names
    else:
        # transformers takes a file that it cannot read for one of tiktoken's.
        needed = "tiktoken" in str(error)
    packages = {"sentencepiece": "sentencepiece", "protobuf": "google.protobuf"}
    return [name for name, module in packages.items() if needed and not _has(module)]


def _has(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # google, where protobuf is missing
        return False
