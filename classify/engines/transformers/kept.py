"""The cache of states for later reads, bounded in bytes.

Keys and values of a batch, or the network's own state after a text.
"""

from collections import OrderedDict
from typing import Generic, TypeVar

from classify.engines.transformers.forked_pass import Forked
from classify.engines.transformers.slots import Row, Slots

__all__ = ["Kept", "KeptTexts", "Prefixes"]

Kept = Slots | Forked
Prefix = TypeVar("Prefix", Slots, Forked)


class KeptTexts:
    """Batches by prompt; the batch that was least recently used goes first.

    Parameters
    ----------
    most_bytes : int
        Bound of all of them together. The newest batch is always kept.
    """

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self._batches: OrderedDict[int, Kept] = OrderedDict()
        self._places: dict[tuple[int, ...], tuple[Kept, int]] = {}
        self.n_bytes = 0

    def __len__(self) -> int:
        return len(self._places)

    def find(self, prompt: tuple[int, ...]) -> tuple[Kept, int] | None:
        """Return where a prompt is kept: its batch, and its row."""
        return self._places.get(prompt)

    def add(self, slots: Kept) -> None:
        """Keep a batch; its rows replace older ones of the same prompts."""
        for index, row in enumerate(slots.rows):
            for prompt in _prompts(row):
                self._release(prompt)
                self._places[prompt] = (slots, index)
        self._batches[id(slots)] = slots
        self.n_bytes += slots.n_bytes
        while self.n_bytes > self.most_bytes and len(self._batches) > 1:
            self._drop(next(iter(self._batches.values())))

    def touch(self, slots: Kept) -> None:
        """Mark a batch as used."""
        if id(slots) in self._batches:
            self._batches.move_to_end(id(slots))

    def clear(self) -> None:
        """Forget everything."""
        self._batches.clear()
        self._places.clear()
        self.n_bytes = 0

    def _release(self, prompt: tuple[int, ...]) -> None:
        place = self._places.pop(prompt, None)
        # Where it is a member of another row, it is still useful.
        if place is not None and place[0].rows[place[1]].prompt == prompt:
            place[0].n_live -= 1
            if not place[0].n_live:
                self._drop(place[0])

    def _drop(self, slots: Kept) -> None:
        if self._batches.pop(id(slots), None) is None:
            return
        self.n_bytes -= slots.n_bytes
        for row in slots.rows:
            for prompt in _prompts(row):
                place = self._places.get(prompt)
                if place is not None and place[0] is slots:
                    del self._places[prompt]


def _prompts(row: Row) -> list[tuple[int, ...]]:
    """All prompts that a row is kept for; the first is its own."""
    return [row.prompt, *row.members]


class Prefixes(Generic[Prefix]):
    """Cached states of the last few common prefixes of prompts.

    Parameters
    ----------
    n_most : int, default=4
        How many are kept.
    """

    def __init__(self, n_most: int = 4) -> None:
        self._n_most = n_most
        self._kept: OrderedDict[tuple[int, ...], Prefix] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def longest(
        self, least: tuple[int, ...], greatest: tuple[int, ...]
    ) -> Prefix | None:
        """Return the longest that properly begins both prompts.

        What begins the least and the greatest of sorted prompts begins all of them.
        """
        found = [
            ids
            for ids in self._kept
            if least[: len(ids)] == ids == greatest[: len(ids)]
            and len(ids) < min(len(least), len(greatest))
        ]
        if not found:
            return None
        ids = max(found, key=len)
        self._kept.move_to_end(ids)
        return self._kept[ids]

    def add(self, prefix: tuple[int, ...], slots: Prefix) -> None:
        """Keep a prefix."""
        self._kept[prefix] = slots
        while len(self._kept) > self._n_most:
            self._kept.popitem(last=False)

    def clear(self) -> None:
        """Forget everything."""
        self._kept.clear()
