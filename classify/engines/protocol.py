"""What an engine is: token ids in, tracked log-probabilities out.

The seam has one shape for all engines: `submit` hands a request over and returns at
once, `poll` makes progress and returns what is finished. That is enough for an engine
that computes a batch at each `poll` (transformers), one that runs thousands of requests
side by side (vLLM) and one that waits for a network (server). Requests may finish in
any order, and more may be submitted while others run.

Whoever asks an engine opens a line of their own (`classify.engines.sharing`): that is
how several threads share one.
"""

import operator
from collections.abc import MutableSequence, Sequence, Set
from typing import Any, Protocol, runtime_checkable

import numpy as np

from classify.engines.answers import Request
from classify.errors import InputError
from classify.tracking import Completed, ReadRequest, TokenTree, TrackedRequest

__all__ = ["Engine", "Request", "check_request", "withdrawn"]


@runtime_checkable
class Engine(Protocol):
    """Turns token ids into tracked log-probabilities.

    Attributes
    ----------
    name : str
        The engine's name in options and reports.
    vocab_size : int
        Token ids are in ``[0, vocab_size)``.
    context_length : int
        Most tokens, prompt and continuation together, that the model takes.
    window : int
        How many texts a driver should keep in flight to keep this engine busy.
    asynchronous : bool, optional
        True if requests that are submitted while others run join them, so that there
        is no batch to wait for. Absent, it is false: an engine that computes a batch at
        each `poll`, whose values may depend on its make-up in their last digits.
    open_line : callable, optional
        Returns a `classify.engines.sharing.Line`. Absent, callers take turns at
        `submit` and `poll`, and no two threads are in them at the same time.
    """

    name: str
    vocab_size: int
    context_length: int
    window: int

    def submit(self, request: Request) -> int:
        """Take a request and return its ticket.

        Raises
        ------
        InputError
            The request cannot be answered: it names a token outside the vocabulary,
            is too long for the model, has no prompt. Nothing was computed.
        """
        ...

    def poll(self) -> list[Completed]:
        """Make progress; return what finished, or [] when nothing is outstanding.

        A request that failed alone, so that others can go on, has its error for a
        result.

        Raises
        ------
        EngineError
            The model failed. Requests in flight are lost.
        """
        ...

    def close(self) -> None:
        """Free the model. The engine cannot be used afterwards."""
        ...


def _check_token_ids(
    values: Sequence[int], vocab_size: int, what: str
) -> tuple[int, ...]:
    ids = []
    for value in values:
        try:
            token = operator.index(value)
        except TypeError:
            raise InputError(
                f"{what} must hold token ids, integers in [0, {vocab_size}). "
                f"Got {value!r} instead."
            ) from None
        if not 0 <= token < vocab_size:
            raise InputError(
                f"{what} holds {token}, which is outside the vocabulary of "
                f"{vocab_size} tokens: ids must be in [0, {vocab_size})."
            )
        ids.append(token)
    return tuple(ids)


def _check_tree(tree: TokenTree, vocab_size: int, what: str) -> None:
    worst = int(tree.tokens.max())
    if worst >= vocab_size or int(tree.tokens[1:].min()) < 0:
        _check_token_ids(tree.tokens[1:].tolist(), vocab_size, what)


def withdrawn(waiting: MutableSequence[tuple[int, Any]], tickets: Set[int]) -> set[int]:
    """Take those of these tickets that wait, with their requests, out of a queue."""
    taken = {ticket for ticket, _ in waiting if ticket in tickets}
    left = [each for each in waiting if each[0] not in taken]
    waiting.clear()
    waiting.extend(left)
    return taken


def check_request(request: Request, *, vocab_size: int, context_length: int) -> None:
    """Raise InputError unless an engine of this size can answer the request.

    Every engine calls this in `submit`, so that the same mistake gives the same
    sentence everywhere and costs no model call.

    Examples
    --------
    >>> check_request(TrackedRequest((1, 2), [3]), vocab_size=8, context_length=16)
    """
    prompt = np.asarray(request.prompt_token_ids)
    if prompt.size == 0:
        raise InputError(
            "prompt_token_ids is empty: a prompt needs at least one token."
        )
    if prompt.dtype.kind not in "iu" or prompt.min() < 0 or prompt.max() >= vocab_size:
        _check_token_ids(request.prompt_token_ids, vocab_size, "prompt_token_ids")
    if isinstance(request, ReadRequest):
        _check_tree(request.tree, vocab_size, "the token tree")
        for node in request.nodes:
            if (
                not 0 <= node < request.tree.n_nodes
                or not request.tree.n_children[node]
            ):
                raise InputError(
                    f"Node {node} of {request.tree} has no children to read."
                )
        deepest = max(
            (int(request.tree.depths[node]) for node in request.nodes), default=0
        )
        needed = prompt.size + deepest
    else:
        _check_generation(request, vocab_size)
        needed = prompt.size + request.max_tokens - 1
    if needed > context_length:
        raise InputError(
            f"The request needs {needed} tokens of context ({prompt.size} of them the "
            f"prompt), but the model takes {context_length}: shorten the prompt."
        )


def _check_generation(request: TrackedRequest, vocab_size: int) -> None:
    if request.track_token_ids is not None:
        _check_token_ids(request.track_token_ids, vocab_size, "track_token_ids")
    if request.stop_token_ids is not None:
        _check_token_ids(request.stop_token_ids, vocab_size, "stop_token_ids")
    if request.allowed is not None:
        _check_tree(request.allowed, vocab_size, "the allowed paths")
    for name, value, low in (
        ("max_tokens", request.max_tokens, 1),
        ("n", request.n, 1),
        ("top_logprobs", request.top_logprobs, 0),
    ):
        if value < low:
            raise InputError(f"{name} must be at least {low}. Got {value!r} instead.")
    if request.top_logprobs > vocab_size:
        raise InputError(
            f"top_logprobs must be at most the vocabulary size, {vocab_size}. "
            f"Got {request.top_logprobs} instead."
        )
    if request.seed is not None and request.seed < 0:
        raise InputError(f"seed must be at least 0. Got {request.seed!r} instead.")
    if not request.temperature >= 0.0:
        raise InputError(
            f"temperature must be 0 (greedy) or above. Got {request.temperature!r} "
            "instead."
        )
    if request.n > 1 and request.temperature == 0.0:
        raise InputError(
            f"n is {request.n} at temperature 0: every generation would be the same. "
            "Set a temperature above 0, or n=1."
        )
