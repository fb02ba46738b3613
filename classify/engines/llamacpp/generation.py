"""Generations: as many as fit run in one batch, one token of each per pass."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from classify.engines.decoding import Generation, pick, start_generations
from classify.engines.llamacpp.network import Logits, Network, Token, log_softmax
from classify.engines.llamacpp.sequences import MAX_ROWS, Row, Sequences
from classify.tracking import Completed, TrackedRequest

__all__ = ["generate"]


class _Started(NamedTuple):
    """A generation and its prompt."""

    prompt: tuple[int, ...]
    generation: Generation


def generate(
    network: Network, sequences: Sequences, requests: dict[int, TrackedRequest]
) -> list[Completed]:
    """Answer requests, by ticket; a prompt is computed once for all its generations."""
    started = {
        ticket: start_generations(request, network.stop_token_ids)
        for ticket, request in requests.items()
    }
    waiting = [
        _Started(tuple(map(int, requests[ticket].prompt_token_ids)), generation)
        for ticket, generations in started.items()
        for generation in generations
    ]
    for group in _groups(waiting, network.n_cells):
        # What is kept of reads would take the room that was counted on.
        sequences.forget()
        _run(network, sequences, group)
    sequences.forget()
    return [
        Completed(ticket, tuple(generation.finished() for generation in generations))
        for ticket, generations in started.items()
    ]


def _groups(waiting: Sequence[_Started], n_cells: int) -> Iterator[list[_Started]]:
    """Divide generations into groups that have room, whatever they come to."""
    group: list[_Started] = []
    n_needed = 0
    for each in waiting:
        n_tokens = each.generation.request.max_tokens
        if not group or group[-1].prompt != each.prompt:
            n_tokens += len(each.prompt)
        # A prompt and each of its generations have a sequence.
        if group and (n_needed + n_tokens > n_cells or 2 * len(group) >= MAX_ROWS):
            yield group
            group, n_needed = [], 0
            n_tokens = len(each.prompt) + each.generation.request.max_tokens
        group.append(each)
        n_needed += n_tokens
    yield group


def _run(network: Network, sequences: Sequences, group: Sequence[_Started]) -> None:
    of_prompt: dict[tuple[int, ...], list[Generation]] = {}
    for each in group:
        of_prompt.setdefault(each.prompt, []).append(each.generation)
    rows = {
        prompt: Row(prompt, prompt, {len(prompt) - 1: partial(_extend, generations)})
        for prompt, generations in of_prompt.items()
    }
    sequences.compute(list(rows.values()))
    going = [
        (each, sequences.fork(rows[each.prompt]))
        for each in group
        if each.generation.finish_reason is None
    ]
    while going:
        network.compute(
            [
                Token(
                    each.generation.token_ids[-1],
                    len(each.prompt) + len(each.generation.token_ids) - 1,
                    [sequence],
                    [partial(_extend, [each.generation])],
                )
                for each, sequence in going
            ]
        )
        for each, sequence in going:
            if each.generation.finish_reason is not None:
                sequences.give_up(sequence)
        going = [one for one in going if one[0].generation.finish_reason is None]


def _extend(generations: Sequence[Generation], logits: Logits) -> None:
    """Choose the next token of generations that are the same so far."""
    logprobs = log_softmax(logits)
    for generation in generations:
        request, allowed = generation.request, generation.allowed
        values = logprobs if allowed is None else logprobs[allowed]
        index = pick(values, request.temperature, generation.uniform())
        top: dict[int, float] = {}
        if request.top_logprobs:
            # Stable, so that of equals the lower id comes first.
            order = np.argsort(-logprobs, kind="stable")[: request.top_logprobs]
            top = {int(token): float(logprobs[token]) for token in order}
        generation.append(
            index if allowed is None else int(allowed[index]),
            logprobs[np.array(generation.tracked or [], dtype=np.int64)],
            top,
        )
