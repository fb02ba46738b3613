"""Which reads go together, in which order, and in which way."""

from collections.abc import Callable, Mapping, Sequence, Set
from operator import attrgetter
from typing import TypeVar

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
from classify.engines.transformers.slots import Slots
from classify.engines.transformers.tree_pass import (
    Asked,
    follow_up,
    new_prompts,
    prefix_slots,
)
from classify.engines.transformers.trunks import Joiner, alike, following
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
        self._joiner = Joiner(budget)
        self._new: list[tuple[int, ...]] = []  # prompts, when last some were taken

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
            if self._joiner.has_to_part(one, edges):
                self._kept.clear()
                continue
            for ticket in one.tickets:
                del self._waiting[ticket]
                completed.append(Completed(ticket, one.answer_of(ticket, edges)))
        return completed

    def give_up(self, error: RowError) -> list[Completed]:
        """Answer the reads of the last batch with an error."""
        tickets = [ticket for one in self._batch for ticket in one.tickets]
        for ticket in tickets:
            del self._waiting[ticket]
        return [Completed(ticket, error) for ticket in tickets]

    def _mode_of(self, batch: Sequence[Asked]) -> ReadMode:
        longest = max(batch, key=attrgetter("total_length"))
        n_nodes = max(
            one.n_computed if one.members else len(one.tree.inner_nodes) - 1
            for one in batch
        )
        return self._modes.for_text(longest.prompt, longest.total_length, n_nodes)

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
                prefix=self._prefix(batch),
                keep=any(one.leaves_nodes for one in batch),
            )
        if slots_now is not None:
            self._kept.add(slots_now)
        return answers

    def _prefix(self, batch: Sequence[Asked]) -> Slots | None:
        """Return keys and values that a pass over new prompts builds on."""
        [first, *others] = batch
        length = len(first.prompt) + first.n_computed
        if first.members and not others and not self._budget.fits(1, length, length, 1):
            # Alone, and without a mask, which would grow with the square.
            return prefix_slots(self._network, first.prompt[:-1])
        return self._shared_prefix(batch, self._prefixes, prefix_slots)

    def _read_forks(
        self, batch: Sequence[Asked], forks: Sequence[Forked], *, together: bool
    ) -> list[EdgeLogprobs]:
        most = self._budget.max_forks
        if forks:
            return follow_forks(
                self._network, batch, forks, together=together, max_rows=most
            )
        prefixes: dict[tuple[int, ...], Forked | None] = {}
        if together:
            prefix = self._shared_prefix(batch, self._forked_prefixes, prefix_fork)
            for group in alike(batch, 0 if prefix is None else prefix.n_slots):
                trunk = prefix
                if len(group) > 1:
                    shared = common_prefix_length(one.prompt for one in group)
                    ids = group[0].prompt[:shared]
                    trunk = prefix_fork(self._network, ids, prefix)
                prefixes |= dict.fromkeys((one.prompt for one in group), trunk)
        answers, new = new_forks(
            self._network,
            batch,
            prefixes=[prefixes.get(one.prompt) for one in batch],
            together=together,
            max_rows=most,
        )
        self._fork_bytes = new[0].n_bytes
        for one, fork in zip(batch, new, strict=True):
            if fork.n_bytes and one.leaves_nodes:
                self._kept.add(fork)
        return answers

    def _read_in_parts(
        self, asked: Asked, places: Sequence[tuple[Slots, int]]
    ) -> EdgeLogprobs:
        """Read a big tree in several passes, each after the nodes before it."""
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
        needed: dict[int, Kept] = {}
        for ticket, request in self._waiting.items():
            prompt = request.prompt_token_ids
            place = self._kept.find(prompt)
            asked = place and following(place[0].rows[place[1]], request, ticket)
            group = follow_ups if asked else new
            if asked and place is not None:
                needed[id(place[0])] = place[0]
            else:
                asked = Asked(prompt, request.tree, self._widened(request), [ticket])
            one = group.setdefault(asked.prompt, asked)
            if one is asked:
                continue
            if one.tree is asked.tree:
                if one.nodes != asked.nodes:
                    one.nodes = tuple(sorted({*one.nodes, *asked.nodes}))
                one.tickets.append(ticket)
                one.places |= asked.places
            # Another tree on the same prompt waits for its own batch.
        for kept in needed.values():
            self._kept.touch(kept)  # what no text waits for is dropped first
        n_bytes = sum(kept.n_bytes for kept in needed.values())
        if follow_ups and not self._prefers(new, follow_ups, n_bytes):
            return self._fill_follow_ups(list(follow_ups.values()))
        return self._fill_new(list(new.values())), []

    def _prefers(
        self,
        new: Mapping[tuple[int, ...], Asked],
        follow_ups: Mapping[tuple[int, ...], Asked],
        n_bytes: int,
    ) -> bool:
        """Whether new prompts go first: few passes, each well filled, are fastest.

        `n_bytes` are those of the batches that the follow-ups need.
        """
        n_nodes = sum(len(one.nodes) for one in follow_ups.values())
        is_tight = 2 * n_bytes > self._kept.most_bytes
        if is_tight or n_nodes >= self._budget.worth_waiting_for:
            return False
        n_tokens = sum(map(len, new))
        return len(new) >= len(follow_ups) or self._budget.is_filled(n_tokens)

    def _widened(self, request: ReadRequest) -> tuple[int, ...]:
        """Return the nodes to read of a prompt that is new: all, of a small tree."""
        inner = request.tree.inner_nodes
        if len(inner) > self._budget.max_whole or self._modes.usual != "tree":
            return request.nodes
        return tuple(inner.tolist())

    def _fill_new(self, asked: list[Asked]) -> list[Asked]:
        """Take texts of similar length, the longest first, that fit one batch."""
        longest = max(asked, key=attrgetter("total_length"))
        mode = self._mode_of([longest])
        if mode == "uncached":
            return [longest]
        if mode != "cached":
            asked = self._joined(asked, together=mode == "tree")
        else:
            asked.sort(key=attrgetter("total_length"), reverse=True)
        self._new = [one.prompt for one in asked]
        batch: list[Asked] = []
        width, n_nodes, n_kept, n_tokens, n_prompts = 0, 0, 0, 0, 0
        for one in asked:
            if mode != "tree" and self._mode_of([one]) != mode:
                # A shorter text may cross a length at which the model changes.
                continue
            width = max(width, len(one.prompt))
            n_nodes = max(n_nodes, one.n_computed)
            n_kept = max(n_kept, len(one.nodes))
            n_tokens += len(one.prompt)
            n_prompts += max(1, len(one.members))
            n_texts, length = len(batch) + 1, width + n_nodes
            fits = (
                self._budget.fits(n_texts, length, length, n_kept)
                if mode == "tree"
                else self._budget.fits_forks(n_texts, n_tokens, self._fork_bytes)
            )
            if batch and not (fits and self._budget.allows(n_prompts)):
                break
            batch.append(one)
        return batch

    def _joined(self, asked: list[Asked], *, together: bool) -> list[Asked]:
        """Return prompts, or one for all that are alike, the longest first.

        Those that are alike stand next to each other where they stay apart.
        """
        first, last = min(one.prompt for one in asked), max(one.prompt for one in asked)
        prefixes = self._prefixes if together else self._forked_prefixes
        known = prefixes.longest(first, last)
        groups = alike(asked, 0 if known is None else known.n_slots)
        if together:
            asked = [one for group in groups for one in self._joiner.join(group)]
            asked.sort(key=attrgetter("total_length"), reverse=True)
            return asked
        groups.sort(key=lambda group: group[0].total_length, reverse=True)
        return [one for group in groups for one in group]

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
                fits = n_asked >= self._budget.min_filled * n_nodes * n_texts and (
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
        """Return the cached state of the prompts' common prefix, if worth it."""
        least, greatest = min(self._new), max(self._new)
        # Each prompt keeps a token of its own.
        n_shared = common_prefix_length([least[:-1], greatest[:-1]])
        prompts = [one.prompt for one in batch]
        known = prefixes.longest(min(prompts), max(prompts))
        n_known = 0 if known is None else known.n_slots
        if n_shared - n_known < _MIN_PREFIX or len(self._new) == 1:
            return known
        prefix = least[:n_shared]
        computed = compute(self._network, prefix)
        prefixes.add(prefix, computed)
        return computed
