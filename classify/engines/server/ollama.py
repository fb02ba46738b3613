"""Ollama, which takes text and lists up to twenty tokens, without their ids."""

from collections.abc import Mapping
from typing import Any, Self

from classify.engines.server.connection import Connection
from classify.engines.server.listing import Listing
from classify.engines.server.lists import ListEndpoint
from classify.engines.server.served import ServedModel
from classify.engines.server.spelling import Spelling

__all__ = ["OllamaEndpoint"]

# Ollama refuses any above.
MAX_LISTED = 20


class OllamaEndpoint(ListEndpoint):
    """Ollama's ``/api/generate``, raw, with ``top_logprobs``."""

    api = "ollama"
    # It answers one request at a time, unless OLLAMA_NUM_PARALLEL says more.
    concurrency = 4
    needs = (
        "It must be a version of Ollama that returns logprobs, and run the model "
        "given here."
    )

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
        """Return the endpoint of a server's model."""
        made = cls(
            connection,
            served.name,
            vocab_size=len(spelling),
            context_length=context_length,
            n_listed=min(n_listed or MAX_LISTED, MAX_LISTED),
            spelling=spelling,
            takes_ids=False,
        )
        version = await connection.get_or_none(f"{connection.root}/api/version")
        number = version.get("version") if isinstance(version, Mapping) else None
        made.server = f"Ollama {number or 'of unknown version'}"
        await made.find_start()
        # Loaded now: how many tokens it takes may be less than what the model could.
        running = await connection.get_or_none(f"{connection.root}/api/ps")
        length = _loaded_length(running, served.name)
        made.context_length = min(made.context_length, (length or 1 << 30) - 1)
        return made

    def _question(
        self, prompt: list[int] | str, n_listed: int, sampling: Mapping[str, float]
    ) -> tuple[str, dict[str, Any]]:
        return f"{self._connection.root}/api/generate", {
            "model": self.model,
            "prompt": prompt,
            "raw": True,
            "stream": False,
            "logprobs": True,
            "top_logprobs": n_listed,
            # Rather refused than cut.
            "truncate": False,
            "shift": False,
            "options": {"num_predict": 1, **sampling},
        }

    @staticmethod
    def _listing_of(body: Any) -> Listing:
        if not isinstance(body, Mapping) or not body.get("done"):
            raise ValueError(f"something that is not a generation: {str(body)[:200]!r}")
        # Of the token that ends an answer, Ollama shows nothing.
        is_end = body.get("done_reason") == "stop"
        return Listing(body.get("logprobs"), body.get("prompt_eval_count"), is_end)


def _loaded_length(running: Any, name: str) -> int | None:
    models = running.get("models") if isinstance(running, Mapping) else None
    for model in models if isinstance(models, list) else ():
        if isinstance(model, Mapping) and name in (
            model.get("name"),
            model.get("model"),
        ):
            length = model.get("context_length")
            return length if isinstance(length, int) else None
    return None
