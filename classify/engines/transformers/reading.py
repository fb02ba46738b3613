"""Which reads go together, in which order, and in which way."""

from collections.abc import Callable, Sequence, Set
from typing import TypeVar

import numpy as np
import torch

from classify.engines.transformers.budget import Budget
from classify.engines.transformers.forked_pass import (
    Forked,
    follow_forks,
    new_forks,
    prefix_fork,
)
from classify.engines.transformers.kept import Kept, KeptTexts, Prefixes
from classify.engines.transformers.modes import Modes
from classify.engines.transformers.network import Network
from classify.engines.transformers.plain import uncached_read
from classify.engines.transformers.selfcheck import ReadMode
from classify.engines.transformers.slots import Row, Slots
from classify.engines.transformers.tree_pass import (
    Asked,
    follow_up,
    new_prompts,
    prefix_slots,
)
from classify.errors import RowError
from classify.tracking import (
    Completed,
    EdgeLogprobs,
    ReadRequest,
    common_prefix_length,
)

__all__ = ["Reader"]

# A shared prefix must save more than its own pass and the copies cost.
_MIN_PREFIX = 8
# Least share of a follow-up batch that is nodes, and not padding.
_MIN_FILLED = 0.8

_Prefix = TypeVar("_Prefix", Slots, Forked)


