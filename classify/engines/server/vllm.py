"""A vLLM server, which shows the log-probability of any token by its id."""

import functools
from collections.abc import Mapping
from typing import Any, Self

from classify.engines.answers import Answer, Request
from classify.engines.decoding import start_generations
from classify.engines.server.completions import choice_of
from classify.engines.server.connection import SHORT, Connection
from classify.engines.server.endpoint import Endpoint
from classify.engines.server.generation import run_generation
from classify.engines.server.reading import read_nodes, together
from classify.engines.server.retrying import Patience
from classify.engines.server.selftest import SelfTestCase, self_test
from classify.engines.server.served import ServedModel
from classify.errors import EngineError, InputError
from classify.tracking import ReadRequest
from classify.wording import parameter

__all__ = ["VllmEndpoint"]

# vLLM refuses any above.
_HIGHEST_TEMPERATURE = 2.0


class VllmEndpoint(Endpoint):
    """vLLM's ``/v1/completions`` with ``logprob_token_ids``."""

    api = "vllm"
    shows = "exact log-probabilities: any token's is asked for by its id"

    @classmethod
    async def connect(
        cls, connection: Connection, served: ServedModel, *, vocab_size: int
    ) -> Self:
        """Return the endpoint of a model that a vLLM server lists."""
        if served.max_model_len is None:
            raise EngineError(
                f"The server at {connection.base} does not report the context length "
                f"of {served.name!r} (max_model_len in /v1/models), as vLLM does: give "
                f"{parameter('api', 'openai')} if it is not a vLLM server."
            )
        # vLLM always generates a token more than a read needs.
        length = served.max_model_len - 1
        made = cls(
            connection, served.name, vocab_size=vocab_size, context_length=length
        )
        made.server = f"vLLM {await _version(connection)}"
        return made

    @property
    def needs(self) -> str:  # type: ignore[override]
        """The requirements for a server."""
        return (
            "It must be vLLM 0.26 or newer, which knows logprob_token_ids, without "
            "--speculative-config and with its default --logprobs-mode. Or use "
            f"{parameter('api', 'openai')}, which needs only the most likely tokens "
            f"and gives bounds, or {parameter('engine', 'vllm')}, which has no such "
            "requirements."
        )

    async def answer(
        self, request: Request, patience: Patience | None = None
    ) -> Answer:
        """Answer a request; see `Endpoint`."""
        ask = functools.partial(self._ask, patience)
        if isinstance(request, ReadRequest):
            return await read_nodes(ask, request)
        generations = start_generations(request)
        return tuple(await together(run_generation(ask, each) for each in generations))

    async def self_test(self) -> list[SelfTestCase]:
        """Compare tracked values with values that the server computes apart."""
        return await self_test(
            functools.partial(self._ask, SHORT),
            vocab_size=self.vocab_size,
            context_length=self.context_length,
        )

    def check(self, request: Request) -> None:
        """Raise InputError for what vLLM refuses; see `Endpoint`."""
        if isinstance(request, ReadRequest):
            return
        if request.allowed is None and request.temperature > _HIGHEST_TEMPERATURE:
            raise InputError(
                f"temperature must be at most {_HIGHEST_TEMPERATURE:g} with the server "
                f"engine. Got {request.temperature!r} instead."
            )
        needed = len(request.prompt_token_ids) + request.max_tokens
        if request.top_logprobs and needed > self.context_length:
            raise InputError(
                f"The request needs {needed} tokens of context for its top_logprobs, "
                f"but the model takes {self.context_length}: shorten the prompt."
            )

    async def _ask(
        self, patience: Patience | None, fields: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """Send a request's fields, and return the answer's one choice."""
        return await self._connection.post(
            f"{self._connection.base}/completions",
            {"model": self.model, **fields},
            understand=functools.partial(_choice_for, len(fields["prompt"])),
            patience=patience,
        )


def _choice_for(n_tokens: int, body: Any) -> Mapping[str, Any]:
    """Return the one choice of an answer; ValueError if it is to another prompt."""
    choice, usage = choice_of(body), body.get("usage")
    n_read = usage.get("prompt_tokens") if isinstance(usage, Mapping) else None
    if isinstance(n_read, int) and n_read != n_tokens:
        raise ValueError(f"a prompt of {n_read} tokens instead of {n_tokens}")
    return choice


async def _version(connection: Connection) -> str:
    """Return which version a server says that it has."""
    # vLLM answers this beside /v1, not below it; what stands in front may hide it.
    body = await connection.get_or_none(f"{connection.root}/version")
    if isinstance(body, Mapping) and "version" in body:
        return str(body["version"])
    return "of unknown version"
