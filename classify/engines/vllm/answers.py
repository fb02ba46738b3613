"""From vLLM's answers to those of our requests, each of which may be several of its."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from classify.engines.answers import Answer, Request
from classify.engines.vllm.parameters import top_logprobs, tracked_logprobs
from classify.engines.vllm.reading import Chain, add_edges
from classify.errors import AnswerError
from classify.tracking import EdgeLogprobs, TokenTree, TrackedGeneration, TrackedRequest

__all__ = ["Waiting"]


@dataclass(slots=True)
class Waiting:
    """A request of ours, and what of vLLM's answers to it has come."""

    request: Request
    n_missing: int
    chains: Mapping[str, Chain] = field(default_factory=dict)
    edges: EdgeLogprobs | None = None
    answer: Answer = ()

    def take(self, output: Any) -> bool:
        """Take one of vLLM's answers; return whether all have come."""
        self.n_missing -= 1
        try:
            self.answer = self._answer(output)
        except AnswerError as error:
            self.answer = error
        return not self.n_missing

    def _answer(self, output: Any) -> Answer:
        if isinstance(self.answer, AnswerError):
            return self.answer
        if isinstance(self.request, TrackedRequest):
            return tuple(_generation_of(self.request, one) for one in output.outputs)
        assert self.edges is not None
        chain = self.chains[output.request_id]
        add_edges(self.edges, self.request.tree, chain, output.outputs[0])
        return self.edges


def _generation_of(request: TrackedRequest, completion: Any) -> TrackedGeneration:
    """Return a ``vllm.CompletionOutput`` as the answer to a request."""
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
            raise AnswerError(
                f"vLLM generated {list(token_ids)}, which leaves the allowed paths, so "
                "this text gets no label."
            )
    return len(token_ids), not tree.n_children[node]
