"""The columns of a step, computed from logits with torch operations only.

What `classify.engines.vllm.columns_kernel` does in one kernel on a GPU.
"""

from typing import NamedTuple

import torch

__all__ = ["Sources", "plain_columns"]


class Sources(NamedTuple):
    """The data from which columns are made.

    Attributes
    ----------
    logits : Tensor, shape (n_rows, vocab_size)
    sampled : Tensor of int64, shape (n_rows,)
        The token chosen at each row; anything where none was.
    top : Tensor of int64, shape (n_tracking, at most vocab_size), or None
        The most likely tokens of each tracking row.
    table : Tensor of int64, shape (11, n_tracking)
        Of each tracking row: row, slot, ahead, request, number of top tokens, first
        tracked column, end of its columns, number of ids, whether children are tracked;
        see `classify.engines.vllm.columns.Layout`.
    nodes : Tensor of int64, shape (n_tracking,)
        Where in the table of trees each tracking row reads.
    ids : Tensor of int64, shape (n_slots, most ids)
    tree : Tensor of int64, shape (3, n_nodes)
        Of each node token, first child, child count.
    n_columns : int
    """

    logits: torch.Tensor
    sampled: torch.Tensor
    top: torch.Tensor | None
    table: torch.Tensor
    nodes: torch.Tensor
    ids: torch.Tensor
    tree: torch.Tensor
    n_columns: int


def plain_columns(of: Sources) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return token ids (int32), values and ranks; see `Columns`."""
    rows, slots, _, _, n_top, first, end, n_ids, children = of.table[:9].unsqueeze(-1)
    raw = of.logits[rows[:, 0]]
    vocab_size = raw.shape[1]
    own = of.sampled[rows[:, 0]].unsqueeze(1)
    own = torch.where((own < 0) | (own >= vocab_size), 0, own)
    column = torch.arange(of.n_columns, device=raw.device).expand(len(raw), -1)
    at = column - first
    # Tracked tokens: those of the request, or the children of the node reached.
    width = max(1, of.ids.shape[1])
    ids = torch.nn.functional.pad(of.ids, (0, width - of.ids.shape[1]))
    fixed = ids[slots, at.clamp(0, width - 1)]
    tokens, below, count = of.tree
    nodes = torch.where(children > 0, of.nodes.unsqueeze(1), 0)
    child = tokens[torch.where(at < count[nodes], below[nodes] + at, 0).clamp(min=0)]
    found = torch.where(children > 0, child, fixed)
    used = (at >= 0) & torch.where(children > 0, at < count[nodes], at < n_ids)
    if of.top is not None:
        # There may be fewer tokens than were asked for.
        likeliest = torch.nn.functional.pad(of.top, (0, 1), value=vocab_size)
        which = (column - 2).clamp(0, likeliest.shape[1] - 1)
        is_top = (column >= 2) & (at < 0)
        found = torch.where(is_top, likeliest.gather(1, which), found)
        used |= is_top
    is_marker = (column == 1) & (at < 0)
    found = torch.where(is_marker, n_top, found)
    found = torch.where(column == 0, own, found)
    used = (used | is_marker | (column == 0)) & (column < end)
    found = torch.where(used, found, 0)
    # A wrong id must not take the engine, and everyone's requests, down with it.
    outside = (found >= vocab_size) & ~is_marker
    log_sum = torch.logsumexp(raw.float(), dim=-1, keepdim=True)
    values = raw.gather(1, torch.where(outside | is_marker, 0, found)).float() - log_sum
    values = torch.where(is_marker, 0.0, values)
    values = values.masked_fill(outside, float("nan"))
    values = values.masked_fill(~used, float("-inf"))
    ranks = (raw >= raw.gather(1, own)).sum(-1)
    return found.int(), values, ranks