class Reader:
    """Answers reads, a batch at a time.

    Parameters
    ----------
    network : Network
        The model.
    budget : Budget
        Bounds of a batch.
    modes : Modes
        How texts are read.
    kept_bytes : int
        Bound of the keys, values and states kept.
    """

    def __init__(
        self, network: Network, budget: Budget, modes: Modes, kept_bytes: int
    ) -> None:
        self._network = network
        self._budget = budget
        self._modes = modes
        self._kept = KeptTexts(kept_bytes)
        self._prefixes: Prefixes[Slots] = Prefixes()
        self._forked_prefixes: Prefixes[Forked] = Prefixes()
        self._fork_bytes = 0  # of the last text; their states are about as big
        self._waiting: dict[int, ReadRequest] = {}
        self._batch: list[Asked] = []

    @property
    def n_waiting(self) -> int:
        """Reads without an answer."""
        return len(self._waiting)

    def submit(self, ticket: int, request: ReadRequest) -> None:
        """Queue a read."""
        self._waiting[ticket] = request

    def withdraw(self, tickets: Set[int]) -> set[int]:
        """Take back those of these reads that wait; return their tickets."""
        taken = tickets & self._waiting.keys()
        for ticket in taken:
            del self._waiting[ticket]
        return set(taken)

    def forget(self) -> None:
        """Drop what waits and what is kept."""
        self._waiting.clear()
        self.free_memory()

    def forget_texts(self) -> None:
        """Drop the keys and values of texts, but not of what texts begin with."""
        self._kept.clear()

    def free_memory(self) -> bool:
        """Drop all keys and values that are kept; say whether there were any."""
        any_kept = bool(
            len(self._kept) or len(self._prefixes) or len(self._forked_prefixes)
        )
        self._kept.clear()
        self._prefixes.clear()
        self._forked_prefixes.clear()
        if self._network.device.type == "cuda":
            torch.cuda.empty_cache()
        return any_kept

    def answer_batch(self) -> list[Completed]:
        """Answer one batch of the reads that wait."""
        batch, places = self._next_batch()
        self._batch = batch
        try:
            answers = self._answer(batch, places)
        except torch.OutOfMemoryError:
            # What is kept goes first; then batches get smaller, down to one text.
            if not len(self._kept) and len(batch) == 1 and self._budget.most_nodes == 1:
                raise
            self._budget.halve()
            self.free_memory()
            return []
        completed = []
        for one, edges in zip(batch, answers, strict=True):
            for ticket in one.tickets:
                del self._waiting[ticket]
                # Copies: the original may be kept for follow-ups.
                completed.append(Completed(ticket, edges.copy()))
        return completed

    def give_up(self, error: RowError) -> list[Completed]:
        """Answer the reads of the last batch with an error."""
        tickets = [ticket for one in self._batch for ticket in one.tickets]
        for ticket in tickets:
            del self._waiting[ticket]
        return [Completed(ticket, error) for ticket in tickets]

    def _mode_of(self, batch: Sequence[Asked]) -> ReadMode:
        longest = max(batch, key=_total_length)
        n_nodes = max(len(one.tree.inner_nodes) for one in batch) - 1
        return self._modes.for_text(longest.prompt, _total_length(longest), n_nodes)

    def _answer(
        self, batch: Sequence[Asked], places: Sequence[tuple[Kept, int]]
    ) -> list[EdgeLogprobs]:
        mode = self._mode_of(batch)
        for kept, _ in places:
            self._kept.touch(kept)
        if mode == "uncached":
            return [
                uncached_read(self._network, one.prompt, one.tree, one.nodes)
                for one in batch
            ]
        if mode != "tree":
            forks = [kept for kept, _ in places if isinstance(kept, Forked)]
            return self._read_forks(batch, forks, together=mode == "forked")
        slots = [(kept, row) for kept, row in places if isinstance(kept, Slots)]
        if len(batch) == 1 and len(batch[0].nodes) > self._budget.most_nodes:
            return [self._read_in_parts(batch[0], slots)]
        if slots:
            answers, slots_now = follow_up(self._network, batch, slots)
        else:
            answers, slots_now = new_prompts(
                self._network,
                batch,
                prefix=self._shared_prefix(batch, self._prefixes, prefix_slots),
                keep=any(_leaves_nodes(one) for one in batch),
            )
        if slots_now is not None:
            self._kept.add(slots_now)
        return answers

    def _read_forks(
        self, batch: Sequence[Asked], forks: Sequence[Forked], *, together: bool
    ) -> list[EdgeLogprobs]:
        most = self._budget.max_forks
        if forks:
            return follow_forks(
                self._network, batch, forks, together=together, max_rows=most
            )
        prefix = None
        if together:
            prefix = self._shared_prefix(batch, self._forked_prefixes, prefix_fork)
        answers, new = new_forks(
            self._network, batch, prefix=prefix, together=together, max_rows=most
        )
        self._fork_bytes = new[0].n_bytes
        for one, fork in zip(batch, new, strict=True):
            if fork.n_bytes and _leaves_nodes(one):
                self._kept.add(fork)
        return answers

    def _read_in_parts(
        self, asked: Asked, places: Sequence[tuple[Slots, int]]
    ) -> EdgeLogprobs:
        """Read a big tree in several passes, each behind the nodes before it."""
        nodes = sorted(asked.nodes)
        for start in range(0, len(nodes), self._budget.most_nodes):
            part = nodes[start : start + self._budget.most_nodes]
            now = [Asked(asked.prompt, asked.tree, tuple(part))]
            if places:
                answers, slots = follow_up(self._network, now, places)
            else:
                prefix = self._shared_prefix(now, self._prefixes, prefix_slots)
                answers, slots = new_prompts(
                    self._network, now, prefix=prefix, keep=True
                )
            if slots is not None:
                places = [(slots, 0)]
        self._kept.add(places[0][0])
        return answers[0]

    def _next_batch(self) -> tuple[list[Asked], list[tuple[Kept, int]]]:
        """Take follow-ups if they are worth a pass, and new prompts otherwise."""
        follow_ups: dict[tuple[int, ...], Asked] = {}
        new: dict[tuple[int, ...], Asked] = {}
        for ticket, request in self._waiting.items():
            prompt = request.prompt_token_ids
            place = self._kept.find(prompt)
            known = place is not None and _can_follow(place[0].rows[place[1]], request)
            group = follow_ups if known else new
            one = group.get(prompt)
            if one is None:
                group[prompt] = Asked(prompt, request.tree, request.nodes, [ticket])
            elif one.tree is request.tree:
                if one.nodes != request.nodes:
                    one.nodes = tuple(sorted({*one.nodes, *request.nodes}))
                one.tickets.append(ticket)
            # Another tree on the same prompt waits for its own batch.
        if follow_ups:
            batch = self._fill_follow_ups(list(follow_ups.values()))
            n_tokens = sum(len(one.nodes) for one in follow_ups.values())
            if (
                not new
                or n_tokens >= self._budget.worth_waiting_for
                or 2 * self._kept.n_bytes > self._kept.most_bytes
            ):
                return batch
        return self._fill_new(list(new.values())), []

    def _fill_new(self, asked: list[Asked]) -> list[Asked]:
        """Take texts of similar length, the longest first, that fit one batch."""
        asked.sort(key=_total_length, reverse=True)
        mode = self._mode_of(asked[:1])
        if mode == "uncached":
            return asked[:1]
        batch: list[Asked] = []
        width, n_nodes, n_tokens = 0, 0, 0
        for one in asked:
            if mode != "tree" and self._mode_of([one]) != mode:
                # A shorter text may cross a length at which the model changes.
                continue
            width = max(width, len(one.prompt))
            n_nodes = max(n_nodes, len(one.nodes) - 1)
            n_tokens += len(one.prompt)
            n_texts, length = len(batch) + 1, width + n_nodes
            fits = (
                self._budget.fits(n_texts, length, length, n_nodes + 1)
                if mode == "tree"
                else self._budget.fits_forks(n_texts, n_tokens, self._fork_bytes)
            )
            if batch and not fits:
                break
            batch.append(one)
        return batch

    def _fill_follow_ups(
        self, asked: list[Asked]
    ) -> tuple[list[Asked], list[tuple[Kept, int]]]:
        """Take follow-ups of about as many nodes, most first, that fit one batch.

        Sure texts ask for one node and unsure ones for thirty: side by side, most of a
        batch would be padding.
        """
        asked.sort(key=lambda one: -len(one.nodes))
        n_nodes = len(asked[0].nodes)
        batch: list[Asked] = []
        places: list[tuple[Kept, int]] = []
        n_slots, n_asked = 0, 0
        for one in asked:
            place = self._kept.find(one.prompt)
            assert place is not None
            if batch and type(place[0]) is not type(places[0][0]):
                continue
            is_forked = isinstance(place[0], Forked)
            if is_forked and self._mode_of([one]) != self._mode_of(batch[:1] or [one]):
                continue
            n_texts = len(batch) + 1
            n_slots = max(n_slots, place[0].n_slots)
            n_asked += len(one.nodes)
            if is_forked:
                fits = self._budget.fits_forks(n_texts, 0, 0)
            else:
                fits = n_asked >= _MIN_FILLED * n_nodes * n_texts and (
                    self._budget.fits(n_texts, n_nodes, n_slots + n_nodes, n_nodes)
                )
            if batch and not fits:
                break
            batch.append(one)
            places.append(place)
        return batch, places

    def _shared_prefix(
        self,
        batch: Sequence[Asked],
        prefixes: Prefixes[_Prefix],
        compute: Callable[[Network, tuple[int, ...]], _Prefix],
    ) -> _Prefix | None:
        """Return what is kept of what all prompts begin with, if worth it."""
        waiting = [request.prompt_token_ids for request in self._waiting.values()]
        least, greatest = min(waiting), max(waiting)
        # Each prompt keeps a token of its own.
        n_shared = common_prefix_length([least[:-1], greatest[:-1]])
        prompts = [one.prompt for one in batch]
        known = prefixes.longest(min(prompts), max(prompts))
        n_known = 0 if known is None else known.n_slots
        if n_shared - n_known < _MIN_PREFIX or least == greatest:
            return known
        prefix = least[:n_shared]
        computed = compute(self._network, prefix)
        prefixes.add(prefix, computed)
        return computed


def _total_length(asked: Asked) -> int:
    return len(asked.prompt) + int(asked.tree.depths[list(asked.nodes)].max(initial=0))


def _leaves_nodes(asked: Asked) -> bool:
    """Whether a later read may ask for more of this tree."""
    return len(asked.nodes) < len(asked.tree.inner_nodes)


def _can_follow(row: Row, request: ReadRequest) -> bool:
    """Whether what is kept suffices: a root that was never read needs the prompt."""
    if 0 not in request.nodes:
        return True
    # Node 1 is the root's first child.
    return row.tree is request.tree and not np.isnan(row.answers[1])
