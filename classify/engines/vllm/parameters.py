"""Requests with our own columns, and the contents of an answer's columns."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np

from classify.engines.vllm.kind import VLLM
from classify.engines.vllm.wire import Wanted
from classify.errors import EngineError, MissingDependencyError

__all__ = [
    "columns",
    "ids_only",
    "require_vllm",
    "rows_of",
    "sampling_params",
    "steps_in",
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
    """Return the shared parameters of requests that only need token ids, once.

    Their stops are those that they name, and vLLM need not copy what is not changed.
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
    rows = [
        (ids[2 + ids[1] :], values[2 + ids[1] :]) for ids, values in rows_of(completion)
    ]
    if rows and all(np.array_equal(ids, rows[0][0]) for ids, _ in rows):
        # A request's own ids are the same at every step.
        of_ids = np.stack([values for _, values in rows]).T.tolist()
        return dict(zip(np.asarray(rows[0][0]).tolist(), of_ids, strict=True))
    tracked: dict[int, list[float]] = {}
    for ids, values in rows:
        for token, value in zip(ids, values, strict=True):
            tracked.setdefault(int(token), []).append(float(value))
    return tracked


def top_logprobs(completion: Any) -> tuple[dict[int, float], ...]:
    """Return the most likely tokens of each step, most likely first."""
    likeliest = []
    for ids, values in rows_of(completion):
        top = slice(2, 2 + ids[1])
        pairs = zip(ids[top], values[top], strict=True)
        likeliest.append({int(token): float(value) for token, value in pairs})
    return tuple(likeliest)


def rows_of(completion: Any) -> list[tuple[Any, Any]]:
    """Return token ids and values of each step; check that they are our columns."""
    rows = steps_in(completion.logprobs)
    n_tokens = len(completion.token_ids)
    if len(rows) != n_tokens or any(
        len(ids) < 2 or values[1] != 0.0 for ids, values in rows
    ):
        raise EngineError(
            f"vLLM answered {n_tokens} tokens with {len(rows)} steps of log-"
            "probabilities that are not the tracked ones: this version of vLLM loses "
            "them. Please report it with its version."
        )
    return rows


def steps_in(flat: Any) -> list[tuple[Any, Any]]:
    """Return token ids and values of each step of flat log-probabilities."""
    rows: list[tuple[Any, Any]] | None = getattr(flat, "steps", None)
    if rows is not None:  # see `classify.engines.vllm.collected`
        return rows
    return [
        (flat.token_ids[start:end], flat.logprobs[start:end])
        for start, end in zip(flat.start_indices, flat.end_indices, strict=True)
    ]


def require_vllm() -> Any:
    """Return the vllm module, or say how to get it."""
    try:
        import vllm
    except ModuleNotFoundError as error:
        if error.name != "vllm":
            raise _broken(error) from error
        raise VLLM.missing() from error
    except ImportError as error:
        raise _broken(error) from error
    return vllm


def _broken(error: ImportError) -> MissingDependencyError:
    return MissingDependencyError(
        f"vLLM is installed, but cannot be imported: {error}. Install it again, in the "
        "version and for the device that fit the installed torch."
    )
