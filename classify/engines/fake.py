"""An engine without a model: scripted, or a language model written as a function."""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Self

import numpy as np
import numpy.typing as npt

from classify.engines.decoding import Generation, pick, start_generations
from classify.engines.protocol import BaseEngine, Request, check_request
from classify.errors import ScriptEndedError
from classify.tracking import (
    Completed,
    EdgeBounds,
    EdgeLogprobs,
    ReadRequest,
    TokenList,
    TrackedGeneration,
)

__all__ = ["FakeEngine"]

Answer = EdgeLogprobs | EdgeBounds | tuple[TrackedGeneration, ...]
NextLogprobs = Callable[[tuple[int, ...]], npt.ArrayLike]

# As good as unlimited, for a model that has no positions.
_NO_LIMIT = 1 << 20


class FakeEngine(BaseEngine):
    """Answer requests from a script, or from a function; deterministic.

    Parameters
    ----------
    script : iterable of answers
        The answers, in the order in which requests are submitted: an array
        for a read, a tuple of `TrackedGeneration` for a generation.
    vocab_size : int, default=32000
        Token ids are in ``[0, vocab_size)``.
    context_length : int, optional
        Maximum number of tokens of a prompt and its continuation; unlimited by default.
    window : int, default=8
        Requests that one `poll` answers, and texts that a driver keeps in flight.
    n_listed : int, optional
        Show only this many of the most likely tokens, as many servers do: reads are
        answered with `EdgeBounds`. All by default.

    Attributes
    ----------
    requests : list of ReadRequest or TrackedRequest
        All requests so far, in order.
    n_requests : int
        Number of requests so far.
    n_reads : int
        Number of nodes they asked to read.

    Examples
    --------
    >>> from classify.engines import read
    >>> from classify.tracking import ReadRequest, TokenTree
    >>> engine = FakeEngine.from_function(
    ...     lambda token_ids: np.log([0.5, 0.25, 0.25]), vocab_size=3
    ... )
    >>> tree = TokenTree([(1,), (2,)])
    >>> [edges] = read(engine, [ReadRequest((0,), tree, (0,))])
    >>> np.exp(edges).tolist()
    [nan, 0.25, 0.25]
    """

    name = "fake"

    def __init__(
        self,
        script: Iterable[Answer] = (),
        *,
        vocab_size: int = 32_000,
        context_length: int | None = None,
        window: int = 8,
        n_listed: int | None = None,
    ) -> None:
        self.vocab_size = vocab_size
        self.context_length = _NO_LIMIT if context_length is None else context_length
        self.window = window
        self.n_listed = n_listed
        self.lists_only = n_listed is not None
        self.requests: list[Request] = []
        self.n_requests = 0
        self.n_reads = 0
        self.stop_token_ids: tuple[int, ...] = ()
        self._script = iter(script)
        self._next_logprobs: NextLogprobs | None = None
        self._queue: deque[tuple[int, Request]] = deque()

    @classmethod
    def from_function(
        cls,
        next_logprobs: NextLogprobs,
        vocab_size: int,
        *,
        context_length: int | None = None,
        stop_token_ids: Iterable[int] = (),
        window: int = 8,
        n_listed: int | None = None,
    ) -> Self:
        """Make an engine from a language model that is a function.

        Parameters
        ----------
        next_logprobs : callable
            From token ids (a tuple of int) to log p(token | token ids) for every
            token of the vocabulary, shape (vocab_size,), in nats.
        vocab_size : int
            Length of what it returns.
        context_length : int, optional
            Maximum number of tokens that it takes.
        stop_token_ids : iterable of int, default=()
            Tokens that end a generation when the request names none.
        window : int, default=8
            Requests that one `poll` answers.
        n_listed : int, optional
            Show only this many of the most likely tokens.
        """
        engine = cls(
            vocab_size=vocab_size,
            context_length=context_length,
            window=window,
            n_listed=n_listed,
        )
        engine._next_logprobs = next_logprobs
        engine.stop_token_ids = tuple(stop_token_ids)
        return engine

    @classmethod
    def uniform(
        cls, vocab_size: int, *, context_length: int | None = None, window: int = 8
    ) -> Self:
        """Make an engine to which all tokens are equally likely."""
        logprobs = np.full(vocab_size, -np.log(vocab_size))
        return cls.from_function(
            lambda _: logprobs,
            vocab_size,
            context_length=context_length,
            window=window,
        )

    def __repr__(self) -> str:
        return f"FakeEngine(vocab_size={self.vocab_size})"

    def submit(self, request: Request) -> int:
        """Take a request and return its ticket."""
        check_request(
            request, vocab_size=self.vocab_size, context_length=self.context_length
        )
        ticket = self.n_requests
        self.n_requests += 1
        self.requests.append(request)
        if isinstance(request, ReadRequest):
            self.n_reads += len(request.nodes)
        self._queue.append((ticket, request))
        return ticket

    def poll(self) -> list[Completed]:
        """Answer up to `window` of the waiting requests."""
        n_now = min(self.window, len(self._queue))
        try:
            return [
                Completed(ticket, self._answer(request))
                for ticket, request in (self._queue.popleft() for _ in range(n_now))
            ]
        except Exception:
            # As with a model that fails: what is in flight is lost.
            self._queue.clear()
            raise

    def close(self) -> None:
        """Drop the waiting requests."""
        self._queue.clear()

    def _answer(self, request: Request) -> Answer:
        if self._next_logprobs is None:
            return self._next_of_script(request)
        if isinstance(request, ReadRequest):
            return self._read(request)
        return tuple(
            self._generate(generation)
            for generation in start_generations(request, frozenset(self.stop_token_ids))
        )

    def _next_of_script(self, request: Request) -> Answer:
        for answer in self._script:
            is_edges = isinstance(answer, np.ndarray | EdgeBounds)
            if is_edges != isinstance(request, ReadRequest):
                raise ScriptEndedError(
                    f"The script's next answer is {answer!r}, which does not fit "
                    f"{type(request).__name__}."
                )
            return answer
        raise ScriptEndedError(
            f"The script of this FakeEngine has ended after "
            f"{self.n_requests - len(self._queue) - 1} answers: give it one more for "
            f"{type(request).__name__}."
        )

    def _logprobs(self, token_ids: tuple[int, ...]) -> npt.NDArray[np.float64]:
        assert self._next_logprobs is not None
        values = np.asarray(self._next_logprobs(token_ids), dtype=np.float64)
        if values.shape != (self.vocab_size,):
            raise ValueError(
                f"next_logprobs must return shape ({self.vocab_size},). "
                f"Got {values.shape} instead."
            )
        return values

    def _read(self, request: ReadRequest) -> EdgeLogprobs | EdgeBounds:
        tree = request.tree
        if self.n_listed is not None:
            return self._listed(request, self.n_listed)
        edges = np.full(tree.n_nodes, np.nan)
        for node in request.nodes:
            logprobs = self._logprobs((*request.prompt_token_ids, *tree.path(node)))
            children = tree.children(node)
            edges[children.start : children.stop] = logprobs[
                tree.tokens[children.start : children.stop]
            ]
        return edges

    def _listed(self, request: ReadRequest, n_listed: int) -> EdgeBounds:
        lists = {}
        for node in request.nodes:
            path = request.tree.path(node)
            logprobs = self._logprobs((*request.prompt_token_ids, *path))
            likeliest = np.argsort(-logprobs, kind="stable")[:n_listed]
            lists[node] = TokenList.of(
                {int(token): float(logprobs[token]) for token in likeliest}
            )
        return EdgeBounds.of_lists(request.tree, lists, self.vocab_size)

    def _generate(self, generation: Generation) -> TrackedGeneration:
        request = generation.request
        while generation.finish_reason is None:
            logprobs = self._logprobs(
                (*request.prompt_token_ids, *generation.token_ids)
            )
            allowed = generation.allowed
            values = logprobs if allowed is None else logprobs[allowed]
            index = pick(values, request.temperature, generation.uniform())
            # Stable, so that of equals the lower id comes first.
            top = np.argsort(-logprobs, kind="stable")[: request.top_logprobs]
            generation.append(
                index if allowed is None else int(allowed[index]),
                logprobs[np.array(generation.tracked or [], dtype=np.int64)],
                {int(token): float(logprobs[token]) for token in top},
            )
        return generation.finished()
