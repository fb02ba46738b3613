"""One engine for several callers: each has its own queue and its own answers.

Whoever asks an engine opens a line to it. Callers may be threads; they wait for each
other for a batch or a step, never for a whole call. One that fails, is interrupted or
goes away takes nothing from the others.
"""

import itertools
from collections import deque
from collections.abc import Callable, Sequence, Set
from typing import NoReturn
from weakref import finalize

from classify.engines.answers import Answer, checked_answer
from classify.engines.protocol import (
    BaseEngine,
    Engine,
    Line,
    Request,
    check_request,
    with_defaults,
    withdrawn,
)
from classify.engines.turns import Turns
from classify.errors import AnswerError, EngineError, InputError
from classify.tracking import (
    Completed,
    EdgeLogprobs,
    ReadRequest,
    TrackedGeneration,
    TrackedRequest,
)

__all__ = ["Exchange", "SharedLine", "generate", "open_line", "read"]

CLOSED = "This engine was closed: load it again."


def open_line(engine: Engine) -> Line:
    """Open a line of one's own to an engine; close it in the end.

    Examples
    --------
    >>> from classify.engines import FakeEngine
    >>> line = open_line(FakeEngine.uniform(vocab_size=4))
    >>> ticket = line.submit(TrackedRequest((0,), [2]))
    >>> [answer.ticket == ticket for answer in line.poll()]
    [True]
    >>> line.close()
    """
    full = with_defaults(engine)
    own = full.open_line()
    if own is not None:
        return own
    exchange = _exchange_of(engine)
    if not full.asynchronous:
        return _BatchLine(full, exchange)
    return SharedLine(
        exchange, submit=full.submit, poll=full.poll, closed=lambda: full.closed
    )


def _run(engine: Engine, requests: Sequence[Request]) -> list[object]:
    if not requests:
        return []
    line = open_line(engine)
    try:
        tickets = [line.submit(request) for request in requests]
        answers: dict[int, Answer] = {}
        while len(answers) < len(tickets):
            answers.update(line.poll())
        return [
            checked_answer(request, answers[ticket])
            for request, ticket in zip(requests, tickets, strict=True)
        ]
    finally:
        line.close()


def generate(
    engine: Engine, requests: Sequence[TrackedRequest]
) -> list[tuple[TrackedGeneration, ...]]:
    """Answer generation requests, in their order; `n` generations for each.

    Examples
    --------
    >>> from classify.engines import FakeEngine
    >>> engine = FakeEngine.uniform(vocab_size=4)
    >>> [[generation]] = generate(engine, [TrackedRequest((0,), [2])])
    >>> generation.tracked_logprobs
    {2: [-1.3862943611198906]}
    """
    return _run(engine, requests)  # type: ignore[return-value]


def read(engine: Engine, requests: Sequence[ReadRequest]) -> list[EdgeLogprobs]:
    """Answer read requests, in their order.

    Returns
    -------
    list of ndarray of float64, shape (n_nodes,)
        See `classify.tracking.EdgeLogprobs`.
    """
    return _run(engine, requests)  # type: ignore[return-value]


class Exchange:
    """What the lines to one engine share.

    Attributes
    ----------
    turns : Turns
        Whose turn it is at the engine.
    owners : dict of int to (SharedLine, int, Request)
        Whose request has which of the engine's tickets, and its ticket on that line.
    left : set of int
        The engine's tickets of a line that was broken off.
    """

    # In case it is unknown that the engine is gone.
    engine: Engine | None = None

    def __init__(self) -> None:
        self.turns = Turns()
        self.owners: dict[int, tuple[SharedLine, int, Request]] = {}
        self.left: set[int] = set()


_exchanges: dict[int, Exchange] = {}


def _exchange_of(engine: Engine) -> Exchange:
    exchange = _exchanges.get(id(engine))
    if exchange is None:
        exchange = _exchanges.setdefault(id(engine), Exchange())
        # Another object may have the same number later.
        try:
            finalize(engine, _exchanges.pop, id(engine), None).atexit = False
        except TypeError:  # it has slots, and none for weak references
            exchange.engine = engine
    return exchange


