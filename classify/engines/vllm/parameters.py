"""Requests with columns of ours, and what the columns of an answer hold."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from classify.engines.vllm.wire import Wanted
from classify.errors import EngineError, MissingDependencyError, missing_dependency

__all__ = [
    "columns",
    "ids_only",
    "require_vllm",
    "sampling_params",
    "steps_of",
    "top_logprobs",
    "tracked_logprobs",
]


def columns(
    wanted: Wanted, n_tracked: int, extra_args: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return the fields of ``SamplingParams`` that make room for tracked columns."""
    return {
        "logprobs": 1 + wanted.top + n_tracked,
        "flat_logprobs": True,
        "extra_args": {**(extra_args or {}), **wanted.to_extra_args()},
    }


def sampling_params(wanted: Wanted, n_tracked: int, **options: Any) -> Any:
    """Make ``vllm.SamplingParams`` with room for `n_tracked` tracked columns."""
    room = columns(wanted, n_tracked, options.pop("extra_args", None))
    return require_vllm().SamplingParams(**room, **options)


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
    """Return the tracked log-probabilities of a ``vllm.CompletionOutput``."""
    flat = completion.logprobs
    tracked: dict[int, list[float]] = {}
    for start, end in steps_of(completion):
        first = start + 2 + flat.token_ids[start + 1]
        for token, value in zip(
            flat.token_ids[first:end], flat.logprobs[first:end], strict=True
        ):
            tracked.setdefault(token, []).append(value)
    return tracked


def top_logprobs(completion: Any) -> tuple[dict[int, float], ...]:
    """Return the likeliest tokens of each step, likeliest first."""
    flat = completion.logprobs
    likeliest = []
    for start, _ in steps_of(completion):
        first, end = start + 2, start + 2 + flat.token_ids[start + 1]
        top = zip(flat.token_ids[first:end], flat.logprobs[first:end], strict=True)
        likeliest.append(dict(top))
    return tuple(likeliest)


def steps_of(completion: Any) -> list[tuple[int, int]]:
    """Return where the columns of each step begin and end; check that they are ours."""
    flat = completion.logprobs
    steps = list(zip(flat.start_indices, flat.end_indices, strict=True))
    n_tokens = len(completion.token_ids)
    if len(steps) != n_tokens or any(
        end - start < 2 or flat.logprobs[start + 1] != 0.0 for start, end in steps
    ):
        raise EngineError(
            f"vLLM answered {n_tokens} tokens with {len(steps)} steps of log-"
            "probabilities that are not the tracked ones: this version of vLLM loses "
            "them. Please report it with its version."
        )
    return steps


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
