"""Reads with plain forward passes: slow, but right for every causal model.

One text at a time, no padding, no mask, no cache. What the faster ways are compared
with, and how a network is read for which none of them is right.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from classify.engines.transformers.network import Network
from classify.engines.transformers.tree_pass import edge_logprobs
from classify.tracking import EdgeLogprobs, TokenTree

__all__ = ["path_read", "uncached_read"]


def _as_ids(token_ids: Iterable[int]) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.array([tuple(token_ids)], dtype=np.int64)


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
