"""A batch of prompts with its KV cache, on which later passes build.

Every cached key/value pair sits in a *slot*. A slot knows its position in its text and
a *code*, which says what it holds:

    PAD = 0       nothing; invisible
    PROMPT = 1    a token of the prompt (or generated after it): visible to everything
                  after it
    2 + node      a node of the token tree: visible to itself and to its descendants

Codes and positions are all that a mask is made from (see `masks`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from transformers.cache_utils import Cache, DynamicLayer

from classify.tracking import EdgeLogprobs, TokenTree

__all__ = [
    "FIRST_NODE",
    "PAD",
    "PROMPT",
    "Bools",
    "Member",
    "Members",
    "Row",
    "SlotCache",
    "Slots",
    "merge",
]

PAD, PROMPT, FIRST_NODE = 0, 1, 2

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
KeyValue = tuple[torch.Tensor, torch.Tensor]


class _SlotLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """Keys and values of one layer, (B, H, S, D), in a buffer with room for more.

    Transformers' own layer concatenates on every call, which copies everything that
    is cached each time.
    """

    def __init__(self, past: KeyValue | None = None, room: int = 0) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._room = room
        self._buffers = past
        self._filled = 0
        if past is not None:
            self._expose(past, past[0].shape[-2] - room)

    def _expose(self, buffers: KeyValue, filled: int) -> KeyValue:
        self._buffers, self._filled = buffers, filled
        self.keys, self.values = (buffer[..., :filled, :] for buffer in buffers)
        self.dtype, self.device = buffers[0].dtype, buffers[0].device
        self.is_initialized = True
        return self.keys, self.values

    def update(
        self,
        key_states: torch.Tensor,
        value_states: torch.Tensor,
        *args: Any,
        **kwargs: Any,
    ) -> KeyValue:
        """Append (B, H, Q, D) each, and return all of it."""
        new = (key_states, value_states)
        start, end = self._filled, self._filled + key_states.shape[-2]
        if self._buffers is None and not self._room:
            return self._expose(new, end)
        buffers = self._buffers
        if buffers is None or buffers[0].shape[-2] < end:
            buffers = self._grown(new, end)
        for buffer, states in zip(buffers, new, strict=True):
            buffer[..., start:end, :] = states
        return self._expose(buffers, end)

    def _grown(self, like: KeyValue, end: int) -> KeyValue:
        capacity = end + self._room
        # Half as much room again each time: n steps then cost O(n) copies in all.
        self._room = max(self._room, end // 2)
        keys, values = (
            states.new_empty((*states.shape[:-2], capacity, states.shape[-1]))
            for states in like
        )
        if self._buffers is not None:
            for buffer, old in zip((keys, values), self._buffers, strict=True):
                buffer[..., : self._filled, :] = old[..., : self._filled, :]
        return keys, values


class SlotCache(Cache):
    """A transformers cache over slots.

    Parameters
    ----------
    past : sequence of (keys, values), optional
        One pair per layer, (B, H, S, D); the last `room` slots are free.
    room : int, default=0
        Slots to hold free for tokens to come.
    """

    def __init__(self, past: Sequence[KeyValue] | None = None, room: int = 0) -> None:
        if past is None:
            new_layer: Any = partial(_SlotLayer, room=room)
            super().__init__(layer_class_to_replicate=new_layer)
        else:
            super().__init__(layers=[_SlotLayer(pair, room) for pair in past])

    def key_values(self) -> list[KeyValue]:
        """Return keys and values of every layer, (B, H, S, D) each."""
        layers: list[Any] = self.layers
        return [(layer.keys, layer.values) for layer in layers]


class Member(NamedTuple):
    """One of several prompts that are read as one; see `trunks`.

    Attributes
    ----------
    tree : TokenTree
    places : ndarray of int64, shape (n_nodes,)
        The node of the joint tree that each node of its own tree is.
    """

    tree: TokenTree
    places: Ints


Members = Mapping[tuple[int, ...], Member]
"""By prompt."""


@dataclass
class Row:
    """One text of a batch: its prompt, its tree, and what was read so far."""

    prompt: tuple[int, ...]
    tree: TokenTree
    answers: EdgeLogprobs
    members: Members = field(default_factory=dict)


@dataclass
class Slots:
    """A batch whose keys and values are kept.

    Attributes
    ----------
    layers : list of (keys, values)
        One pair per layer, (B, H, S, D).
    codes, positions : ndarray of int64, shape (B, S)
        What each slot holds, and where in its text.
    rows : list of Row, length B
        The texts; empty for a prefix.
    n_live : int
        Rows that have not moved on to another batch.
    """

    layers: list[KeyValue]
    codes: Ints
    positions: Ints
    rows: list[Row] = field(default_factory=list)
    n_live: int = 0

    @property
    def n_slots(self) -> int:
        """S, the slots of each row."""
        return int(self.codes.shape[1])

    @property
    def n_bytes(self) -> int:
        """The memory of keys and values."""
        return sum(k.nbytes + v.nbytes for k, v in self.layers)


def merge(
    chosen: Sequence[tuple[Slots, Sequence[int]]], room: int
) -> tuple[SlotCache, Ints, Ints]:
    """Copy rows of several batches into one, with room for new slots after them.

    Slots that hold nothing for any of a batch's chosen rows are left behind: its other
    rows may have been long, or have asked for many nodes.

    Returns
    -------
    cache : SlotCache
        With `room` free slots.
    codes, positions : ndarray of int64, shape (B, S)
        S is the greatest of the batches; the others are padded on the left.
    """
    used = [
        np.flatnonzero((slots.codes[rows] != PAD).any(axis=0)) for slots, rows in chosen
    ]
    width = max(map(len, used))
    n_rows = sum(len(rows) for _, rows in chosen)
    codes = np.full((n_rows, width), PAD, dtype=np.int64)
    positions = np.zeros((n_rows, width), dtype=np.int64)
    spans, start = [], 0
    for (slots, rows), columns in zip(chosen, used, strict=True):
        stop = start + len(rows)
        place = np.ix_(np.asarray(rows), columns)
        codes[start:stop, width - len(columns) :] = slots.codes[place]
        positions[start:stop, width - len(columns) :] = slots.positions[place]
        spans.append((start, stop))
        start = stop
    layers = []
    for layer in range(len(chosen[0][0].layers)):
        pair = []
        for which in (0, 1):
            first = chosen[0][0].layers[layer][which]
            buffer = first.new_empty(
                (n_rows, first.shape[1], width + room, first.shape[3])
            )
            for (slots, rows), columns, (start, stop) in zip(
                chosen, used, spans, strict=True
            ):
                states = slots.layers[layer][which]
                gap = width - len(columns)
                # Zeros, not garbage: a masked slot still meets the sum, times zero.
                buffer[start:stop, :, :gap] = 0
                if list(rows) != list(range(states.shape[0])):
                    states = states[rows]
                if len(columns) < slots.n_slots:
                    states = states[:, :, columns]
                buffer[start:stop, :, gap:width] = states
            pair.append(buffer)
        layers.append((pair[0], pair[1]))
    return SlotCache(layers, room), codes, positions
