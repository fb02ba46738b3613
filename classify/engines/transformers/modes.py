"""Which way of reading to use, depending on the model and the length of a text.

Found out when the engine is made, on a few tokens, and again when texts get longer, at
a length no shorter than theirs and with no fewer nodes after it: what a model does
differently, and from where on, no configuration need tell. Where it does, as at a
sliding window's edge or the length of its first training, reads that cross the edge are
compared too.
"""

import logging
from bisect import bisect_left
from itertools import takewhile
from typing import Any

from classify.engines.transformers.network import Network
from classify.engines.transformers.passed_checks import Check, PassedChecks
from classify.engines.transformers.selfcheck import (
    ReadMode,
    check_causal,
    fault_at_length,
    fault_on_sample,
)

__all__ = ["Modes"]

_logger = logging.getLogger(__name__)

# Those that a mask can express; "attention" is a word of some for "full_attention".
_MASKED_LAYERS = {
    "attention",
    "full_attention",
    "sliding_attention",
    "chunked_attention",
}
_SLOWER: dict[ReadMode, ReadMode] = {
    "tree": "forked",
    "forked": "cached",
    "cached": "uncached",
}
_MEANS: dict[ReadMode, str] = {
    "forked": "each text is computed once, and its label paths are read from copies of "
    "its state, batched with those of other texts, in one pass for each token",
    "cached": "each text is computed once, and its label paths are read from copies of "
    "its state, in one pass for each token: correct, but slower",
    "uncached": "every label path is read in a forward pass of its own: correct, but "
    "much slower",
}
_WITH: dict[ReadMode, str] = {
    "forked": "with states of several texts side by side or behind a shared beginning",
    "cached": "with a copied state",
}
# Tokens of the check on loading.
_SAMPLE_LENGTH = 12
# Nodes of the checks on longer texts.
_MIN_NODES, _MAX_NODES = 16, 2048


