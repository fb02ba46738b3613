"""Any server with OpenAI's completions and ``logprobs``: LM Studio, vLLM, and others.

Some take token ids as a prompt and show ids, others know text only; some list twenty
tokens, others five. What a server takes is tried out once.
"""

import itertools
from collections.abc import Mapping
from typing import Any, Self

from classify.engines.server.completions import choice_of
from classify.engines.server.connection import SHORT, Connection, RequestFailedError
from classify.engines.server.listing import Listing
from classify.engines.server.lists import ListEndpoint
from classify.engines.server.served import ServedModel
from classify.engines.server.spelling import Spelling
from classify.errors import AnswerError, EngineError

__all__ = ["OpenAIEndpoint"]

# The most that servers list: vLLM, LM Studio and others; OpenAI itself.
_LISTED = (20, 5)
# Of no harm where they are not known, unless a server refuses what it does not know.
_EXTRAS = {"ignore_eos": True, "return_tokens_as_token_ids": True}


class OpenAIEndpoint(ListEndpoint):
    """``/v1/completions`` with ``logprobs``."""

    api = "openai"
    server = "an OpenAI-style server"
    concurrency = 16
    needs = (
        "It must have /v1/completions with logprobs, which show probabilities before "
        "sampling, and run the model given here."
    )

    _extras: Mapping[str, Any] = _EXTRAS

    @classmethod
    async def connect(
        cls,
        connection: Connection,
        served: ServedModel,
        *,
        n_listed: int | None,
        spelling: Spelling,
        context_length: int,
    ) -> Self:
        """Return the endpoint of a server's model, asked as it can be.

        Raises
        ------
        EngineError
            It cannot be asked in any way that is known.
        """
        failure: EngineError | None = None
        for n_tokens, extras, takes_ids in itertools.product(
            (n_listed,) if n_listed else _LISTED, (_EXTRAS, {}), (True, False)
        ):
            made = cls(
                connection,
                served.name,
                vocab_size=len(spelling),
                context_length=context_length,
                n_listed=n_tokens,
                spelling=spelling,
                takes_ids=takes_ids,
            )
            made._extras = extras
            try:
                if await made._is_understood():
                    await made.find_start()
                    return made
            except RequestFailedError as error:
                if error.is_of_all or error.is_away:
                    raise
                failure = failure or error
            except AnswerError as error:
                failure = failure or EngineError(str(error))
        raise failure or EngineError(
            f"The server at {connection.base} reads other tokens than the tokenizer of "
            "the model given here produces: give the model that the server runs."
        )

    async def _is_understood(self) -> bool:
        """Return whether the server reads as many tokens as are meant."""
        assert self._spelling is not None
        token_ids = (*self._spelling.start, *self._spelling.ids_of("a b"))
        prompt = list(token_ids) if self._takes_ids else "a b"
        found = await self._listed(prompt, self.n_listed, patience=SHORT)
        # Fewer where the server begins a text otherwise, which is looked into then.
        is_counted = not self._takes_ids or found.n_read == len(token_ids)
        # Some list fewer than they are asked for, and do not say so.
        self.n_listed = min(self.n_listed, len(found.entries))
        return bool(found.entries) and is_counted

    def _question(
        self, prompt: list[int] | str, n_listed: int, sampling: Mapping[str, float]
    ) -> tuple[str, dict[str, Any]]:
        return f"{self._connection.base}/completions", {
            "model": self.model,
            "prompt": prompt,
            "max_tokens": 1,
            "logprobs": n_listed,
            "stream": False,
            **sampling,
            **self._extras,
        }

    @staticmethod
    def _listing_of(body: Any) -> Listing:
        choice, usage = choice_of(body), body.get("usage")
        n_read = usage.get("prompt_tokens") if isinstance(usage, Mapping) else None
        return Listing(
            choice.get("logprobs"), n_read, choice.get("finish_reason") == "stop"
        )
