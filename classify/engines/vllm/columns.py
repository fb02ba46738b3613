"""Tracked values of a batch, computed beside vLLM's sampler, without a loop over rows.

This is the part that both of vLLM's model runners share. It keeps for each request (a
*slot*) what it wants and how far it has come, as tensors on the device, and turns the
raw logits of a step into the columns that `classify.engines.vllm.wire` describes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from classify.engines.vllm.wire import Wanted, decode_tree

__all__ = ["Columns", "Step", "TrackingState"]

Ints = npt.NDArray[np.int64]

# Node 0 of the table of all trees: no children, so nothing is tracked or masked there.
_NOWHERE = 0
# From so many nodes on, trees that no request uses are dropped: 12 MB of table.
_MOST_NODES = 1 << 19


@dataclass(frozen=True, slots=True)
class Columns:
    """What a step reports for its tracking rows.

    Attributes
    ----------
    token_ids : Tensor of int64, shape (n_tracking, n_columns)
        See `classify.engines.vllm.wire`; 0 in columns that a row does not use.
    values : Tensor of float32, shape (n_tracking, n_columns)
        log p(token | tokens before) in nats, full vocabulary, before any mask or
        temperature; -inf in columns that a row does not use.
    ranks : Tensor of int64, shape (n_tracking,)
        How many tokens are at least as likely as the generated one.
    """

    token_ids: torch.Tensor
    values: torch.Tensor
    ranks: torch.Tensor


class TrackingState:
    """What the requests of a worker want, and where in their trees they are.

    Parameters
    ----------
    device : torch.device
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._slots = _Slots(device)
        self._trees = _Trees(device)

    def add(self, slot: int, wanted: Wanted | None, *, marker: bool = True) -> None:
        """Begin a request in a slot; None for one that tracks nothing."""
        self.remove(slot)
        if wanted is None:
            return
        if self._trees.crowded:
            self._slots.shift(self._trees.compact())
        start = 0 if wanted.tree is None else self._trees.add(slot, wanted.tree)
        width = self._trees.width(slot) if wanted.children else len(wanted.token_ids)
        self._slots.add(slot, wanted, start + wanted.node, width, marker=marker)

    def remove(self, slot: int) -> None:
        """Forget the request in a slot."""
        self._slots.remove(slot)
        self._trees.remove(slot)

    def tracks(self, slots: Ints) -> npt.NDArray[np.bool_]:
        """Return which slots track, shape (n,); false for slot -1."""
        return self._slots.tracks(slots)

    def step(
        self, slots: Ints, positions: Ints, tokens: torch.Tensor | None = None
    ) -> "Step":
        """Prepare a sampling step.

        Parameters
        ----------
        slots : ndarray of int64, shape (n_requests,)
            The slot of each request of the batch; -1 where it was never added.
        positions : ndarray of int64, shape (n_requests,)
            Rows of logits of each request, its drafted tokens' and one more.
        tokens : Tensor of int64, shape (n_rows,), optional
            The token fed in at each row: a draft at a request's second row and later.
            None: nothing was drafted.
        """
        return Step(self._slots, self._trees, slots, positions, tokens)


