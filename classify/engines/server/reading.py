"""Reads of token trees, and values of any number of ids, from one-token requests."""

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np

from classify.engines.server.completions import (
    MAX_IDS,
    Ask,
    first_values,
    next_token,
    prompt_values,
    scored_prompt,
)
from classify.errors import AnswerError
from classify.tracking import EdgeLogprobs, ReadRequest, TokenTree

__all__ = ["in_parts", "read_nodes", "together", "top_of_each", "values_at"]

_Result = TypeVar("_Result")


async def together(work: Iterable[Coroutine[Any, Any, _Result]]) -> list[_Result]:
    """Return all results, in their order; the first failure breaks off the rest."""
    coroutines = list(work)
    if len(coroutines) == 1:
        return [await coroutines[0]]
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each) for each in coroutines]
    except ExceptionGroup as failures:
        # Alone, as if there had been no group; first what concerns more than a text.
        first = min(failures.exceptions, key=lambda each: isinstance(each, AnswerError))
        raise first from first.__cause__
    return [task.result() for task in tasks]


def in_parts(ids: Sequence[int]) -> list[list[int]]:
    """Split ids into as few parts as a server takes, of much the same length.

    Examples
    --------
    >>> [len(part) for part in in_parts(range(300))]
    [100, 100, 100]
    """
    n_parts = -(-len(ids) // MAX_IDS)
    bounds = [len(ids) * part // max(n_parts, 1) for part in range(n_parts + 1)]
    return [[int(token) for token in ids[start:end]] for start, end in pairwise(bounds)]


async def values_at(
    ask: Ask, prompt: Sequence[int], ids: Sequence[int]
) -> dict[int, float]:
    """Return log p(id | prompt) of every id, in nats."""
    parts = in_parts(ids)
    answers = await together(_values_of_part(ask, prompt, part) for part in parts)
    return {token: value for answer in answers for token, value in answer.items()}


async def top_of_each(
    ask: Ask, prompt: Sequence[int], token_ids: Sequence[int], top: int
) -> list[dict[int, float]]:
    """Return the most likely tokens at each step of what followed a prompt.

    Returns
    -------
    list of dict of int to float, length n_steps
        Most likely first.
    """
    choice = await ask(scored_prompt([*prompt, *token_ids], top))
    steps = prompt_values(choice)[len(prompt) :]
    if len(steps) != len(token_ids):
        raise AnswerError(
            f"The server scored {len(steps)} tokens after a prompt, not "
            f"{len(token_ids)}."
        )
    # What was generated is among them, however unlikely.
    return [dict(list(step.items())[:top]) for step in steps]


async def read_nodes(ask: Ask, request: ReadRequest) -> EdgeLogprobs:
    """Answer a read, with a request for each node.

    The nodes of a text share its prompt, which is in the server's prefix cache after
    the first.
    """
    edges = np.full(request.tree.n_nodes, np.nan)
    nodes = list(dict.fromkeys(request.nodes))
    await together(
        _read_node(ask, request.prompt_token_ids, request.tree, node, edges)
        for node in nodes
    )
    return edges


async def _read_node(
    ask: Ask,
    prompt: Sequence[int],
    tree: TokenTree,
    node: int,
    edges: EdgeLogprobs,
) -> None:
    children = tree.children(node)
    ids = tree.tokens[children.start : children.stop].tolist()
    values = await values_at(ask, [*prompt, *tree.path(node)], ids)
    edges[children.start : children.stop] = [values[token] for token in ids]


async def _values_of_part(
    ask: Ask, prompt: Sequence[int], ids: Sequence[int]
) -> dict[int, float]:
    return first_values(await ask(next_token(prompt, ids)), ids)
