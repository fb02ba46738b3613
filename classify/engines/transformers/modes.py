"""Which way of reading to take, for a model and for the length of a text.

Found out when the engine is made, on a few tokens, and again when texts first reach a
length from which on a model may compute differently: a sliding window's edge, the
length of its first training, and every power of two for what no configuration tells.
"""

import logging
from typing import Any

from classify.engines.transformers.network import Network
from classify.engines.transformers.selfcheck import (
    ReadMode,
    check_causal,
    fault_at_length,
    fault_on_sample,
)

__all__ = ["Modes"]

_logger = logging.getLogger(__name__)

_KNOWN_LAYERS = {"full_attention", "sliding_attention"}
_SLOWER: dict[ReadMode, ReadMode] = {"tree": "cached", "cached": "uncached"}
_MEANS: dict[ReadMode, str] = {
    "cached": "label paths are read one by one on copies of its cache: right, but "
    "slower",
    "uncached": "every label path is read with a forward pass of its own: right, but "
    "much slower",
}
# Tokens of the check on loading.
_SAMPLE_LENGTH = 12


class Modes:
    """Knows the fastest right way of reading, by length.

    Parameters
    ----------
    network : Network
        The model; compared with itself at once.

    Attributes
    ----------
    usual : {"tree", "cached", "uncached"}
        The way for texts of usual length.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        check_causal(network)
        self.usual: ReadMode = self._choose()
        self._right_up_to: dict[ReadMode, int] = dict.fromkeys(_SLOWER, _SAMPLE_LENGTH)
        self._wrong_from: dict[ReadMode, int] = {}
        self._across: dict[tuple[ReadMode, int], bool] = {}

    def _choose(self) -> ReadMode:
        odd = sorted(self._network.layer_types - _KNOWN_LAYERS)
        if odd:
            reason: str | None = f"it has layers of kind {', '.join(odd)}"
        else:
            reason = self._fault("tree")
        if reason is None:
            return "tree"
        mode: ReadMode = "cached"
        fault = self._fault(mode)
        if fault is not None:
            mode, reason = "uncached", f"{reason}; with a copied cache, {fault}"
        _logger.warning(
            "%s does not take a tree mask: %s. So %s.",
            type(self._network.model).__name__,
            reason,
            _MEANS[mode],
        )
        return mode

    def _fault(self, mode: ReadMode, *text: Any) -> str | None:
        """Say what is wrong with a way, on a sample or a text of some length."""
        find: Any = fault_at_length if text else fault_on_sample
        fault: str | None = find(self._network, mode, *text)
        if fault is None or mode != "tree" or self._network.fused is None:
            return fault
        _logger.info(
            "%s is read with its own forward pass: with ours, %s.",
            type(self._network.model).__name__,
            fault,
        )
        self._network.give_up_fused()
        return self._fault(mode, *text)

    def for_text(self, token_ids: tuple[int, ...], length: int) -> ReadMode:
        """Return the way for a text that begins so and grows to `length` tokens."""
        mode = self.usual
        while mode != "uncached" and not self._right_at(mode, token_ids, length):
            mode = _SLOWER[mode]
        return mode

    def _right_at(
        self, mode: ReadMode, token_ids: tuple[int, ...], length: int
    ) -> bool:
        return self._right_up_to_length(mode, token_ids, length) and all(
            self._right_across(mode, token_ids, edge)
            for edge in self._network.length_edges
            if len(token_ids) <= edge < length
        )

    def _right_across(
        self, mode: ReadMode, token_ids: tuple[int, ...], edge: int
    ) -> bool:
        """Whether what was kept of a text below the edge may be used above it."""
        if (mode, edge) not in self._across:
            fault = self._fault(mode, token_ids, edge + 1)
            self._across[mode, edge] = fault is None
        return self._across[mode, edge]

    def _right_up_to_length(
        self, mode: ReadMode, token_ids: tuple[int, ...], length: int
    ) -> bool:
        right_up_to = self._right_up_to[mode]
        if length <= right_up_to:
            return True
        if length >= self._wrong_from.get(mode, length + 1):
            return False
        edge = self._first_edge(right_up_to)
        if length <= edge:
            return True
        fault = self._fault(mode, token_ids, length)
        if fault is None:
            self._right_up_to[mode] = length
            return True
        self._wrong_from[mode] = edge + 1
        _logger.warning(
            "%s computes texts of more than %d tokens differently: %s at %d tokens. "
            "For these, %s.",
            type(self._network.model).__name__,
            edge,
            fault,
            length,
            _MEANS[_SLOWER[mode]],
        )
        return False

    def _first_edge(self, length: int) -> int:
        """Return the first length, this one or above, after which things may change."""
        power = 1 << (length - 1).bit_length()
        return min([power, *(e for e in self._network.length_edges if e >= length)])
