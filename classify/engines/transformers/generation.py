"""Batched generation with tracked ids at every step."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from classify.engines.decoding import Generation, pick
from classify.engines.transformers.network import Network, pad_left, row_logsumexp
from classify.engines.transformers.selfcheck import ReadMode
from classify.engines.transformers.slots import PAD, PROMPT, Ints, SlotCache

__all__ = ["generate_batch"]


def generate_batch(
    network: Network, requests: Sequence[Sequence[Generation]], mode: ReadMode
) -> None:
    """Run the generations of requests to their ends.

    Parameters
    ----------
    network : Network
        The model.
    requests : sequence of sequence of Generation
        For each request its generations, which begin with the same prompt. In a mode
        other than "tree" all prompts must have one length: nothing is padded.
    mode : {"tree", "forked", "cached", "uncached"}
        How the network may be called.
    """
    prompts = [generations[0].request.prompt_token_ids for generations in requests]
    generations = [generation for group in requests for generation in group]
    of_prompt = [i for i, group in enumerate(requests) for _ in group]
    steps: _TreeSteps | _CachedSteps | _UncachedSteps
    if mode == "tree":
        most = max(generation.request.max_tokens for generation in generations)
        steps = _TreeSteps(network, prompts, of_prompt, most)
    elif mode == "uncached":
        steps = _UncachedSteps(network, prompts, of_prompt)
    else:
        steps = _CachedSteps(network, prompts, of_prompt)
    logits = steps.logits
    while True:
        _choose(logits, generations)
        going = [
            i
            for i, generation in enumerate(generations)
            if generation.finish_reason is None
        ]
        if not going:
            return
        generations = [generations[i] for i in going]
        logits = steps.advance(
            going, [generation.token_ids[-1] for generation in generations]
        )


class _TreeSteps:
    """Prompts padded on the left; finished rows leave the batch."""

    def __init__(
        self,
        network: Network,
        prompts: Sequence[tuple[int, ...]],
        of_prompt: list[int],
        most_tokens: int,
    ) -> None:
        self._network = network
        width = max(map(len, prompts))
        lengths = np.array([[len(prompt)] for prompt in prompts])
        offsets = np.arange(width) - (width - lengths)
        self._codes: Ints = np.where(offsets < 0, PAD, PROMPT)
        self._positions: Ints = np.where(offsets < 0, 0, offsets)
        # Room for what is likely; more is found by growing.
        self._cache = SlotCache(room=min(most_tokens - 1, 64))
        plain = bool((self._codes == PROMPT).all())
        logits = network.logits(
            pad_left(prompts, width),
            positions=self._positions,
            real=self._codes != PAD,
            wanted=np.broadcast_to(np.arange(width) == width - 1, self._codes.shape),
            mask=None if plain else self._mask(width),
            cache=self._cache if most_tokens > 1 else None,
        )
        self.logits = logits[of_prompt]
        if of_prompt != list(range(len(prompts))) and most_tokens > 1:
            self._select(of_prompt)

    def _mask(self, n_queries: int) -> torch.Tensor | dict[str, torch.Tensor]:
        return self._network.mask(
            [None] * len(self._codes), self._codes, self._positions, n_queries
        )

    def _select(self, rows: list[int]) -> None:
        self._codes, self._positions = self._codes[rows], self._positions[rows]
        self._cache = SlotCache(
            [(keys[rows], values[rows]) for keys, values in self._cache.key_values()]
        )

    def advance(self, going: list[int], tokens: list[int]) -> torch.Tensor:
        """Feed one token to each row that continues; return logits, (B, V)."""
        if len(going) < len(self._codes):
            self._select(going)
        n_rows = len(tokens)
        positions = self._positions[:, -1:] + 1
        self._codes = np.hstack([self._codes, np.full((n_rows, 1), PROMPT)])
        self._positions = np.hstack([self._positions, positions])
        each = np.ones((n_rows, 1), dtype=np.bool_)
        return self._network.logits(
            np.array(tokens, dtype=np.int64)[:, None],
            positions=positions,
            real=each,
            wanted=each,
            mask=self._mask(1),
            cache=self._cache,
        )


class _CachedSteps:
    """Prompts of one length on the network's own cache; finished rows run along."""

    def __init__(
        self, network: Network, prompts: Sequence[tuple[int, ...]], of_prompt: list[int]
    ) -> None:
        self._network = network
        self._rows = list(range(len(of_prompt)))
        self._tokens = np.zeros((len(of_prompt), 1), dtype=np.int64)
        token_ids = np.array([prompts[i] for i in of_prompt], dtype=np.int64)
        logits, self._cache = network(token_ids, keep=1, use_cache=True)
        self.logits = logits[:, 0]

    def advance(self, going: list[int], tokens: list[int]) -> torch.Tensor:
        """Feed one token to each row that continues; return logits, (B, V)."""
        self._rows = [self._rows[i] for i in going]
        self._tokens[self._rows, 0] = tokens
        logits, self._cache = self._network(
            self._tokens, keep=1, cache=self._cache, use_cache=True
        )
        return logits[self._rows, 0]


