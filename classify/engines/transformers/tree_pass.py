"""Reads in tree mode: prompts and the nodes of their trees in few forward passes.

A text and the nodes asked of it form one sequence: prompt, then nodes. Under the mask
of `masks` each node sees the prompt, its ancestors and itself, and has the position it
would have in the joint text. So one pass gives at every node exactly the logits that a
pass over `prompt + path(node)` gives at its end.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from classify.engines.transformers.network import Network, logprobs_at, pad_left
from classify.engines.transformers.slots import (
    FIRST_NODE,
    PAD,
    PROMPT,
    Ints,
    KeyValue,
    Members,
    Row,
    SlotCache,
    Slots,
    merge,
)
from classify.tracking import EdgeLogprobs, TokenTree

__all__ = ["Asked", "follow_up", "missing_nodes", "new_prompts", "prefix_slots"]


@dataclass
class Asked:
    """The nodes to read for one prompt and tree, and the caller.

    Of several prompts that are read as one: `members`, and for the tickets of each the
    places of its nodes; see `trunks`.
    """

    prompt: tuple[int, ...]
    tree: TokenTree
    nodes: tuple[int, ...]
    tickets: list[int] = field(default_factory=list)
    members: Members = field(default_factory=dict)
    places: dict[int, Ints] = field(default_factory=dict)

    @property
    def total_length(self) -> int:
        """Tokens of the prompt and of the longest path to a node that is read."""
        depths = self.tree.depths[list(self.nodes)]
        return len(self.prompt) + int(depths.max(initial=0))

    @property
    def n_computed(self) -> int:
        """How many nodes after the prompt have to be computed, at least."""
        if not self.members:
            return len(self.nodes) - 1
        return len(missing_nodes(self.tree, self.nodes, set()))

    @property
    def leaves_nodes(self) -> bool:
        """Whether a later read may ask for more of its tree, or of its members'."""
        trees = [member.tree for member in self.members.values()] or [self.tree]
        return len(self.nodes) < sum(len(tree.inner_nodes) for tree in trees)

    def answer_of(self, ticket: int, edges: EdgeLogprobs) -> EdgeLogprobs:
        """Return what was read of a ticket's own tree, as a copy."""
        if ticket not in self.places:
            return edges.copy()
        own = edges[self.places[ticket]]
        own[0] = np.nan
        return own

    def row(self, edges: EdgeLogprobs) -> Row:
        """Return it with what was read, to be kept."""
        return Row(self.prompt, self.tree, edges, self.members)


def missing_nodes(tree: TokenTree, nodes: Iterable[int], present: set[int]) -> Ints:
    """Return `nodes` and their ancestors, without the root and those present, sorted.

    Sorted, parents come before their children.
    """
    needed: set[int] = set()
    for node in nodes:
        while node > 0 and node not in needed and node not in present:
            needed.add(node)
            node = int(tree.parents[node])
    return np.array(sorted(needed), dtype=np.int64)


def _on_paths(one: Asked) -> Ints:
    """Return the nodes that have to be computed; those that are read come last.

    Then a network that computes the logits of the last tokens computes few for nothing.
    """
    nodes = missing_nodes(one.tree, one.nodes, set())
    is_read = np.isin(nodes, one.nodes)
    return np.concatenate([nodes[~is_read], nodes[is_read]])


def _node_table(node_lists: Sequence[Ints]) -> Ints:
    """Left-align lists of nodes in an array, shape (B, N); -1 after their ends."""
    width = max(len(nodes) for nodes in node_lists)
    table = np.full((len(node_lists), width), -1, dtype=np.int64)
    for row, nodes in enumerate(node_lists):
        table[row, : len(nodes)] = nodes
    return table


def _by_tree(trees: Sequence[TokenTree]) -> dict[TokenTree, list[int]]:
    rows: dict[TokenTree, list[int]] = {}
    for row, tree in enumerate(trees):
        rows.setdefault(tree, []).append(row)
    return rows


def _lookup(
    trees: Sequence[TokenTree], attribute: str, nodes: Ints, otherwise: int
) -> Ints:
    """``tree.attribute[node]`` for a table of nodes, `otherwise` where it is -1."""
    values = np.empty_like(nodes)
    for tree, rows in _by_tree(trees).items():
        values[rows] = getattr(tree, attribute)[nodes[rows]]
    values[nodes < 0] = otherwise
    return values


def _node_tokens(asked: Sequence[Asked], nodes: Ints) -> Ints:
    """Return the token of each node, and the prompt's last one as padding."""
    last = np.array([[one.prompt[-1]] for one in asked])
    tokens = _lookup([one.tree for one in asked], "tokens", nodes, 0)
    return np.where(nodes < 0, last, tokens)


