"""The network itself: one call, whatever the architecture wants to be called with."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from classify.engines.transformers.masks import MaskMaker
from classify.engines.transformers.slots import Ints
from classify.tracking import TokenTree

__all__ = ["Network", "pad_left", "row_logsumexp"]

# Names under which configurations keep the most positions.
_CONTEXT_NAMES = (
    "max_position_embeddings",
    "n_positions",
    "n_ctx",
    "max_seq_len",
    "max_sequence_length",
    "seq_length",
)
# As good as unlimited, for networks without positions.
_NO_LIMIT = 1 << 20

# Rows of logits whose exponentials fit a core's cache beside them.
_CHUNK_BYTES = 1 << 20
_CHUNK_BYTES_ACCELERATOR = 1 << 28


# Parts of the names of settings that hold a length from which on a model computes
# differently.
_CHANGE_NAMES = ("window", "original_max_position", "chunk_size")


def _lengths_of_change(config: Mapping[str, Any]) -> Iterator[int]:
    for name, value in config.items():
        if isinstance(value, dict):
            yield from _lengths_of_change(value)
        elif type(value) is int and any(part in str(name) for part in _CHANGE_NAMES):
            yield value


class Network:
    """A causal language model, in eval mode, with what must be known to call it.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        The model.

    Attributes
    ----------
    vocab_size : int
        Width of its logits.
    context_length : int
        Most tokens that it takes.
    layer_types : frozenset of str
        Kinds of its attention layers: "full_attention", "sliding_attention", others.
    sliding_window : int or None
        How far sliding layers see.
    length_edges : list of int
        Lengths from which on the model may compute differently, ascending.
    """

    def __init__(self, model: Any) -> None:
        self.model = model.eval()
        config = model.config.get_text_config(decoder=True)
        self.device = model.get_input_embeddings().weight.device
        self.dtype = next(
            (p.dtype for p in model.parameters() if p.is_floating_point()),
            torch.float32,
        )
        parameters = inspect.signature(model.forward).parameters
        self._takes_positions = "position_ids" in parameters
        self._takes_keep = "logits_to_keep" in parameters
        self._cache_name = (
            "cache_params" if "cache_params" in parameters else "past_key_values"
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
        self.layer_types = frozenset(getattr(config, "layer_types", None) or ())
        if not self.layer_types and self.sliding_window:
            self.layer_types = frozenset({"sliding_attention"})
        self.length_edges = sorted(set(_lengths_of_change(config.to_dict())))
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
        full = self.masks.additive(visible)
        window = self.sliding_window
        if (
            window is None
            or "sliding_attention" not in self.layer_types
            or int(positions.max()) < window
        ):
            return full
        sliding = self.masks.additive(visible & (distance < window))
        if self.layer_types == {"sliding_attention"}:
            return sliding
        return {"full_attention": full, "sliding_attention": sliding}

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
        """Run the network.

        Parameters
        ----------
        token_ids : ndarray of int64, shape (B, Q)
            The new tokens.
        keep : int
            K: for how many of the last tokens logits are wanted.
        positions : ndarray of int64, shape (B, Q), optional
            Where they stand in their texts; without, right behind the cache.
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
        output = self.model(
            input_ids=torch.from_numpy(token_ids).to(self.device), **arguments
        )
        # Some models ignore logits_to_keep.
        return output.logits[:, -keep:], getattr(output, self._cache_name, None)


def row_logsumexp(logits: torch.Tensor) -> torch.Tensor:
    """log of the sum of exponentials of each row, (R, V) → (R,), in float32.

    In chunks of rows: the exponentials stay in a core's cache, and no second (R, V)
    tensor is made.
    """
    n_rows, vocab_size = logits.shape
    # Off the CPU, launches cost more than memory.
    n_bytes = _CHUNK_BYTES if logits.device.type == "cpu" else _CHUNK_BYTES_ACCELERATOR
    per_chunk = max(1, n_bytes // (4 * vocab_size))
    norms = torch.empty(n_rows, dtype=torch.float32, device=logits.device)
    for start in range(0, n_rows, per_chunk):
        chunk = logits[start : start + per_chunk].float()
        torch.logsumexp(chunk, dim=-1, out=norms[start : start + per_chunk])
    return norms


def pad_left(rows: Sequence[Sequence[int]], width: int) -> Ints:
    """Right-align rows of ids in an array of zeros, shape (n_rows, width)."""
    array = np.zeros((len(rows), width), dtype=np.int64)
    for i, row in enumerate(rows):
        if row:
            array[i, width - len(row) :] = row
    return array
