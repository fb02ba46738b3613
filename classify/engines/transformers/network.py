"""The network: one way to call it, for all architectures."""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional
from transformers.modeling_outputs import CausalLMOutputWithPast

from classify.engines.transformers.fused import FusedDecoder
from classify.engines.transformers.masks import MaskMaker
from classify.engines.transformers.packing import pack_weights
from classify.engines.transformers.slots import Bools, Ints, SlotCache
from classify.tracking import TokenTree

__all__ = ["Network", "float32_head", "logprobs_at", "pad_left", "row_logsumexp"]

FloatArray = npt.NDArray[np.float64]
# Names under which configurations keep the most positions.
_CONTEXT_NAMES = (
    "max_position_embeddings",
    "n_positions",
    "n_ctx",
    "max_seq_len",
    "max_sequence_length",
    "seq_length",
)
# What the cache is called: since transformers 5.24, and before it.
_CACHE_NAMES = ("cache", "cache_params", "past_key_values")
# In a forward pass that names none of its arguments.
_CACHE_NAME = (
    "cache"
    if any(each.name == "cache" for each in fields(CausalLMOutputWithPast))
    else "past_key_values"
)
# As good as unlimited, for networks without positions.
_NO_LIMIT = 1 << 20
# Rows of logits whose exponentials fit a core's cache beside them.
_CHUNK_BYTES = 1 << 20
_CHUNK_BYTES_ACCELERATOR = 1 << 28
# Shorter texts are compared when a model is loaded.
_MIN_EDGE = 12
_HALVES = (torch.bfloat16, torch.float16)
# Rows of a weight that are made float32 at a time: 64 MB at a width of 4,096.
_N_ROWS = 4096


def _lengths_of_change(value: Any, name: str = "") -> Iterator[int]:
    """All whole numbers of a configuration that may be a length.

    A window, or what a model was first trained on, has many names: a length that turns
    out to be another size costs a comparison.
    """
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _lengths_of_change(each, str(key))
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _lengths_of_change(each, name)
    elif type(value) is int and value >= _MIN_EDGE and "token" not in name:
        yield value