class _Slots:
    """What each request wants, in host arrays and, for those in use, on the device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.tracking = np.zeros(0, dtype=np.bool_)
        self.n_top = np.zeros(0, dtype=np.int64)
        self.width = np.zeros(0, dtype=np.int64)
        self.first_column = np.zeros(0, dtype=np.int64)
        self.children = np.zeros(0, dtype=np.bool_)
        self.masked = np.zeros(0, dtype=np.bool_)
        self.in_tree = np.zeros(0, dtype=np.bool_)
        self.n_ids = np.zeros(0, dtype=np.int64)
        self.n_forced = np.zeros(0, dtype=np.int64)
        self._ids = np.zeros((0, 0), dtype=np.int64)
        self._forced = np.zeros((0, 0), dtype=np.int64)
        self._starts = np.zeros(0, dtype=np.int64)
        self._dirty: set[int] = set()
        self.ids = torch.zeros((0, 0), dtype=torch.int64, device=device)
        self.forced = torch.zeros((0, 0), dtype=torch.int64, device=device)
        # How far each request has come: the node reached, and tokens generated.
        self.nodes = torch.zeros(0, dtype=torch.int64, device=device)
        self.n_generated = torch.zeros(0, dtype=torch.int64, device=device)

    def tracks(self, slots: Ints) -> npt.NDArray[np.bool_]:
        known = (slots >= 0) & (slots < len(self.tracking))
        return known & self.tracking[np.where(known, slots, 0)] if known.any() else known

    def add(
        self, slot: int, wanted: Wanted, start: int, width: int, *, marker: bool
    ) -> None:
        self._reserve(slot + 1, len(wanted.token_ids), len(wanted.forced))
        self.tracking[slot] = True
        self.n_top[slot] = wanted.top
        self.width[slot] = width
        self.first_column[slot] = 2 + wanted.top if marker else 1
        self.children[slot] = wanted.children
        self.masked[slot] = wanted.masked
        self.in_tree[slot] = wanted.tree is not None
        self.n_ids[slot] = len(wanted.token_ids)
        self.n_forced[slot] = len(wanted.forced)
        self._ids[slot, : len(wanted.token_ids)] = wanted.token_ids
        self._forced[slot, : len(wanted.forced)] = wanted.forced
        self._starts[slot] = start
        self._dirty.add(slot)

    def remove(self, slot: int) -> None:
        if slot < len(self.tracking):
            self.tracking[slot] = False
            self._dirty.discard(slot)

    def shift(self, moves: Mapping[int, int]) -> None:
        """Move the nodes of slots in the table of trees."""
        if not moves:
            return
        slots = np.fromiter(moves, dtype=np.int64)
        by = np.fromiter(moves.values(), dtype=np.int64)
        self._starts[slots] += by
        at = _to(slots, self.device)
        inside = self.nodes[at] != _NOWHERE
        self.nodes[at] += _to(by, self.device) * inside

    def upload(self) -> None:
        """Bring what was added since the last step to the device."""
        if not self._dirty:
            return
        slots = np.fromiter(self._dirty, dtype=np.int64)
        self._dirty.clear()
        at = _to(slots, self.device)
        self.ids[at] = _to(self._ids[slots], self.device)
        self.forced[at] = _to(self._forced[slots], self.device)
        self.nodes[at] = _to(self._starts[slots], self.device)
        self.n_generated[at] = 0

    def _reserve(self, n_slots: int, n_ids: int, n_forced: int) -> None:
        rows = _grown(len(self.tracking), n_slots)
        shape_ids = (rows, _grown(self._ids.shape[1], n_ids))
        shape_forced = (rows, _grown(self._forced.shape[1], n_forced))
        if rows > len(self.tracking):
            for name in (
                "tracking", "n_top", "width", "first_column", "children", "masked",
                "in_tree", "n_ids", "n_forced", "_starts",
            ):  # fmt: skip
                setattr(self, name, _padded(getattr(self, name), (rows,)))
            self.nodes = _padded_tensor(self.nodes, (rows,))
            self.n_generated = _padded_tensor(self.n_generated, (rows,))
        if shape_ids != self._ids.shape:
            self._ids = _padded(self._ids, shape_ids)
            self.ids = _padded_tensor(self.ids, shape_ids)
        if shape_forced != self._forced.shape:
            self._forced = _padded(self._forced, shape_forced)
            self.forced = _padded_tensor(self.forced, shape_forced)


class _Trees:
    """All trees in use as one table of nodes: token, first child, number of children."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._table = np.zeros((3, 1), dtype=np.int64)
        self._starts: dict[bytes, int] = {}
        self._widths: dict[bytes, int] = {}
        self._of_slot: dict[int, bytes] = {}
        self._on_device = torch.zeros((3, 1), dtype=torch.int64, device=device)
        self._stale = False
        self._most = _MOST_NODES

    def add(self, slot: int, packed: bytes) -> int:
        """Return the node at which the tree begins in the table."""
        if packed not in self._starts:
            self._append(packed)
        self._of_slot[slot] = packed
        return self._starts[packed]

    def remove(self, slot: int) -> None:
        """Forget the tree of a slot; it stays for the next request with its labels."""
        self._of_slot.pop(slot, None)

    @property
    def crowded(self) -> bool:
        """Whether there are so many nodes that unused trees should go."""
        return self._table.shape[1] > self._most

    def compact(self) -> dict[int, int]:
        """Drop the trees that no slot uses; return how far each slot's tree moved."""
        before, table = dict(self._starts), self._table
        used = set(self._of_slot.values())
        self._starts, self._table = {}, table[:, :1]
        for packed in used:
            self._append(packed)
        self._widths = {packed: self._widths[packed] for packed in used}
        # Twice what is in use, so that the work done here stays a small share.
        self._most = max(_MOST_NODES, 2 * self._table.shape[1])
        return {
            slot: self._starts[packed] - before[packed]
            for slot, packed in self._of_slot.items()
        }

    def _append(self, packed: bytes) -> None:
        tokens, first, count = decode_tree(packed)
        start = self._table.shape[1]
        block = np.stack([tokens, first + start, count])
        self._table = np.concatenate([self._table, block], axis=1)
        self._starts[packed] = start
        self._widths[packed] = int(count.max())
        self._stale = True

    def width(self, slot: int) -> int:
        """Return the greatest number of children in the tree of a slot."""
        return self._widths[self._of_slot[slot]]

    def upload(self) -> None:
        """Bring the table to the device if it has changed."""
        if self._stale:
            self._on_device = _to(self._table, self.device)
            self._stale = False

    def children(
        self, nodes: torch.Tensor, width: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return nodes, tokens and validity of children; each of shape (…, width)."""
        tokens, first, count = self._on_device
        offsets = torch.arange(width, device=self.device)
        valid = offsets < count[nodes].unsqueeze(-1)
        below = torch.where(valid, first[nodes].unsqueeze(-1) + offsets, _NOWHERE)
        return below, tokens[below], valid

    def descend(
        self, nodes: torch.Tensor, tokens: torch.Tensor, width: int
    ) -> torch.Tensor:
        """Return the child that each token leads to; `_NOWHERE` if there is none."""
        below, found, valid = self.children(nodes, width)
        hit = valid & (found == tokens.unsqueeze(-1))
        # At most one child has the token: the sum is that child.
        return (below * hit).sum(-1)




class Step:
    """One sampling step: mask the logits, read the columns, move on.

    Use it in this order: `mask` before the sampler runs, `columns` with the tokens that
    it chose, `advance` with those that were accepted.
    """

    def __init__(
        self,
        slots: "_Slots",
        trees: _Trees,
        slot_of_request: Ints,
        n_rows: Ints,
        tokens: torch.Tensor | None,
    ) -> None:
        self._slots, self._trees = slots, trees
        device = slots.device
        of_row = np.repeat(np.arange(len(n_rows)), n_rows)
        self._n_rows = len(of_row)
        tracking = slots.tracks(slot_of_request)
        row_tracks = tracking[of_row]
        rows = np.flatnonzero(row_tracks)
        self.all_rows = len(rows) == self._n_rows
        self._host_slots = slot_of_request[of_row[rows]]
        slots.upload()
        trees.upload()
        self.rows = _to(rows, device)
        self._requests = _to(np.flatnonzero(tracking), device)
        self._request_slots = _to(slot_of_request[tracking], device)
        self._row_slots = _to(self._host_slots, device)
        in_tree = slots.in_tree[self._host_slots]
        self._in_tree = bool(in_tree.any())
        used = [
            trees.width(int(slot)) for slot in np.unique(self._host_slots[in_tree])
        ]
        self._width = max(used, default=0)
        # Position of each tracking row within its request.
        starts = np.concatenate([[0], np.cumsum(n_rows)])[:-1]
        self._ahead = rows - starts[of_row[rows]]
        self._nodes = self._nodes_of_rows(tracking, n_rows, starts, tokens)

    def _nodes_of_rows(
        self,
        tracking: npt.NDArray[np.bool_],
        n_rows: Ints,
        starts: Ints,
        tokens: torch.Tensor | None,
    ) -> torch.Tensor:
        """Return the tree node at which each tracking row reads, shape (n_tracking,)."""
        device = self._slots.device
        if not self._in_tree:
            return torch.zeros(len(self._ahead), dtype=torch.int64, device=device)
        nodes = self._slots.nodes[self._request_slots]
        reached = [nodes]
        n_ahead = n_rows[tracking]
        for ahead in range(1, int(n_ahead.max(initial=1))):
            assert tokens is not None
            at = np.where(ahead < n_ahead, starts[tracking] + ahead, 0)
            nodes = self._trees.descend(nodes, tokens[_to(at, device)], self._width)
            reached.append(nodes)
        of_request = np.repeat(np.arange(len(n_ahead)), n_ahead)
        return torch.stack(reached)[_to(self._ahead, device), _to(of_request, device)]

    def mask(self, logits: torch.Tensor) -> torch.Tensor:
        """Return logits in which forced and masked rows allow only their tokens.

        Parameters
        ----------
        logits : Tensor, shape (n_rows, vocab_size)
            Not changed; returned as it is where nothing is masked.
        """
        slots = self._slots
        may_force = slots.n_forced[self._host_slots] > self._ahead
        masked = slots.masked[self._host_slots]
        chosen = np.flatnonzero(may_force | masked)
        if not len(chosen):
            return logits
        device = slots.device
        at = _to(chosen, device)
        of_slot = self._row_slots[at]
        _, tokens, valid = self._trees.children(self._nodes[at], max(self._width, 1))
        valid = valid & _to(masked[chosen], device).unsqueeze(-1)
        n_forced = _to(slots.n_forced[self._host_slots[chosen]], device)
        position = slots.n_generated[of_slot] + _to(self._ahead[chosen], device)
        if slots.forced.shape[1]:
            forcing = position < n_forced
            last = slots.forced.shape[1] - 1
            forced = slots.forced[of_slot, position.clamp(max=last)]
            tokens = torch.where(forcing.unsqueeze(-1), forced.unsqueeze(-1), tokens)
            first_only = torch.arange(tokens.shape[1], device=device) == 0
            valid = torch.where(forcing.unsqueeze(-1), first_only, valid)
        # Unused columns repeat the first one, so that a scatter may write them too.
        tokens = torch.where(valid, tokens, tokens[:, :1])
        rows = self.rows[at]
        free = logits[rows]
        only = torch.full_like(free, float("-inf"))
        only.scatter_(1, tokens, free.gather(1, tokens))
        only = torch.where(valid.any(-1, keepdim=True), only, free)
        return logits.index_copy(0, rows, only)

    def columns(self, logits: torch.Tensor, sampled: torch.Tensor) -> Columns:
        """Return the columns of the tracking rows.

        Parameters
        ----------
        logits : Tensor, shape (n_rows, vocab_size)
            Raw: as the model gave them.
        sampled : Tensor of int64, shape (n_rows,)
            The token chosen at each row; any valid id where none was.
        """
        slots, device = self._slots, self._slots.device
        raw = logits if self.all_rows else logits[self.rows]
        chosen = sampled if self.all_rows else sampled[self.rows]
        log_sum = torch.logsumexp(raw.float(), dim=-1, keepdim=True)
        n_top = slots.n_top[self._host_slots]
        most_top = int(n_top.max(initial=0))
        ids, valid = self._tracked_ids()
        if most_top:
            top = torch.topk(raw, most_top, dim=-1).indices
            ids = torch.cat([top, ids], dim=1)
            valid = torch.nn.functional.pad(valid, (most_top, 0), value=True)
        values = (raw.gather(1, ids).float() - log_sum).masked_fill(
            ~valid, float("-inf")
        )
        own = raw.gather(1, chosen.unsqueeze(1))
        marker = _to(n_top, device).unsqueeze(1)
        zero = torch.zeros_like(log_sum)
        ids = torch.cat([chosen.unsqueeze(1), marker, ids], dim=1)
        values = torch.cat([own.float() - log_sum, zero, values], dim=1)
        order, used = self._order(most_top)
        return Columns(
            token_ids=ids.gather(1, order) * used,
            values=values.gather(1, order).masked_fill(~used, float("-inf")),
            ranks=(raw >= own).sum(-1),
        )

    def advance(self, tokens: torch.Tensor, accepted: torch.Tensor) -> None:
        """Move the requests on by the tokens that were accepted.

        Parameters
        ----------
        tokens : Tensor of int64, shape (n_requests, n_steps)
        accepted : Tensor of bool, shape (n_requests, n_steps)
        """
        slots = self._slots
        tokens, accepted = tokens[self._requests], accepted[self._requests]
        slots.n_generated[self._request_slots] += accepted.sum(-1)
        if not self._in_tree:
            return
        nodes = slots.nodes[self._request_slots]
        for step in range(tokens.shape[1]):
            below = self._trees.descend(nodes, tokens[:, step], self._width)
            nodes = torch.where(accepted[:, step], below, nodes)
        slots.nodes[self._request_slots] = nodes

    def _tracked_ids(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return ids and validity of tracked tokens, shape (n_tracking, width)."""
        slots, device = self._slots, self._slots.device
        n_ids = slots.n_ids[self._host_slots]
        children = slots.children[self._host_slots]
        n_fixed = int(n_ids.max(initial=0))
        width = max(n_fixed, self._width if children.any() else 0)
        fixed = slots.ids[self._row_slots, :n_fixed]
        fixed = torch.nn.functional.pad(fixed, (0, width - n_fixed))
        valid = torch.arange(width, device=device) < _to(n_ids, device).unsqueeze(1)
        if children.any():
            _, tokens, is_child = self._trees.children(self._nodes, width)
            by_tree = _to(children, device).unsqueeze(1)
            fixed = torch.where(by_tree, tokens, fixed)
            valid = torch.where(by_tree, is_child, valid)
        return torch.where(valid, fixed, 0), valid

    def _order(self, most_top: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return which of the computed columns each reported column is, and its use."""
        slots, device = self._slots, self._slots.device
        first = slots.first_column[self._host_slots]
        n_columns = int((first + slots.width[self._host_slots]).max(initial=1))
        column = torch.arange(n_columns, device=device)
        first_column = _to(first, device).unsqueeze(1)
        end = first_column + _to(slots.width[self._host_slots], device).unsqueeze(1)
        tracked = 2 + most_top + column - first_column
        return (
            torch.where(column < first_column, column, tracked)
            * (column < end),
            column < end,
        )


def _to(array: Any, device: torch.device) -> torch.Tensor:
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    if device.type == "cpu":
        return tensor.clone()
    return tensor.pin_memory().to(device, non_blocking=True)


def _grown(have: int, need: int) -> int:
    return have if need <= have else max(need, 2 * have, 8)


def _padded(array: Any, shape: Sequence[int]) -> Any:
    out = np.zeros(shape, dtype=array.dtype)
    out[tuple(slice(n) for n in array.shape)] = array
    return out


def _padded_tensor(tensor: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    out = tensor.new_zeros(tuple(shape))
    out[tuple(slice(n) for n in tensor.shape)] = tensor
    return out
