"""The tracked ids of a worker's requests, as tables on the host and on the device.

Nothing here waits for the device: a copy that did would end the overlap of vLLM's
scheduling with the model. One such copy a step cost a tenth of a prefill's time.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from classify.engines.vllm.wire import Wanted, decode_tree

__all__ = ["RequestSlots", "Trees", "to_device", "together"]

Ints = npt.NDArray[np.int64]

# Node 0 of the table of all trees: no children, so nothing is tracked or masked there.
_NOWHERE = 0
# From so many nodes on, trees that no request uses are dropped: 12 MB of table.
_MAX_NODES = 1 << 19


class RequestSlots:
    """Each request's ids, in host arrays and, for those in use, on the device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.tracking = np.zeros(0, dtype=np.bool_)
        self.n_top = np.zeros(0, dtype=np.int64)
        self.width = np.zeros(0, dtype=np.int64)
        self.first_column = np.zeros(0, dtype=np.int64)
        self.children = np.zeros(0, dtype=np.bool_)
        self.masked = np.zeros(0, dtype=np.bool_)
        self.in_tree = np.zeros(0, dtype=np.bool_)
        self.tree_width = np.zeros(0, dtype=np.int64)
        self.n_ids = np.zeros(0, dtype=np.int64)
        self.n_forced = np.zeros(0, dtype=np.int64)
        self._ids = np.zeros((0, 0), dtype=np.int64)
        self._forced = np.zeros((0, 0), dtype=np.int64)
        self._starts = np.zeros(0, dtype=np.int64)
        self._dirty: set[int] = set()
        # Counts changes: what was made for a batch holds while this stays the same.
        self.version = 0
        self.ids = torch.zeros((0, 0), dtype=torch.int64, device=device)
        self.forced = torch.zeros((0, 0), dtype=torch.int64, device=device)
        # How far each request has come: the node reached, and tokens generated.
        self.nodes = torch.zeros(0, dtype=torch.int64, device=device)
        self.n_generated = torch.zeros(0, dtype=torch.int64, device=device)

    def tracks(self, slots: Ints) -> npt.NDArray[np.bool_]:
        """Return which slots track; false for one that was never added."""
        known = (slots >= 0) & (slots < len(self.tracking))
        return (
            known & self.tracking[np.where(known, slots, 0)] if known.any() else known
        )

    def add(
        self,
        slot: int,
        wanted: Wanted,
        start: int,
        *,
        tree_width: int,
        marker: bool,
    ) -> None:
        """Begin a request at a node of the table of trees.

        Parameters
        ----------
        tree_width : int
            Most children of a node of its tree; 0 without one.
        """
        self.version += 1
        self._reserve(slot + 1, len(wanted.token_ids), len(wanted.forced))
        self.tracking[slot] = True
        self.n_top[slot] = wanted.top
        self.width[slot] = tree_width if wanted.children else len(wanted.token_ids)
        self.tree_width[slot] = tree_width
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
        """Forget the request in a slot."""
        if slot < len(self.tracking) and self.tracking[slot]:
            self.version += 1
            self.tracking[slot] = False
            self._dirty.discard(slot)

    def shift(self, moves: Mapping[int, int]) -> None:
        """Move the nodes of slots in the table of trees."""
        if not moves:
            return
        slots = np.fromiter(moves, dtype=np.int64)
        by = np.fromiter(moves.values(), dtype=np.int64)
        self._starts[slots] += by
        at = to_device(slots, self.device)
        inside = self.nodes[at] != _NOWHERE
        self.nodes[at] += to_device(by, self.device) * inside

    def upload(self) -> None:
        """Bring what was added since the last step to the device."""
        if not self._dirty:
            return
        slots = np.fromiter(self._dirty, dtype=np.int64)
        self._dirty.clear()
        n_ids = self._ids.shape[1]
        parts = [slots, self._starts[slots], self._ids[slots], self._forced[slots]]
        brought = to_device(np.column_stack(parts), self.device)
        at = brought[:, 0]
        self.nodes.index_copy_(0, at, brought[:, 1])
        if n_ids:
            self.ids.index_copy_(0, at, brought[:, 2 : 2 + n_ids])
        if self._forced.shape[1]:
            self.forced.index_copy_(0, at, brought[:, 2 + n_ids :])
        # An assignment of a number would copy it from the host, and wait.
        self.n_generated.index_fill_(0, at, 0)

    def _reserve(self, n_slots: int, n_ids: int, n_forced: int) -> None:
        rows = _grown(len(self.tracking), n_slots)
        shape_ids = (rows, _grown(self._ids.shape[1], n_ids))
        shape_forced = (rows, _grown(self._forced.shape[1], n_forced))
        if rows > len(self.tracking):
            for name in (
                "tracking", "n_top", "width", "first_column", "children", "masked",
                "in_tree", "tree_width", "n_ids", "n_forced", "_starts",
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


class Trees:
    """All trees in use as one table: of each node token, first child, child count."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._table = np.zeros((3, 1), dtype=np.int64)
        self._starts: dict[bytes, int] = {}
        self._widths: dict[bytes, int] = {}
        self._of_slot: dict[int, bytes] = {}
        self.on_device = torch.zeros((3, 1), dtype=torch.int64, device=device)
        self._stale = False
        self._most = _MAX_NODES

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
        self._most = max(_MAX_NODES, 2 * self._table.shape[1])
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
            self.on_device = to_device(self._table, self.device)
            self._stale = False

    def children(
        self, nodes: torch.Tensor, width: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return nodes, tokens and validity of children; each of shape (…, width)."""
        tokens, first, count = self.on_device
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


def to_device(array: Any, device: torch.device) -> torch.Tensor:
    """Copy a host array to a device without waiting for it."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    if device.type == "cpu":
        return tensor.clone()
    return tensor.pin_memory().to(device, non_blocking=True)


def together(*arrays: Any, device: torch.device) -> list[torch.Tensor]:
    """Copy integer arrays to a device in one transfer, without waiting for it."""
    flat = np.concatenate(
        [np.asarray(array, dtype=np.int64).ravel() for array in arrays]
    )
    sizes = [array.size for array in arrays]
    parts = torch.split(to_device(flat, device), sizes)
    return [part.view(array.shape) for part, array in zip(parts, arrays, strict=True)]


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
