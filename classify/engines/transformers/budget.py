"""How much goes into one pass."""

from typing import Literal

import torch

from classify.engines.transformers.network import Network

__all__ = ["Budget"]

# Tokens of one pass. On a CPU a pass is fastest while its activations stay in the
# cache; an accelerator wants to be filled.
_TOKENS_CPU, _TOKENS_ACCELERATOR = 1024, 32_768
# Attention scores of one layer, in pairs (query, slot), summed over the batch.
_PAIRS_CPU, _PAIRS_ACCELERATOR = 1 << 22, 1 << 27
_LOGITS_BYTES_CPU, _LOGITS_BYTES_ACCELERATOR = 32 << 20, 2 << 30
_KEPT_BYTES_CPU = 1 << 30
# States that one pass steps on, each a copy.
_FORKED_BYTES_CPU, _FORKED_BYTES_ACCELERATOR = 256 << 20, 4 << 30
_MAX_NODES = 512
# Prompts are computed one by one: how many such batches, as far as tokens go, are one.
_MAX_FORKED = 4
# Few enough that a streamed job stays small, enough to sort by length.
_WINDOW_CPU, _WINDOW_ACCELERATOR = 512, 1024
# Least share of a follow-up batch that is nodes, and not padding. Padding costs an
# accelerator less than a further pass does.
_MIN_FILLED_CPU, _MIN_FILLED_ACCELERATOR = 0.8, 0.0
# Inner nodes of a tree that is read whole at once, whatever was asked of it: an
# accelerator computes so many more tokens in less time than a further pass takes.
_MAX_WHOLE_CPU, _MAX_WHOLE_ACCELERATOR = 0, 32


class Budget:
    """Bounds of a batch.

    Parameters
    ----------
    network : Network
        The model.
    batch_size : int or "auto"
        Most texts in a batch; "auto": bounded by tokens, attention and logits alone.

    Attributes
    ----------
    window : int
        Texts that a driver should keep in flight.
    most_nodes : int
        Nodes of one text that one pass may read.
    max_whole : int
        Inner nodes of a tree that is read whole, whatever was asked of it.
    min_filled : float
        Least share of a follow-up batch that is nodes, and not padding.
    """

    def __init__(self, network: Network, batch_size: int | Literal["auto"]) -> None:
        on_cpu = network.device.type == "cpu"
        self._device = network.device
        self._most_texts = None if batch_size == "auto" else batch_size
        self._n_tokens = _TOKENS_CPU if on_cpu else _TOKENS_ACCELERATOR
        self._n_pairs = _PAIRS_CPU if on_cpu else _PAIRS_ACCELERATOR
        logits_bytes = _LOGITS_BYTES_CPU if on_cpu else _LOGITS_BYTES_ACCELERATOR
        self._n_logit_rows = max(1, logits_bytes // (4 * network.vocab_size))
        self._forked_bytes = _FORKED_BYTES_CPU if on_cpu else _FORKED_BYTES_ACCELERATOR
        self.max_whole = _MAX_WHOLE_CPU if on_cpu else _MAX_WHOLE_ACCELERATOR
        self.min_filled = _MIN_FILLED_CPU if on_cpu else _MIN_FILLED_ACCELERATOR
        # Nodes of one text in one pass: their attention grows with the square.
        self.most_nodes = max(_MAX_NODES, self._n_logit_rows)
        self.window = _WINDOW_CPU if on_cpu else _WINDOW_ACCELERATOR
        if self._most_texts is not None:
            self.window = max(4 * self._most_texts, 64)
        self._whole = dict(vars(self))

    def allows(self, n_texts: int) -> bool:
        """Say whether one pass may compute so many texts, in however many rows."""
        return self._most_texts is None or n_texts <= self._most_texts

    def fits(self, n_texts: int, n_queries: int, n_slots: int, n_kept: int) -> bool:
        """Say whether a batch may have this shape.

        Parameters
        ----------
        n_texts : int
            B.
        n_queries, n_slots : int
            Q new tokens of each, which see S slots.
        n_kept : int
            K rows of logits of each.
        """
        if self._most_texts is not None:
            within = n_texts <= self._most_texts
        else:
            within = n_texts * n_queries <= self._n_tokens
        return (
            within
            and n_texts * n_queries * n_slots <= self._n_pairs
            and n_texts * n_kept <= self._n_logit_rows
        )

    def fits_generation(self, n_generations: int, n_slots: int) -> bool:
        """Say whether so many generations of this length may run side by side."""
        if self._most_texts is not None:
            return n_generations <= self._most_texts
        return (
            n_generations * n_slots <= 16 * self._n_tokens
            and n_generations <= self._n_logit_rows
        )

    def max_forks(self, n_bytes: int) -> int:
        """Return how many states of a size may step in one pass."""
        return max(1, min(self._forked_bytes // max(n_bytes, 1), self._n_logit_rows))

    def fits_forks(self, n_texts: int, n_tokens: int, n_bytes: int) -> bool:
        """Say whether so many texts may be forked side by side.

        Parameters
        ----------
        n_texts : int
        n_tokens : int
            Of all their prompts.
        n_bytes : int
            Memory that the state after one of them takes; 0: unknown.
        """
        if self._most_texts is not None:
            return n_texts <= self._most_texts
        within = n_tokens <= _MAX_FORKED * self._n_tokens
        return within and n_texts * n_bytes <= self._forked_bytes

    def is_filled(self, n_tokens: int) -> bool:
        """Whether so many tokens fill a pass."""
        return n_tokens >= self._n_tokens

    @property
    def worth_waiting_for(self) -> int:
        """New tokens of follow-ups below which a pass is mostly overhead."""
        return self._n_tokens if self._most_texts is None else 0

    def halve(self) -> None:
        """Take less at a time, after the device ran out of memory."""
        self._n_tokens = max(1, self._n_tokens // 2)
        self._n_pairs = max(1, self._n_pairs // 2)
        self._n_logit_rows = max(1, self._n_logit_rows // 2)
        self._forked_bytes = max(1, self._forked_bytes // 2)
        self.most_nodes = max(1, self.most_nodes // 2)
        if self._most_texts is not None:
            self._most_texts = max(1, self._most_texts // 2)

    def restore(self) -> None:
        """Take as much as at first, after a text that does not fit was dropped."""
        vars(self).update(self._whole)

    def kept_bytes(self) -> int:
        """Return the default bound of the keys and values kept between reads."""
        if self._device.type == "cuda":
            return int(torch.cuda.mem_get_info(self._device)[0]) // 4
        return _KEPT_BYTES_CPU
