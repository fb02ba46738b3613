"""Tracking for vLLM's V1 model runner (``vllm.v1.worker.gpu_model_runner``).

The rows of a V1 batch move about, so what a request wants is kept under its id. Rows of
a batch whose prompt is not read to its end yet are sampled and thrown away by the
runner; they do not move a request on.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from vllm.v1.outputs import LogprobsTensors
from vllm.v1.sample.rejection_sampler import RejectionSampler
from vllm.v1.sample.sampler import Sampler

from classify.engines.vllm.columns import Step, TrackingState
from classify.engines.vllm.cpu_faults import mend_expansion, spare_generators
from classify.engines.vllm.overlay import overlaid, wanted_of, widened
from classify.engines.vllm.tables import to_device

__all__ = ["BatchTracking", "install_v1"]

Ints = npt.NDArray[np.int64]


def install_v1(runner: Any) -> str:
    """Make the samplers of a V1 runner track."""
    tracking = BatchTracking(runner)
    runner.sampler.tracking = tracking
    runner.sampler.__class__ = TrackingSampler
    rejection_sampler = getattr(runner, "rejection_sampler", None)
    if rejection_sampler is not None:
        rejection_sampler.tracking = tracking
        rejection_sampler.__class__ = TrackingRejectionSampler
    if tracking.on_cpu:
        mend_expansion()
    drafter: Any = getattr(runner, "drafter", None)
    if hasattr(drafter, "follow"):
        drafter.follow(runner)
    return "v1"


class BatchTracking:
    """The tracked ids of a V1 runner's requests."""

    def __init__(self, runner: Any) -> None:
        self.runner = runner
        self.on_cpu = runner.device.type == "cpu"
        self.state = TrackingState(runner.device)
        self._slots: dict[str, int] = {}
        self._free: list[int] = []
        self._batch: list[str] = []
        self._batch_slots: Ints = np.zeros(0, dtype=np.int64)
        self._any = False
        self._n_stock: int | None = None

    def slots(self, n_requests: int) -> Ints | None:
        """Return the slot of each request of the batch; None if none of them tracks."""
        batch = self.runner.input_batch.req_ids
        if len(batch) != n_requests:
            return None  # a warm-up run has no requests
        if batch != self._batch:
            self._batch = list(batch)
            self._update()
        return self._batch_slots if self._any else None

    def stock_metadata(self, metadata: Any) -> Any:
        """Return sampling metadata that asks for what stock requests ask."""
        return self.possible(
            replace(metadata, max_num_logprobs=self._n_stock, logprob_token_ids=None)
        )

    def possible(self, metadata: Any) -> Any:
        """Return sampling metadata that asks for no more top tokens than there are.

        More would end the engine, and with it everyone's requests.
        """
        n_tokens = self.runner.input_batch.vocab_size
        if (metadata.max_num_logprobs or 0) <= n_tokens:
            return metadata
        return replace(metadata, max_num_logprobs=n_tokens)

    def advance(self, step: Step, sampled: torch.Tensor) -> None:
        """Move on by the sampled tokens that the runner will keep."""
        if not step.moves:
            return
        kept = ~self.runner.discard_request_mask.gpu[: sampled.shape[0]].bool()
        accepted = (sampled >= 0) & kept.unsqueeze(1)
        step.advance(sampled.clamp(min=0).long(), accepted)

    def _update(self) -> None:
        requests = self.runner.requests
        new = [name for name in self._batch if name not in self._slots]
        if len(self._free) < len(new):
            for name in [name for name in self._slots if name not in requests]:
                slot = self._slots.pop(name)
                self.state.remove(slot)
                self._free.append(slot)
        for name in new:
            slot = self._free.pop() if self._free else len(self._slots)
            self._slots[name] = slot
            wanted, marker = wanted_of(requests[name].sampling_params)
            self.state.add(slot, wanted, marker=marker)
        self._batch_slots = np.fromiter(
            map(self._slots.__getitem__, self._batch), dtype=np.int64
        )
        tracks = self.state.tracks(self._batch_slots)
        self._any = bool(tracks.any())
        asked = self.runner.input_batch.num_logprobs
        self._n_stock = max(
            (
                asked[name]
                for name, ours in zip(self._batch, tracks.tolist(), strict=True)
                if not ours and name in asked
            ),
            default=None,
        )


