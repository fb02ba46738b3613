"""A drafter that knows the labels: vLLM's ``custom_class`` proposer.

Looking a run of tokens up in the prompt matches the first label that shares a token,
and drafts the wrong tail. The token paths of the labels are known, so that their tails
can be drafted for sure: after "card ar" only "rival" may come.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from classify.engines.vllm.wire import Wanted, decode_tree

__all__ = ["LabelDrafter", "LabelPaths", "repeat_of"]

# Prompt lookup: the longest and shortest run of tokens to look up.
_LONGEST_RUN, _SHORTEST_RUN = 4, 2
# Rows with candidate labels of their own bring a tree each.
_MAX_TREES = 256


def repeat_of(tokens: npt.NDArray[np.int32], most: int) -> list[int]:
    """Return what followed the last time that the final tokens were seen, or [].

    Prompt lookup decoding (Saxena 2023), for a single text: the longest run counts, and
    of equal ones the latest. Written here because vLLM's changes its signature between
    the versions that we support.

    Examples
    --------
    >>> repeat_of(np.array([7, 1, 2, 3, 4, 9, 1, 2]), 2)
    [3, 4]
    """
    for length in range(min(_LONGEST_RUN, len(tokens) - 1), _SHORTEST_RUN - 1, -1):
        runs = np.lib.stride_tricks.sliding_window_view(tokens[:-1], length)
        found = np.flatnonzero((runs == tokens[-length:]).all(axis=1))
        if len(found):
            after = int(found[-1]) + length
            following: list[int] = tokens[after : after + most].tolist()
            return following
    return []


class LabelPaths:
    """The token paths of labels, with how often each was taken.

    Parameters
    ----------
    packed : bytes
        A tree from `classify.engines.vllm.wire.encode_tree`.
    """

    def __init__(self, packed: bytes) -> None:
        tokens, first, count = decode_tree(packed)
        self._children: list[dict[int, int]] = [
            {
                int(tokens[child]): int(child)
                for child in range(int(first[node]), int(first[node] + count[node]))
            }
            for node in range(len(tokens))
        ]
        self._taken: Counter[int] = Counter()

    def child(self, node: int, token: int) -> int | None:
        """Return the node that a token leads to, or None."""
        return self._children[node].get(token)

    def take(self, node: int) -> None:
        """Count a node as generated."""
        self._taken[node] += 1

    def tail(self, node: int, most: int) -> list[int]:
        """Return the most likely tokens after a node, at most `most`.

        A single child is certain. Of several the one taken most so far is the
        most likely; where none was taken yet there is nothing to go by.
        """
        tail: list[int] = []
        while len(tail) < most and self._children[node]:
            children = self._children[node]
            token, below = max(children.items(), key=lambda one: self._taken[one[1]])
            if len(children) > 1 and not self._taken[below]:
                break
            tail.append(token)
            node = below
        return tail

    def tail_after(self, tokens: Sequence[int], most: int) -> list[int]:
        """Return the tail of the label whose beginning ends `tokens`, if there is one.

        The longest beginning counts. A single token says too little, unless only one
        path goes on from it.
        """
        for n_matched in range(min(len(tokens), 16), 0, -1):
            node: int | None = 0
            for token in tokens[-n_matched:]:
                node = self._children[node].get(token) if node is not None else None
            if node is not None:
                return self.tail(node, most)
        return []


class _Followed:
    """A request whose tokens are drafted."""

    def __init__(self, wanted: Wanted | None, paths: LabelPaths | None) -> None:
        self.forced = wanted.forced if wanted is not None else ()
        self.node: int | None = wanted.node if wanted is not None else None
        self.paths = paths
        self.n_seen = 0

    def see(self, generated: npt.NDArray[np.int32]) -> None:
        """Go on by the tokens generated since the last call."""
        for token in generated[self.n_seen :].tolist():
            if self.paths is None or self.node is None:
                break
            self.node = self.paths.child(self.node, token)
            if self.node is not None:
                self.paths.take(self.node)
        self.n_seen = len(generated)

    def draft(self, most: int) -> list[int]:
        """Return the forced tokens ahead, then the most likely tail in the tree."""
        ahead = list(self.forced[self.n_seen : self.n_seen + most])
        node = self.node
        if self.paths is None or node is None:
            return ahead
        for token in ahead:
            below = self.paths.child(node, token)
            if below is None:
                return ahead
            node = below
        return ahead + self.paths.tail(node, most - len(ahead))


class LabelDrafter:
    """Drafts label tails for requests with a token tree, repeats for the others.

    Parameters
    ----------
    vllm_config : vllm.config.VllmConfig
        vLLM constructs it with this.
    """

    def __init__(self, vllm_config: Any) -> None:
        self._most = int(vllm_config.speculative_config.num_speculative_tokens)
        self._runner: Any = None
        self._paths: dict[bytes, LabelPaths] = {}
        self._followed: dict[str, _Followed] = {}

    def follow(self, runner: Any) -> None:
        """Learn whose requests are drafted; called once, by `install_v1`."""
        self._runner = runner

    def load_model(self, *_: Any, **__: Any) -> None:
        """Do nothing: there is no model. vLLM calls it on every drafter."""

    def propose(
        self,
        sampled_token_ids: list[list[int]],
        num_tokens_no_spec: npt.NDArray[np.int32],
        token_ids_cpu: npt.NDArray[np.int32],
        slot_mappings: Any = None,
    ) -> list[list[int]]:
        """Return drafted tokens for each request; [] where nothing is likely."""
        drafts: list[list[int]] = [[] for _ in sampled_token_ids]
        if self._runner is None:
            return drafts
        batch = self._runner.input_batch
        for row, sampled in enumerate(sampled_token_ids):
            if not sampled:
                continue  # its prompt is not read yet
            n_tokens, n_prompt = num_tokens_no_spec[row], batch.num_prompt_tokens[row]
            generated = token_ids_cpu[row, n_prompt:n_tokens]
            followed = self._follow(batch.req_ids[row])
            followed.see(generated)
            if followed.paths is not None or followed.forced:
                drafts[row] = followed.draft(self._most)
            else:
                drafts[row] = self._label_tail(generated[-16:].tolist())
                if not drafts[row]:
                    drafts[row] = repeat_of(token_ids_cpu[row, :n_tokens], self._most)
        return drafts

    def _follow(self, name: str) -> _Followed:
        followed = self._followed.get(name)
        if followed is None:
            requests = self._runner.requests
            if len(self._followed) > 4 * len(requests) + 64:
                self._followed = {
                    known: one
                    for known, one in self._followed.items()
                    if known in requests
                }
            parameters = requests[name].sampling_params
            wanted = Wanted.from_extra_args(parameters.extra_args)
            tree = wanted.tree if wanted is not None else None
            paths = None
            if tree is not None:
                paths = self._paths.get(tree)
                if paths is None:
                    paths = self._paths[tree] = LabelPaths(tree)
                    while len(self._paths) > _MAX_TREES:
                        del self._paths[next(iter(self._paths))]
            followed = self._followed[name] = _Followed(wanted, paths)
        return followed

    def _label_tail(self, tokens: list[int]) -> list[int]:
        """Return the tail of a label that free text has begun, longest match first."""
        tails = (paths.tail_after(tokens, self._most) for paths in self._paths.values())
        return max(tails, key=len, default=[])
