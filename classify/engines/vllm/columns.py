"""Tracked values of a batch, computed beside vLLM's sampler, without a loop over rows.

This is the part that both of vLLM's model runners share. It keeps for each request (a
*slot*) what it wants and how far it has come, as tensors on the device, and turns the
raw logits of a step into the columns that `classify.engines.vllm.wire` describes.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from classify.engines.vllm.tables import RequestSlots, Trees, to_device
from classify.engines.vllm.wire import Wanted

__all__ = ["Columns", "Step", "TrackingState"]

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Columns:
    """What a step reports for its tracking rows.

    Attributes
    ----------
    token_ids : Tensor of int64, shape (n_tracking, n_columns)
        See `classify.engines.vllm.wire`; 0 in columns that a row does not use.
    values : Tensor of float32, shape (n_tracking, n_columns)
        log p(token | tokens before) in nats, full vocabulary, before any mask or
        temperature; -inf in columns that a row does not use, NaN for a token outside
        the vocabulary.
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
        self._slots = RequestSlots(device)
        self._trees = Trees(device)

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


class Step:
    """One sampling step: mask the logits, read the columns, move on.

    Use it in this order: `mask` before the sampler runs, `columns` with the tokens that
    it chose, `advance` with those that were accepted.
    """

    def __init__(
        self,
        slots: RequestSlots,
        trees: Trees,
        slot_of_request: Ints,
        n_rows: Ints,
        tokens: torch.Tensor | None,
    ) -> None:
        self._slots, self._trees = slots, trees
        device = slots.device
        of_row = np.repeat(np.arange(len(n_rows)), n_rows)
        self.n_rows = len(of_row)
        tracking = slots.tracks(slot_of_request)
        row_tracks = tracking[of_row]
        rows = np.flatnonzero(row_tracks)
        self.host_rows = rows
        self.all_rows = len(rows) == self.n_rows
        self._host_slots = slot_of_request[of_row[rows]]
        slots.upload()
        trees.upload()
        self.rows = to_device(rows, device)
        self._requests = to_device(np.flatnonzero(tracking), device)
        self._request_slots = to_device(slot_of_request[tracking], device)
        self._row_slots = to_device(self._host_slots, device)
        in_tree = slots.in_tree[self._host_slots]
        self._in_tree = bool(in_tree.any())
        used = [trees.width(int(slot)) for slot in np.unique(self._host_slots[in_tree])]
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
        """Return the node at which each tracking row reads, shape (n_tracking,)."""
        device = self._slots.device
        if not self._in_tree:
            return torch.zeros(len(self._ahead), dtype=torch.int64, device=device)
        nodes = self._slots.nodes[self._request_slots]
        reached = [nodes]
        n_ahead = n_rows[tracking]
        for ahead in range(1, int(n_ahead.max(initial=1))):
            assert tokens is not None
            at = np.where(ahead < n_ahead, starts[tracking] + ahead, 0)
            nodes = self._trees.descend(
                nodes, tokens[to_device(at, device)], self._width
            )
            reached.append(nodes)
        of_request = np.repeat(np.arange(len(n_ahead)), n_ahead)
        return torch.stack(reached)[
            to_device(self._ahead, device), to_device(of_request, device)
        ]

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
        at = to_device(chosen, device)
        of_slot = self._row_slots[at]
        _, tokens, valid = self._trees.children(self._nodes[at], max(self._width, 1))
        valid = valid & to_device(masked[chosen], device).unsqueeze(-1)
        n_forced = to_device(slots.n_forced[self._host_slots[chosen]], device)
        position = slots.n_generated[of_slot] + to_device(self._ahead[chosen], device)
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
            n_tokens = raw.shape[1]
            top = torch.topk(raw, min(most_top, n_tokens), dim=-1).indices
            missing = most_top - top.shape[1]
            top = torch.nn.functional.pad(top, (0, missing), value=n_tokens)
            ids = torch.cat([top, ids], dim=1)
            valid = torch.nn.functional.pad(valid, (most_top, 0), value=True)
        # A wrong id, or more top tokens than there are, must not take the engine, and
        # everyone's requests, down with it.
        outside = ids >= raw.shape[1]
        values = raw.gather(1, ids.masked_fill(outside, 0)).float() - log_sum
        values = values.masked_fill(outside, float("nan"))
        values = values.masked_fill(~valid, float("-inf"))
        own = raw.gather(1, chosen.unsqueeze(1))
        marker = to_device(n_top, device).unsqueeze(1)
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
        valid = torch.arange(width, device=device) < to_device(n_ids, device).unsqueeze(
            1
        )
        if children.any():
            _, tokens, is_child = self._trees.children(self._nodes, width)
            by_tree = to_device(children, device).unsqueeze(1)
            fixed = torch.where(by_tree, tokens, fixed)
            valid = torch.where(by_tree, is_child, valid)
        return torch.where(valid, fixed, 0), valid

    def _order(self, most_top: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return which of the computed columns each reported column is, and its use."""
        slots, device = self._slots, self._slots.device
        first = slots.first_column[self._host_slots]
        n_columns = int((first + slots.width[self._host_slots]).max(initial=1))
        column = torch.arange(n_columns, device=device)
        first_column = to_device(first, device).unsqueeze(1)
        end = first_column + to_device(slots.width[self._host_slots], device).unsqueeze(
            1
        )
        tracked = 2 + most_top + column - first_column
        return (
            torch.where(column < first_column, column, tracked) * (column < end),
            column < end,
        )