def new_prompts(
    network: Network, asked: Sequence[Asked], *, prefix: Slots | None, keep: bool
) -> tuple[list[EdgeLogprobs], Slots | None]:
    """Read prompts that no cache knows, each with all nodes asked of it, in one pass.

    Parameters
    ----------
    network : Network
        The model.
    asked : sequence of Asked, length B
        Prompts and nodes; each prompt once.
    prefix : Slots or None
        A cached prefix of all the prompts, shorter than each.
    keep : bool
        Whether to return the batch for follow-ups.

    Returns
    -------
    answers : list of ndarray, length B
        See `EdgeLogprobs`.
    slots : Slots or None
    """
    n_rows = len(asked)
    trees = [one.tree for one in asked]
    n_shared = prefix.n_slots if prefix else 0
    own = [one.prompt[n_shared:] for one in asked]
    width = max(map(len, own))
    nodes = _node_table([_on_paths(one) for one in asked])
    n_nodes = nodes.shape[1]
    lengths = np.array([len(ids) for ids in own])[:, None]
    offsets = np.arange(width) - (width - lengths)  # (B, width): < 0 on padding
    prompt_codes = np.where(offsets < 0, PAD, PROMPT)
    token_ids = pad_left(own, width)
    positions = np.where(offsets < 0, 0, n_shared + offsets)
    codes = prompt_codes
    if n_nodes:
        node_positions = n_shared + lengths - 1 + _lookup(trees, "depths", nodes, 0)
        token_ids = np.hstack([token_ids, _node_tokens(asked, nodes)])
        positions = np.hstack([positions, np.where(nodes < 0, 0, node_positions)])
        codes = np.hstack([codes, np.where(nodes < 0, PAD, nodes + FIRST_NODE)])
    n_queries = width + n_nodes
    cache = None
    all_codes, all_positions = codes, positions
    if prefix is not None:
        cache = SlotCache(_expanded(prefix, n_rows))
        all_codes = np.hstack([np.repeat(prefix.codes, n_rows, 0), codes])
        all_positions = np.hstack([np.repeat(prefix.positions, n_rows, 0), positions])
    elif keep:
        cache = SlotCache()
    plain = prefix is None and not n_nodes and bool((codes == PROMPT).all())
    # Without padding and nodes the network's own causal path is right, and faster.
    mask = (
        None
        if plain
        else network.mask(
            trees if n_nodes else [None] * n_rows, all_codes, all_positions, n_queries
        )
    )
    read = np.hstack([np.zeros((n_rows, 1), dtype=np.int64), nodes])
    for row, one in enumerate(asked):
        read[row, ~np.isin(read[row], one.nodes)] = -1
    wanted = np.zeros(token_ids.shape, dtype=np.bool_)
    wanted[:, width - 1 :] = read >= 0
    logits = network.logits(
        token_ids,
        positions=positions,
        real=codes != PAD,
        wanted=wanted,
        mask=mask,
        cache=cache,
    )
    answers = edge_logprobs(logits, trees, read)
    if not keep or cache is None:
        return answers, None
    rows = [one.row(edges) for one, edges in zip(asked, answers, strict=True)]
    return answers, Slots(cache.key_values(), all_codes, all_positions, rows, n_rows)


def _expanded(prefix: Slots, n_rows: int) -> list[KeyValue]:
    return [
        (keys.expand(n_rows, -1, -1, -1), values.expand(n_rows, -1, -1, -1))
        for keys, values in prefix.layers
    ]


def prefix_slots(network: Network, prefix: tuple[int, ...]) -> Slots:
    """Compute keys and values of ids that many prompts begin with; a batch of one."""
    cache = SlotCache()
    positions = np.arange(len(prefix))[None]
    network.logits(
        np.array([prefix], dtype=np.int64),
        positions=positions,
        real=positions >= 0,
        wanted=positions == len(prefix) - 1,
        mask=None,
        cache=cache,
    )
    return Slots(cache.key_values(), np.full_like(positions, PROMPT), positions)


