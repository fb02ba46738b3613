"""A fused forward pass for Llama-shaped networks on a CPU.

transformers runs a layer as some forty operations, most of which do little but read and
write all activations, and computes every layer in full at every token. Here

- weights are laid out once for oneDNN (see `packing`), which also applies the
  activation function, the gate and the residual sum while it writes a product;
- the weights of RMSNorm are part of the product that follows:
  ``(x / rms(x) * g) Wᵀ = (x / rms(x)) (W diag(g))ᵀ``, as is the scale of attention;
- padding goes into attention only, where it is masked;
- heads that share keys and values are one matrix product;
- queries are attended in blocks, each with the slots up to the last one that it sees:
  about half of all pairs of a query and a slot, since most slots that are masked come
  after their query;
- the last layer computes only keys and values where no logits are wanted.

The arithmetic is the network's own, up to rounding. `selfcheck` compares it with the
network's own forward passes when a model is loaded, and it is not used if it differs.
"""

import functools
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import nn
from torch.nn.functional import embedding, scaled_dot_product_attention

from classify.engines.transformers.packing import Packed, PackedHead, can_pack
from classify.engines.transformers.slots import Bools, Ints, SlotCache

__all__ = ["FusedDecoder"]

# Networks of this shape in transformers: RMSNorm before attention and before a gated
# MLP, rotary positions, no biases or some, perhaps norms of queries and keys.
_CLASSES = {
    "LlamaForCausalLM",
    "MistralForCausalLM",
    "Qwen2ForCausalLM",
    "Qwen3ForCausalLM",
}
# Rotary positions that depend on nothing but the position.
_ROPE_TYPES = {"default", "linear", "llama3", "yarn"}
# Queries of a block: fewer skip more slots, more make larger products.
_BLOCK = 64
# Up to so many slots, these blocks are faster than torch's attention.
_MAX_SLOTS = 1024


class _Layer(NamedTuple):
    queries: Packed
    keys_values: Packed
    output: Packed
    gate: Packed
    up: Packed
    down: Packed
    query_norm: torch.Tensor | None
    key_norm: torch.Tensor | None


class _Heads(NamedTuple):
    n_queries: int
    n_keys: int
    width: int


