"""What a completion of vLLM's says of a generation request."""

from typing import Any

from classify.engines.vllm.parameters import top_logprobs, tracked_logprobs
from classify.errors import EngineError
from classify.tracking import TokenTree, TrackedGeneration, TrackedRequest

__all__ = ["generation_of"]


def generation_of(request: TrackedRequest, completion: Any) -> TrackedGeneration:
    """Return a ``vllm.CompletionOutput`` as the answer to a request.

    Raises
    ------
    EngineError
        It leaves the paths that the request allows.
    """
    token_ids = tuple(completion.token_ids)
    n_steps, at_leaf = len(token_ids), False
    if request.allowed is not None:
        n_steps, at_leaf = _steps_to_leaf(request.allowed, token_ids)
    tracked = None
    if request.track_token_ids is not None:
        tracked = {
            token: values[:n_steps]
            for token, values in tracked_logprobs(completion).items()
        }
    stopped = at_leaf or completion.finish_reason == "stop"
    return TrackedGeneration(
        token_ids=token_ids[:n_steps],
        tracked_logprobs=tracked,
        top_logprobs=top_logprobs(completion)[:n_steps],
        finish_reason="stop" if stopped else "length",
    )


def _steps_to_leaf(tree: TokenTree, token_ids: tuple[int, ...]) -> tuple[int, bool]:
    node: int | None = 0
    for step, token in enumerate(token_ids):
        assert node is not None
        if not tree.n_children[node]:
            return step, True
        node = tree.child_by_token(node, token)
        if node is None:
            raise EngineError(
                f"vLLM generated {list(token_ids)}, which leaves the allowed paths."
            )
    return len(token_ids), not tree.n_children[node]
