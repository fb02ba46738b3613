"""Attention masks over slots.

A query sees a slot if its code may (the tree's table) and if it is not behind:

    visible[q, s] = table[code_q, code_s]  and  position_s <= position_q
                    and  position_q - position_s < window      (sliding layers only)

`table[PROMPT, PROMPT]` is true, so that the second condition makes the prompt causal;
`table[node, PROMPT]` is true; `table[node, other]` is true for the node itself and its
ancestors. Every query sees itself, padding included, so that no row is empty.
"""

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import numpy as np
import torch

from classify.engines.transformers.slots import FIRST_NODE, PAD, PROMPT, Ints
from classify.tracking import TokenTree

__all__ = ["MaskMaker"]


class MaskMaker:
    """Makes 4-D masks; keeps what it derives from each tree as long as the tree lives.

    Parameters
    ----------
    dtype : torch.dtype
        Of the model: masks are added to the attention scores.
    device : torch.device
        Where they are needed.
    """

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self._dtype = dtype
        self._device = device
        self._tables: WeakKeyDictionary[TokenTree, torch.Tensor] = WeakKeyDictionary()

    def _table(self, tree: TokenTree) -> torch.Tensor:
        """Shape (n_nodes + 2, n_nodes + 2): [code of query, code of slot]."""
        table = self._tables.get(tree)
        if table is None:
            visible = np.zeros((tree.n_nodes + FIRST_NODE,) * 2, dtype=np.bool_)
            visible[PROMPT:, PROMPT] = True
            visible[FIRST_NODE:, FIRST_NODE:] = tree.ancestor_mask
            table = torch.from_numpy(visible).to(self._device)
            self._tables[tree] = table
        return table

    def visible(
        self,
        trees: Sequence[TokenTree | None],
        codes: Ints,
        positions: Ints,
        n_queries: int,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Say which slots each query sees.

        Parameters
        ----------
        trees : sequence of TokenTree or None, length B
            The tree that the node codes of each row mean; None where there are none.
        codes, positions : ndarray of int64, shape (B, S)
            All slots; the queries are the last `n_queries` of them.
        n_queries : int
            Q.

        Returns
        -------
        visible : tensor of bool, shape (B, Q, S)
        distance : tensor of int64, shape (B, Q, S)
            How many tokens each slot lies before the query.
        """
        n_rows, n_slots = codes.shape
        slot_codes = torch.from_numpy(codes).to(self._device)
        slot_positions = torch.from_numpy(positions).to(self._device)
        query_codes = slot_codes[:, n_slots - n_queries :, None]  # (B, Q, 1)
        distance = (
            slot_positions[:, n_slots - n_queries :, None] - slot_positions[:, None, :]
        )
        by_tree: dict[TokenTree | None, list[int]] = {}
        for row, tree in enumerate(trees):
            by_tree.setdefault(tree, []).append(row)
        visible = torch.empty(
            (n_rows, n_queries, n_slots), dtype=torch.bool, device=self._device
        )
        for tree, rows in by_tree.items():
            here = slice(None) if len(by_tree) == 1 else rows
            if tree is None:
                visible[here] = (query_codes[here] != PAD) & (
                    slot_codes[here, None, :] != PAD
                )
            else:
                table = self._table(tree)
                visible[here] = table[query_codes[here], slot_codes[here, None, :]]
        visible &= distance >= 0
        itself = visible.new_ones(())
        visible.diagonal(n_slots - n_queries, 1, 2).logical_or_(itself)
        return visible, distance

    def additive(self, visible: torch.Tensor) -> torch.Tensor:
        """Shape (B, 1, Q, S): 0 where visible, the dtype's least number elsewhere.

        Additive, because models that compute attention themselves add whatever they
        get, and would take a boolean for a bias of 0 or 1.
        """
        mask = torch.zeros(visible.shape, dtype=self._dtype, device=self._device)
        mask.masked_fill_(~visible, torch.finfo(self._dtype).min)
        return mask[:, None]
