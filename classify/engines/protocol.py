"""What an engine is: token ids in, tracked log-probabilities out.

The seam has one shape for all engines: `submit` hands a request over and returns at
once, `poll` makes progress and returns what is finished. That is enough for an engine
that computes a batch at each `poll`, one that runs thousands of requests side by side
and one that waits for a network. Requests may finish in any order, and more may be
submitted while others run.

`Engine` is what an engine must have, `BaseEngine` adds all else that callers use, with
defaults. Callers open a line of their own (`classify.engines.sharing`): that is how
several threads share an engine.
"""

import operator
from collections.abc import MutableSequence, Sequence, Set
from typing import Any, NamedTuple, Protocol, Self, runtime_checkable

import numpy as np

from classify.engines.answers import Request
from classify.engines.speculation import SpeculationFigures
from classify.errors import InputError
from classify.tracking import Completed, ReadRequest, TokenTree, TrackedRequest

__all__ = [
    "BaseEngine",
    "Engine",
    "Finding",
    "Line",
    "Request",
    "check_request",
    "with_defaults",
    "withdrawn",
]


@runtime_checkable
class Engine(Protocol):
    """Turns token ids into tracked log-probabilities.

    Attributes
    ----------
    name : str
        The engine's name in options and reports.
    vocab_size : int
        Token ids are in ``[0, vocab_size)``.
    context_length : int
        Maximum number of tokens of prompt and continuation together.
    window : int
        How many texts a driver should keep in flight to keep this engine busy.
    """

    name: str
    vocab_size: int
    context_length: int
    window: int

    def submit(self, request: Request) -> int:
        """Take a request and return its ticket.

        Raises
        ------
        InputError
            The request cannot be answered: it names a token outside the vocabulary,
            is too long for the model, has no prompt. Nothing was computed.
        """
        ...

    def poll(self) -> list[Completed]:
        """Make progress; return what finished, or [] when nothing is outstanding.

        If a single request fails, its result is the error; the others
        continue.

        Raises
        ------
        EngineError
            The model failed. Requests in flight are lost.
        """
        ...

    def close(self) -> None:
        """Free the model. The engine cannot be used afterwards."""
        ...


class Line(Protocol):
    """One caller's way to an engine, for one thread at a time.

    Attributes
    ----------
    asynchronous : bool
        See `BaseEngine`.
    """

    asynchronous: bool

    def submit(self, request: Request) -> int:
        """Take a request and return its ticket, as `Engine.submit` does."""
        ...

    def poll(self) -> list[Completed]:
        """Wait for answers to this line's requests; [] if it has none in flight.

        Raises
        ------
        EngineError
            The model failed, or the engine was closed. This line's requests in flight
            are lost.
        """
        ...

    def withdraw(self, tickets: Set[int]) -> set[int]:
        """Take back those of these requests that have not started; return them."""
        ...

    def forget_reads(self) -> None:
        """Drop what is kept of earlier texts, so that values do not depend on them.

        What is computed after keys and values of other texts can differ in its last
        digits from what is computed alone.
        """
        ...

    def close(self) -> None:
        """Give up what is in flight; safe at any time, more than once."""
        ...


class Finding(NamedTuple):
    """A result of an engine's self-test.

    Attributes
    ----------
    name : str
        What was tested.
    detail : str
        How it went.
    is_fault : bool
        Whether the engine should not be used.
    """

    name: str
    detail: str
    is_fault: bool


class BaseEngine(Engine):
    """An engine with defaults for everything that is not needed to answer requests.

    Attributes
    ----------
    asynchronous : bool, default=False
        True if requests that are submitted while others run join them, so that there
        is no batch to wait for. False: it computes a batch at each `poll`, and the
        last digits of values may depend on the other texts of the batch.
    closed : bool, default=False
        Whether it can no longer be used, after `close` or because its model died.
    lists_only : bool, default=False
        Whether it shows only the most likely tokens: reads are answered with
        bounds (`EdgeBounds`), and it cannot track, sample or restrict generations.

    Examples
    --------
    Your own engine needs the attributes and methods of `Engine`:

    >>> from classify.engines import FakeEngine
    >>> class Logged(BaseEngine):
    ...     name = "logged"
    ...
    ...     def __init__(self, engine):
    ...         self._engine, self.window = engine, engine.window
    ...         self.vocab_size = engine.vocab_size
    ...         self.context_length = engine.context_length
    ...
    ...     def submit(self, request):
    ...         print(len(request.prompt_token_ids), "tokens")
    ...         return self._engine.submit(request)
    ...
    ...     def poll(self):
    ...         return self._engine.poll()
    ...
    ...     def close(self):
    ...         self._engine.close()
    >>> engine = Logged(FakeEngine.uniform(vocab_size=4, context_length=100))
    >>> engine.describe(), engine.asynchronous
    ({'context': '100 tokens'}, False)
    """

    asynchronous: bool = False
    closed: bool = False
    lists_only: bool = False

    def open_line(self) -> Line | None:
        """Return a line of one's own.

        None: callers take turns at `submit` and `poll`, and no two threads are in them
        at the same time.
        """
        return None

    def free_memory(self) -> None:
        """Drop what is kept of earlier requests; this only costs time."""
        return

    def describe(self) -> dict[str, str]:
        """Return what runs and how much fits into memory, by name."""
        return {"context": f"{self.context_length:,} tokens"}

    def findings(self) -> list[Finding]:
        """Test the engine: compare its answers with the right ones."""
        return []

    def speculation_figures(self) -> SpeculationFigures | None:
        """Return how many drafted tokens were accepted; None without speculation."""
        return None

    def __sklearn_clone__(self) -> Self:
        """Return this engine: clones of an estimator share the loaded model."""
        return self