class SharedLine:
    """A line to an engine that runs the requests of all callers side by side.

    Whoever has the turn lets the engine make a step, and hands all answers out.

    Parameters
    ----------
    exchange : Exchange
    submit : callable
        Takes a request; returns the engine's ticket.
    poll : callable
        Makes a step, and returns what is finished, perhaps nothing.
    closed : callable
        Whether the engine has been closed.
    """

    asynchronous = True

    def __init__(
        self,
        exchange: Exchange,
        *,
        submit: Callable[[Request], int],
        poll: Callable[[], list[Completed]],
        closed: Callable[[], bool],
    ) -> None:
        self._exchange = exchange
        self._submit, self._poll, self._closed = submit, poll, closed
        self._tickets = itertools.count()
        # Not yet with the engine; a request is in `_open` until it is answered.
        self._held: deque[tuple[int, Request]] = deque()
        self._open: set[int] = set()
        self._answers: deque[Completed] = deque()
        self._failure: Exception | None = None

    def submit(self, request: Request) -> int:
        """Take a request, and start it at once unless the engine is busy."""
        ticket = next(self._tickets)
        self._held.append((ticket, request))
        self._open.add(ticket)
        if not self._exchange.turns.taken:
            self._exchange.turns.run(self._hand_over)
        return ticket

    def poll(self) -> list[Completed]:
        """Wait for answers to this line's requests."""
        while self._open and not self._answers:
            self._exchange.turns.run(self._step)
        answers: list[Completed] = []
        while self._answers:
            answers.append(self._answers.popleft())
        return answers

    def withdraw(self, tickets: Set[int]) -> set[int]:
        """Take back what the engine has not been given."""
        taken = withdrawn(self._held, tickets)
        self._open -= taken
        return taken

    def forget_reads(self) -> None:
        """Nothing is kept here that values depend on."""

    def close(self) -> None:
        """Give up what is in flight."""
        self._open.clear()
        self._held.clear()
        self._answers.clear()
        owners = self._exchange.owners
        for ticket, (line, _, _) in list(owners.items()):
            if line is self:
                owners.pop(ticket, None)

    def _hand_over(self) -> None:
        while self._held:
            ours, request = self._held[0]
            try:
                theirs = self._submit(request)
            except (InputError, AnswerError) as error:
                # Of this request alone, and whoever has the turn is another caller.
                self._held.popleft()
                self._take(Completed(ours, error))
                continue
            except Exception:
                self._held.popleft()
                self._open.discard(ours)
                raise
            self._exchange.owners[theirs] = (self, ours, request)
            self._held.popleft()

    def _step(self) -> None:
        if self._failure is not None:
            failure = self._failure
            self._lose(None)
            raise EngineError(str(failure)) from failure
        if self._answers or not self._open:
            return
        if self._closed():
            self._fail(EngineError(CLOSED))
        self._hand_over()
        if self._answers:
            return  # refused
        try:
            for theirs, answer in self._poll():
                if theirs in self._exchange.owners:
                    line, ours, _ = self._exchange.owners[theirs]
                    line._take(Completed(ours, answer))
                    self._exchange.owners.pop(theirs, None)
        except Exception as error:  # noqa: BLE001 raised again, to all it concerns
            self._fail(error)
        except BaseException:
            # Interrupted: answers that were on their way may be lost.
            self._ask_again()
            raise

    def _take(self, answer: Completed) -> None:
        if answer.ticket in self._open:
            self._answers.append(answer)
            self._open.discard(answer.ticket)

    def _fail(self, error: Exception) -> NoReturn:
        """Let every line that waits for the engine know that it failed."""
        owners = list(self._exchange.owners.values())
        self._exchange.owners.clear()
        for line in {line for line, _, _ in owners} - {self}:
            line._lose(error)
        self._lose(None)
        raise error

    def _lose(self, error: Exception | None) -> None:
        self._failure = error
        self._held.clear()
        if error is None:
            self._open.clear()

    def _ask_again(self) -> None:
        owners = self._exchange.owners
        for theirs, (line, ours, request) in list(owners.items()):
            line._held.append((ours, request))
            owners.pop(theirs, None)


class _BatchLine:
    """A line to an engine that computes a batch at each `poll`.

    Its values may depend on what is in the batch, in their last digits, so that a
    batch holds requests of one line only.
    """

    asynchronous = False

    def __init__(self, engine: BaseEngine, exchange: Exchange) -> None:
        self._engine = engine
        self._exchange = exchange
        self._tickets = itertools.count()
        self._held: deque[tuple[int, Request]] = deque()

    def submit(self, request: Request) -> int:
        """Take a request; the engine gets it with the others of its batch."""
        check_request(
            request,
            vocab_size=self._engine.vocab_size,
            context_length=self._engine.context_length,
        )
        ticket = next(self._tickets)
        self._held.append((ticket, request))
        return ticket

    def poll(self) -> list[Completed]:
        """Let the engine answer as many of this line's requests as it likes."""
        return self._exchange.turns.run(self._batch) if self._held else []

    def withdraw(self, tickets: Set[int]) -> set[int]:
        """Take back what the engine has not been given."""
        return withdrawn(self._held, tickets)

    def forget_reads(self) -> None:
        """Let the engine drop what it keeps of earlier texts."""
        self._exchange.turns.run(self._engine.free_memory)

    def close(self) -> None:
        """Give up what has not been answered."""
        self._held.clear()

    def _batch(self) -> list[Completed]:
        if self._engine.closed:
            self._held.clear()
            raise EngineError(CLOSED)
        self._answer_what_was_left()
        ours: dict[int, int] = {}
        answers: list[Completed] = []
        refused: list[Completed] = []
        try:
            while self._held and len(ours) < max(1, self._engine.window):
                ticket, request = self._held.popleft()
                try:
                    ours[self._engine.submit(request)] = ticket
                except (InputError, AnswerError) as error:
                    refused.append(Completed(ticket, error))
            while len(answers) < len(ours):
                done = self._engine.poll()
                if not done:
                    raise EngineError(
                        f"The engine {self._engine.name!r} answered {len(answers)} of "
                        f"{len(ours)} requests and then nothing more: `poll` must "
                        "return [] only when no request is left."
                    )
                answers += [
                    Completed(ours[theirs], answer)
                    for theirs, answer in done
                    if theirs in ours
                ]
        except Exception:
            self._held.clear()
            raise
        finally:
            if len(answers) < len(ours):
                self._exchange.left.update(ours)
        return refused + answers

    def _answer_what_was_left(self) -> None:
        """Empty the engine of the requests of a line that failed or was interrupted."""
        left = self._exchange.left
        for _ in range(len(left) + 1 if left else 0):
            try:
                done = self._engine.poll()
            except Exception:  # noqa: BLE001, S112 concerns only whom it was asked for
                continue
            left.difference_update(answer.ticket for answer in done)
            if not done or not left:
                break
        left.clear()
