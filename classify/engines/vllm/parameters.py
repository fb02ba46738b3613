"""Tracked log-probabilities for anyone's own ``vllm.LLM``.

::

    from classify.engines.vllm import (
        tracked_llm, tracked_logprobs, tracked_sampling_params
    )

    llm = tracked_llm(model="meta-llama/Llama-3.1-8B-Instruct")
    parameters = tracked_sampling_params(track_token_ids=[1234, 5678], max_tokens=10)
    [output] = llm.generate(["…"], parameters)
    tracked_logprobs(output.outputs[0])     # {1234: [-2.3, …], 5678: [-5.1, …]}

`tracked_llm` is ``LLM`` with two arguments set and a call made. Requests of the same
``LLM`` that track nothing are answered as vLLM answers them.
"""

import math
import operator
from collections.abc import Iterable
from functools import cache
from typing import Any

from classify.engines.vllm.wire import Wanted
from classify.errors import (
    EngineError,
    InputError,
    MissingDependencyError,
    missing_dependency,
)

__all__ = [
    "WORKER_EXTENSION",
    "ids_only",
    "install_tracking",
    "require_vllm",
    "sampling_params",
    "top_logprobs",
    "tracked_llm",
    "tracked_logprobs",
    "tracked_sampling_params",
]

WORKER_EXTENSION = "classify.engines.vllm.worker.TrackingExtension"
# vLLM's limit per request counts columns; ours are bounded by what is asked.
_MOST_COLUMNS = 1 << 22


def tracked_sampling_params(
    *,
    track_token_ids: Iterable[int] | None = None,
    top_logprobs: int = 0,
    **options: Any,
) -> Any:
    """Make ``vllm.SamplingParams`` that track tokens at every generated step.

    Parameters
    ----------
    track_token_ids : iterable of int, default=None
        Tokens whose log-probability is wanted, whatever their rank; any number.
        Order and duplicates do not matter. None tracks nothing; an empty one gives {}.
    top_logprobs : int, default=0
        How many of the likeliest tokens to report beside them.
    **options
        Other arguments of ``SamplingParams``, but for ``logprobs`` and
        ``logprob_token_ids``, whose place these two take.

    Returns
    -------
    vllm.SamplingParams

    Raises
    ------
    InputError
        An id is no integer from 0, or an argument contradicts these.
    """
    for name in ("logprobs", "logprob_token_ids"):
        if options.get(name) is not None:
            raise InputError(
                f"{name} cannot be given beside track_token_ids: use top_logprobs for "
                "the likeliest tokens and track_token_ids for chosen ones."
            )
    if top_logprobs < 0:
        raise InputError(f"top_logprobs must be at least 0. Got {top_logprobs}.")
    if track_token_ids is None:
        return _sampling_params_class()(logprobs=top_logprobs or None, **options)
    ids = tuple(dict.fromkeys(_token_id(value) for value in track_token_ids))
    return sampling_params(Wanted(ids, top=top_logprobs), len(ids), **options)


def sampling_params(wanted: Wanted, n_tracked: int, **options: Any) -> Any:
    """Make ``vllm.SamplingParams`` with room for `n_tracked` tracked columns."""
    extra = {**(options.pop("extra_args", None) or {}), **wanted.to_extra_args()}
    return _sampling_params_class()(
        logprobs=1 + wanted.top + n_tracked,
        flat_logprobs=True,
        extra_args=extra,
        **options,
    )


@cache
def ids_only() -> dict[str, Any]:
    """Return what requests have in common of which only token ids are wanted, once.

    Their stops are those that they name, and vLLM need not copy what nobody changes.
    """
    require_vllm()
    from vllm.sampling_params import RequestOutputKind

    return {
        "temperature": 0.0,
        "detokenize": False,
        "ignore_eos": True,
        "skip_clone": True,
        "output_kind": RequestOutputKind.FINAL_ONLY,
    }


def tracked_logprobs(completion: Any) -> dict[int, list[float]]:
    """Return the tracked log-probabilities of a ``vllm.CompletionOutput``.

    Returns
    -------
    dict of int to list of float
        ``result[t][j]`` = log p(t | prompt, token_ids[:j]) in nats, over the full
        vocabulary, before any temperature, penalty or mask; one value for each
        generated token, speculated or not.

    Raises
    ------
    InputError
        The request did not track, or tracked an id outside the vocabulary.
    EngineError
        vLLM did not run with tracking installed.
    """
    flat = completion.logprobs
    tracked: dict[int, list[float]] = {}
    for step, (start, end) in enumerate(_steps(completion)):
        first = start + 2 + flat.token_ids[start + 1]
        for token, value in zip(
            flat.token_ids[first:end], flat.logprobs[first:end], strict=True
        ):
            if math.isnan(value):
                raise InputError(
                    f"track_token_ids holds {token}, which is outside the vocabulary "
                    "of the model: leave it out."
                )
            values = tracked.setdefault(token, [])
            if len(values) == step:
                values.append(value)
    return tracked


