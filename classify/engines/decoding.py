"""Choosing the tokens of one generation: greedy, sampled, or along allowed paths.

Shared by every engine that generates itself, so that they choose alike.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from classify.tracking import TrackedGeneration, TrackedRequest

__all__ = ["Generation", "pick", "start_generations"]


def pick(
    logprobs: npt.ArrayLike, temperature: float, uniform: float | None = None
) -> int:
    """Choose an index by its log-probability.

    Parameters
    ----------
    logprobs : array-like of float, shape (n,)
        Log-probabilities, or logits: a constant makes no difference.
    temperature : float
        0 takes the greatest (the first of equals); above 0 index i is drawn with
        probability softmax(logprobs / temperature)[i].
    uniform : float, optional
        The draw, in [0, 1); needed above temperature 0.

    Returns
    -------
    int

    Examples
    --------
    >>> pick([-1.0, -0.5], 0.0), pick([-1.0, -0.5], 1.0, uniform=0.1)
    (1, 0)
    """
    values = np.asarray(logprobs, dtype=np.float64)
    if temperature == 0.0:
        return int(values.argmax())
    assert uniform is not None
    # The maximum is taken off first: dividing by a tiny temperature overflows.
    cumulative = np.exp((values - values.max()) / temperature).cumsum()
    # side="right" steps over indices of probability zero.
    index = int(np.searchsorted(cumulative, uniform * cumulative[-1], side="right"))
    return min(index, len(values) - 1)


class Generation:
    """One generation in the making.

    Parameters
    ----------
    request : TrackedRequest
        What was asked for.
    tracked : sequence of int or None
        The tracked ids, each once.
    stop_token_ids : frozenset of int
        Tokens that end it.
    rng : numpy.random.Generator or None
        Its own stream of draws; None when greedy.
    """

    def __init__(
        self,
        request: TrackedRequest,
        tracked: Sequence[int] | None,
        stop_token_ids: frozenset[int],
        rng: np.random.Generator | None,
    ) -> None:
        self.request = request
        self.tracked = tracked
        self.token_ids: list[int] = []
        self.finish_reason: str | None = None
        self._stop_token_ids = stop_token_ids
        self._rng = rng
        self._node = 0
        self._tracked_rows: list[npt.NDArray[np.float64]] = []
        self._top: list[dict[int, float]] = []

    @property
    def allowed(self) -> npt.NDArray[np.int64] | None:
        """Shape (n_allowed,): the tokens that may come next; None if all may."""
        tree = self.request.allowed
        if tree is None:
            return None
        children = tree.children(self._node)
        return tree.tokens[children.start : children.stop]

    def uniform(self) -> float | None:
        """Return the next draw in [0, 1), or None when greedy."""
        return None if self._rng is None else float(self._rng.random())

    def append(
        self,
        token: int,
        tracked_logprobs: npt.NDArray[np.float64],
        top_logprobs: dict[int, float],
    ) -> None:
        """Add a chosen token with the values of its step, and see whether it ends."""
        self.token_ids.append(token)
        self._tracked_rows.append(tracked_logprobs)
        self._top.append(top_logprobs)
        tree = self.request.allowed
        if tree is not None:
            child = tree.child_by_token(self._node, token)
            assert child is not None
            self._node = child
        if token in self._stop_token_ids or (
            tree is not None and not tree.n_children[self._node]
        ):
            self.finish_reason = "stop"
        elif len(self.token_ids) == self.request.max_tokens:
            self.finish_reason = "length"

    def finished(self) -> TrackedGeneration:
        """Return the generation, once `finish_reason` is set."""
        assert self.finish_reason is not None
        tracked = None
        if self.tracked is not None:
            table = np.array(self._tracked_rows).reshape(len(self.token_ids), -1)
            tracked = {
                token: table[:, column].tolist()
                for column, token in enumerate(self.tracked)
            }
        return TrackedGeneration(
            token_ids=tuple(self.token_ids),
            tracked_logprobs=tracked,
            top_logprobs=tuple(self._top),
            finish_reason=self.finish_reason,
        )


def start_generations(
    request: TrackedRequest, default_stop: frozenset[int] = frozenset()
) -> list[Generation]:
    """Begin the `n` generations of a request.

    The model's own stop tokens (`default_stop`) do not apply to allowed paths: these
    end at their leaves. Stop tokens that the request names apply always.

    Every generation has its own stream of draws, made from the request's seed and its
    number alone, so that neighbours in a batch change nothing.
    """
    tracked = None
    if request.track_token_ids is not None:
        tracked = sorted({int(token) for token in request.track_token_ids})
    if request.stop_token_ids is not None:
        stop = frozenset(request.stop_token_ids)
    else:
        stop = default_stop if request.allowed is None else frozenset()
    seeds = np.random.SeedSequence(request.seed).spawn(request.n)
    return [
        Generation(
            request,
            tracked,
            stop,
            np.random.default_rng(seed) if request.temperature > 0.0 else None,
        )
        for seed in seeds
    ]
