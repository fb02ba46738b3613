"""Generations with tracked values, from what a server offers.

A server cannot follow a token tree, takes only so many ids a request, and cannot be
asked for ids and most likely tokens together. So a free generation is one request,
after which values that did not fit into it are read at the tokens it chose; allowed
paths are walked from here, a token a request.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from classify.engines.decoding import Generation, pick
from classify.engines.server.completions import Ask, completion, free
from classify.engines.server.reading import in_parts, together, top_of_each, values_at
from classify.errors import AnswerError
from classify.tracking import TrackedGeneration

__all__ = ["run_generation"]


async def run_generation(ask: Ask, generation: Generation) -> TrackedGeneration:
    """Make one generation of a request."""
    if generation.allowed is None:
        await _generate_freely(ask, generation)
    else:
        await _walk(ask, generation)
    return generation.finished()


async def _walk(ask: Ask, generation: Generation) -> None:
    """Choose among the children of each node, from their values."""
    request = generation.request
    tracked = generation.tracked or []
    while generation.finish_reason is None:
        allowed = generation.allowed
        assert allowed is not None
        children = allowed.tolist()
        prompt = [*request.prompt_token_ids, *generation.token_ids]
        ids = sorted({*tracked, *children})
        values = await values_at(ask, prompt, ids)
        index = pick(
            [values[token] for token in children],
            request.temperature,
            generation.uniform(),
        )
        chosen = children[index]
        top: dict[int, float] = {}
        if request.top_logprobs:
            [top] = await top_of_each(ask, prompt, [chosen], request.top_logprobs)
        generation.append(chosen, _row(values, tracked), top)


async def _generate_freely(ask: Ask, generation: Generation) -> None:
    request = generation.request
    prompt, tracked = request.prompt_token_ids, generation.tracked or []
    parts = in_parts(tracked)
    token_ids, values, stopped = await _chosen(
        ask, generation, parts[0] if parts else []
    )
    rest = [token for part in parts[1:] for token in part]
    if rest:
        more = await together(
            values_at(ask, [*prompt, *token_ids[:step]], rest)
            for step in range(len(token_ids))
        )
        values = [{**some, **others} for some, others in zip(values, more, strict=True)]
    top: Sequence[dict[int, float]] = [{}] * len(token_ids)
    if request.top_logprobs:
        top = await top_of_each(ask, prompt, token_ids, request.top_logprobs)
    for step, token in enumerate(token_ids):
        row = _row(values[step], tracked) if tracked else np.empty(0)
        generation.append(token, row, dict(top[step]))
    if stopped:
        generation.finish_reason = "stop"


async def _chosen(
    ask: Ask, generation: Generation, ids: list[int]
) -> tuple[list[int], list[dict[int, float]], bool]:
    """Return the tokens, their values, and whether a stop token ended it."""
    request = generation.request
    token_ids: list[int] = []
    values: list[dict[int, float]] = []
    while True:
        uniform = generation.uniform()
        choice = await ask(
            free(
                [*request.prompt_token_ids, *token_ids],
                ids,
                max_tokens=request.max_tokens - len(token_ids),
                temperature=request.temperature,
                # A draw of the generation's own stream.
                seed=None if uniform is None else int(uniform * 2**53),
                stop_token_ids=request.stop_token_ids,
            )
        )
        answer = completion(choice, ids)
        if not 0 < len(answer.token_ids) <= request.max_tokens - len(token_ids):
            raise AnswerError(
                f"The server generated {len(answer.token_ids)} tokens, but was asked "
                f"for 1 to {request.max_tokens - len(token_ids)}."
            )
        token_ids += answer.token_ids
        values += answer.values
        stops = request.stop_token_ids
        stopped = answer.stopped and (stops is None or token_ids[-1] in stops)
        # A server may have stop tokens and a greatest length of its own; go on then.
        if stopped or len(token_ids) >= request.max_tokens:
            return token_ids, values, stopped


def _row(values: dict[int, float], tracked: Sequence[int]) -> npt.NDArray[np.float64]:
    return np.array([values[token] for token in tracked], dtype=np.float64)