def top_logprobs(completion: Any) -> tuple[dict[int, float], ...]:
    """Return the likeliest tokens at each step of a tracked ``vllm.CompletionOutput``.

    Returns
    -------
    tuple of dict of int to float, length n_steps
        Token id to log-probability in nats, likeliest first.

    Raises
    ------
    InputError
        The request did not track, or asked for more tokens than there are.
    EngineError
        vLLM did not run with tracking installed.
    """
    flat = completion.logprobs
    likeliest = []
    for start, _ in _steps(completion):
        first, n_top = start + 2, flat.token_ids[start + 1]
        top = dict(
            zip(
                flat.token_ids[first : first + n_top],
                flat.logprobs[first : first + n_top],
                strict=True,
            )
        )
        # Those that do not exist stand behind the others, all under one id.
        if n_top and math.isnan(flat.logprobs[first + n_top - 1]):
            raise InputError(
                f"top_logprobs must be at most the vocabulary size, {len(top) - 1}. "
                f"Got {n_top} instead."
            )
        likeliest.append(top)
    return tuple(likeliest)


def tracked_llm(**options: Any) -> Any:
    """Start a ``vllm.LLM`` whose requests may track tokens.

    Parameters
    ----------
    **options
        Arguments of ``vllm.LLM``, ``speculative_config`` included.

    Returns
    -------
    vllm.LLM
    """
    llm = require_vllm().LLM(
        worker_extension_cls=WORKER_EXTENSION,
        **{"max_logprobs": _MOST_COLUMNS, **options},
    )
    install_tracking(llm)
    return llm


def install_tracking(llm: Any) -> str:
    """Install tracking in the workers of an ``LLM``; return its runner, "v1" or "v2".

    The ``LLM`` must have been made with ``worker_extension_cls=WORKER_EXTENSION``;
    `tracked_llm` does both.
    """
    parallel = llm.llm_engine.vllm_config.parallel_config
    if parallel.worker_extension_cls != WORKER_EXTENSION:
        raise EngineError(
            "This LLM has no tracking extension: make it with tracked_llm(…), or with "
            f"LLM(worker_extension_cls={WORKER_EXTENSION!r}, …)."
        )
    runners: list[str] = llm.collective_rpc("install_tracking")
    return runners[0]


def _steps(completion: Any) -> list[tuple[int, int]]:
    """Return where the columns of each step begin and end; check that they are ours."""
    flat = completion.logprobs
    if flat is None or not hasattr(flat, "start_indices"):
        raise InputError(
            "This request tracked nothing: make its parameters with "
            "tracked_sampling_params(track_token_ids=[…])."
        )
    steps = list(zip(flat.start_indices, flat.end_indices, strict=True))
    n_tokens = len(completion.token_ids)
    if len(steps) != n_tokens or any(
        end - start < 2 or flat.logprobs[start + 1] != 0.0 for start, end in steps
    ):
        raise EngineError(
            f"vLLM answered {n_tokens} tokens with {len(steps)} steps of log-"
            "probabilities that are not the tracked ones: tracking is not installed in "
            "this LLM. Make it with tracked_llm(…)."
        )
    return steps


def _token_id(value: Any) -> int:
    try:
        token = operator.index(value)
    except TypeError:
        token = -1
    if token < 0:
        raise InputError(
            f"track_token_ids must hold token ids, integers from 0. Got {value!r}."
        )
    return token


def require_vllm() -> Any:
    """Return the vllm module, or say how to get it."""
    try:
        import vllm
    except ModuleNotFoundError as error:
        if error.name != "vllm":
            raise _broken(error) from error
        raise missing_dependency(
            "The vllm engine needs vLLM",
            "vllm",
            note=" on a machine with a GPU. The README says how to install it without "
            "one.",
        ) from error
    except ImportError as error:
        raise _broken(error) from error
    return vllm


def _broken(error: ImportError) -> MissingDependencyError:
    return MissingDependencyError(
        f"vLLM is installed, but cannot be imported: {error}. Install it again, in the "
        "version and for the device that fit the installed torch."
    )


def _sampling_params_class() -> Any:
    return require_vllm().SamplingParams
