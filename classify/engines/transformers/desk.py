"""One caller's requests: a separate queue for each caller of a shared model.

What is computed depends, in its last digits, on what is in the same batch and on the
keys and values that it is computed after. So neither is shared between callers: a
caller's values are the same whatever others ask at the same time.
"""

from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from weakref import WeakSet

import torch

from classify.engines.decoding import Generation, start_generations
from classify.engines.forks import Home
from classify.engines.protocol import Request, check_request, withdrawn
from classify.engines.sharing import CLOSED
from classify.engines.transformers.budget import Budget
from classify.engines.transformers.generation import generate_batch
from classify.engines.transformers.modes import Modes
from classify.engines.transformers.network import Network
from classify.engines.transformers.reading import Reader
from classify.engines.turns import Turns
from classify.errors import AnswerError, EngineError
from classify.tracking import Completed, ReadRequest, TrackedRequest

__all__ = ["Desk", "SharedModel"]

# Readers that wait for their next caller, with the prefixes that they know.
_MAX_IDLE = 8


@dataclass(eq=False)
class SharedModel:
    """A network, and what those who ask it have in common.

    Attributes
    ----------
    network : Network
    budget : Budget
        Bounds of a batch.
    modes : Modes
        How texts are read.
    kept_bytes : int
        Bound of the keys and values that one reader keeps.
    stop_token_ids : frozenset of int
        The model's own.
    turns : Turns
        Whose batch is computed.
    closed : bool
    """

    network: Network
    budget: Budget
    modes: Modes
    kept_bytes: int
    stop_token_ids: frozenset[int]
    turns: Turns = field(default_factory=Turns)
    home: Home = field(default_factory=Home)
    closed: bool = False
    _idle: list[Reader] = field(default_factory=list)
    _readers: WeakSet[Reader] = field(default_factory=WeakSet)

    def reader(self) -> Reader:
        """Return a reader for one caller."""
        self.check()
        try:
            # The one that was used last: its prefixes are likely those needed now.
            return self._idle.pop()
        except IndexError:
            return self.turns.run(self._new_reader)

    def _new_reader(self) -> Reader:
        reader = Reader(self.network, self.budget, self.modes, self.kept_bytes)
        self._readers.add(reader)
        return reader

    def take_back(self, reader: Reader) -> None:
        """Keep a reader for the next caller."""
        if self._idle:
            reader.forget_texts()
        if len(self._idle) < _MAX_IDLE and not self.closed:
            self._idle.append(reader)

    def check(self) -> None:
        """Raise EngineError unless the model can compute here."""
        self.home.check()
        if self.closed:
            raise EngineError(CLOSED)

    def free_memory(self) -> bool:
        """Drop the keys and values of all readers, in one's turn; say if there were."""
        freed = [reader.free_memory() for reader in list(self._readers)]
        return any(freed)

    def close(self) -> None:
        """Free the model as soon as the batch that is computed now is done."""
        self.closed = True
        self.turns.run(self._release)

    def _release(self) -> None:
        self._idle.clear()
        self.free_memory()
        self.network.model = self.network.fused = None


