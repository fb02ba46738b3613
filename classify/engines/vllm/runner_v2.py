"""Tracking for vLLM's V2 model runner (``vllm.v1.worker.gpu.model_runner``).

V2 keeps each request in one place from start to end, its index in ``req_states``, so
that this index is the slot.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from vllm.v1.worker.gpu.sample.sampler import Sampler
from vllm.v1.worker.gpu.sample.states import NO_LOGPROBS
from vllm.v1.worker.gpu.spec_decode.rejection_sampler import RejectionSampler

from classify.engines.vllm.columns import Step, TrackingState
from classify.engines.vllm.overlay import overlaid, wanted_of

__all__ = ["install_v2"]


def install_v2(runner: Any) -> str:
    """Make the samplers of a V2 runner track."""
    state = TrackingState(runner.device)
    sampler, rejection_sampler = runner.sampler, runner.rejection_sampler
    for stock, ours in (
        (sampler, TrackingSampler),
        (rejection_sampler, TrackingRejectionSampler),
    ):
        if stock is not None:
            if type(stock) not in (Sampler, RejectionSampler):
                raise RuntimeError(
                    f"This model has its own sampler, {type(stock).__qualname__}, "
                    "whose values cannot be tracked."
                )
            stock.tracking = state
            stock.__class__ = ours
    return "v2"


class TrackingSampler(Sampler):  # type: ignore[misc]
    """The stock sampler, with the tracked values of the requests that ask for them."""

    tracking: TrackingState

    def add_request(self, req_idx: int, *args: Any, **options: Any) -> None:
        """Begin a request; 0.26 has the prompt's length before its parameters."""
        super().add_request(req_idx, *args, **options)
        sampling_params = options.get("sampling_params", args[-1] if args else None)
        wanted, marker = wanted_of(sampling_params)
        self.tracking.add(req_idx, wanted, marker=marker)
        if wanted is not None:
            # The columns are ours: the stock code need not compute them.
            self.sampling_states.num_logprobs[req_idx] = NO_LOGPROBS
            self.logprob_token_ids_state.num_token_ids.np[req_idx] = 0

    def __call__(
        self, logits: torch.Tensor, input_batch: Any, *args: Any, **options: Any
    ) -> Any:
        """Sample, and track."""
        stock = super().__call__
        return _tracked(stock, self.tracking, logits, input_batch, *args, **options)


class TrackingRejectionSampler(RejectionSampler):  # type: ignore[misc]
    """The stock rejection sampler, with tracked values at every accepted token."""

    tracking: TrackingState

    def __call__(
        self, logits: torch.Tensor, input_batch: Any, *args: Any, **options: Any
    ) -> Any:
        """Verify drafts, and track."""
        stock = super().__call__
        return _tracked(stock, self.tracking, logits, input_batch, *args, **options)


def _tracked(
    stock: Callable[..., Any],
    tracking: TrackingState,
    logits: torch.Tensor,
    input_batch: Any,
    *args: Any,
    **options: Any,
) -> Any:
    """Return the stock sampler's output, with tracked values if requested."""
    step = _step(tracking, logits, input_batch)
    if step is None:
        return stock(logits, input_batch, *args, **options)
    output = stock(_spare(step, logits), input_batch, *args, **options)
    return _with_columns(output, step, logits, input_batch)


def _step(
    tracking: TrackingState, logits: torch.Tensor, input_batch: Any
) -> Step | None:
    slots = input_batch.idx_mapping_np.astype(np.int64)
    if not tracking.tracks(slots).any():
        return None
    n_rows = np.diff(input_batch.cu_num_logits_np).astype(np.int64)
    if int(n_rows.sum()) != logits.shape[0]:
        raise RuntimeError(
            f"vLLM gave {logits.shape[0]} rows of logits for {int(n_rows.sum())} "
            "positions: tracked values cannot be told apart."
        )

    def fed() -> torch.Tensor:
        tokens: torch.Tensor = input_batch.input_ids[input_batch.logits_indices]
        return tokens.long()

    return tracking.step(slots, n_rows, fed)


def _spare(step: Step, logits: torch.Tensor) -> torch.Tensor:
    """Return logits that the stock code may change, masked where rows are.

    0.26 divides them by the temperature, and applies penalties, in place, unless a
    request of the batch wants log-probabilities of vLLM itself.
    """
    masked = step.mask(logits)
    return logits.clone() if masked is logits else masked


def _with_columns(
    output: Any, step: Step, logits: torch.Tensor, input_batch: Any
) -> Any:
    sampled = output.sampled_token_ids.long()
    # What lies past the accepted tokens is not defined.
    columns = step.columns(logits, step.chosen(sampled))
    if step.moves:
        steps = torch.arange(sampled.shape[1], device=logits.device)
        accepted = steps < output.num_sampled.unsqueeze(1)
        step.advance(torch.where(accepted, sampled, 0), accepted)
    expanded = step.n_rows != len(input_batch.cu_num_logits_np) - 1
    tensors = overlaid(output.logprobs_tensors, columns, step)
    output.logprobs_tensors = tensors._replace(
        cu_num_generated_tokens=(
            input_batch.cu_num_logits_np.tolist() if expanded else None
        )
    )
    return output
