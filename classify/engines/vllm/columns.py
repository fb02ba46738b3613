"""Tracked values of a batch, computed next to vLLM's sampler, without a loop over rows.

This is the part that both of vLLM's model runners share. It keeps for each request (a
*slot*) what it wants and how far it has come, as tensors on the device, and turns the
raw logits of a step into the columns that `classify.engines.vllm.wire` describes. What
depends on the batch alone is made once, and kept for as long as the batch is the same.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from classify.engines.vllm.plain_columns import Sources, plain_columns
from classify.engines.vllm.tables import RequestSlots, Trees, together
from classify.engines.vllm.wire import Wanted

__all__ = ["Columns", "Step", "TrackingState"]

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Columns:
    """The values that a step reports for its tracking rows.

    Attributes
    ----------
    token_ids : Tensor of int32, shape (n_tracking, n_columns)
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
    """The tracked ids of a worker's requests, and their positions in their trees.

    Parameters
    ----------
    device : torch.device
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._slots = RequestSlots(device)
        self._trees = Trees(device)
        # Of the last batch: decoding goes over the same one again and again.
        self._layout: Layout | None = None
        self._layout_of: tuple[int, bytes, bytes] | None = None

    def add(self, slot: int, wanted: Wanted | None, *, marker: bool = True) -> None:
        """Begin a request in a slot; None for one that tracks nothing."""
        self.remove(slot)
        if wanted is None:
            return
        if self._trees.crowded:
            self._slots.shift(self._trees.compact())
        start = 0 if wanted.tree is None else self._trees.add(slot, wanted.tree)
        width = 0 if wanted.tree is None else self._trees.width(slot)
        self._slots.add(
            slot, wanted, start + wanted.node, tree_width=width, marker=marker
        )

    def remove(self, slot: int) -> None:
        """Forget the request in a slot."""
        self._slots.remove(slot)
        self._trees.remove(slot)

    def tracks(self, slots: Ints) -> npt.NDArray[np.bool_]:
        """Return which slots track, shape (n,); false for slot -1."""
        return self._slots.tracks(slots)

    def step(
        self,
        slots: Ints,
        positions: Ints,
        tokens: Callable[[], torch.Tensor] | None = None,
    ) -> "Step":
        """Prepare a sampling step.

        Parameters
        ----------
        slots : ndarray of int64, shape (n_requests,)
            The slot of each request of the batch; -1 where it was never added.
        positions : ndarray of int64, shape (n_requests,)
            Rows of logits of each request, its drafted tokens' and one more.
        tokens : callable, optional
            Returns the token fed in at each row, int64, shape (n_rows,): a draft at a
            request's second row and later. None: nothing was drafted.
        """
        which = (self._slots.version, slots.tobytes(), positions.tobytes())
        if self._layout is None or which != self._layout_of:
            self._slots.upload()
            self._trees.upload()
            self._layout = Layout(self._slots, slots, positions)
            self._layout_of = which
        return Step(self._slots, self._trees, self._layout, tokens)


class Layout:
    """How the rows of a batch lie, on the host and, in one transfer, on its device.

    Parameters
    ----------
    slots : RequestSlots
    slot_of_request, n_rows : ndarray of int64, shape (n_requests,)
        See `TrackingState.step`.

    Attributes
    ----------
    moves : bool
        Whether a request goes through a tree, or generates forced tokens.
    """

    def __init__(
        self, slots: RequestSlots, slot_of_request: Ints, n_rows: Ints
    ) -> None:
        of_row = np.repeat(np.arange(len(n_rows)), n_rows)
        starts = np.cumsum(n_rows) - n_rows
        tracking = slots.tracks(slot_of_request)
        rows = np.flatnonzero(tracking[of_row])
        row_slots = slot_of_request[of_row[rows]]
        # Position of each row within its request.
        every_ahead = np.arange(len(of_row)) - starts[of_row]
        ahead = every_ahead[rows]
        self.n_rows, self.host_rows = len(of_row), rows
        self.all_rows = len(rows) == len(of_row)
        self.drafted = len(of_row) > len(n_rows)
        self.in_tree = bool(slots.in_tree[row_slots].any())
        self.width = int(slots.tree_width[row_slots].max(initial=0))
        n_forced = slots.n_forced[row_slots]
        self.moves = self.in_tree or bool(n_forced.any())
        self.n_top = int(slots.n_top[row_slots].max(initial=0))
        self.children = bool(slots.children[row_slots].any())
        first = slots.first_column[row_slots]
        end = first + slots.width[row_slots]
        self.n_columns = int(end.max(initial=1))
        masked = np.flatnonzero((n_forced > ahead) | slots.masked[row_slots])
        self.masks = bool(len(masked))
        n_ahead = n_rows[tracking]
        steps = np.arange(int(n_ahead.max(initial=1)))[:, None]
        fed = np.where(steps < n_ahead, starts[tracking] + steps, 0)
        self.table, self.requests, self.masked, self.fed, self.of_rows = together(
            np.stack(
                [
                    rows,
                    row_slots,
                    ahead,
                    np.repeat(np.arange(len(n_ahead)), n_ahead),
                    slots.n_top[row_slots],
                    first,
                    end,
                    slots.n_ids[row_slots],
                    slots.children[row_slots],
                    n_forced,
                    slots.masked[row_slots],
                ]
            ),
            np.stack([np.flatnonzero(tracking), slot_of_request[tracking]]),
            masked,
            fed,
            np.stack([of_row, every_ahead]),
            device=slots.device,
        )
        (
            self.rows,
            self.slots,
            self.ahead,
            self.of_request,
            self.tops,
            self.first_column,
            self.end_column,
            self.n_ids,
            self.by_tree,
            self.n_forced,
            self.is_masked,
        ) = self.table


class Step:
    """One sampling step: mask the logits, read the columns, move on.

    Use it in this order: `mask` before the sampler runs, `columns` with the tokens that
    it chose, `advance` with those that were accepted.
    """

    def __init__(
        self,
        slots: RequestSlots,
        trees: Trees,
        layout: Layout,
        tokens: Callable[[], torch.Tensor] | None,
    ) -> None:
        self._slots, self._trees, self._layout = slots, trees, layout
        self.n_rows, self.all_rows = layout.n_rows, layout.all_rows
        self.rows, self.host_rows = layout.rows, layout.host_rows
        self.moves = layout.moves
        self._nodes = self._nodes_of_rows(tokens)

    def _nodes_of_rows(self, tokens: Callable[[], torch.Tensor] | None) -> torch.Tensor:
        """Return the node at which each tracking row reads, shape (n_tracking,)."""
        layout = self._layout
        if not layout.in_tree:
            nowhere: torch.Tensor = layout.rows  # not looked at
            return nowhere
        if not layout.drafted:
            return self._slots.nodes[layout.slots]
        assert tokens is not None
        nodes = self._slots.nodes[layout.requests[1]]
        reached, fed = [nodes], tokens()
        for at in layout.fed[1:]:
            nodes = self._trees.descend(nodes, fed[at], layout.width)
            reached.append(nodes)
        return torch.stack(reached)[layout.ahead, layout.of_request]

    def chosen(self, sampled: torch.Tensor) -> torch.Tensor:
        """Return the token of each row, of those sampled for each request and step.

        Parameters
        ----------
        sampled : Tensor of int64, shape (n_requests, n_steps)

        Returns
        -------
        Tensor of int64, shape (n_rows,)
        """
        if not self._layout.drafted:
            return sampled[:, 0]
        return sampled[self._layout.of_rows[0], self._layout.of_rows[1]]

    def mask(self, logits: torch.Tensor) -> torch.Tensor:
        """Return logits in which forced and masked rows allow only their tokens.

        Parameters
        ----------
        logits : Tensor, shape (n_rows, vocab_size)
            Not changed; returned as it is where nothing is masked.
        """
        slots, layout = self._slots, self._layout
        if not layout.masks:
            return logits
        device, at = slots.device, layout.masked
        of_slot = layout.slots[at]
        _, tokens, valid = self._trees.children(
            self._nodes[at] if layout.in_tree else torch.zeros_like(at),
            max(layout.width, 1),
        )
        valid = valid & (layout.is_masked[at] > 0).unsqueeze(-1)
        position = slots.n_generated[of_slot] + layout.ahead[at]
        if slots.forced.shape[1]:
            forcing = position < layout.n_forced[at]
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
            The token chosen at each row; anything where none was.
        """
        slots, layout = self._slots, self._layout
        top = None
        if layout.n_top:
            raw = logits if self.all_rows else logits[self.rows]
            top = torch.topk(raw, min(layout.n_top, raw.shape[1]), dim=-1).indices
        sources = Sources(
            logits=logits,
            sampled=sampled,
            top=top,
            table=layout.table,
            nodes=self._nodes,
            ids=slots.ids,
            tree=self._trees.on_device,
            n_columns=layout.n_columns,
        )
        if logits.is_cuda:
            # Imported here: Triton is there where there is a GPU.
            from classify.engines.vllm.columns_kernel import fused_columns

            return Columns(*fused_columns(sources))
        return Columns(*plain_columns(sources))

    def advance(self, tokens: torch.Tensor, accepted: torch.Tensor) -> None:
        """Move the requests on by the tokens that were accepted; see `moves`.

        Parameters
        ----------
        tokens : Tensor of int64, shape (n_requests, n_steps)
        accepted : Tensor of bool, shape (n_requests, n_steps)
        """
        slots, layout = self._slots, self._layout
        if not layout.moves:
            return
        requests, of_slot = layout.requests
        tokens, accepted = tokens[requests], accepted[requests]
        slots.n_generated[of_slot] += accepted.sum(-1)
        if not layout.in_tree:
            return
        nodes = slots.nodes[of_slot]
        for step in range(tokens.shape[1]):
            below = self._trees.descend(nodes, tokens[:, step], layout.width)
            nodes = torch.where(accepted[:, step], below, nodes)
        slots.nodes[of_slot] = nodes