def follow_up(
    network: Network,
    asked: Sequence[Asked],
    places: Sequence[tuple[Slots, int]],
) -> tuple[list[EdgeLogprobs], Slots | None]:
    """Read further nodes of prompts whose keys and values are kept.

    Parameters
    ----------
    network : Network
        The model.
    asked : sequence of Asked, length B
        Prompts and nodes; each prompt once.
    places : sequence of (Slots, int), length B
        Where each prompt is kept.

    Returns
    -------
    answers : list of ndarray, length B
    slots : Slots or None
        The rows with new nodes in a new batch; None if nothing was computed.
    """
    answers: list[EdgeLogprobs] = []
    lists: list[Ints] = []
    for one, (slots, row) in zip(asked, places, strict=True):
        known, present = slots.rows[row], set()
        if known.tree is one.tree:
            held = slots.codes[row]
            present = set((held[held >= FIRST_NODE] - FIRST_NODE).tolist())
            answers.append(known.answers)
        else:
            answers.append(np.full(one.tree.n_nodes, np.nan))
        lists.append(missing_nodes(one.tree, one.nodes, present))
    # A row without a token would have no state of its own to pad with.
    by_slots: dict[int, list[int]] = {}
    for i, (slots, _) in enumerate(places):
        if lists[i].size:
            by_slots.setdefault(id(slots), []).append(i)
    if not by_slots:
        return answers, None
    order: list[int] = []
    chosen = []
    for members in by_slots.values():
        members.sort(key=lambda i: places[i][1])
        chosen.append((places[members[0]][0], [places[i][1] for i in members]))
        order += members
    nodes = _node_table([lists[i] for i in order])
    cache, codes, positions = merge(chosen, nodes.shape[1])
    for row, i in enumerate(order):
        if places[i][0].rows[places[i][1]].tree is not asked[i].tree:
            # Nodes of another tree on the same prompt mean nothing here.
            codes[row, codes[row] >= FIRST_NODE] = PAD
    new, slots_now = _append(
        network, [asked[i] for i in order], nodes, (cache, codes, positions)
    )
    for i, fresh, kept in zip(order, new, slots_now.rows, strict=True):
        kept.answers = answers[i] = np.where(np.isnan(fresh), answers[i], fresh)
    return answers, slots_now


def _append(
    network: Network,
    asked: Sequence[Asked],
    nodes: Ints,
    past: tuple[SlotCache, Ints, Ints],
) -> tuple[list[EdgeLogprobs], Slots]:
    cache, codes, positions = past
    trees = [one.tree for one in asked]
    ends = np.array([[len(one.prompt) - 1] for one in asked])
    new_positions = np.where(nodes < 0, 0, ends + _lookup(trees, "depths", nodes, 0))
    codes = np.hstack([codes, np.where(nodes < 0, PAD, nodes + FIRST_NODE)])
    positions = np.hstack([positions, new_positions])
    n_queries = nodes.shape[1]
    logits = network.logits(
        _node_tokens(asked, nodes),
        positions=new_positions,
        real=nodes >= 0,
        wanted=nodes >= 0,
        mask=network.mask(trees, codes, positions, n_queries),
        cache=cache,
    )
    answers = edge_logprobs(logits, trees, nodes)
    rows = [one.row(edges) for one, edges in zip(asked, answers, strict=True)]
    return answers, Slots(cache.key_values(), codes, positions, rows, len(rows))


def edge_logprobs(
    logits: torch.Tensor, trees: Sequence[TokenTree], nodes: Ints
) -> list[EdgeLogprobs]:
    """Take from logits what leads from each node to its children.

        log p(c | node) = logits[node, token of c] - logsumexp(logits[node])

    Parameters
    ----------
    logits : tensor, shape (R, V)
        A row for each node, in row-major order.
    trees : sequence of TokenTree, length B
    nodes : ndarray of int64, shape (B, K)
        The nodes; -1 for none.

    Returns
    -------
    list of ndarray of float64, shape (n_nodes of the row's tree,)
    """
    logit_rows = np.cumsum(nodes >= 0).reshape(nodes.shape) - 1
    answers: list[EdgeLogprobs] = [np.empty(0)] * len(nodes)
    indices, places = [], []
    for tree, rows in _by_tree(trees).items():
        values = np.full((len(rows), tree.n_nodes), np.nan)
        for row, edges in zip(rows, values, strict=True):
            answers[row] = edges
        local, kept = np.nonzero(nodes[rows] >= 0)
        parents = nodes[rows][local, kept]
        counts = tree.n_children[parents]
        starts = np.repeat(counts.cumsum() - counts, counts)
        children = np.repeat(tree.first_child[parents], counts) + (
            np.arange(counts.sum()) - starts
        )
        which = logit_rows[rows][local, kept]
        indices.append(np.stack([np.repeat(which, counts), tree.tokens[children]]))
        places.append((values, np.repeat(local, counts), children))
    where = np.hstack(indices)
    order = np.argsort(where[0], kind="stable")
    found = np.empty(len(order))
    found[order] = logprobs_at(logits, *where[:, order])
    start = 0
    for values, local, children in places:
        values[local, children] = found[start : start + len(local)]
        start += len(local)
    return answers
