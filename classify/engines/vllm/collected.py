"""Log-probabilities of tracked requests, kept as the arrays in which they arrive.

vLLM takes each value into four Python lists: with a thousand ids a step, that is most
of the time of a step. Here a step stays two arrays, and the lists of `FlatLogprobs` are
made for whoever asks for them.
"""

from itertools import accumulate, chain
from typing import Any

import numpy.typing as npt
from vllm.logprobs import FlatLogprobs
from vllm.v1.engine.logprobs import LogprobsProcessor
from vllm.v1.engine.output_processor import OutputProcessor

from classify.engines.vllm.wire import EXTRA_ARGS_KEY

__all__ = ["ArrayLogprobs", "keep_arrays"]


class ArrayLogprobs(FlatLogprobs):  # type: ignore[misc]
    """`FlatLogprobs` of arrays.

    Attributes
    ----------
    steps : list of (ndarray of int, ndarray of float), each of shape (n_columns,)
        Token ids and log-probabilities of each generated token.
    """

    def __init__(self) -> None:
        self.steps: list[tuple[npt.NDArray[Any], npt.NDArray[Any]]] = []
        self._ranks: list[int] = []

    def __len__(self) -> int:
        return len(self.steps)

    def add(self, ids: npt.NDArray[Any], values: npt.NDArray[Any], rank: int) -> None:
        """Take a step; its arrays are views of a whole batch's."""
        self.steps.append((ids.copy(), values.copy()))
        self._ranks.append(rank)

    @property
    def start_indices(self) -> list[int]:
        """Where each step begins in the lists."""
        return [
            end - len(ids)
            for end, (ids, _) in zip(self.end_indices, self.steps, strict=True)
        ]

    @property
    def end_indices(self) -> list[int]:
        """Where each step ends in the lists."""
        return list(accumulate(len(ids) for ids, _ in self.steps))

    @property
    def token_ids(self) -> list[int]:
        """Token ids of all steps."""
        return list(chain.from_iterable(ids.tolist() for ids, _ in self.steps))

    @property
    def logprobs(self) -> list[float]:
        """Log-probabilities of all steps."""
        return list(chain.from_iterable(values.tolist() for _, values in self.steps))

    @property
    def ranks(self) -> list[int | None]:
        """Rank of each generated token; what follows it is counted, as vLLM does."""
        return [
            rank if at == 0 else at
            for rank, (ids, _) in zip(self._ranks, self.steps, strict=True)
            for at in range(len(ids))
        ]

    @property
    def decoded_tokens(self) -> list[str | None]:
        """No tokens as text: none were asked for."""
        return [None] * sum(len(ids) for ids, _ in self.steps)


class _ArrayProcessor(LogprobsProcessor):  # type: ignore[misc]
    """Takes log-probabilities as they come."""

    def _update_sample_logprobs(self, logprobs_lists: Any) -> None:
        ids, values, ranks, *_ = logprobs_lists
        # A step has as many columns as the greediest request of its batch.
        width = 1 + self.num_logprobs
        for step, rank in enumerate(ranks.tolist()):
            self.logprobs.add(ids[step, :width], values[step, :width], rank)
        self.cumulative_logprob += float(values[:, 0].sum())


class _ArrayOutputProcessor(OutputProcessor):  # type: ignore[misc]
    """The stock output processor; tracked requests keep their arrays."""

    def add_request(self, request: Any, *args: Any, **options: Any) -> None:
        """Begin a request."""
        super().add_request(request, *args, **options)
        asked, state = request.sampling_params, self.request_states[request.request_id]
        processor = state.logprobs_processor
        if (
            type(processor) is LogprobsProcessor
            # With a tokenizer, tokens are wanted as text too.
            and processor.tokenizer is None
            and EXTRA_ARGS_KEY in (asked.extra_args or {})
            and type(processor.logprobs) is FlatLogprobs
        ):
            processor.__class__ = _ArrayProcessor
            processor.logprobs = ArrayLogprobs()


def keep_arrays(llm: Any) -> None:
    """Make an ``LLM`` keep the values of tracked requests as arrays."""
    processor = llm.llm_engine.output_processor
    if type(processor) is OutputProcessor:
        processor.__class__ = _ArrayOutputProcessor
