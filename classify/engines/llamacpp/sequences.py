"""The sequences of a network: which prompts they keep, and rows computed in one pass.

What rows begin with in common is computed once, for all of them: the instructions in
front of many texts, a text, the first tokens of its label paths.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from classify.engines.llamacpp.network import N_SEQUENCES, Network, Token, Use
from classify.tracking import common_prefix_length

__all__ = ["MAX_ROWS", "Row", "Sequences"]

_MAX_KEPT = 32
# There are sequences for so many rows, whatever is kept.
MAX_ROWS = N_SEQUENCES - _MAX_KEPT


@dataclass(eq=False)
class Row:
    """Token ids to compute as a sequence.

    Attributes
    ----------
    prompt : tuple of int
    token_ids : tuple of int
        The prompt and what follows it.
    uses : dict of int to callable
        The positions whose logits are used.
    sequence : int
        Where it is computed.
    n_known : int
        How many tokens at its beginning were there already.
    """

    prompt: tuple[int, ...]
    token_ids: tuple[int, ...]
    uses: dict[int, Use]
    sequence: int = field(default=-1, init=False)
    n_known: int = field(default=0, init=False)


class Sequences:
    """The sequences of a network.

    Parameters
    ----------
    network : Network
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        # Prompts and their sequences; the one needed last is the last.
        self._kept: OrderedDict[tuple[int, ...], int] = OrderedDict()
        self._free = list(range(N_SEQUENCES))

    @property
    def keeps_prompts(self) -> bool:
        """Whether there are prompts to forget."""
        return bool(self._kept)

    def forget(self) -> None:
        """Forget all prompts, and what a pass that was broken off left behind."""
        self._kept.clear()
        self._free = list(range(N_SEQUENCES))
        self._network.clear()

    def compute(self, rows: Sequence[Row]) -> None:
        """Compute at most `MAX_ROWS` rows, and hand out their logits."""
        for row in rows:
            row.sequence = self._free.pop()
            self._begin(row)
        self._network.compute(_as_trie(rows))

    def keep_prompts(self, rows: Iterable[Row]) -> None:
        """Give up rows; the prompts of the last ones are kept."""
        for row in rows:
            if row.prompt in self._kept:
                self.give_up(row.sequence)
            else:
                self._network.cut(row.sequence, len(row.prompt))
                self._kept[row.prompt] = row.sequence
        while len(self._kept) > _MAX_KEPT:
            self.give_up(self._kept.popitem(last=False)[1])

    def fork(self, row: Row) -> int:
        """Return a sequence that begins as a row does."""
        sequence = self._free.pop()
        self._network.copy(row.sequence, sequence, len(row.token_ids))
        return sequence

    def give_up(self, sequence: int) -> None:
        """Forget a sequence."""
        self._network.cut(sequence)
        self._free.append(sequence)

    def _begin(self, row: Row) -> None:
        """Let a row begin with what is kept; logits need their token computed."""
        most = min(row.uses)
        nearest: tuple[int, ...] = ()
        row.n_known = 0
        for prompt in reversed(self._kept):
            n_common = min(common_prefix_length([prompt, row.token_ids]), most)
            if n_common > row.n_known:
                nearest, row.n_known = prompt, n_common
            if n_common == most:
                break
        if row.n_known:
            self._kept.move_to_end(nearest)
            self._network.copy(self._kept[nearest], row.sequence, row.n_known)


def _as_trie(rows: Sequence[Row]) -> list[Token]:
    """Return the tokens to compute for rows, each once for all rows that share it.

    Only rows that know equally much may share: llama.cpp refuses tokens for sequences
    of different lengths.
    """
    tokens: list[Token] = []
    # The tokens of the row before, from the first that it did not know.
    chain: list[Token] = []
    before: Row | None = None
    for row in sorted(rows, key=lambda row: (row.n_known, row.token_ids)):
        n_shared = 0
        if before is not None and before.n_known == row.n_known:
            n_common = common_prefix_length([before.token_ids, row.token_ids])
            n_shared = max(0, n_common - row.n_known)
        del chain[n_shared:]
        for token in chain:
            token.sequences.append(row.sequence)
        start = row.n_known + n_shared
        chain += [
            Token(token_id, position, [row.sequence])
            for position, token_id in enumerate(row.token_ids[start:], start)
        ]
        tokens += chain[n_shared:]
        for position, use in row.uses.items():
            uses = chain[position - row.n_known].uses
            if use not in uses:
                uses.append(use)
        before = row
    return tokens
