"""Checks of an engine's answers, made once, where they come in.

A model computes NaN for some texts (an overflow in float16), a server leaves values
out or sends numbers that are no log-probabilities. None of that may become a label,
and it says nothing about other texts.
"""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from classify.errors import AnswerError, RowError
from classify.tracking import (
    EdgeBounds,
    EdgeLogprobs,
    ReadRequest,
    TrackedGeneration,
    TrackedRequest,
)

__all__ = ["Answer", "Request", "checked_answer"]

Request: TypeAlias = ReadRequest | TrackedRequest
Answer: TypeAlias = EdgeLogprobs | EdgeBounds | tuple[TrackedGeneration, ...] | RowError

# By how many nats the log of a sum of probabilities may lie above 0. The engines here
# normalise in float32, where it is 1e-5 at most. Where the normaliser is rounded to
# bfloat16, it is off by half a step, 1/16 between 16 and 32; and where only the
# results are, by 2**-9 of the entropy, 0.025 for 2**18 tokens.
MAX_LOG_SUM = 0.1
_MAX_SUM = float(np.exp(MAX_LOG_SUM))

_NO_NUMBER = (
    "The model's log-probabilities for this text are incomplete or NaN, so it gets no "
    "label. If the model computes in float16, which overflows easily, use bfloat16 or "
    "float32."
)


def checked_answer(request: Request, answer: Answer) -> Answer:
    """Return an engine's answer if it holds what was asked for.

    Raises
    ------
    InputError
        The engine refused this request.
    AnswerError
        Values are missing or NaN, or are no log-probabilities.

    Examples
    --------
    >>> import numpy as np
    >>> from classify.tracking import TokenTree
    >>> tree = TokenTree([(1,), (2,)])
    >>> edges = np.array([np.nan, -1.0, np.nan])
    >>> checked_answer(ReadRequest((0,), tree, (0,)), edges)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    classify.errors.AnswerError: The model's log-probabilities for this text are ...
    """
    if isinstance(answer, Exception):
        raise answer
    if isinstance(answer, EdgeBounds) and isinstance(request, ReadRequest):
        for edges in (answer.values, answer.lower, answer.upper):
            _check_edges(request, edges, is_bound=edges is answer.upper)
    elif isinstance(request, ReadRequest):
        _check_edges(request, answer)
    else:
        _check_generations(request, answer)
    return answer


def _check_edges(
    request: ReadRequest, edges: object, *, is_bound: bool = False
) -> None:
    tree = request.tree
    if not isinstance(edges, np.ndarray) or edges.shape != (tree.n_nodes,):
        found = getattr(edges, "shape", type(edges).__name__)
        raise AnswerError(
            f"The engine must answer with an array of shape ({tree.n_nodes},), a value "
            f"for each node of the token tree. Got {found} instead."
        )
    inner = tree.inner_nodes
    # The children of inner nodes lie side by side, in the order of the nodes.
    starts = tree.first_child[inner] - 1
    with np.errstate(over="ignore"):
        sums = np.add.reduceat(np.exp(edges[1:]), starts)
    is_read = ~np.isnan(sums)
    # A node is read with all of its children, or not at all.
    n_missing = np.add.reduceat(np.isnan(edges[1:]), starts, dtype=np.int64)
    is_half_read = ~is_read & (n_missing < tree.n_children[inner])
    unread = np.zeros(tree.n_nodes, dtype=np.bool_)
    unread[inner[~is_read]] = True
    if is_half_read.any() or unread[list(request.nodes)].any():
        raise AnswerError(_NO_NUMBER)
    if not is_bound:  # upper bounds may well add up to more than 1
        _check_sums(sums[is_read])


def _check_generations(request: TrackedRequest, generations: object) -> None:
    if not isinstance(generations, tuple) or len(generations) != request.n:
        raise AnswerError(
            f"The engine must answer with a tuple of {request.n} generations. "
            f"Got {generations!r} instead."
        )
    if request.track_token_ids is None:
        return
    ids = list(dict.fromkeys(int(token) for token in request.track_token_ids))
    for generation in generations:
        tracked = generation.tracked_logprobs or {}
        rows = [tracked.get(token, ()) for token in ids]
        if any(len(row) != len(generation.token_ids) for row in rows):
            raise AnswerError(_NO_NUMBER)
        values = np.array(rows, dtype=np.float64)  # (n_ids, n_steps)
        if np.isnan(values).any():
            raise AnswerError(_NO_NUMBER)
        with np.errstate(over="ignore"):
            _check_sums(np.exp(values).sum(axis=0))


def _check_sums(sums: npt.NDArray[np.float64]) -> None:
    """Raise AnswerError if probabilities add up to more than 1, beyond rounding."""
    greatest = sums.max(initial=0.0)
    if greatest > _MAX_SUM:
        raise AnswerError(
            f"The model's probabilities for this text add up to {greatest:.3g}, and "
            "cannot be above 1: they are wrong, so it gets no label."
        )