class Desk:
    """A line to the model; see `classify.engines.protocol.Line`.

    Parameters
    ----------
    shared : SharedModel
    """

    asynchronous = False

    def __init__(self, shared: SharedModel) -> None:
        self._shared = shared
        self._reader = shared.reader()
        self._generations: list[tuple[int, TrackedRequest]] = []
        self._n_tickets = 0
        # Whether the last batch came to its end.
        self._sound = True

    def submit(self, request: Request) -> int:
        """Take a request and return its ticket."""
        self._shared.check()
        check_request(
            request,
            vocab_size=self._shared.network.vocab_size,
            context_length=self._shared.network.context_length,
        )
        ticket = self._n_tickets
        self._n_tickets += 1
        if isinstance(request, ReadRequest):
            self._reader.submit(ticket, request)
        else:
            self._generations.append((ticket, request))
        return ticket

    def poll(self) -> list[Completed]:
        """Answer one batch: reads that follow up, then new reads, then generations."""
        done: list[Completed] = []
        # Where a batch did not fit, the next is smaller.
        while self._has_requests and not done:
            done = self._shared.turns.run(self._answer_batch)
        return done

    def withdraw(self, tickets: Set[int]) -> set[int]:
        """Take back requests; between batches, none is half-way."""
        reads = self._reader.withdraw(tickets)
        return reads | withdrawn(self._generations, tickets)

    def forget_reads(self) -> None:
        """Drop what is kept of earlier texts."""
        self._reader.free_memory()

    def close(self) -> None:
        """Give up what waits."""
        # Of a batch that was broken off half-way keys and values may be wrong.
        if self._sound and not self._has_requests:
            self._shared.take_back(self._reader)
        self._sound = False

    def forget(self) -> None:
        """Drop what waits and what is kept."""
        self._generations.clear()
        self._reader.forget()

    @property
    def _has_requests(self) -> bool:
        return bool(self._reader.n_waiting or self._generations)

    def _answer_batch(self) -> list[Completed]:
        self._sound = False
        try:
            self._shared.check()
            # Dropout in a model that someone left training makes every number wrong.
            self._shared.network.model.eval()
            with torch.inference_mode():
                if self._reader.n_waiting:
                    done = self._reader.answer_batch()
                else:
                    done = self._generate_batch()
            if not done:
                self._shared.free_memory()
        except torch.OutOfMemoryError:
            if self._shared.free_memory():
                return []  # with what others kept out of the way
            done = self._give_up()
        except RuntimeError as error:
            self.forget()
            if isinstance(error, EngineError):
                raise
            raise EngineError(f"The model failed: {error}") from error
        self._sound = True
        return done

    def _give_up(self) -> list[Completed]:
        """Answer the one text that does not fit with an error, and continue."""
        error = AnswerError(
            "The device ran out of memory with a single text. Use a shorter prompt, a "
            "smaller model or dtype, or another device."
        )
        self._shared.budget.restore()
        if self._reader.n_waiting:
            return self._reader.give_up(error)
        [(ticket, _)] = batch = self._next_generations()[:1]
        self._generations = [one for one in self._generations if one not in batch]
        return [Completed(ticket, error)]

    def _generate_batch(self) -> list[Completed]:
        batch = self._next_generations()
        generations = [
            start_generations(request, self._shared.stop_token_ids)
            for _, request in batch
        ]
        try:
            self._run_generations(generations, [request for _, request in batch])
        except torch.OutOfMemoryError:
            if len(batch) == 1:
                raise
            self._shared.budget.halve()
            self._reader.free_memory()
            return []
        done = {ticket for ticket, _ in batch}
        self._generations = [one for one in self._generations if one[0] not in done]
        return [
            Completed(ticket, tuple(generation.finished() for generation in group))
            for (ticket, _), group in zip(batch, generations, strict=True)
        ]

    def _run_generations(
        self,
        generations: Sequence[Sequence[Generation]],
        requests: Sequence[TrackedRequest],
    ) -> None:
        longest = max(requests, key=_length)
        mode = self._shared.modes.for_text(longest.prompt_token_ids, _length(longest))
        generate_batch(self._shared.network, generations, mode)

    def _next_generations(self) -> list[tuple[int, TrackedRequest]]:
        """Take requests of similar length, the longest first, that fit one batch."""
        waiting = sorted(self._generations, key=lambda one: -_length(one[1]))
        first = waiting[0][1]
        mode = self._shared.modes.for_text(first.prompt_token_ids, _length(first))
        batch: list[tuple[int, TrackedRequest]] = []
        n_generations = 0
        for ticket, request in waiting:
            if mode != "tree" and len(request.prompt_token_ids) != len(
                first.prompt_token_ids
            ):
                continue
            n_generations += request.n
            if batch and not self._shared.budget.fits_generation(
                n_generations, _length(first)
            ):
                break
            batch.append((ticket, request))
        return batch


def _length(request: TrackedRequest) -> int:
    return len(request.prompt_token_ids) + request.max_tokens
