"""llama.cpp's server, which takes token ids and lists any number of tokens."""

from collections.abc import Mapping
from typing import Any, Self

from classify.engines.server.connection import Connection
from classify.engines.server.listing import Listing
from classify.engines.server.lists import ListEndpoint
from classify.engines.server.served import ServedModel
from classify.engines.server.spelling import Spelling
from classify.errors import EngineError
from classify.wording import parameter

__all__ = ["LlamaCppEndpoint"]

# Where nothing else is said: as fast as 20, and nearly all of the probability.
_LISTED = 1000


class LlamaCppEndpoint(ListEndpoint):
    """The ``/completion`` of llama.cpp's server, with ``n_probs``."""

    api = "llamacpp"
    needs = "It must be llama.cpp's server, and run the model given here."

    @classmethod
    async def connect(
        cls,
        connection: Connection,
        served: ServedModel,
        *,
        n_listed: int | None,
        spelling: Spelling | None,
    ) -> Self:
        """Return the endpoint of a server's model."""
        props = await connection.get_or_none(f"{connection.root}/props")
        settings = _mapping(_mapping(props).get("default_generation_settings"))
        n_vocab = _mapping(served.card.get("meta")).get("n_vocab")
        n_ctx = settings.get("n_ctx")
        if not isinstance(n_vocab, int) or not isinstance(n_ctx, int):
            raise EngineError(
                f"The server at {connection.base} does not report the sizes of its "
                "vocabulary and context (n_vocab in /v1/models, n_ctx in /props), as "
                f"llama.cpp's does: give {parameter('api', 'openai')} if it is a "
                "different server."
            )
        made = cls(
            connection,
            served.name,
            vocab_size=n_vocab,
            # It always generates a token more than a read needs.
            context_length=n_ctx - 1,
            n_listed=n_listed or _LISTED,
            spelling=spelling,
            takes_ids=True,
        )
        made.server = f"llama.cpp {_mapping(props).get('build_info', '')}".strip()
        # More texts than it has slots would drive each other's prompts out of these.
        made.concurrency = max(1, int(_mapping(props).get("total_slots") or 1))
        # It adds probabilities up in float32, one after another.
        made._rounding = n_vocab * 2.0**-24
        return made

    def _question(
        self, prompt: list[int] | str, n_listed: int, sampling: Mapping[str, float]
    ) -> tuple[str, dict[str, Any]]:
        return f"{self._connection.root}/completion", {
            "prompt": prompt,
            "n_predict": 1,
            "n_probs": n_listed,
            **sampling,
            "cache_prompt": True,
            # Where an answer ends, it lists nothing otherwise.
            "ignore_eos": True,
            "post_sampling_probs": False,
            "stream": False,
        }

    @staticmethod
    def _listing_of(body: Any) -> Listing:
        if not isinstance(body, Mapping) or "content" not in body:
            raise ValueError(f"something that is not a completion: {str(body)[:200]!r}")
        return Listing(
            body.get("completion_probabilities"), body.get("tokens_evaluated")
        )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