class TrackingSampler(Sampler):  # type: ignore[misc]
    """The stock sampler, with the tracked values of the requests that ask for them."""

    tracking: BatchTracking

    def forward(
        self,
        logits: torch.Tensor,
        sampling_metadata: Any,
        predict_bonus_token: bool = False,  # noqa: FBT001, FBT002 vLLM's signature
        **options: Any,
    ) -> Any:
        """Sample, and track."""
        if self.tracking.on_cpu:
            spare_generators(self.tracking.runner)
        slots = None if predict_bonus_token else self.tracking.slots(len(logits))
        if slots is None:
            return super().forward(
                logits,
                self.tracking.possible(sampling_metadata),
                predict_bonus_token=predict_bonus_token,
                **options,
            )
        step = self.tracking.state.step(slots, np.ones_like(slots))
        masked = step.mask(logits)
        # The stock code divides float32 logits in place.
        spare = masked is logits and logits.dtype == torch.float32
        output = super().forward(
            logits.clone() if spare else masked,
            self.tracking.stock_metadata(sampling_metadata),
            **options,
        )
        sampled = output.sampled_token_ids
        columns = step.columns(logits, sampled[:, 0].long())
        self.tracking.advance(step, sampled)
        output.logprobs_tensors = overlaid(output.logprobs_tensors, columns, step)
        return output


class TrackingRejectionSampler(RejectionSampler):  # type: ignore[misc]
    """The stock rejection sampler, with tracked values at every accepted token."""

    tracking: BatchTracking

    def forward(
        self,
        metadata: Any,
        draft_probs: torch.Tensor | None,
        logits: torch.Tensor,
        sampling_metadata: Any,
    ) -> Any:
        """Verify drafts, and track."""
        n_drafts = np.asarray(metadata.num_draft_tokens, dtype=np.int64)
        slots = self.tracking.slots(len(n_drafts))
        if slots is None:
            stock = self.tracking.possible(sampling_metadata)
            return super().forward(metadata, draft_probs, logits, stock)
        n_rows = n_drafts + 1
        starts = np.concatenate([[0], np.cumsum(n_rows)])[:-1]
        drafted = np.ones(int(n_rows.sum()), dtype=np.bool_)
        drafted[starts] = False
        device = logits.device
        fed = torch.zeros(len(drafted), dtype=torch.int64, device=device)
        fed[to_device(np.flatnonzero(drafted), device)] = (
            metadata.draft_token_ids.long()
        )
        step = self.tracking.state.step(slots, n_rows, lambda: fed)
        output = super().forward(
            metadata,
            draft_probs,
            step.mask(logits),
            self.tracking.stock_metadata(sampling_metadata),
        )
        sampled = output.sampled_token_ids
        # From ragged rows of logits to vLLM's rows: every request, every step.
        n_steps = sampled.shape[1]
        ahead = np.minimum(np.arange(n_steps), n_rows[:, None] - 1)
        host_flat = (starts[:, None] + ahead).ravel()
        flat = to_device(host_flat, device)
        chosen = torch.zeros(len(drafted), dtype=torch.int64, device=device)
        inside = np.arange(n_steps) < n_rows[:, None]
        at = to_device(np.flatnonzero(inside.ravel()), device)
        chosen[flat[at]] = sampled.flatten()[at].clamp(min=0).long()
        columns = step.columns(logits, chosen)
        self.tracking.advance(step, sampled)
        ours = overlaid(None, columns, step)
        spread = LogprobsTensors(
            ours.logprob_token_ids[flat],
            ours.logprobs[flat],
            ours.selected_token_ranks[flat],
        )
        tracks = np.zeros(step.n_rows, dtype=np.bool_)
        tracks[step.host_rows] = True
        output.logprobs_tensors = _beside(
            output.logprobs_tensors, spread, to_device(tracks[host_flat], device)
        )
        return output


def _beside(
    stock: LogprobsTensors | None, ours: LogprobsTensors, is_ours: torch.Tensor
) -> LogprobsTensors:
    """Return our columns in the rows that are ours, and the stock ones elsewhere."""
    if stock is None:
        return ours
    width = max(stock.logprobs.shape[1], ours.logprobs.shape[1])
    chosen = is_ours.unsqueeze(1)
    return LogprobsTensors(
        torch.where(
            chosen,
            widened(ours.logprob_token_ids, width, 0),
            widened(stock.logprob_token_ids, width, 0),
        ),
        torch.where(
            chosen,
            widened(ours.logprobs, width, float("-inf")),
            widened(stock.logprobs, width, float("-inf")),
        ),
        torch.where(is_ours, ours.selected_token_ranks, stock.selected_token_ranks),
    )
