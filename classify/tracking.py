"""Token trees, requests for tracked log-probabilities, and their answers.

Everything here is token ids and numbers: no text, no labels, no model. Engines take
these requests; strategies in `classify.scoring` make them.

All log-probabilities are natural logarithms of the softmax over the *full* vocabulary,
before any mask, temperature or penalty.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from classify.errors import RowError

__all__ = [
    "EdgeBounds",
    "EdgeLogprobs",
    "ReadRequest",
    "TokenList",
    "TokenTree",
    "TrackedGeneration",
    "TrackedRequest",
    "common_prefix_length",
    "logprobs_of",
    "updated",
]

EdgeLogprobs = npt.NDArray[np.float64]
"""Shape (n_nodes,): entry i = log p(tokens[i] | prompt, path to parents[i]) in nats.

NaN where the parent was not read, and at the root (which no token leads to).
"""


class TokenTree:
    """A set of token paths as a tree in flat arrays.

    Node 0 is the root: the end of the prompt. Nodes are numbered breadth first, so
    that a parent comes before its children and the children of a node are one slice.
    No path may be a proper prefix of another: every path ends at a leaf.

    Parameters
    ----------
    paths : iterable of sequence of int
        Token paths, each of at least one token. Equal paths share a leaf.

    Attributes
    ----------
    tokens : ndarray of int64, shape (n_nodes,)
        The token that leads to each node; -1 at the root.
    parents : ndarray of int64, shape (n_nodes,)
        The parent of each node; -1 at the root.
    depths : ndarray of int64, shape (n_nodes,)
        Number of tokens on the way from the root.
    first_child, n_children : ndarray of int64, shape (n_nodes,)
        The children of node i are ``first_child[i] .. first_child[i] + n_children[i]``.
    leaves : ndarray of int64, shape (n_paths,)
        The leaf at which each given path ends, in the order given.

    Examples
    --------
    >>> tree = TokenTree([(5, 7), (5, 8), (9,)])
    >>> tree.n_nodes, tree.children(0), tree.path(int(tree.leaves[1]))
    (5, range(1, 3), (5, 8))
    """

    def __init__(self, paths: Iterable[Sequence[int]]) -> None:
        self.paths: tuple[tuple[int, ...], ...] = tuple(
            tuple(int(token) for token in path) for path in paths
        )
        if not self.paths or not all(self.paths):
            raise ValueError("A TokenTree needs paths of at least one token each.")
        tokens, parents = [-1], [-1]
        first_child, n_children = [0], [0]
        leaf_of: dict[tuple[int, ...], int] = {}
        # One level at a time: `level` holds (node, the paths through it).
        level: list[tuple[int, list[tuple[int, ...]]]] = [(0, sorted(set(self.paths)))]
        depth = 0
        while level:
            below = []
            for node, through in level:
                ending = [path for path in through if len(path) == depth]
                if ending and len(through) > 1:
                    longer = next(path for path in through if len(path) > depth)
                    raise ValueError(
                        f"Path {ending[0]} is a prefix of path {longer}: "
                        "add an end token to every path."
                    )
                if ending:
                    leaf_of[ending[0]] = node
                    continue
                first_child[node] = len(tokens)
                by_token: dict[int, list[tuple[int, ...]]] = {}
                for path in through:
                    by_token.setdefault(path[depth], []).append(path)
                n_children[node] = len(by_token)
                for token, group in by_token.items():
                    below.append((len(tokens), group))
                    tokens.append(token)
                    parents.append(node)
                    first_child.append(0)
                    n_children.append(0)
            level = below
            depth += 1
        self.tokens = np.array(tokens, dtype=np.int64)
        self.parents = np.array(parents, dtype=np.int64)
        self.first_child = np.array(first_child, dtype=np.int64)
        self.n_children = np.array(n_children, dtype=np.int64)
        self.leaves = np.array([leaf_of[path] for path in self.paths], dtype=np.int64)
        self.depths = np.zeros(len(tokens), dtype=np.int64)
        for node in range(1, len(tokens)):
            self.depths[node] = self.depths[self.parents[node]] + 1

    def __repr__(self) -> str:
        return (
            f"TokenTree({len(set(self.paths))} paths, {self.n_nodes} nodes, "
            f"{len(self.inner_nodes)} inner)"
        )

    @property
    def n_nodes(self) -> int:
        """Number of nodes, the root included."""
        return len(self.tokens)

    @cached_property
    def inner_nodes(self) -> npt.NDArray[np.int64]:
        """Shape (n_inner,): the nodes that have children, in breadth-first order."""
        return np.flatnonzero(self.n_children > 0)

    @cached_property
    def max_depth(self) -> int:
        """Number of tokens of the longest path."""
        return int(self.depths.max())

    @cached_property
    def ancestor_mask(self) -> npt.NDArray[np.bool_]:
        """Shape (n_nodes, n_nodes): [i, j] is true if j is i or an ancestor of i."""
        mask = np.eye(self.n_nodes, dtype=np.bool_)
        for node in range(1, self.n_nodes):
            mask[node] |= mask[self.parents[node]]
        return mask

    def children(self, node: int) -> range:
        """Return the nodes below `node`, as a range; empty for a leaf."""
        start = int(self.first_child[node])
        return range(start, start + int(self.n_children[node]))

    def path(self, node: int) -> tuple[int, ...]:
        """Return the tokens from the root to `node`; ``()`` for the root."""
        tokens: list[int] = []
        while node > 0:
            tokens.append(int(self.tokens[node]))
            node = int(self.parents[node])
        return tuple(reversed(tokens))

    def child_by_token(self, node: int, token: int) -> int | None:
        """Return the child of `node` that `token` leads to, or None."""
        for child in self.children(node):
            if int(self.tokens[child]) == token:
                return child
        return None


class TokenList(NamedTuple):
    """The most likely next tokens, as far as a server lists them.

    Attributes
    ----------
    known : mapping of int to float
        Log-probabilities by token id.
    floor : float
        None of the tokens that the list leaves out has a greater log-probability; 0.0
        where nothing is known.
    unclear : mapping of int to float, default={}
        Tokens that are written like a listed one, so that it may be any of them, and
        the log-probability that each can have at most.
    rounding : float, default=1e-6
        By how much a sum of the listed probabilities may be off. Values come in
        float32, and in JSON with six digits or more.
    """

    known: Mapping[int, float]
    floor: float
    unclear: Mapping[int, float] = MappingProxyType({})
    rounding: float = 1e-6

    @classmethod
    def of(cls, known: Mapping[int, float]) -> "TokenList":
        """Return a list of which every token is known."""
        return cls(known, min(known.values(), default=0.0))

    def log_rest(self, vocab_size: int) -> float:
        """Return the log of the probability of all tokens that are not known."""
        if len(self.known) >= vocab_size:
            return -math.inf
        # What is above 0 is no log-probability, and is refused in the answer.
        values = (min(value, 1.0) for value in self.known.values())
        left_over = 1.0 - math.fsum(map(math.exp, values))
        return math.log(max(left_over, 0.0) + self.rounding)


class EdgeBounds(NamedTuple):
    """Log-probabilities from lists of the most likely tokens; bounds for the others.

    A token that a list leaves out has at most the probability of the last one listed,
    and at most the remaining probability. All values are in nats, of shape
    (n_nodes,), and NaN where the parent was not read.

    Attributes
    ----------
    values : ndarray of float64
        log p(tokens[i] | prompt, path to parents[i]) where it is listed. Elsewhere an
        estimate, which divides the remaining probability evenly among all tokens that
        are not listed.
    lower, upper : ndarray of float64
        lower <= log p(…) <= upper; equal where the token is listed. Lower is -inf
        where it is not.
    rest : ndarray of float64
        At each node that was read: the log of the probability of all tokens, labels'
        or not, that its list leaves out. NaN elsewhere.
    """

    values: EdgeLogprobs
    lower: EdgeLogprobs
    upper: EdgeLogprobs
    rest: EdgeLogprobs

    @classmethod
    def of_lists(
        cls, tree: "TokenTree", listed: Mapping[int, TokenList], vocab_size: int
    ) -> "EdgeBounds":
        """Return the bounds of a tree, given lists of the most likely tokens.

        Parameters
        ----------
        tree : TokenTree
        listed : mapping of int to TokenList
            For each node that was read, the most likely tokens. A token may be
            listed only if no more likely one is left out.
        vocab_size : int
            How many tokens there are.

        Examples
        --------
        >>> tree = TokenTree([(1,), (2,)])
        >>> lists = {0: TokenList.of({1: np.log(0.5), 0: np.log(0.3)})}
        >>> bounds = EdgeBounds.of_lists(tree, lists, vocab_size=12)
        >>> np.exp(bounds.values[1:]).round(3).tolist()
        [0.5, 0.02]
        >>> np.exp(bounds.lower[2]).round(3), np.exp(bounds.upper[2]).round(3)
        (np.float64(0.0), np.float64(0.2))
        """
        values, lower, upper, rest = np.full((4, tree.n_nodes), np.nan)
        for node, tokens in listed.items():
            rest[node] = log_rest = tokens.log_rest(vocab_size)
            even = log_rest - np.log(max(vocab_size - len(tokens.known), 1))
            for child in tree.children(node):
                token = int(tree.tokens[child])
                if token in tokens.known:
                    values[child] = lower[child] = upper[child] = tokens.known[token]
                else:
                    most = min(log_rest, tokens.unclear.get(token, tokens.floor))
                    values[child] = min(even, most)
                    lower[child], upper[child] = -np.inf, most
        return cls(values, lower, upper, rest)


def logprobs_of(edges: EdgeLogprobs | EdgeBounds) -> EdgeLogprobs:
    """Return the log-probability of each edge, an estimate where it is not known."""
    return edges.values if isinstance(edges, EdgeBounds) else edges


def updated(
    edges: EdgeLogprobs | EdgeBounds, later: EdgeLogprobs | EdgeBounds
) -> EdgeLogprobs | EdgeBounds:
    """Return what was read of a tree, with what was read of it later."""
    if isinstance(edges, EdgeBounds) and isinstance(later, EdgeBounds):
        pairs = zip(edges, later, strict=True)
        return EdgeBounds(*(np.where(np.isnan(old), new, old) for old, new in pairs))
    assert not isinstance(edges, EdgeBounds), "an engine gives one of the two"
    assert not isinstance(later, EdgeBounds), "an engine gives one of the two"
    return np.where(np.isnan(edges), later, edges)


@dataclass(frozen=True, slots=True, eq=False)
class ReadRequest:
    """Ask for log-probabilities at nodes of a token tree that hangs on a prompt.

    Parameters
    ----------
    prompt_token_ids : tuple of int
        The prompt, at least one token.
    tree : TokenTree
        What may follow the prompt. The same object may serve many requests, and an
        engine may keep what it derives from it.
    nodes : tuple of int
        Inner nodes to read. A read of node v gives log p(c | prompt, path(v)) for
        every child token c of v. An engine may read more nodes than asked where that
        costs nothing, and reports them too.
    """

    prompt_token_ids: tuple[int, ...]
    tree: TokenTree
    nodes: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class TrackedRequest:
    """Ask for generated tokens and the log-probabilities of chosen tokens.

    Parameters
    ----------
    prompt_token_ids : tuple of int
        The prompt, at least one token.
    track_token_ids : sequence of int or None, default=None
        Tokens whose log-probability is wanted at every step, whatever their rank.
        Order and duplicates do not matter. None switches tracking off; an empty
        sequence gives an empty dict.
    max_tokens : int, default=1
        Most tokens to generate.
    temperature : float, default=0.0
        0 is greedy; above 0 the tokens are sampled. Log-probabilities stay raw.
    n : int, default=1
        How many generations to make from the prompt.
    seed : int or None, default=None
        Seed of the sampling of this request; independent of its neighbours.
    top_logprobs : int, default=0
        How many of the most likely tokens to report at each step.
    allowed : TokenTree or None, default=None
        Restrict the generation to these paths; it stops at a leaf. Reported
        log-probabilities are those before the restriction.
    stop_token_ids : tuple of int or None, default=None
        Tokens that end a generation (and are part of it). None: the model's own.
    """

    prompt_token_ids: tuple[int, ...]
    track_token_ids: Sequence[int] | None = None
    max_tokens: int = 1
    temperature: float = 0.0
    n: int = 1
    seed: int | None = None
    top_logprobs: int = 0
    allowed: TokenTree | None = None
    stop_token_ids: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class TrackedGeneration:
    """One generated sequence and the values that were tracked.

    Attributes
    ----------
    token_ids : tuple of int, length n_steps
        The generated tokens, the stop token included.
    tracked_logprobs : dict of int to list of float, or None
        ``tracked_logprobs[t][j]`` = log p(t | prompt, token_ids[:j]) in nats: one
        value for each generated token. None if tracking was off.
    top_logprobs : tuple of dict of int to float
        For each step the most likely tokens, most likely first; empty dicts when none
        were asked for.
    finish_reason : {"stop", "length"}
        "stop": a stop token, or a leaf of the allowed paths; "length": `max_tokens`.
    text : str or None
        The decoded tokens, where the engine was asked to decode.
    """

    token_ids: tuple[int, ...]
    tracked_logprobs: dict[int, list[float]] | None
    top_logprobs: tuple[dict[int, float], ...] = field(default=())
    finish_reason: str = "length"
    text: str | None = None


class Completed(NamedTuple):
    """An answer of an engine: to which ticket, and what; or why there is none."""

    ticket: int
    result: "EdgeLogprobs | EdgeBounds | tuple[TrackedGeneration, ...] | RowError"


def common_prefix_length(sequences: Iterable[tuple[int, ...]]) -> int:
    """Return how many leading items all sequences share.

    Examples
    --------
    >>> common_prefix_length([(1, 2, 3), (1, 2), (1, 2, 4)])
    2
    """
    # What begins the least and the greatest begins all between them.
    rows = list(sequences)
    first, last = min(rows), max(rows)
    low, high = 0, min(len(first), len(last))
    while low < high:
        middle = (low + high + 1) // 2
        if first[low:middle] == last[low:middle]:  # faster than item by item
            low = middle
        else:
            high = middle - 1
    return low
