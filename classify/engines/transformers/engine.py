"""The engine: queues requests, forms batches, and answers them with a network."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

import torch

from classify.engines.decoding import Draft, start_drafts
from classify.engines.protocol import Request, check_request
from classify.engines.transformers.budget import Budget
from classify.engines.transformers.fused import FusedDecoder
from classify.engines.transformers.generation import generate_batch
from classify.engines.transformers.network import Network
from classify.engines.transformers.packing import pack_weights
from classify.engines.transformers.reading import Reader
from classify.engines.transformers.selfcheck import ReadMode, fault_on_sample
from classify.engines.transformers.weights import choose_device, load_weights
from classify.errors import ConfigError, EngineError
from classify.tracking import Completed, ReadRequest, TrackedRequest

__all__ = ["TransformersEngine"]

_logger = logging.getLogger(__name__)


class TransformersEngine:
    """Answer requests with a transformers model on a CPU or one accelerator.

    Reads of many nodes of a text go through in one forward pass under a tree mask;
    keys and values are kept for reads that follow; ids that all prompts begin with
    are computed once. All of it is compared with plain forward passes when the engine
    is made, and slower ways are taken where they differ (`read_mode`).

    Parameters
    ----------
    model : transformers.PreTrainedModel
        A causal language model. It is put in eval mode and must not be changed while
        the engine lives.
    batch_size : int or "auto", default="auto"
        Most texts in a batch. "auto": as many as fill a pass of good speed.
    cache_bytes : int, optional
        Bound of the keys and values kept between reads; by default 1 GiB on a CPU, a
        quarter of the free memory on an accelerator.
    fused : FusedDecoder, optional
        A faster form of the model; `load` makes it, where there is one.

    Attributes
    ----------
    read_mode : {"tree", "cached", "uncached"}
        How label paths are read: all at once under a tree mask; one by one on copies
        of the model's cache; with a forward pass each.
    vocab_size, context_length, window : int
        See `classify.engines.Engine`.

    Examples
    --------
    >>> from classify.engines import read
    >>> from classify.tracking import ReadRequest, TokenTree
    >>> engine = TransformersEngine.load("my-model")  # doctest: +SKIP
    >>> tree = TokenTree([(5, 7), (5, 8)])
    >>> read(engine, [ReadRequest((1, 2), tree, (0, 1))])  # doctest: +SKIP
    """

    name = "transformers"

    def __init__(
        self,
        model: Any,
        *,
        batch_size: int | Literal["auto"] = "auto",
        cache_bytes: int | None = None,
        fused: FusedDecoder | None = None,
    ) -> None:
        if batch_size != "auto" and (
            isinstance(batch_size, bool)
            or not isinstance(batch_size, int)
            or batch_size < 1
        ):
            raise ConfigError(
                f'batch_size must be "auto" or at least 1. Got {batch_size!r} instead.'
            )
        self._network = Network(model, fused)
        self._budget = Budget(self._network, batch_size)
        self.closed = False
        with torch.inference_mode():
            self._reader = Reader(self._network, self._budget, cache_bytes)
        self.vocab_size = self._network.vocab_size
        self.context_length = self._network.context_length
        self.window = self._budget.window
        self._stop_token_ids = self._network.stop_token_ids()
        self._generations: list[tuple[int, TrackedRequest]] = []
        self._n_tickets = 0

    @classmethod
    def load(
        cls,
        model: str | Path | Any,
        *,
        dtype: str = "auto",
        device: str = "auto",
        batch_size: int | Literal["auto"] = "auto",
        trust_remote_code: bool = False,
        revision: str | None = None,
        attn_implementation: str | None = None,
        cache_bytes: int | None = None,
    ) -> Self:
        """Load a model from a folder or the hub.

        Parameters
        ----------
        model : str, path or transformers.PreTrainedModel
            A folder, or a hub id; a model object is taken as it is, where it is.
        dtype : {"auto", "float32", "bfloat16", "float16", "float64"}
            "auto": float32 on a CPU, the checkpoint's own on an accelerator.
        device : str, default="auto"
            "auto": the accelerator, if there is one.
        batch_size : int or "auto", default="auto"
            Most texts in a batch.
        trust_remote_code : bool, default=False
            Whether code that comes with the model may run.
        revision : str, optional
            Branch, tag or commit on the hub.
        attn_implementation : str, optional
            Which attention of transformers; its own choice by default.
        cache_bytes : int, optional
            Bound of the keys and values kept between reads.

        Raises
        ------
        ModelLoadError
            Nothing is there, or it is no causal language model.
        """
        if not isinstance(model, str | Path):
            return cls(model, batch_size=batch_size, cache_bytes=cache_bytes)
        weights = load_weights(
            str(model),
            dtype=dtype,
            device=choose_device(device),
            trust_remote_code=trust_remote_code,
            revision=revision,
            attn_implementation=attn_implementation,
        )
        fused = FusedDecoder.of(weights)
        if fused is None:
            pack_weights(weights)
        return cls(weights, batch_size=batch_size, cache_bytes=cache_bytes, fused=fused)

    @property
    def read_mode(self) -> str:
        """How label paths are read: "tree", "cached" or "uncached"."""
        return self._reader.mode

    def describe(self) -> dict[str, str]:
        """Return what runs, in words, by name."""
        model, network = self._network.model, self._network
        millions = sum(weights.numel() for weights in model.parameters()) / 1e6
        dtype = str(network.dtype).removeprefix("torch.")
        return {
            "model": f"{type(model).__name__}, {millions:,.1f} M parameters",
            "weights": f"{dtype} on {network.device}",
            "reads": self.read_mode,
            "context": f"{self.context_length:,} tokens",
            "in flight": f"{self.window} texts",
        }

    def faults_of_reading(self) -> dict[ReadMode, str | None]:
        """Compare each fast way of reading with plain passes; None: it is right."""
        modes: tuple[ReadMode, ...] = ("tree", "cached")
        with torch.inference_mode():
            return {mode: fault_on_sample(self._network, mode) for mode in modes}

    def __sklearn_clone__(self) -> Self:
        return self

    def __repr__(self) -> str:
        model = type(self._network.model).__name__ if not self.closed else "closed"
        return f"TransformersEngine({model}, read_mode={self.read_mode!r})"

    def submit(self, request: Request) -> int:
        """Take a request and return its ticket."""
        if self.closed:
            raise EngineError("This engine was closed: load it again.")
        check_request(
            request, vocab_size=self.vocab_size, context_length=self.context_length
        )
        ticket = self._n_tickets
        self._n_tickets += 1
        if isinstance(request, ReadRequest):
            self._reader.submit(ticket, request)
        else:
            self._generations.append((ticket, request))
        return ticket

    def poll(self) -> list[Completed]:
        """Answer one batch: reads that follow up, then new reads, then generations."""
        if self.closed or not (self._reader.n_waiting or self._generations):
            return []
        # Dropout in a model that someone left training would make every number wrong.
        self._network.model.eval()
        try:
            with torch.inference_mode():
                if self._reader.n_waiting:
                    return self._reader.answer_batch()
                return self._generate_batch()
        except torch.OutOfMemoryError as error:
            self._forget()
            raise EngineError(
                "The device ran out of memory with a single text. Use a shorter "
                "prompt, a smaller model or dtype, or another device."
            ) from error
        except RuntimeError as error:
            self._forget()
            raise EngineError(f"The model failed: {error}") from error

    def free_memory(self) -> None:
        """Drop the keys and values that are kept between reads; they cost time only."""
        self._reader.free_memory()

    def close(self) -> None:
        """Free the model."""
        self._forget()
        self.closed = True
        self._network.model = self._network.fused = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _forget(self) -> None:
        self._generations.clear()
        self._reader.forget()

    def _generate_batch(self) -> list[Completed]:
        batch = self._next_generations()
        drafts = [start_drafts(request, self._stop_token_ids) for _, request in batch]
        try:
            self._run_generations(drafts, [request for _, request in batch])
        except torch.OutOfMemoryError:
            if len(batch) == 1:
                raise
            self._budget.halve()
            self._reader.free_memory()
            return []
        done = {ticket for ticket, _ in batch}
        self._generations = [one for one in self._generations if one[0] not in done]
        return [
            Completed(ticket, tuple(draft.finished() for draft in group))
            for (ticket, _), group in zip(batch, drafts, strict=True)
        ]

    def _run_generations(
        self, drafts: Sequence[Sequence[Draft]], requests: Sequence[TrackedRequest]
    ) -> None:
        longest = max(requests, key=_length)
        mode = self._reader.mode_for(longest.prompt_token_ids, _length(longest))
        generate_batch(self._network, drafts, mode)

    def _next_generations(self) -> list[tuple[int, TrackedRequest]]:
        """Take requests of similar length, the longest first, that fit one batch."""
        waiting = sorted(self._generations, key=lambda one: -_length(one[1]))
        first = waiting[0][1]
        mode = self._reader.mode_for(first.prompt_token_ids, _length(first))
        batch: list[tuple[int, TrackedRequest]] = []
        n_drafts = 0
        for ticket, request in waiting:
            if mode != "tree" and len(request.prompt_token_ids) != len(
                first.prompt_token_ids
            ):
                continue
            n_drafts += request.n
            if batch and not self._budget.fits_generation(n_drafts, _length(first)):
                break
            batch.append((ticket, request))
        return batch


def _length(request: TrackedRequest) -> int:
    return len(request.prompt_token_ids) + request.max_tokens