class Modes:
    """Knows the fastest right way of reading, by length.

    Parameters
    ----------
    network : Network
        The model; compared with itself at once.
    passed : PassedChecks, optional
        Comparisons that need not be made.

    Attributes
    ----------
    usual : {"tree", "forked", "cached", "uncached"}
        The way for texts of usual length.
    why : str
        What is wrong with the faster ways.
    """

    def __init__(self, network: Network, passed: PassedChecks | None = None) -> None:
        self._network = network
        self._passed = passed or PassedChecks("", None)
        # Always: damaged weights fail it too.
        check_causal(network)
        self.why = ""
        self.usual: ReadMode = self._choose()
        self._lengths = _lengths_of_check(network.context_length)
        # By way, and by the number of nodes.
        self._right_up_to: dict[tuple[ReadMode, int], int] = {}
        self._wrong: set[tuple[ReadMode, int]] = set()  # above that
        self._differences: dict[ReadMode, str] = {}  # not said yet
        self._said: set[ReadMode] = set()
        self._across: dict[tuple[ReadMode, int, int], bool] = {}

    def _choose(self) -> ReadMode:
        odd = sorted(self._network.layer_types - _MASKED_LAYERS)
        mode: ReadMode = "tree"
        faults = []
        while mode != "uncached":
            if odd and mode == "tree":
                fault: str | None = f"it has layers of kind {', '.join(odd)}"
            else:
                fault = self._fault(mode)
            if fault is None:
                break
            faults.append(fault if mode == "tree" else f"{_WITH[mode]}, {fault}")
            mode = _SLOWER[mode]
        self.why = "; ".join(faults)
        if faults:
            _logger.log(
                logging.INFO if mode == "forked" else logging.WARNING,
                "%s cannot use a tree mask: %s. Instead, %s.",
                type(self._network.model).__name__,
                self.why,
                _MEANS[mode],
            )
        return mode

    def describe(self) -> str:
        """Return how texts are read, in words."""
        if self.usual == "tree":
            return "tree: all label paths of a text in one pass"
        return f"{self.usual}: {_MEANS[self.usual]} (no tree mask: {self.why})"

    def _fault(
        self, mode: ReadMode, token_ids: tuple[int, ...] = (), **at: Any
    ) -> str | None:
        """Say what is wrong with a way, on a sample or a text of some length."""
        fused = mode == "tree" and self._network.fused is not None
        check = Check("fused tree" if fused else mode, **at)
        if self._passed.imply(check):
            return None
        if at:
            fault = fault_at_length(self._network, mode, token_ids, **at)
        else:
            fault = fault_on_sample(self._network, mode)
        if fault is None:
            self._passed.add(check)
            return None
        if not fused:
            return fault
        _logger.info(
            "%s is read with its own forward pass: with ours, %s.",
            type(self._network.model).__name__,
            fault,
        )
        self._network.give_up_fused()
        return self._fault(mode, token_ids, **at)

    def for_text(
        self, token_ids: tuple[int, ...], length: int, n_nodes: int = 0
    ) -> ReadMode:
        """Return the way for a text.

        Parameters
        ----------
        token_ids : tuple of int
            What it begins with.
        length : int
            Tokens to which it grows.
        n_nodes : int, default=0
            Nodes that may be read after it.
        """
        mode = self.usual
        differences = []
        while mode != "uncached" and not self._right_at(
            mode, token_ids, length, _n_compared(mode, n_nodes)
        ):
            differences.append(self._differences.pop(mode, None))
            mode = _SLOWER[mode]
        self._say(next(filter(None, differences), None), mode)
        return mode

    def _say(self, difference: str | None, mode: ReadMode) -> None:
        """Log what was found out about longer texts, and how they are read."""
        if difference is None:
            return
        _logger.log(
            logging.INFO if mode in self._said else logging.WARNING,
            "%s computes texts of more than %s. For these, %s.",
            type(self._network.model).__name__,
            difference,
            _MEANS[mode],
        )
        self._said.add(mode)

    def _right_at(
        self, mode: ReadMode, token_ids: tuple[int, ...], length: int, n_nodes: int
    ) -> bool:
        return self._right_up_to_length(mode, token_ids, length, n_nodes) and all(
            self._right_across(mode, token_ids, edge, n_nodes)
            for edge in self._network.length_edges
            if len(token_ids) <= edge < length
        )

    def _right_across(
        self, mode: ReadMode, token_ids: tuple[int, ...], edge: int, n_nodes: int
    ) -> bool:
        """Whether what was kept of a text below the edge may be used above it."""
        key = (mode, n_nodes, edge)
        if key not in self._across:
            fault = self._fault(
                mode, token_ids, length=edge + 1, n_nodes=n_nodes, across=True
            )
            self._across[key] = fault is None
        return self._across[key]

    def _right_up_to_length(
        self, mode: ReadMode, token_ids: tuple[int, ...], length: int, n_nodes: int
    ) -> bool:
        key = (mode, n_nodes)
        # The check on loading had few nodes, and a tree's nodes stand side by side.
        right = self._right_up_to.get(key, 0 if mode == "tree" else _SAMPLE_LENGTH)
        if length <= right:
            return True
        if key in self._wrong:
            return False
        lengths = self._lengths[: bisect_left(self._lengths, length) + 1]

        def fault_at(at: int) -> str | None:
            return self._fault(
                mode, token_ids, length=at, n_nodes=n_nodes, across=False
            )

        fault = fault_at(lengths[-1])
        if fault is None:
            self._right_up_to[key] = lengths[-1]
            return True
        # Which shorter texts may still be read so?
        right = next(
            (each for each in lengths[-2::-1] if each <= right or not fault_at(each)),
            right,
        )
        self._right_up_to[key] = right
        self._wrong.add(key)
        self._differences[mode] = (
            f"{right} tokens differently: {fault} at {lengths[-1]} tokens"
        )
        return False


def _lengths_of_check(context_length: int) -> list[int]:
    """Powers of two and what is half-way between them, up to the most that fits."""
    halves = (size << power for power in range(3, 40) for size in (2, 3))
    return [*takewhile(lambda length: length < context_length, halves), context_length]


def _n_compared(mode: ReadMode, n_nodes: int) -> int:
    """Return how many nodes to compare, in few different numbers, and no fewer."""
    if mode != "tree":
        return _MIN_NODES  # each branch has a row of its own
    return min(max(_MIN_NODES, 1 << (n_nodes - 1).bit_length()), _MAX_NODES)
