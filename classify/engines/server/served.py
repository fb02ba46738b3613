"""Which model a server runs, and whether it is the one whose tokenizer is used here."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from classify.engines.sources import check_source
from classify.errors import ConfigError, EngineError, ModelLoadError, first_line
from classify.wording import parameter

__all__ = ["ServedModel", "choose_model", "model_file", "positions", "vocabulary_size"]

# Where the config of a model of several parts keeps that of its language model.
_PARTS = ("text_config", "llm_config", "language_config", "thinker_config")


class ServedModel(NamedTuple):
    """A model as a server calls it.

    Attributes
    ----------
    name : str
    max_model_len : int or None
        Most tokens, prompt and continuation together, where the server says it.
    card : mapping
        All that the server says of it.
    """

    name: str
    max_model_len: int | None
    card: Mapping[str, Any] = MappingProxyType({})


def choose_model(
    listing: Any, model: str, *, base: str, served_model_name: str | None = None
) -> ServedModel:
    """Return which of a server's models is asked.

    The one that is named; else the only one; else the one that is called as the model
    here is, or was loaded from there.

    Parameters
    ----------
    listing : object
        What ``/v1/models`` answered.
    model : str
        The hub id or the folder of the tokenizer.
    base : str
        The server's address, for messages.
    served_model_name : str, optional

    Raises
    ------
    ConfigError
        None fits.
    EngineError
        This is no listing of models.

    Examples
    --------
    >>> listing = {"data": [{"id": "qwen", "max_model_len": 4096}]}
    >>> choose_model(listing, "Qwen/Qwen3-0.6B", base="http://localhost:8000/v1")[:2]
    ('qwen', 4096)
    """
    cards = _cards(listing, base)
    names = [str(card["id"]) for card in cards]
    if served_model_name is not None:
        fitting = [card for card in cards if card["id"] == served_model_name]
    elif len(cards) == 1:
        fitting = cards
    else:
        fitting = [card for card in cards if _is_called(card, model)]
    if len(fitting) != 1:
        asked = served_model_name if served_model_name is not None else model
        raise ConfigError(
            f"The server at {base} has no model {asked!r}; it has "
            f"{', '.join(map(repr, names))}. Give one of these as "
            f"{parameter('served_model_name')}."
        )
    [card] = fitting
    length = card.get("max_model_len")
    return ServedModel(
        str(card["id"]), length if isinstance(length, int) else None, card
    )


def vocabulary_size(model: str, revision: str | None = None) -> int:
    """Return the vocabulary size that a model's ``config.json`` names.

    Parameters
    ----------
    model : str
        A folder, or a hub id, of which this one file is fetched.
    revision : str, optional
        Revision of a hub model.

    Raises
    ------
    ModelLoadError
        There is no such file, or it names no size.
    """
    path = model_file(model, "config.json", revision)
    size = _find(_read_config(path), "vocab_size")
    if size is None:
        raise ModelLoadError(
            f"{path} names no vocab_size. Give the folder or hub id of the model that "
            "the server runs."
        )
    return size


def positions(model: str, revision: str | None = None) -> int | None:
    """Return how many tokens a model's ``config.json`` says that it takes, if any."""
    config = _read_config(model_file(model, "config.json", revision))
    return _find(config, "max_position_embeddings")


def model_file(model: str, name: str, revision: str | None = None) -> Path:
    """Return where a file of a model is, in its folder or fetched from the hub."""
    if Path(model).is_dir():
        return Path(model) / name
    only_here = check_source(model, revision=revision)
    # Comes with transformers, as does the tokenizer's own way to the hub.
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        found = hf_hub_download(
            model, name, revision=revision, local_files_only=only_here
        )
    except (OSError, HfHubHTTPError) as error:
        raise ModelLoadError(
            f"There is no folder {model!r}, and no such model could be fetched: "
            f"{first_line(error)}. Give the folder or hub id of the model that the "
            "server runs."
        ) from error
    return Path(found)


def _cards(listing: Any, base: str) -> list[Mapping[str, Any]]:
    data = listing.get("data") if isinstance(listing, Mapping) else None
    cards = [
        card
        for card in (data if isinstance(data, Sequence) else ())
        if isinstance(card, Mapping) and "id" in card
    ]
    if not cards:
        raise EngineError(
            f"The server at {base} lists no models (/v1/models), as vLLM, llama.cpp's "
            "server, Ollama and LM Studio do."
        )
    return cards


def _is_called(card: Mapping[str, Any], model: str) -> bool:
    folder = model.rstrip("/")
    return card["id"] in (folder, Path(folder).name) or card.get("root") == folder


def _read_config(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ModelLoadError(
            f"The server engine reads {path} for the model's vocabulary, and cannot: "
            f"{error}. Give the folder or hub id of the model that the server runs."
        ) from error


def _find(config: Any, name: str) -> int | None:
    if not isinstance(config, Mapping):
        return None
    value = config.get(name)
    if isinstance(value, int):
        return value
    found = (_find(config.get(part), name) for part in _PARTS)
    return next((value for value in found if value is not None), None)
