"""The columns of a step in one kernel, since each launch costs the host time.

Decoding with vLLM waits for its host, and torch's operations take some thirty launches
at every step.
"""

import torch
import triton
import triton.language as tl

from classify.engines.vllm.plain_columns import Sources

__all__ = ["fused_columns"]

_BLOCK = 4096
_MAX_BLOCK_OF_COLUMNS = 1024


def fused_columns(of: Sources) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return token ids (int32), values and ranks, as `plain_columns` does."""
    n, device = of.table.shape[1], of.logits.device
    ids = torch.empty((n, of.n_columns), dtype=torch.int32, device=device)
    values = torch.empty((n, of.n_columns), dtype=torch.float32, device=device)
    ranks = torch.empty(n, dtype=torch.int64, device=device)
    top = of.table if of.top is None else of.top
    block = min(_MAX_BLOCK_OF_COLUMNS, triton.next_power_of_2(of.n_columns))
    _columns[(n,)](
        ids,
        values,
        ranks,
        of.logits,
        of.logits.stride(0),
        of.logits.shape[1],
        of.sampled,
        of.sampled.stride(0),
        top,
        top.stride(0),
        0 if of.top is None else top.shape[1],
        of.table,
        n,
        of.nodes,
        of.ids,
        of.ids.stride(0),
        of.tree,
        of.tree.shape[1],
        of.n_columns,
        BLOCK=_BLOCK,
        COLUMNS=block,
        num_warps=8,
    )
    return ids, values, ranks


# Numbers that change from step to step must not make Triton compile once more.
@triton.jit(  # type: ignore[untyped-decorator]
    do_not_specialize=[
        "sampled_stride", "top_stride", "n_top", "n", "ids_stride", "n_nodes",
        "n_columns",
    ]
)  # fmt: skip
def _columns(  # type: ignore[no-untyped-def]
    ids_out,
    values_out,
    ranks_out,
    logits,
    logits_stride,
    vocab_size,
    sampled,
    sampled_stride,
    top,
    top_stride,
    n_top,
    table,
    n,
    nodes,
    ids,
    ids_stride,
    tree,
    n_nodes,
    n_columns,
    BLOCK: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    this = tl.program_id(0)
    # The rows of `Sources.table`.
    row = tl.load(table + this)
    slot = tl.load(table + n + this)
    marker = tl.load(table + 4 * n + this)
    first = tl.load(table + 5 * n + this)
    end = tl.load(table + 6 * n + this)
    n_tracked = tl.load(table + 7 * n + this)
    by_tree = tl.load(table + 8 * n + this)
    start = tl.zeros_like(row)
    if by_tree > 0:
        node = tl.load(nodes + this)
        start = tl.load(tree + n_nodes + node)
        n_tracked = tl.load(tree + 2 * n_nodes + node)
    raw = logits + row * logits_stride
    own = tl.load(sampled + row * sampled_stride)
    own = tl.where((own < 0) | (own >= vocab_size), 0, own)
    own_logit = tl.load(raw + own).to(tl.float32)

    greatest = tl.full((BLOCK,), float("-inf"), tl.float32)
    total = tl.zeros((BLOCK,), tl.float32)
    rank = tl.zeros((BLOCK,), tl.int32)
    for begin in range(0, vocab_size, BLOCK):
        at = begin + tl.arange(0, BLOCK)
        inside = at < vocab_size
        x = tl.load(raw + at, mask=inside, other=float("-inf")).to(tl.float32)
        new = tl.maximum(greatest, x)
        # Where nothing but -inf was seen, a difference would be NaN.
        safe = tl.where(new == float("-inf"), 0.0, new)
        total = total * tl.exp(greatest - safe) + tl.exp(x - safe)
        greatest = new
        rank += (inside & (x >= own_logit)).to(tl.int32)
    highest = tl.max(greatest, axis=0)
    total = tl.sum(total * tl.exp(greatest - highest), axis=0)
    log_total = tl.log(total)
    tl.store(ranks_out + this, tl.sum(rank, axis=0).to(tl.int64))

    for begin in range(0, n_columns, COLUMNS):
        column = begin + tl.arange(0, COLUMNS)
        at = column - first
        is_tracked = (at >= 0) & (at < n_tracked) & (column < end)
        is_top = (column >= 2) & (at < 0)
        is_marker = (column == 1) & (at < 0)
        wanted = ids + slot * ids_stride + at
        token = tl.load(wanted, mask=is_tracked & (by_tree == 0), other=0)
        token += tl.load(tree + start + at, mask=is_tracked & (by_tree > 0), other=0)
        exists = is_top & (column - 2 < n_top)
        likely = tl.load(top + this * top_stride + column - 2, mask=exists, other=0)
        token = tl.where(is_top, tl.where(exists, likely, vocab_size), token)
        token = tl.where(column == 0, own, token)
        used = is_tracked | is_top | is_marker | (column == 0)
        outside = (token < 0) | (token >= vocab_size)
        found = used & ~outside & ~is_marker
        x = tl.load(raw + token, mask=found, other=float("-inf")).to(tl.float32)
        value = tl.where(outside, float("nan"), x - highest - log_total)
        value = tl.where(is_marker, 0.0, value)
        value = tl.where(used, value, float("-inf"))
        token = tl.where(is_marker, marker, token)
        here = this.to(tl.int64) * n_columns + column
        inside = column < n_columns
        tl.store(values_out + here, value, mask=inside)
        tl.store(ids_out + here, token.to(tl.int32), mask=inside)
