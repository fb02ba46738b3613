"""What the samplers of both model runners share: a request's ids and its columns.

The stock columns of a step and the tracked ones travel in one tensor; a request that
tracks finds its own in the places of the stock ones.
"""

from typing import Any

import torch
from vllm.v1.outputs import LogprobsTensors

from classify.engines.vllm.columns import Columns, Step
from classify.engines.vllm.wire import Wanted

__all__ = ["overlaid", "wanted_of", "widened"]


def wanted_of(sampling_params: Any) -> tuple[Wanted | None, bool]:
    """Return what a request tracks, and whether its columns have a marker.

    vLLM's own ``logprob_token_ids`` is answered here too, in vLLM's own columns: the
    stock code loses them under speculation, and lets them overwrite their neighbours'.
    """
    if sampling_params is None:
        return None, False
    wanted = Wanted.from_extra_args(sampling_params.extra_args)
    if wanted is not None:
        return wanted, True
    ids = getattr(sampling_params, "logprob_token_ids", None)
    return (Wanted(token_ids=tuple(ids)), False) if ids else (None, False)


def overlaid(
    stock: LogprobsTensors | None, columns: Columns, step: Step
) -> LogprobsTensors:
    """Return the stock columns with those of the tracking rows in their places."""
    ids, values, ranks = columns.token_ids, columns.values, columns.ranks
    if stock is None:
        if step.all_rows:
            return LogprobsTensors(ids.to(torch.int32), values, ranks)
        stock = LogprobsTensors(
            ids.new_zeros((step.n_rows, 1), dtype=torch.int32),
            values.new_full((step.n_rows, 1), float("-inf")),
            ranks.new_zeros(step.n_rows),
        )
    width = max(ids.shape[1], stock.logprobs.shape[1])
    return stock._replace(
        logprob_token_ids=widened(stock.logprob_token_ids, width, 0).index_copy(
            0, step.rows, widened(ids.to(stock.logprob_token_ids.dtype), width, 0)
        ),
        logprobs=widened(stock.logprobs, width, float("-inf")).index_copy(
            0, step.rows, widened(values, width, float("-inf"))
        ),
        selected_token_ranks=stock.selected_token_ranks.index_copy(
            0, step.rows, ranks.to(stock.selected_token_ranks.dtype)
        ),
    )


def widened(tensor: torch.Tensor, width: int, fill: float) -> torch.Tensor:
    """Return columns padded to a width."""
    missing = width - tensor.shape[1]
    if missing <= 0:
        return tensor
    return torch.nn.functional.pad(tensor, (0, missing), value=fill)