class Network:
    """A causal language model, in eval mode, with what must be known to call it.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        The model.
    fused : FusedDecoder, optional
        A faster form of it, for `logits`.

    Attributes
    ----------
    vocab_size : int
        Width of its logits.
    context_length : int
        Maximum number of tokens that it takes.
    layer_types : frozenset of str
        Kinds of its attention layers: "full_attention", "sliding_attention", others.
    sliding_window : int or None
        How far sliding layers see.
    chunk_size : int or None
        How many tokens see each other in chunked layers.
    length_edges : list of int
        Lengths above which the model may compute differently, ascending.
    """

    def __init__(self, model: Any, fused: FusedDecoder | None = None) -> None:
        self.model = model.eval()
        self.fused = fused
        config = model.config.get_text_config(decoder=True)
        self.device = model.get_input_embeddings().weight.device
        self.dtype = next(
            (p.dtype for p in model.parameters() if p.is_floating_point()),
            torch.float32,
        )
        parameters = inspect.signature(model.forward).parameters
        self._takes_positions = "position_ids" in parameters
        self._takes_keep = "logits_to_keep" in parameters
        self._cache_name = next(
            (name for name in _CACHE_NAMES if name in parameters), _CACHE_NAME
        )
        head = model.get_output_embeddings()
        self.vocab_size = int(
            head.weight.shape[0] if head is not None else config.vocab_size
        )
        self.context_length = next(
            (
                int(getattr(config, name))
                for name in _CONTEXT_NAMES
                if isinstance(getattr(config, name, None), int)
            ),
            _NO_LIMIT,
        )
        self.sliding_window: int | None = getattr(config, "sliding_window", None)
        self.chunk_size: int | None = getattr(config, "attention_chunk_size", None)
        self.layer_types = frozenset(getattr(config, "layer_types", None) or ())
        if not self.layer_types and self.sliding_window:
            self.layer_types = frozenset({"sliding_attention"})
        self.length_edges = sorted(
            edge
            for edge in set(_lengths_of_change(config.to_dict()))
            if edge < self.context_length and edge != self.vocab_size
        )
        self.masks = MaskMaker(self.dtype, self.device)

    def stop_token_ids(self) -> frozenset[int]:
        """Return the tokens with which this model ends what it says."""
        for config in (self.model.generation_config, self.model.config):
            eos = getattr(config, "eos_token_id", None)
            if eos is not None:
                return frozenset([eos] if isinstance(eos, int) else eos)
        return frozenset()

    def mask(
        self,
        trees: Sequence[TokenTree | None],
        codes: Ints,
        positions: Ints,
        n_queries: int,
    ) -> torch.Tensor | dict[str, torch.Tensor]:
        """Make what the network takes as `attention_mask`; see `MaskMaker.visible`."""
        visible, distance = self.masks.visible(trees, codes, positions, n_queries)
        masks = {"full_attention": self.masks.additive(visible)}
        n_tokens = int(positions.max()) + 1
        window, chunk = self.sliding_window, self.chunk_size
        if "sliding_attention" in self.layer_types and window and n_tokens > window:
            masks["sliding_attention"] = self.masks.additive(
                visible & (distance < window)
            )
        if "chunked_attention" in self.layer_types and chunk and n_tokens > chunk:
            chunks = torch.from_numpy(positions // chunk).to(self.device)
            same = chunks[:, -n_queries:, None] == chunks[:, None, :]
            masks["chunked_attention"] = self.masks.additive(visible & same)
        if len(masks) == 1:
            return masks["full_attention"]
        if len(self.layer_types) == 1:
            return masks[next(iter(self.layer_types))]
        return masks

    def give_up_fused(self) -> None:
        """Use the model's own forward pass for everything from now on."""
        self.fused = None
        pack_weights(self.model)

    def logits(
        self,
        token_ids: Ints,
        *,
        positions: Ints,
        real: Bools,
        wanted: Bools,
        mask: torch.Tensor | dict[str, torch.Tensor] | None,
        cache: SlotCache | None,
    ) -> torch.Tensor:
        """Run the network over a batch with padding, in the fastest way there is.

        Parameters
        ----------
        token_ids, positions : ndarray of int64, shape (B, Q)
            The new tokens, and where they stand in their texts.
        real : ndarray of bool, shape (B, Q)
            Which of them are tokens, and not padding.
        wanted : ndarray of bool, shape (B, Q)
            For which of these logits are wanted; R in all.
        mask : tensor or dict of tensor, optional
            See `mask`; without, plain causal attention, if nothing came before.
        cache : SlotCache, optional
            What came before; the new tokens are added to it.

        Returns
        -------
        tensor, shape (R, V)
            In row-major order of `wanted`.
        """
        if self.fused is not None:
            assert not isinstance(mask, dict)
            return self.fused(
                token_ids,
                positions=positions,
                real=real,
                wanted=wanted,
                mask=mask,
                cache=cache,
            )
        keep = token_ids.shape[1] - int(np.flatnonzero(wanted.any(axis=0))[0])
        kept, _ = self(
            token_ids, keep=keep, positions=positions, mask=mask, cache=cache
        )
        rows = np.flatnonzero(wanted[:, -keep:])
        flat = kept.reshape(-1, kept.shape[-1])
        if len(rows) == len(flat):
            return flat
        return flat[torch.from_numpy(rows).to(flat.device)]

    def __call__(
        self,
        token_ids: Ints,
        *,
        keep: int,
        positions: Ints | None = None,
        mask: torch.Tensor | dict[str, torch.Tensor] | None = None,
        cache: Any = None,
        use_cache: bool = False,
    ) -> tuple[torch.Tensor, Any]:
        """Run the model's own forward pass.

        Parameters
        ----------
        token_ids : ndarray of int64, shape (B, Q)
            The new tokens.
        keep : int
            K: for how many of the last tokens logits are wanted.
        positions : ndarray of int64, shape (B, Q), optional
            Where they stand in their texts; without, right after the cache.
        mask : tensor or dict of tensor, optional
            See `mask`; without, plain causal attention.
        cache : transformers cache, optional
            What came before.
        use_cache : bool, default=False
            Whether to return a cache where none was given.

        Returns
        -------
        logits : tensor, shape (B, K, V)
        cache : transformers cache or None
        """
        arguments: dict[str, Any] = {"use_cache": use_cache or cache is not None}
        if self._takes_keep:
            arguments["logits_to_keep"] = keep
        if positions is not None and self._takes_positions:
            arguments["position_ids"] = torch.from_numpy(positions).to(self.device)
        if mask is not None:
            arguments["attention_mask"] = mask
        if cache is not None:
            arguments[self._cache_name] = cache
        inputs = torch.from_numpy(token_ids).to(self.device)
        with float32_head(self.model):
            output = self.model(input_ids=inputs, **arguments)
        # Some models ignore logits_to_keep.
        return output.logits[:, -keep:], _cache_of(output, self._cache_name)


def _cache_of(output: Any, name: str) -> Any:
    # The old names are there, and warn, where the new one is.
    cache = getattr(output, "cache", None)
    return getattr(output, name, None) if cache is None else cache


def row_logsumexp(logits: torch.Tensor) -> torch.Tensor:
    """log of the sum of exponentials of each row, (R, V) → (R,), in float32.

    In chunks of rows: no second (R, V) tensor is made.
    """
    norms = torch.empty(len(logits), dtype=torch.float32, device=logits.device)
    for rows in _chunks(logits):
        torch.logsumexp(logits[rows].float(), dim=-1, out=norms[rows])
    return norms


def logprobs_at(logits: torch.Tensor, rows: Ints, tokens: Ints) -> FloatArray:
    """log p(token) in some rows of logits, full vocabulary, computed in float32.

    Parameters
    ----------
    logits : tensor, shape (R, V)
    rows, tokens : ndarray of int64, shape (n,)
        Ascending rows.

    Returns
    -------
    ndarray of float64, shape (n,)
        logits[row, token] - log of the sum of exponentials of the row, in nats.
    """
    found = torch.empty(len(rows), dtype=torch.float32, device=logits.device)
    which = torch.from_numpy(np.stack([rows, tokens])).to(logits.device)
    for chunk in _chunks(logits):
        here = slice(*np.searchsorted(rows, (chunk.start, chunk.stop)))
        # One operation, where logsumexp is four.
        logprobs = torch.log_softmax(logits[chunk].float(), dim=-1)
        found[here] = logprobs[which[0, here] - chunk.start, which[1, here]]
    host: FloatArray = found.cpu().double().numpy()
    return host


def _chunks(logits: torch.Tensor) -> Iterator[slice]:
    """Rows that stay in a core's cache."""
    # Off the CPU, launches cost more than memory.
    n_bytes = _CHUNK_BYTES if logits.device.type == "cpu" else _CHUNK_BYTES_ACCELERATOR
    per_chunk = max(1, n_bytes // (4 * logits.shape[1]))
    for start in range(0, len(logits), per_chunk):
        yield slice(start, min(start + per_chunk, len(logits)))


def pad_left(rows: Sequence[Sequence[int]], width: int) -> Ints:
    """Right-align rows of ids in an array, shape (n_rows, width).

    Padding is the row's own first id: it is masked, but a masked NaN still makes a sum
    NaN, and must not come from a token that the row has not.
    """
    array = np.zeros((len(rows), width), dtype=np.int64)
    for i, row in enumerate(rows):
        if row:
            array[i] = row[0]
            array[i, width - len(row) :] = row
    return array


@contextmanager
def float32_head(model: Any) -> Iterator[None]:
    """Compute logits in float32 meanwhile, where the head is a layer of 16 bits.

    Only temporarily: the model may belong to someone else. A head that is quantized, or
    of a class of its own, stays as it is.
    """
    head = model.get_output_embeddings()
    if type(head) is not nn.Linear or head.weight.dtype not in _HALVES:
        yield
        return
    head.forward = partial(_linear, head)  # type: ignore[method-assign]
    try:
        yield
    finally:
        del head.forward


def _linear(head: nn.Linear, hidden: torch.Tensor) -> torch.Tensor:
    """X Wᵀ + b in float32, without a copy of the whole weight."""
    if hidden.dtype != head.weight.dtype:
        return functional.linear(hidden, head.weight, head.bias)
    rows = hidden.reshape(-1, hidden.shape[-1])
    if hidden.is_cuda:
        logits = torch.mm(rows, head.weight.t(), out_dtype=torch.float32)
    else:
        rows = rows.float()
        logits = rows.new_empty((len(rows), len(head.weight)))
        for start in range(0, len(head.weight), _N_ROWS):
            some = slice(start, start + _N_ROWS)
            logits[:, some] = rows @ head.weight[some].float().t()
    if head.bias is not None:
        logits += head.bias.float()
    return logits.reshape(*hidden.shape[:-1], -1)