class FusedDecoder:
    """A Llama-shaped network in float32 on a CPU.

    Made by `of`. It has weights of its own and does not follow later changes.
    """

    def __init__(self, model: Any) -> None:
        config, base = model.config, model.base_model
        attention = base.layers[0].self_attn
        width = int(attention.head_dim)
        self._heads = _Heads(
            attention.q_proj.out_features // width,
            attention.k_proj.out_features // width,
            width,
        )
        self._eps = float(config.rms_norm_eps)
        self._embeddings = base.embed_tokens.weight.detach()
        self._rotary = base.rotary_emb
        self._layers = [_layer(each) for each in base.layers]
        self._head = PackedHead.of(model.lm_head, scale=base.norm.weight)

    @classmethod
    def of(cls, model: Any) -> Self | None:
        """Return the model's fused form, or None where it has none.

        Parameters
        ----------
        model : transformers.PreTrainedModel
            Loaded for this package alone.
        """
        return cls(model) if _has_the_shape(model) and can_pack(model) else None

    def __call__(
        self,
        token_ids: Ints,
        *,
        positions: Ints,
        real: Bools,
        wanted: Bools,
        mask: torch.Tensor | None,
        cache: SlotCache | None,
    ) -> torch.Tensor:
        """Return logits, (R, V), of the wanted tokens in row-major order.

        See `Network.logits`.
        """
        n_kept = token_ids.shape[1] - int(np.flatnonzero(wanted.any(axis=0))[0])
        n_queries = token_ids.shape[1]
        is_long = (n_queries if mask is None else mask.shape[-1]) > _MAX_SLOTS
        if mask is None and (n_kept > 1 or not is_long):
            mask = _causal(n_queries)
        reach = None if mask is None or is_long else _reach(mask)
        every = _Layout(real, self._heads, reach)
        last = _Layout(
            wanted[:, -n_kept:], self._heads, None if reach is None else reach[-n_kept:]
        )
        states = embedding(torch.from_numpy(token_ids[real]), self._embeddings)
        waves = self._waves(states, positions[real])
        chosen = torch.from_numpy(np.flatnonzero(wanted[real]))
        for at, layer in enumerate(self._layers):
            normed = self._normed(states)
            keys, values = self._keys_values(layer, normed, waves, every)
            if cache is not None:
                keys, values = cache.update(keys, values, at)
            layout = every
            if at == len(self._layers) - 1:
                layout = last
                mask = None if mask is None else mask[..., -n_kept:, :]
                states, normed, *waves = (
                    each.index_select(0, chosen) for each in (states, normed, *waves)
                )
            queries = layer.queries(normed).view(
                -1, self._heads.n_queries, self._heads.width
            )
            if layer.query_norm is not None:
                queries = self._normed(queries).mul_(layer.query_norm)
            _rotate(queries, *waves)
            attended = layout.attend(queries, keys, values, mask)
            states = layer.output.plus(attended, states)
            normed = self._normed(states)
            gated = layer.up.times(normed, layer.gate.swish(normed))
            states = layer.down.plus(gated, states)
        return self._head(self._normed(states))

    def _waves(self, states: torch.Tensor, positions: Ints) -> list[torch.Tensor]:
        """Cosines and sines of the rotary positions, (T, 1, width / 2) each."""
        both: list[torch.Tensor] = self._rotary(
            states, torch.from_numpy(positions)[None]
        )
        # Both halves of a head turn alike.
        return [each[0, :, None, : self._heads.width // 2] for each in both]

    def _normed(self, states: torch.Tensor) -> torch.Tensor:
        """x / sqrt(mean(x²) + ε) along the last axis."""
        lengths = torch.linalg.vector_norm(states, dim=-1, keepdim=True)
        squares = lengths.square_().div_(states.shape[-1])
        normed: torch.Tensor = states * squares.add_(self._eps).rsqrt_()
        return normed

    def _keys_values(
        self,
        layer: _Layer,
        normed: torch.Tensor,
        waves: list[torch.Tensor],
        layout: "_Layout",
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of all tokens, (B, H, Q, D) each."""
        pairs = layer.keys_values(normed).view(
            -1, 2, self._heads.n_keys, self._heads.width
        )
        keys = pairs[:, 0]
        if layer.key_norm is not None:
            keys.copy_(self._normed(keys).mul_(layer.key_norm))
        _rotate(keys, *waves)
        return layout.keys_values(pairs)


class _Layout:
    """Where tokens, one after the other, stand in a batch with padding.

    Parameters
    ----------
    real : ndarray of bool, shape (B, Q)
        Where the batch has tokens, T in all.
    heads : _Heads
    reach : ndarray of int64, shape (Q,), or None
        See `_reach`. None: all queries are attended at once, by torch.
    """

    def __init__(self, real: Bools, heads: _Heads, reach: Ints | None) -> None:
        self._heads, self._shape = heads, real.shape
        n_rows, n_queries = real.shape
        block = n_queries if reach is None else _BLOCK
        blocks = [slice(at, at + block) for at in range(0, n_queries, block)]
        self._blocks: list[tuple[slice, int]] | None = None
        if reach is not None:
            self._blocks = [(each, int(reach[each].max())) for each in blocks]
        # Padding takes states of a token of its own row: they are masked, but a masked
        # NaN still makes a sum NaN, and must not come from another text.
        number = real.cumsum().reshape(real.shape) - 1
        token = np.where(real, number, number[:, -1:])
        token = token[:, None, :]  # (B, 1, Q)
        head = np.arange(heads.n_queries)[None, :, None]
        pair = np.arange(2 * heads.n_keys).reshape(2, 1, -1, 1)
        spread = token * heads.n_queries + head  # (B, G H, Q)
        spread = [spread[..., queries].ravel() for queries in blocks]
        self._of_queries = _index(np.concatenate(spread))  # block by block
        self._of_keys, self._of_values = (
            _index(each) for each in token[None] * 2 * heads.n_keys + pair
        )
        row, query = (each[:, None] for each in np.nonzero(real))
        start = query // block * block
        size = np.minimum(block, n_queries - start)
        before = start * n_rows * heads.n_queries
        within = (row * heads.n_queries + head[0].T) * size + query - start
        self._back = _index(before + within)  # (T, G H)

    def keys_values(self, pairs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(T, 2, H, D) → keys and values, (B, H, Q, D) each."""
        (n_rows, n_queries), (_, n_keys, width) = self._shape, self._heads
        flat = pairs.view(-1, width)
        keys = flat.index_select(0, self._of_keys)
        values = flat.index_select(0, self._of_values)
        shape = (n_rows, n_keys, n_queries, width)
        return keys.view(shape), values.view(shape)

    def attend(
        self,
        queries: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        mask: torch.Tensor | None,
    ) -> torch.Tensor:
        """Softmax(q kᵀ + mask) v of each head.

        Parameters
        ----------
        queries : tensor, shape (T, G H, D)
            Scaled. G heads after one another share keys and values.
        keys, values : tensor, shape (B, H, S, D)
        mask : tensor, shape (B, 1, Q, S) or (Q, S), or None
            None, where all queries are attended at once: they stand at all slots, or
            one at the last.

        Returns
        -------
        tensor, shape (T, G H D)
        """
        n_heads, _, width = self._heads
        spread = queries.view(-1, width).index_select(0, self._of_queries)
        attend = self._at_once if self._blocks is None else self._in_blocks
        return (
            attend(spread, keys, values, mask)
            .index_select(0, self._back)
            .view(-1, n_heads * width)
        )

    def _at_once(
        self,
        spread: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        mask: torch.Tensor | None,
    ) -> torch.Tensor:
        (n_rows, n_queries), (n_heads, _, width) = self._shape, self._heads
        attended = scaled_dot_product_attention(
            spread.view(n_rows, n_heads, n_queries, width),
            keys,
            values,
            attn_mask=mask,
            is_causal=mask is None and n_queries > 1,
            scale=1.0,
            enable_gqa=True,
        )
        return attended.reshape(-1, width)

    def _in_blocks(
        self,
        spread: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        mask: torch.Tensor | None,
    ) -> torch.Tensor:
        assert mask is not None
        assert self._blocks is not None
        n_rows, (n_heads, n_keys, width) = len(keys), self._heads
        grouped = (n_rows * n_keys, -1, width)
        keys, values = keys.reshape(grouped), values.reshape(grouped)
        attended = torch.empty_like(spread)
        start = 0
        for rows, n_slots in self._blocks:
            here = mask[..., rows, :n_slots]
            n_here = here.shape[-2]
            stop = start + n_rows * n_heads * n_here
            scores = torch.bmm(
                spread[start:stop].view(grouped), keys[:, :n_slots].transpose(1, 2)
            )
            scores.view(n_rows, n_heads, n_here, n_slots).add_(here)
            torch.bmm(
                torch.softmax(scores, -1),
                values[:, :n_slots],
                out=attended[start:stop].view(grouped),
            )
            start = stop
        return attended


def _index(numbers: Ints) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(numbers).ravel())


def _reach(mask: torch.Tensor) -> Ints:
    """Return after how many slots each query sees none in any row, shape (Q,)."""
    n_queries, n_slots = mask.shape[-2:]
    if n_queries <= _BLOCK:
        return np.full(n_queries, n_slots)
    visible = (mask.view(-1, n_queries, n_slots) == 0).any(0)
    hidden = visible.flip(-1).to(torch.uint8).argmax(-1)
    return n_slots - hidden.numpy()


@functools.lru_cache(maxsize=8)
def _causal(n_queries: int) -> torch.Tensor:
    """Mask of a batch without padding or past, (Q, Q)."""
    least = torch.finfo(torch.float32).min
    return torch.full((n_queries, n_queries), least).triu_(1)


def _rotate(states: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor) -> None:
    """Turn (T, H, D) by their positions, in place: (a, b) → (ac − bs, bc + as)."""
    first, second = states.chunk(2, dim=-1)
    turned = first * sines
    first.mul_(cosines).addcmul_(second, sines, value=-1)
    second.mul_(cosines).add_(turned)


def _layer(layer: Any) -> _Layer:
    attention, mlp = layer.self_attn, layer.mlp
    before = layer.input_layernorm.weight
    between = layer.post_attention_layernorm.weight
    factor, query_norm, key_norm = attention.scaling, None, None
    if hasattr(attention, "q_norm"):
        # A norm of the queries would take their scale out again.
        query_norm = attention.q_norm.weight.detach() * factor
        key_norm, factor = attention.k_norm.weight.detach(), 1.0
    return _Layer(
        queries=Packed.of(attention.q_proj, scale=before, factor=factor),
        keys_values=Packed.of(attention.k_proj, attention.v_proj, scale=before),
        output=Packed.of(attention.o_proj),
        gate=Packed.of(mlp.gate_proj, scale=between),
        up=Packed.of(mlp.up_proj, scale=between),
        down=Packed.of(mlp.down_proj),
        query_norm=query_norm,
        key_norm=key_norm,
    )


def _has_the_shape(model: Any) -> bool:
    """Whether a model is of a known class and has nothing that this pass leaves out."""
    kind, config = type(model), model.config
    if kind.__name__ not in _CLASSES or not kind.__module__.startswith(
        "transformers.models."
    ):
        return False
    rope = getattr(config, "rope_parameters", None) or {}
    linear = [
        module
        for name, module in model.named_modules()
        if name.rpartition(".")[2].endswith(("_proj", "lm_head"))
    ]
    return (
        rope.get("rope_type", "default") in _ROPE_TYPES
        and rope.get("partial_rotary_factor", 1.0) == 1.0
        and config.hidden_act == "silu"
        and getattr(config, "sliding_window", None) is None
        and set(getattr(config, "layer_types", None) or ()) <= {"full_attention"}
        # Not quantized, and without adapters.
        and all(type(module) is nn.Linear for module in linear)
        and type(model.get_input_embeddings()) is nn.Embedding
    )
