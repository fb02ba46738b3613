"""Reads without tree masks: one text at a time, no padding, no custom mask.

For networks that cannot take a 4-D mask (ALiBi, recurrent layers, unusual attention).
`cached_read` steps copies of the network's own cache along the tree; `uncached_read`
runs the whole joint text for each path. Slow, and right for whatever is causal.
"""

import copy
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from classify.engines.transformers.network import Network
from classify.engines.transformers.tree_pass import edge_logprobs, missing_nodes
from classify.tracking import EdgeLogprobs, TokenTree

__all__ = ["cached_read", "path_read", "uncached_read"]


def _as_ids(token_ids: Iterable[int]) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.array([tuple(token_ids)], dtype=np.int64)


def cached_read(
    network: Network, prompt: tuple[int, ...], tree: TokenTree, nodes: Iterable[int]
) -> EdgeLogprobs:
    """Read nodes by stepping copies of the network's own cache, token by token."""
    needed = missing_nodes(tree, nodes, set()).tolist()
    below: dict[int, list[int]] = {}
    for node in needed:
        below.setdefault(int(tree.parents[node]), []).append(node)
    logits, cache = network(_as_ids(prompt), keep=1, use_cache=True)
    kept, order = [logits], [0]
    stack = [(cache, node, i > 0) for i, node in enumerate(below.get(0, ()))]
    while stack:
        past, node, shared = stack.pop()
        # The last child to be visited (the first of the list) may use the cache up.
        here = copy.deepcopy(past) if shared else past
        logits, here = network(
            _as_ids([int(tree.tokens[node])]), keep=1, cache=here, use_cache=True
        )
        kept.append(logits)
        order.append(node)
        stack += [(here, child, i > 0) for i, child in enumerate(below.get(node, ()))]
    table = np.array([order], dtype=np.int64)
    return edge_logprobs(torch.cat(kept, dim=1)[0], [tree], table)[0]


def uncached_read(
    network: Network, prompt: tuple[int, ...], tree: TokenTree, nodes: Iterable[int]
) -> EdgeLogprobs:
    """Read each node with a plain forward pass of its own over prompt and path.

    Not several nodes of a path in one pass: a model may compute a whole text
    differently once it is long.
    """
    asked = list(nodes)
    rows = [network(_as_ids((*prompt, *tree.path(node))), keep=1)[0] for node in asked]
    table = np.array([asked], dtype=np.int64)
    return edge_logprobs(torch.cat(rows, dim=1)[0], [tree], table)[0]


def path_read(
    network: Network, prompt: tuple[int, ...], tree: TokenTree
) -> EdgeLogprobs:
    """Read all nodes, each path with one plain forward pass; for short texts."""
    rows, order = [], []
    inner = set(tree.inner_nodes.tolist())
    for last in inner - set(tree.parents[list(inner)].tolist()):
        path = [last]
        while path[-1]:
            path.append(int(tree.parents[path[-1]]))
        joint = (*prompt, *tree.path(last))
        rows.append(network(_as_ids(joint), keep=len(path))[0])
        order += reversed(path)
    table = np.array([order], dtype=np.int64)
    return edge_logprobs(torch.cat(rows, dim=1)[0], [tree], table)[0]