class _UncachedSteps:
    """The whole text again at every step."""

    def __init__(
        self, network: Network, prompts: Sequence[tuple[int, ...]], of_prompt: list[int]
    ) -> None:
        self._network = network
        self._token_ids = np.array([prompts[i] for i in of_prompt], dtype=np.int64)
        self.logits = network(self._token_ids, keep=1)[0][:, 0]

    def advance(self, going: list[int], tokens: list[int]) -> torch.Tensor:
        """Feed one token to each row that continues; return logits, (B, V)."""
        self._token_ids = np.hstack(
            [self._token_ids[going], np.array(tokens, dtype=np.int64)[:, None]]
        )
        return self._network(self._token_ids, keep=1)[0][:, 0]


def _choose(logits: torch.Tensor, generations: Sequence[Generation]) -> None:
    """Append to each generation its next token, chosen from a row of logits, (B, V)."""
    norms = row_logsumexp(logits)
    tracked = _gather(
        logits, norms, [generation.tracked or () for generation in generations]
    )
    allowed = [generation.allowed for generation in generations]
    choices = _gather(logits, norms, [() if ids is None else ids for ids in allowed])
    free = _choose_freely(
        logits, [i for i, ids in enumerate(allowed) if ids is None], generations
    )
    top = _top(logits, norms, generations)
    for i, generation in enumerate(generations):
        ids = allowed[i]
        if ids is None:
            token = free[i]
        else:
            index = pick(
                choices[i], generation.request.temperature, generation.uniform()
            )
            token = int(ids[index])
        generation.append(token, tracked[i], top[i])


def _gather(
    logits: torch.Tensor, norms: torch.Tensor, ids: Sequence[Any]
) -> list[npt.NDArray[np.float64]]:
    """Log-probabilities of each row's ids, one ragged list a row."""
    lengths = [len(row) for row in ids]
    if not any(lengths):
        return [np.empty(0)] * len(ids)
    flat = np.concatenate([np.asarray(row, dtype=np.int64) for row in ids])
    rows = np.repeat(np.arange(len(ids)), lengths)
    where = torch.from_numpy(np.stack([rows, flat])).to(logits.device)
    values = logits[where[0], where[1]].float() - norms[where[0]]
    host = values.cpu().double().numpy()
    return np.split(host, np.cumsum(lengths)[:-1])


def _choose_freely(
    logits: torch.Tensor, rows: Sequence[int], generations: Sequence[Generation]
) -> dict[int, int]:
    """Choose from the whole vocabulary, for the rows named."""
    chosen: dict[int, int] = {}
    greedy = [i for i in rows if generations[i].request.temperature == 0.0]
    if greedy:
        chosen.update(zip(greedy, logits[greedy].argmax(-1).tolist(), strict=True))
    sampled = [i for i in rows if generations[i].request.temperature > 0.0]
    if sampled:
        temperatures = [generations[i].request.temperature for i in sampled]
        uniforms = [generations[i].uniform() for i in sampled]
        tokens = _sample(logits[sampled], temperatures, uniforms)
        chosen.update(zip(sampled, tokens, strict=True))
    return chosen


def _sample(
    logits: torch.Tensor, temperatures: list[float], uniforms: list[float | None]
) -> list[int]:
    """`pick` on the device. MPS has no float64, so there it runs on the host."""
    device = logits.device if logits.device.type != "mps" else torch.device("cpu")
    values = logits.to(device).double()
    scale = torch.tensor(temperatures, dtype=torch.float64, device=device)[:, None]
    draws = torch.tensor(uniforms, dtype=torch.float64, device=device)[:, None]
    peaks = values.amax(-1, keepdim=True)
    cumulative = ((values - peaks) / scale).exp_().cumsum(-1)
    found = torch.searchsorted(cumulative, draws * cumulative[:, -1:], right=True)
    tokens: list[int] = found[:, 0].clamp_(max=logits.shape[1] - 1).tolist()
    return tokens


def _top(
    logits: torch.Tensor, norms: torch.Tensor, generations: Sequence[Generation]
) -> list[dict[int, float]]:
    """The most likely tokens of each row that asked for them, most likely first."""
    most = max(generation.request.top_logprobs for generation in generations)
    if not most:
        return [{} for _ in generations]
    values, ids = logits.topk(most, dim=-1)
    logprobs = (values.float() - norms[:, None]).tolist()
    return [
        dict(zip(row_ids[:n], row[:n], strict=True))
        for row_ids, row, n in zip(
            ids.tolist(),
            logprobs,
            (generation.request.top_logprobs for generation in generations),
            strict=True,
        )
    ]
