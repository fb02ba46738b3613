"""vLLM's ``LLM`` and ``SamplingParams``, whose requests may track tokens.

::

    from classify.engines.vllm import LLM, SamplingParams

    llm = LLM(model="meta-llama/Llama-3.1-8B-Instruct")
    parameters = SamplingParams(track_token_ids=[1234, 5678], max_tokens=10)
    [output] = llm.generate(["…"], parameters)
    output.outputs[0].tracked_logprobs      # {1234: [-2.3, …], 5678: [-5.1, …]}

Every way to ask an ``LLM`` goes through its ``llm_engine``, so that is where requests
get their columns, and answers their values.
"""

import copy
from dataclasses import dataclass
from typing import Any

import vllm
from vllm.logprobs import append_logprobs_for_next_position, create_sample_logprobs
from vllm.outputs import RequestOutput
from vllm.v1.engine.llm_engine import LLMEngine

from classify.engines.protocol import check_request
from classify.engines.vllm.collected import keep_arrays
from classify.engines.vllm.liveness import starting_here
from classify.engines.vllm.parameters import columns, rows_of, tracked_logprobs
from classify.engines.vllm.wire import Wanted
from classify.errors import ConfigError, InputError
from classify.tracking import TrackedRequest

__all__ = ["LLM", "SamplingParams"]

WORKER_EXTENSION = "classify.engines.vllm.worker.TrackingExtension"
# vLLM's limit per request counts columns; ours are bounded by what is asked.
MAX_COLUMNS = 1 << 22


class SamplingParams(vllm.SamplingParams):  # type: ignore[misc]
    """``vllm.SamplingParams`` with one more field.

    Parameters
    ----------
    track_token_ids : sequence of int or None, default=None
        Tokens whose log-probability to return at every generated step, whatever their
        rank: any number, in addition to any number of ``logprobs``. None tracks
        nothing.
    """

    track_token_ids: list[int] | None = None


class LLM(vllm.LLM):  # type: ignore[misc]
    """``vllm.LLM`` whose completions have ``tracked_logprobs``.

    ``completion.tracked_logprobs[t][j]`` = log p(t | prompt, token_ids[:j]) in nats,
    over the full vocabulary, before any temperature, penalty or mask; one value for
    each token of the completion, whether drafted or not. It is {} where
    ``track_token_ids`` is empty, and None where it is None. Requests that track nothing
    are answered as vLLM answers them.

    Parameters
    ----------
    model : str
    **options
        Arguments of ``vllm.LLM``. ``max_logprobs`` does not apply: any number of
        log-probabilities may be asked for.

    Examples
    --------
    >>> llm = LLM(model="Qwen/Qwen3-0.6B")  # doctest: +SKIP
    >>> parameters = SamplingParams(track_token_ids=[9834, 902])  # doctest: +SKIP
    >>> [output] = llm.generate(["Is the sky green?"], parameters)  # doctest: +SKIP
    >>> output.outputs[0].tracked_logprobs  # doctest: +SKIP
    {9834: [-3.1, ...], 902: [-1.2, ...]}
    """

    def __init__(self, model: str, **options: Any) -> None:
        if options.get("worker_extension_cls") not in (None, "", WORKER_EXTENSION):
            raise ConfigError(
                "worker_extension_cls cannot be given: this LLM tracks tokens with an "
                "extension of its own."
            )
        options.update(worker_extension_cls=WORKER_EXTENSION, max_logprobs=MAX_COLUMNS)
        with starting_here():
            super().__init__(model, **options)
        self.collective_rpc("install_tracking")
        self.llm_engine.__class__ = TrackingLLMEngine
        self.llm_engine.asked = {}
        keep_arrays(self)


@dataclass(frozen=True, slots=True)
class Asked:
    """The user's settings for a request that tracks."""

    token_ids: tuple[int, ...]
    logprobs: int | None
    flat_logprobs: bool


class TrackingLLMEngine(LLMEngine):  # type: ignore[misc]
    """An engine whose requests carry what they track, and whose answers hold it."""

    asked: dict[str, Asked]

    def add_request(
        self, request_id: str, prompt: Any, params: Any, *args: Any, **options: Any
    ) -> Any:
        """Add a request."""
        if getattr(params, "track_token_ids", None) is None:
            return super().add_request(request_id, prompt, params, *args, **options)
        vocab_size = self.model_config.get_vocab_size()
        asked = _asked_of(params, vocab_size)
        n_top = vocab_size if asked.logprobs == -1 else asked.logprobs or 0
        wanted = Wanted(asked.token_ids, top=n_top)
        room = columns(wanted, len(asked.token_ids), params.extra_args)
        # vLLM copies the rest.
        params = copy.copy(params)
        params.track_token_ids = None
        for name, value in room.items():
            setattr(params, name, value)
        name = super().add_request(request_id, prompt, params, *args, **options)
        self.asked[request_id] = asked
        return name

    def step(self) -> list[Any]:
        """Make a step; return what it finished."""
        outputs: list[Any] = super().step()
        for output in outputs:
            if isinstance(output, RequestOutput):
                _add_tracked(output, self.asked.get(output.request_id))
        if self.asked and not self.has_unfinished_requests():
            self.asked.clear()
        return outputs


def _asked_of(params: Any, vocab_size: int) -> Asked:
    """Check what a request that tracks asks for, and return it."""
    if params.logprob_token_ids is not None:
        raise InputError(
            "logprob_token_ids cannot be given with track_token_ids: put all ids into "
            "track_token_ids."
        )
    given = params.track_token_ids
    try:
        ids = tuple(dict.fromkeys(given))
    except TypeError:
        raise InputError(
            f"track_token_ids must be a sequence of token ids. Got {given!r}."
        ) from None
    check_request(
        TrackedRequest((0,), ids), vocab_size=vocab_size, context_length=vocab_size
    )
    if params.logprobs is not None and params.logprobs > vocab_size:
        raise InputError(
            f"logprobs must be at most the vocabulary size, {vocab_size}. Got "
            f"{params.logprobs} instead."
        )
    return Asked(tuple(map(int, ids)), params.logprobs, params.flat_logprobs)


def _add_tracked(output: Any, asked: Asked | None) -> None:
    """Turn the columns of an answer into what the user asked for."""
    for completion in output.outputs:
        if hasattr(completion, "tracked_logprobs"):
            continue
        completion.tracked_logprobs = None
        if asked is None:
            continue
        # A part of a stream may hold no token.
        tracked: dict[int, list[float]] = {token: [] for token in asked.token_ids}
        completion.tracked_logprobs = tracked | tracked_logprobs(completion)
        completion.logprobs = _stock_logprobs(completion, asked)
        if asked.logprobs is None:
            completion.cumulative_logprob = None
    if asked is not None and not asked.flat_logprobs and output.prompt_logprobs:
        # The prompt's first token has none.
        output.prompt_logprobs = [None, *list(output.prompt_logprobs)[1:]]


def _stock_logprobs(completion: Any, asked: Asked) -> Any:
    """Return the log-probabilities that vLLM gives a request without tracking."""
    if asked.logprobs is None:
        return None
    flat, stock = completion.logprobs, create_sample_logprobs(asked.flat_logprobs)
    texts, ranks = flat.decoded_tokens, flat.ranks
    start = 0
    for ids, values in rows_of(completion):
        n_top = int(ids[1])
        places = [0, *range(2, 2 + n_top)]
        append_logprobs_for_next_position(
            stock,
            [int(ids[place]) for place in places],
            [float(values[place]) for place in places],
            [texts[start + place] for place in places],
            ranks[start],
            n_top,
        )
        start += len(ids)
    return stock
