"""The data that a request sends to the worker, and gets back.

vLLM carries `SamplingParams.extra_args` to its workers untouched, and carries any
number of (token id, log-probability) columns for each generated token back. So a
request says there what it wants, and its columns come back in this order:

====================  =============================================================
column                holds
====================  =============================================================
0                     the generated token (vLLM's own rule)
1                     a marker: its token id is the number k of top tokens
2 … 1 + k             the k most likely tokens, most likely first
2 + k … 1 + k + n     the n tracked tokens, in the order of the request
====================  =============================================================

Arrays travel as bytes: vLLM walks and copies lists in Python, and passes bytes on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from classify.tracking import TokenTree

__all__ = ["EXTRA_ARGS_KEY", "Wanted", "encode_tree", "token_outside"]

EXTRA_ARGS_KEY = "classify"

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a request asks of the worker.

    Attributes
    ----------
    token_ids : tuple of int
        Tokens tracked at every step; not used where `children` is true.
    top : int
        How many of the most likely tokens to report at each step.
    tree : bytes or None
        A token tree, from `encode_tree`.
    node : int
        Where in the tree the prompt ends.
    children : bool
        Track the children of the tree node reached, whatever their number.
    masked : bool
        Allow only children of the node reached.
    forced : tuple of int
        The first tokens to generate, whatever their probability.
    """

    token_ids: tuple[int, ...] = ()
    top: int = 0
    tree: bytes | None = None
    node: int = 0
    children: bool = False
    masked: bool = False
    forced: tuple[int, ...] = ()

    def to_extra_args(self) -> dict[str, Any]:
        """Return the dict to put into ``extra_args``."""
        packed: dict[str, Any] = {"top": self.top}
        if self.token_ids:
            packed["track"] = _pack(self.token_ids)
        if self.forced:
            packed["forced"] = _pack(self.forced)
        if self.tree is not None:
            packed.update(
                tree=self.tree,
                node=self.node,
                children=self.children,
                masked=self.masked,
            )
        return {EXTRA_ARGS_KEY: packed}

    @classmethod
    def from_extra_args(cls, extra_args: Mapping[str, Any] | None) -> "Wanted | None":
        """Return what a request asks for, or None if it tracks nothing."""
        packed = (extra_args or {}).get(EXTRA_ARGS_KEY)
        if packed is None:
            return None
        return cls(
            token_ids=tuple(_unpack(packed.get("track", b""))),
            top=packed["top"],
            tree=packed.get("tree"),
            node=packed.get("node", 0),
            children=packed.get("children", False),
            masked=packed.get("masked", False),
            forced=tuple(_unpack(packed.get("forced", b""))),
        )


def encode_tree(tree: TokenTree, *, end: int = -1) -> bytes:
    """Return a tree as bytes: for each node its token, first child and child count.

    Parameters
    ----------
    tree : TokenTree
    end : int, default=-1
        A token that follows every leaf, so that a masked generation can end there.
        -1: nothing follows a leaf, and nothing is masked there.

    Returns
    -------
    bytes
        int64, shape (3, n_nodes or n_nodes + n_leaves).
    """
    tokens, first, count = tree.tokens, tree.first_child, tree.n_children
    if end >= 0:
        leaves = np.flatnonzero(count == 0)
        first, count = first.copy(), count.copy()
        first[leaves] = len(tokens) + np.arange(len(leaves))
        count[leaves] = 1
        added = np.zeros(len(leaves), dtype=np.int64)
        tokens = np.concatenate([tokens, np.full(len(leaves), end, dtype=np.int64)])
        first, count = np.concatenate([first, added]), np.concatenate([count, added])
    return np.stack([tokens, first, count]).astype("<i8").tobytes()


def decode_tree(packed: bytes) -> tuple[Ints, Ints, Ints]:
    """Return tokens, first children and child counts, each of shape (n_nodes,)."""
    tokens, first, count = np.frombuffer(packed, dtype="<i8").reshape(3, -1)
    return tokens, first, count


def token_outside(tree: TokenTree) -> int:
    """Return the least token id that no path of the tree contains."""
    used = set(tree.tokens.tolist())
    return next(token for token in range(len(used) + 1) if token not in used)


def _pack(token_ids: Sequence[int]) -> bytes:
    return np.asarray(token_ids, dtype="<i8").tobytes()


@lru_cache(maxsize=1024)
def _unpack(packed: bytes) -> tuple[int, ...]:
    # Most requests of a job track the same tokens.
    return tuple(np.frombuffer(packed, dtype="<i8").tolist())
