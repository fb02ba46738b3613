"""Which API a server has: given by the user, or detected from its answers."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from classify.engines.server.connection import SHORT, Connection
from classify.engines.server.endpoint import Endpoint
from classify.engines.server.llamacpp import LlamaCppEndpoint
from classify.engines.server.ollama import OllamaEndpoint
from classify.engines.server.openai import OpenAIEndpoint
from classify.engines.server.served import (
    ServedModel,
    choose_model,
    positions,
    vocabulary_size,
)
from classify.engines.server.spelling import Spelling
from classify.engines.server.vllm import VllmEndpoint
from classify.errors import ConfigError
from classify.wording import parameter

__all__ = ["Wanted", "connect"]


class Wanted(NamedTuple):
    """The user's settings for a server's model.

    Attributes
    ----------
    model : str
        The folder, file or hub id of its tokenizer.
    revision : str or None
    served_model_name : str or None
    api : str
        See `classify.engines.server.kind`.
    top_logprobs : int or None
        How many of the most likely tokens to ask for.
    """

    model: str
    revision: str | None = None
    served_model_name: str | None = None
    api: str = "auto"
    top_logprobs: int | None = None


async def connect(connection: Connection, wanted: Wanted) -> Endpoint:
    """Return the model of a server that is wanted, in the API that the server speaks.

    Raises
    ------
    ConfigError
        The server has no such model, or the API has no such option.
    EngineError
        The server cannot be reached, or speaks another API.
    """
    served = choose_model(
        await connection.get(f"{connection.base}/models", patience=SHORT),
        wanted.model,
        base=connection.base,
        served_model_name=wanted.served_model_name,
    )
    api = wanted.api if wanted.api != "auto" else await _api_of(connection, served)
    if api == VllmEndpoint.api:
        return await _vllm(connection, served, wanted)
    if api == LlamaCppEndpoint.api:
        spelling = None if Path(wanted.model).is_file() else _spelling(wanted)
        return await LlamaCppEndpoint.connect(
            connection, served, n_listed=wanted.top_logprobs, spelling=spelling
        )
    by_text = OllamaEndpoint if api == OllamaEndpoint.api else OpenAIEndpoint
    length = served.max_model_len or positions(wanted.model, wanted.revision)
    return await by_text.connect(
        connection,
        served,
        n_listed=wanted.top_logprobs,
        spelling=_spelling(wanted),
        # It always generates a token more than a read needs.
        context_length=(length or 4096) - 1,
    )


async def _vllm(
    connection: Connection, served: ServedModel, wanted: Wanted
) -> Endpoint:
    if wanted.top_logprobs is not None:
        raise ConfigError(
            f"{parameter('top_logprobs', wanted.top_logprobs)} has no effect with a "
            "vLLM server, which shows any token that is asked for: leave it out, or "
            f"give {parameter('api', OpenAIEndpoint.api)}."
        )
    size = vocabulary_size(wanted.model, wanted.revision)
    return await VllmEndpoint.connect(connection, served, vocab_size=size)


async def _api_of(connection: Connection, served: ServedModel) -> str:
    """Return which API a server speaks."""
    if served.max_model_len is not None:
        return VllmEndpoint.api
    if isinstance(served.card.get("meta"), Mapping):
        return LlamaCppEndpoint.api
    version = await connection.get_or_none(f"{connection.root}/api/version")
    if isinstance(version, Mapping) and "version" in version:
        return OllamaEndpoint.api
    return OpenAIEndpoint.api


def _spelling(wanted: Wanted) -> Spelling:
    return Spelling.load(wanted.model, wanted.revision)
