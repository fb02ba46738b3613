"""From a read of tree nodes to few vLLM requests, and back.

A request that generates along a path reads every node on it: one request instead of
one for each node, since what a further request costs is mostly Python in front of the
model. So the nodes to read are covered by as few downward chains as there are, each
walked by one request whose tokens are forced.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from classify.engines.answers import Answer, Request
from classify.engines.vllm.parameters import (
    ids_only,
    sampling_params,
    steps_in,
    top_logprobs,
    tracked_logprobs,
)
from classify.engines.vllm.wire import Wanted, encode_tree, token_outside
from classify.errors import AnswerError
from classify.tracking import EdgeLogprobs, TokenTree, TrackedGeneration, TrackedRequest

__all__ = ["Chain", "PackedTree", "Waiting", "add_edges", "chains_of"]

# Chains differ from text to text, but those of one label set are soon all seen.
_MAX_MADE = 4096


@dataclass(frozen=True, slots=True)
class Chain:
    """Nodes that one request reads: a node, one of its children, and so on.

    Attributes
    ----------
    nodes : tuple of int
        At least one.
    """

    nodes: tuple[int, ...]


def chains_of(tree: TokenTree, nodes: Sequence[int]) -> list[Chain]:
    """Cover nodes with the fewest chains.

    Examples
    --------
    >>> tree = TokenTree([(1, 2, 3), (1, 2, 4), (1, 5, 6)])
    >>> [chain.nodes for chain in chains_of(tree, [0, 1, 2, 3])]
    [(0, 1, 2), (3,)]
    """
    below: dict[int, tuple[int, ...]] = {}
    chains: list[Chain] = []
    # Children come after their parents, so in reverse each node finds its chains made.
    for node in sorted(set(nodes), reverse=True):
        tails = [below.pop(child) for child in tree.children(node) if child in below]
        longest = max(tails, key=len, default=())
        rest = list(tails)
        if tails:
            rest.remove(longest)
        chains.extend(Chain(tail) for tail in rest)
        below[node] = (node, *longest)
    chains.extend(Chain(tail) for tail in below.values())
    return sorted(chains, key=lambda chain: chain.nodes)


class PackedTree:
    """A token tree as requests carry it, made once for all texts with its labels.

    Parameters
    ----------
    tree : TokenTree
    vocab_size : int
    """

    def __init__(self, tree: TokenTree, vocab_size: int) -> None:
        # Not the tree itself: an engine keeps this for as long as the tree is in use.
        self._tokens = tree.tokens
        self._open = encode_tree(tree)
        # Below each node, itself included: steps to the deepest leaf, most children.
        self._height = np.zeros(tree.n_nodes, dtype=np.int64)
        self._width = tree.n_children.copy()
        for node in range(tree.n_nodes - 1, 0, -1):
            parent = tree.parents[node]
            self._height[parent] = max(self._height[parent], self._height[node] + 1)
            self._width[parent] = max(self._width[parent], self._width[node])
        self._made: dict[tuple[tuple[int, ...], bool, int], Any] = {}
        inner = set(tree.tokens[tree.inner_nodes].tolist())
        ends = {int(tree.tokens[leaf]) for leaf in tree.leaves} - inner
        outside = token_outside(tree)
        if outside < vocab_size:
            self._closed = encode_tree(tree, end=outside)
            self.stop_token_ids = (*sorted(ends), outside)
        else:
            # Every token is in the tree: nothing can mark an end, so that a generation
            # runs on past a leaf and is cut here.
            self._closed, self.stop_token_ids = self._open, tuple(sorted(ends))

    def read_parameters(self, chain: Chain, *, follow: bool, room: int) -> Any:
        """Return the ``SamplingParams`` of a request along a chain.

        Parameters
        ----------
        chain : Chain
        follow : bool
            Go on after the chain to the most likely child, and so on to a leaf.
        room : int
            Most tokens that may be generated.
        """
        start = chain.nodes[0]
        max_tokens = min(int(self._height[start]), room) if follow else len(chain.nodes)
        key = (chain.nodes, follow, max_tokens)
        if key not in self._made:
            if len(self._made) >= _MAX_MADE:
                self._made.clear()
            wanted = Wanted(
                tree=self._closed if follow else self._open,
                node=start,
                children=True,
                masked=follow,
                forced=tuple(int(self._tokens[node]) for node in chain.nodes[1:]),
            )
            self._made[key] = sampling_params(
                wanted,
                int(self._width[start]),
                max_tokens=max_tokens,
                stop_token_ids=list(self.stop_token_ids) if follow else None,
                **ids_only(),
            )
        return self._made[key]

    def allowed(self, token_ids: tuple[int, ...], top: int) -> Wanted:
        """Return the request of a generation that must stay on the paths."""
        return Wanted(token_ids, top=top, tree=self._closed, masked=True)


def add_edges(
    edges: EdgeLogprobs, tree: TokenTree, chain: Chain, completion: Any
) -> None:
    """Write what a request along a chain has read into `edges`.

    Parameters
    ----------
    edges : ndarray of float64, shape (n_nodes,)
        Changed in place; see `classify.tracking.EdgeLogprobs`.
    tree : TokenTree
    chain : Chain
    completion : vllm.CompletionOutput

    Raises
    ------
    AnswerError
        vLLM answered with other tokens than those of the node's children.
    """
    rows = steps_in(completion.logprobs)
    node: int | None = chain.nodes[0]
    for step, token in enumerate(completion.token_ids):
        if node is None or not tree.n_children[node]:
            break
        children = tree.children(node)
        ids, values = rows[step]
        own = slice(2, 2 + len(children))
        if not np.array_equal(ids[own], tree.tokens[children.start : children.stop]):
            raise AnswerError(
                f"vLLM answered a read of node {node} of {tree} with tokens other than "
                "those of its children, so this text gets no label."
            )
        edges[children.start : children.stop] = values[own]
        node = tree.child_by_token(node, token)


@dataclass(slots=True)
class Waiting:
    """A request of ours, and what of vLLM's answers to it has come."""

    request: Request
    n_missing: int
    chains: Mapping[str, Chain] = field(default_factory=dict)
    edges: EdgeLogprobs | None = None
    answer: Answer = ()

    def take(self, output: Any) -> bool:
        """Take one of vLLM's answers; return whether all have come."""
        self.n_missing -= 1
        try:
            self.answer = self._answer(output)
        except AnswerError as error:
            self.answer = error
        return not self.n_missing

    def _answer(self, output: Any) -> Answer:
        if isinstance(self.answer, AnswerError):
            return self.answer
        if isinstance(self.request, TrackedRequest):
            return tuple(_generation_of(self.request, one) for one in output.outputs)
        assert self.edges is not None
        chain = self.chains[output.request_id]
        add_edges(self.edges, self.request.tree, chain, output.outputs[0])
        return self.edges