def with_defaults(engine: Engine) -> BaseEngine:
    """Return an engine that has all that callers use.

    Itself, if its class inherits from `BaseEngine`; else one that stands for it, with
    the defaults for whatever it lacks.
    """
    if isinstance(engine, BaseEngine):
        return engine
    # What it lacks, the engine has.
    return _Completed(engine)  # type: ignore[abstract]


class _Completed(BaseEngine):
    """An engine whose class does not inherit from `BaseEngine`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __getattribute__(self, name: str) -> Any:
        engine = object.__getattribute__(self, "_engine")
        try:
            return getattr(engine, name)
        except AttributeError:
            return object.__getattribute__(self, name)


def _check_token_ids(
    values: Sequence[int], vocab_size: int, what: str
) -> tuple[int, ...]:
    ids = []
    for value in values:
        try:
            token = operator.index(value)
        except TypeError:
            raise InputError(
                f"{what} must hold token ids, integers in [0, {vocab_size}). "
                f"Got {value!r} instead."
            ) from None
        if not 0 <= token < vocab_size:
            raise InputError(
                f"{what} holds {token}, which is outside the vocabulary of "
                f"{vocab_size} tokens: ids must be in [0, {vocab_size})."
            )
        ids.append(token)
    return tuple(ids)


def _check_tree(tree: TokenTree, vocab_size: int, what: str) -> None:
    worst = int(tree.tokens.max())
    if worst >= vocab_size or int(tree.tokens[1:].min()) < 0:
        _check_token_ids(tree.tokens[1:].tolist(), vocab_size, what)


def withdrawn(waiting: MutableSequence[tuple[int, Any]], tickets: Set[int]) -> set[int]:
    """Take those of these tickets that wait, with their requests, out of a queue."""
    taken = {ticket for ticket, _ in waiting if ticket in tickets}
    left = [each for each in waiting if each[0] not in taken]
    waiting.clear()
    waiting.extend(left)
    return taken


def check_request(request: Request, *, vocab_size: int, context_length: int) -> None:
    """Raise InputError unless an engine of this size can answer the request.

    Every engine calls this in `submit`, so the same mistake gives the same message
    everywhere, without a model call.

    Examples
    --------
    >>> check_request(TrackedRequest((1, 2), [3]), vocab_size=8, context_length=16)
    """
    prompt = np.asarray(request.prompt_token_ids)
    if prompt.size == 0:
        raise InputError(
            "prompt_token_ids is empty: a prompt needs at least one token."
        )
    if prompt.dtype.kind not in "iu" or prompt.min() < 0 or prompt.max() >= vocab_size:
        _check_token_ids(request.prompt_token_ids, vocab_size, "prompt_token_ids")
    if isinstance(request, ReadRequest):
        _check_tree(request.tree, vocab_size, "the token tree")
        for node in request.nodes:
            if (
                not 0 <= node < request.tree.n_nodes
                or not request.tree.n_children[node]
            ):
                raise InputError(
                    f"Node {node} of {request.tree} has no children to read."
                )
        deepest = max(
            (int(request.tree.depths[node]) for node in request.nodes), default=0
        )
        needed = prompt.size + deepest
    else:
        _check_generation(request, vocab_size)
        needed = prompt.size + request.max_tokens - 1
    if needed > context_length:
        raise InputError(
            f"The request needs {needed} tokens of context ({prompt.size} of them the "
            f"prompt), but the model takes {context_length}: shorten the prompt."
        )


def _check_generation(request: TrackedRequest, vocab_size: int) -> None:
    if request.track_token_ids is not None:
        _check_token_ids(request.track_token_ids, vocab_size, "track_token_ids")
    if request.stop_token_ids is not None:
        _check_token_ids(request.stop_token_ids, vocab_size, "stop_token_ids")
    if request.allowed is not None:
        _check_tree(request.allowed, vocab_size, "the allowed paths")
    for name, value, low in (
        ("max_tokens", request.max_tokens, 1),
        ("n", request.n, 1),
        ("top_logprobs", request.top_logprobs, 0),
    ):
        if value < low:
            raise InputError(f"{name} must be at least {low}. Got {value!r} instead.")
    if request.top_logprobs > vocab_size:
        raise InputError(
            f"top_logprobs must be at most the vocabulary size, {vocab_size}. "
            f"Got {request.top_logprobs} instead."
        )
    if request.seed is not None and request.seed < 0:
        raise InputError(f"seed must be at least 0. Got {request.seed!r} instead.")
    if not request.temperature >= 0.0:
        raise InputError(
            f"temperature must be 0 (greedy) or above. Got {request.temperature!r} "
            "instead."
        )
    if request.n > 1 and request.temperature == 0.0:
        raise InputError(
            f"n is {request.n} at temperature 0: every generation would be the same. "
            "Set a temperature above 0, or n=1."
        )
