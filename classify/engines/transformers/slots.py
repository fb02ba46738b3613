"""A batch of prompts with its keys and values: what later passes build on.

Every cached key/value pair sits in a *slot*. A slot knows its position in its text and
a *code*, which says what it holds:

    PAD = 0       nothing; invisible
    PROMPT = 1    a token of the prompt (or generated after it): visible to everything
                  behind it
    2 + node      a node of the token tree: visible to itself and to its descendants

Codes and positions are all that a mask is made from (see `masks`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers.cache_utils import Cache, DynamicLayer

from classify.tracking import EdgeLogprobs, TokenTree

__all__ = ["FIRST_NODE", "PAD", "PROMPT", "Row", "Slots", "SlotCache", "merge"]

PAD, PROMPT, FIRST_NODE = 0, 1, 2

Ints = npt.NDArray[np.int64]
KeyValue = tuple[torch.Tensor, torch.Tensor]


class _SlotLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values of one layer, (B, H, S, D), in a buffer with room for more.

    Transformers' own layer concatenates on every call, which copies everything that
    is cached each time.
    """

    def __init__(self, past: KeyValue | None = None, room: int = 0) -> None:
        super().__init__()
        self.room = room
        self._buffers: KeyValue | None = past
        self._filled = 0
        if past is not None:
            self.is_initialized = True
            self._filled = past[0].shape[-2] - room
            self._expose()

    def _expose(self) -> None:
        assert self._buffers is not None
        self.keys, self.values = (
            buffer[..., : self._filled, :] for buffer in self._buffers
        )
        self.dtype, self.device = self.keys.dtype, self.keys.device

    def update(
        self,
        key_states: torch.Tensor,
        value_states: torch.Tensor,
        *args: Any,
        **kwargs: Any,
    ) -> KeyValue:
        """Append (B, H, Q, D) each, and return all of it."""
        end = self._filled + key_states.shape[-2]
        if self._buffers is None and not self.room:
            self._buffers = (key_states, value_states)
        elif self._buffers is None or self._buffers[0].shape[-2] < end:
            self._grow(key_states, value_states, end)
        if self._buffers[0] is not key_states:
            for buffer, states in zip(
                self._buffers, (key_states, value_states), strict=True
            ):
                buffer[..., self._filled : end, :] = states
        self._filled = end
        self.is_initialized = True
        self._expose()
        return self.keys, self.values

    def _grow(self, keys: torch.Tensor, values: torch.Tensor, end: int) -> None:
        capacity = end + self.room
        grown = []
        for states, old in zip((keys, values), (self.keys, self.values), strict=True):
            shape = (*states.shape[:-2], capacity, states.shape[-1])
            buffer = states.new_empty(shape)
            if self._filled:
                buffer[..., : self._filled, :] = old
            grown.append(buffer)
        self._buffers = (grown[0], grown[1])
        # Each time as much room again: n steps then cost O(n) copies in all.
        self.room = max(self.room, end // 2)


class SlotCache(Cache):  # type: ignore[misc]
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
            super().__init__(layer_class_to_replicate=lambda: _SlotLayer(room=room))
        else:
            super().__init__(layers=[_SlotLayer(pair, room) for pair in past])

    def key_values(self) -> list[KeyValue]:
        """Return keys and values of every layer, (B, H, S, D) each."""
        return [(layer.keys, layer.values) for layer in self.layers]


@dataclass
class Row:
    """One text of a batch: its prompt, its tree, and what was read so far."""

    prompt: tuple[int, ...]
    tree: TokenTree
    answers: EdgeLogprobs


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
        """What the keys and values take."""
        return sum(k.nbytes + v.nbytes for k, v in self.layers)


def merge(
    chosen: Sequence[tuple[Slots, Sequence[int]]], room: int
) -> tuple[SlotCache, Ints, Ints]:
    """Copy rows of several batches into one, with room for new slots behind them.

    Returns
    -------
    cache : SlotCache
        With `room` free slots.
    codes, positions : ndarray of int64, shape (B, S)
        S is the greatest of the batches; the others are padded on the left.
    """
    width = max(slots.n_slots for slots, _ in chosen)
    n_rows = sum(len(rows) for _, rows in chosen)
    codes = np.full((n_rows, width), PAD, dtype=np.int64)
    positions = np.zeros((n_rows, width), dtype=np.int64)
    spans, start = [], 0
    for slots, rows in chosen:
        stop = start + len(rows)
        codes[start:stop, width - slots.n_slots :] = slots.codes[rows]
        positions[start:stop, width - slots.n_slots :] = slots.positions[rows]
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
            for (slots, rows), (start, stop) in zip(chosen, spans, strict=True):
                states = slots.layers[layer][which]
                gap = width - slots.n_slots
                # Zeros, not garbage: a masked slot still meets the sum, times zero.
                buffer[start:stop, :, :gap] = 0
                every = list(rows) == list(range(states.shape[0]))
                buffer[start:stop, :, gap:width] = states if every else states[rows]
            pair.append(buffer)
        layers.append((pair[0], pair[1]))
    return SlotCache(layers, room), codes, positions
