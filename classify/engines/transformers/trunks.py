"""Prompts with a common prefix, which is computed once, as the trunk of a tree.

Questions about one text have prompts that share most of their tokens. Such prompts are
read as one: the trunk is what all of them begin with, and after it stands a tree that
has a path for the rest of each prompt, with the prompt's own tree at its end. To passes
that read trees this is a prompt with a tree like any other.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence

import numpy as np

from classify.engines.transformers.budget import Budget
from classify.engines.transformers.slots import Ints, Member, Row
from classify.engines.transformers.tree_pass import Asked
from classify.tracking import (
    EdgeLogprobs,
    ReadRequest,
    TokenTree,
    common_prefix_length,
)

__all__ = ["Joiner", "alike", "following"]

# Prompts are compared by this many tokens after their common beginning, before the like
# are looked for among each other.
_N_TELLING = 16
# Joint trees are the same for all texts that are asked the same questions.
_MAX_TREES = 64


def following(row: Row, request: ReadRequest, ticket: int) -> Asked | None:
    """Return the read of a kept text, or None: a root never read needs the prompt."""
    prompt, tree = request.prompt_token_ids, request.tree
    if prompt == row.prompt:
        # Node 1 is the root's first child.
        has_root = row.tree is tree and not np.isnan(row.answers[1])
        if 0 in request.nodes and not has_root:
            return None
        return Asked(prompt, tree, request.nodes, [ticket])
    member = row.members.get(prompt)
    if member is None or member.tree is not tree:
        return None
    places = member.places
    if 0 in request.nodes and np.isnan(row.answers[places[1]]):
        return None
    nodes = tuple(places[list(request.nodes)].tolist())
    return Asked(row.prompt, row.tree, nodes, [ticket], row.members, {ticket: places})


def alike(asked: Iterable[Asked], n_known: int) -> list[list[Asked]]:
    """Divide prompts into groups that share at least half of what is to be computed.

    Parameters
    ----------
    asked : iterable of Asked
        Each prompt once.
    n_known : int
        So many tokens, which all prompts begin with, need not be computed.

    Returns
    -------
    list of list of Asked
        Groups sorted by prompt; none has a prompt that begins another.
    """
    by_start: dict[tuple[int, ...], list[Asked]] = {}
    for one in asked:
        start = one.prompt[n_known : n_known + _N_TELLING]
        by_start.setdefault(start, []).append(one)
    groups: list[list[Asked]] = []
    for members in by_start.values():
        members.sort(key=lambda one: one.prompt)
        last: tuple[int, ...] = ()
        for one in members:
            shared = common_prefix_length([last, one.prompt])
            n_own = len(one.prompt) - n_known
            if 2 * (shared - n_known) >= n_own and n_known < shared < len(last):
                groups[-1].append(one)
            else:
                groups.append([one])
            last = one.prompt
    return groups


class Joiner:
    """Makes one read of a group; keeps the trees that it has made.

    Parameters
    ----------
    budget : Budget
        Bounds the rests of prompts that one pass computes.
    """

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._trees: OrderedDict[object, tuple[TokenTree, tuple[Ints, ...]]] = (
            OrderedDict()
        )
        self._apart: set[tuple[int, ...]] = set()

    def has_to_part(self, one: Asked, edges: EdgeLogprobs) -> bool:
        """Whether a read of several prompts has NaN, so that each is read again, apart.

        A mask does not keep the NaN of one prompt out of the others.
        """
        if not one.members:
            return False
        is_read = np.isin(one.tree.parents, one.nodes)
        if not np.isnan(edges[is_read]).any():
            return False
        self._apart.update(one.members)
        return True

    def join(self, group: Sequence[Asked]) -> list[Asked]:
        """Return the prompts of a group of `alike` as few reads, one if they fit."""
        if len(group) == 1:
            self._apart.discard(group[0].prompt)
            return list(group)
        if apart := [one for one in group if one.prompt in self._apart]:
            rest = [one for one in group if one.prompt not in self._apart]
            self._apart.difference_update(one.prompt for one in apart)
            return apart + (self.join(rest) if rest else [])
        n_shared = common_prefix_length(one.prompt for one in group)
        parts: list[list[Asked]] = [[]]
        n_nodes = n_kept = 0
        for one in group:
            n_nodes += len(one.prompt) - n_shared + len(one.nodes) - 1
            n_kept += len(one.nodes)
            fits = self._budget.allows(len(parts[-1]) + 1) and self._fits(
                n_shared, n_nodes, n_kept
            )
            if parts[-1] and not fits:
                parts.append([])
                n_nodes = len(one.prompt) - n_shared + len(one.nodes) - 1
                n_kept = len(one.nodes)
            parts[-1].append(one)
        return [self._joint(part) for part in parts]

    def _fits(self, n_shared: int, n_nodes: int, n_kept: int) -> bool:
        return n_nodes <= self._budget.most_nodes and self._budget.fits(
            1, n_nodes, n_shared + n_nodes, n_kept
        )

    def _joint(self, group: Sequence[Asked]) -> Asked:
        if len(group) == 1:
            return group[0]
        n_shared = common_prefix_length(one.prompt for one in group)
        tree, places = self._joint_tree(
            [one.prompt[n_shared:] for one in group], [one.tree for one in group]
        )
        joint = Asked(group[0].prompt[:n_shared], tree, ())
        joint.members = {
            one.prompt: Member(one.tree, own)
            for one, own in zip(group, places, strict=True)
        }
        for one, own in zip(group, places, strict=True):
            joint.nodes += tuple(own[list(one.nodes)].tolist())
            joint.tickets += one.tickets
            joint.places |= dict.fromkeys(one.tickets, own)
        return joint

    def _joint_tree(
        self, rests: Sequence[tuple[int, ...]], trees: Sequence[TokenTree]
    ) -> tuple[TokenTree, tuple[Ints, ...]]:
        """Return the tree after a trunk, and where it has the nodes of each tree."""
        key = tuple(zip(rests, trees, strict=True))  # trees are equal to themselves
        if key in self._trees:
            self._trees.move_to_end(key)
            return self._trees[key]
        joint = TokenTree(
            rest + path for rest, tree in key for path in dict.fromkeys(tree.paths)
        )
        places = tuple(_places(joint, rest, tree) for rest, tree in key)
        self._trees[key] = joint, places
        if len(self._trees) > _MAX_TREES:
            self._trees.popitem(last=False)
        return joint, places


def _places(joint: TokenTree, rest: tuple[int, ...], tree: TokenTree) -> Ints:
    """Return the node of a joint tree that each node of a tree after `rest` is."""
    places = np.empty(tree.n_nodes, dtype=np.int64)
    node = 0
    for token in rest:
        node = _child(joint, node, token)
    places[0] = node
    for own in range(1, tree.n_nodes):
        places[own] = _child(joint, int(places[tree.parents[own]]), tree.tokens[own])
    return places


def _child(tree: TokenTree, node: int, token: int) -> int:
    child = tree.child_by_token(node, int(token))
    assert child is not None, "the tree was made of this path"
    return child
