"""Reads without tree masks: the state after a prompt is forked for every branch.

For networks that cannot take a 4-D mask: recurrent layers, convolutions, ALiBi, unusual
attention. A prompt is computed once, alone and without padding, by the network's own
pass; copies of its own cache then step down the tree, a token at a time, the branches
of many texts side by side.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from transformers import PretrainedConfig

from classify.engines.transformers.network import Network
from classify.engines.transformers.slots import Ints, Row
from classify.engines.transformers.tree_pass import Asked, edge_logprobs, missing_nodes
from classify.tracking import EdgeLogprobs, TokenTree

__all__ = ["Forked", "follow_forks", "new_forks", "prefix_fork"]

MaxRows = Callable[[int], int]
"""How many rows of so many bytes one pass may have."""


@dataclass
class Forked:
    """The network's own cache after a text, to be copied and never changed.

    Attributes
    ----------
    cache : transformers cache
        Of one row.
    n_slots : int
        Tokens that it has seen.
    rows : list of Row
        The text and what was read of its tree; empty for a prefix.
    """

    cache: Any
    n_slots: int
    rows: list[Row] = field(default_factory=list)
    n_live: int = 1
    n_bytes: int = 0

    def __post_init__(self) -> None:
        self.n_bytes = sum(state.nbytes for state in _states(self.cache))


def prefix_fork(
    network: Network, prefix: tuple[int, ...], before: Forked | None = None
) -> Forked:
    """Compute the state after ids that many prompts begin with.

    `before` is the state after what these begin with.
    """
    _, cache = _computed(network, prefix, before)
    return Forked(cache, len(prefix))


def _computed(
    network: Network, ids: tuple[int, ...], before: Forked | None
) -> tuple[torch.Tensor, Any]:
    """Return the logits after ids, and the state; `before` is left as it is."""
    past: dict[str, Any] = {}
    n_known = 0
    if before is not None:
        n_known = before.n_slots
        past = {
            "positions": np.arange(n_known, len(ids))[None],
            "cache": _select(before.cache, [0], 1),
        }
    return network(np.array([ids[n_known:]]), keep=1, use_cache=True, **past)


def new_forks(
    network: Network,
    asked: Sequence[Asked],
    *,
    prefixes: Sequence[Forked | None],
    together: bool,
    max_rows: MaxRows,
) -> tuple[list[EdgeLogprobs], list[Forked]]:
    """Read prompts that no cache knows.

    Parameters
    ----------
    network : Network
    asked : sequence of Asked, length B
        Prompts and nodes; each prompt once.
    prefixes : sequence of Forked or None, length B
        The state after a proper prefix of each prompt.
    together : bool
        Whether texts of different lengths may share a pass, with padding.
    max_rows : callable

    Returns
    -------
    answers : list of ndarray, length B
    forks : list of Forked, length B
        For reads that follow.
    """
    forks = []
    for one, prefix in zip(asked, prefixes, strict=True):
        logits, cache = _computed(network, one.prompt, prefix)
        [edges] = edge_logprobs(logits[0], [one.tree], np.zeros((1, 1), dtype=np.int64))
        forks.append(Forked(cache, len(one.prompt), [one.row(edges)]))
    return follow_forks(
        network, asked, forks, together=together, max_rows=max_rows
    ), forks


def follow_forks(
    network: Network,
    asked: Sequence[Asked],
    forks: Sequence[Forked],
    *,
    together: bool,
    max_rows: MaxRows,
) -> list[EdgeLogprobs]:
    """Read further nodes of prompts whose states are kept.

    Returns
    -------
    list of ndarray, length B
    """
    has_rows = all(_has_rows(fork.cache) for fork in forks)
    if together and not has_rows:
        raise TypeError("states of an unknown kind cannot be put side by side")
    waiting: dict[object, list[_Branches]] = {}
    for one, fork in zip(asked, forks, strict=True):
        if fork.rows[0].tree is not one.tree:
            nothing = np.full(one.tree.n_nodes, np.nan)
            fork.rows[0] = Row(one.prompt, one.tree, nothing)
        branches = _Branches.of(fork, one.nodes)
        if branches.below:
            shape = _shape(fork.cache)
            key = shape if together else (shape, fork.n_slots)
            waiting.setdefault(key, []).append(branches)
    for group in waiting.values():
        n_bytes = max(each.fork.n_bytes for each in group)
        most = max_rows(n_bytes) if has_rows else 1
        for part in _parts(group, most):
            _Descent(network, part, most).run()
    return [fork.rows[0].answers for fork in forks]


@dataclass
class _Branches:
    """The nodes to compute after a text: those below each node."""

    fork: Forked
    below: dict[int, list[int]]

    @classmethod
    def of(cls, fork: Forked, nodes: Sequence[int]) -> "_Branches":
        tree, answers = fork.rows[0].tree, fork.rows[0].answers
        needed: set[int] = set()
        for node in nodes:
            # With a node what follows it for certain: it is asked for next.
            while _is_unread(tree, answers, node):
                needed.add(node)
                if tree.n_children[node] > 1:
                    break
                node = int(tree.first_child[node])
        below: dict[int, list[int]] = {}
        for node in missing_nodes(tree, needed, set()).tolist():
            below.setdefault(int(tree.parents[node]), []).append(node)
        return cls(fork, below)

    @property
    def width(self) -> int:
        """The most nodes side by side, at least."""
        return max(len(self.below.get(0, ())), 1)


def _is_unread(tree: TokenTree, answers: EdgeLogprobs, node: int) -> bool:
    """Whether a node has children, none of them read."""
    return bool(tree.n_children[node] and np.isnan(answers[tree.first_child[node]]))


def _parts(group: Sequence[_Branches], most: int) -> Iterator[list[_Branches]]:
    part: list[_Branches] = []
    for each in group:
        if part and sum(other.width for other in part) + each.width > most:
            yield part
            part = []
        part.append(each)
    yield part


class _Descent:
    """Steps copies of the states of some texts down their trees."""

    def __init__(
        self, network: Network, texts: Sequence[_Branches], max_rows: int
    ) -> None:
        self._network, self._texts, self._max_rows = network, texts, max_rows
        self._lengths = np.array([each.fork.n_slots for each in texts])

    def run(self) -> None:
        cache, padded = _join([each.fork.cache for each in self._texts])
        self._padding: Ints | None = None
        if padded:
            self._padding = self._lengths.max() - self._lengths
        self._below(cache, [(text, 0) for text in range(len(self._texts))])

    def _below(self, cache: Any, places: Sequence[tuple[int, int]]) -> None:
        """Read what is below nodes, whose states are the rows of a cache."""
        steps = [
            (row, text, child)
            for row, (text, node) in enumerate(places)
            for child in self._texts[text].below.get(node, ())
        ]
        for start in range(0, len(steps), self._max_rows):
            part = steps[start : start + self._max_rows]
            rows = [row for row, _, _ in part]
            fork = self._step(_select(cache, rows, len(places)), part)
            deeper = [
                (row, (text, node))
                for row, (_, text, node) in enumerate(part)
                if node in self._texts[text].below
            ]
            if deeper:
                kept = [row for row, _ in deeper]
                if len(kept) < len(part):
                    fork = _select(fork, kept, len(part))
                self._below(fork, [place for _, place in deeper])

    def _step(self, cache: Any, part: Sequence[tuple[int, int, int]]) -> Any:
        texts = np.array([text for _, text, _ in part])
        nodes = np.array([[node] for _, _, node in part])
        trees = [self._texts[text].fork.rows[0].tree for text in texts]
        tokens = np.array([[t.tokens[n]] for t, [n] in zip(trees, nodes, strict=True)])
        depth = int(trees[0].depths[nodes[0, 0]])
        mask = None
        if self._padding is not None:
            n_slots = int(self._lengths.max()) + depth
            real = np.arange(n_slots) >= self._padding[texts][:, None]
            mask = torch.from_numpy(real.astype(np.int64)).to(self._network.device)
        logits, cache = self._network(
            tokens,
            keep=1,
            positions=self._lengths[texts][:, None] + depth - 1,
            mask=mask,
            cache=cache,
            use_cache=True,
        )
        for text, edges in zip(
            texts, edge_logprobs(logits[:, 0], trees, nodes), strict=True
        ):
            row = self._texts[text].fork.rows[0]
            row.answers = np.where(np.isnan(edges), row.answers, edges)
        return cache


# Caches of all kinds: of whatever objects they are made, their tensors have a row a
# text. transformers selects rows of some kinds, and joins those of none.


def _walk(value: Any) -> Iterator[Any]:
    """All that a cache is made of, in a fixed order."""
    if isinstance(value, dict):
        for each in value.values():
            yield from _walk(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _walk(each)
    elif hasattr(value, "__dict__") and not isinstance(
        value, torch.Tensor | type | PretrainedConfig
    ):
        yield type(value)
        yield from _walk(vars(value))
    else:
        yield value


def _states(cache: Any) -> list[torch.Tensor]:
    return [
        each
        for each in _walk(cache)
        if isinstance(each, torch.Tensor) and each.ndim > 1 and each.numel()
    ]


def _has_rows(cache: Any) -> bool:
    """Whether all states of a cache of one text are seen, and have a row for it."""
    states = _states(cache)
    return bool(states) and all(len(each) == 1 for each in states)


def _shape(cache: Any) -> object:
    """What caches must share to be joined: everything but the number of slots."""
    return tuple(
        (each.dtype, each.ndim, *each.shape[1:-2], *each.shape[-1:])
        if isinstance(each, torch.Tensor)
        else each
        if isinstance(each, int | float | str | type | None)
        else type(each)
        for each in _walk(cache)
    )


def _rebuilt(cache: Any, states: dict[int, torch.Tensor]) -> Any:
    """A copy of a cache with other tensors in place of some."""
    memo: dict[int, Any] = dict(states)
    memo.update(
        (id(each), each) for each in _walk(cache) if isinstance(each, PretrainedConfig)
    )
    return copy.deepcopy(cache, memo)


def _select(cache: Any, rows: Sequence[int], n_rows: int) -> Any:
    """A copy of a cache with some of its rows, each as often as it is named."""
    if n_rows == len(rows) == 1:
        return _rebuilt(cache, {})
    states = _states(cache)
    assert all(len(each) == n_rows for each in states)
    where = torch.tensor(rows)
    return _rebuilt(
        cache,
        {id(each): each.index_select(0, where.to(each.device)) for each in states},
    )


def _join(caches: Sequence[Any]) -> tuple[Any, bool]:
    """Put the rows of caches of one shape together; say if some were padded."""
    if len(caches) == 1:
        return caches[0], False
    joined, padded = {}, False
    for same in zip(*map(_states, caches), strict=True):
        width = max(each.shape[-2] for each in same)
        gaps = [width - each.shape[-2] for each in same]
        padded = padded or any(gaps)
        joined[id(same[0])] = torch.cat(
            [
                torch.nn.functional.pad(each, (0, 0, gap, 0)) if gap else each
                for each, gap in zip(same, gaps, strict=True)
            ]
        )
    return _rebuilt(caches[0], joined), padded