def _generation_of(request: TrackedRequest, completion: Any) -> TrackedGeneration:
    """Return a ``vllm.CompletionOutput`` as the answer to a request."""
    token_ids = tuple(completion.token_ids)
    n_steps, at_leaf = len(token_ids), False
    if request.allowed is not None:
        n_steps, at_leaf = _steps_to_leaf(request.allowed, token_ids)
    tracked = None
    if request.track_token_ids is not None:
        tracked = {
            token: values[:n_steps]
            for token, values in tracked_logprobs(completion).items()
        }
    stopped = at_leaf or completion.finish_reason == "stop"
    return TrackedGeneration(
        token_ids=token_ids[:n_steps],
        tracked_logprobs=tracked,
        top_logprobs=top_logprobs(completion)[:n_steps],
        finish_reason="stop" if stopped else "length",
    )


def _steps_to_leaf(tree: TokenTree, token_ids: tuple[int, ...]) -> tuple[int, bool]:
    node: int | None = 0
    for step, token in enumerate(token_ids):
        assert node is not None
        if not tree.n_children[node]:
            return step, True
        node = tree.child_by_token(node, token)
        if node is None:
            raise AnswerError(
                f"vLLM generated {list(token_ids)}, which is not on the allowed "
                "paths, so this text gets no label."
            )
    return len(token_ids), not tree.n_children[node]
