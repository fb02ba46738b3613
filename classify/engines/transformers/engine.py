"""The engine: a network in this process, and a desk for each caller."""

from pathlib import Path
from typing import Any, Literal, Self

import torch

from classify.engines.devices import use_threads_that_exist
from classify.engines.protocol import BaseEngine, Finding, Line, Request
from classify.engines.transformers.budget import Budget
from classify.engines.transformers.desk import Desk, SharedModel
from classify.engines.transformers.fused import FusedDecoder
from classify.engines.transformers.modes import Modes
from classify.engines.transformers.network import Network
from classify.engines.transformers.packing import pack_weights
from classify.engines.transformers.passed_checks import PassedChecks
from classify.engines.transformers.selfcheck import ReadMode, fault_on_sample
from classify.engines.transformers.weights import (
    choose_device,
    load_weights,
    quietly,
)
from classify.errors import ConfigError
from classify.tracking import Completed

__all__ = ["TransformersEngine"]


class TransformersEngine(BaseEngine):
    """Answer requests with a transformers model on a CPU or one accelerator.

    Reads of many nodes of a text go through in one forward pass under a tree mask, or
    on copies of the state after it where a model takes no such mask; keys, values and
    states are kept for reads that follow; ids that all prompts begin with are computed
    once. All of it is compared with plain forward passes when the engine
    is made, and slower ways are taken where they differ (`read_mode`). `load` remembers
    which comparisons a model's architecture and configuration have passed, in the
    user's cache folder; the environment variable ``CLASSIFY_SELF_CHECKS`` names another
    folder, or is ``off``.

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
    passed : PassedChecks, optional
        Comparisons that models like this one have passed; `load` knows them.

    Attributes
    ----------
    read_mode : {"tree", "forked", "cached", "uncached"}
        How label paths are read: all at once under a tree mask; on copies of the
        state after their text, those of many texts side by side, or those of one;
        with a forward pass each.
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
        passed: PassedChecks | None = None,
    ) -> None:
        if batch_size != "auto" and (
            isinstance(batch_size, bool)
            or not isinstance(batch_size, int)
            or batch_size < 1
        ):
            raise ConfigError(
                f'batch_size must be "auto" or at least 1. Got {batch_size!r} instead.'
            )
        use_threads_that_exist()
        network = Network(model, fused)
        budget = Budget(network, batch_size)
        with torch.inference_mode():
            modes = Modes(network, passed)
        self._shared = SharedModel(
            network,
            budget,
            modes,
            budget.kept_bytes() if cache_bytes is None else cache_bytes,
            network.stop_token_ids(),
        )
        self.vocab_size = network.vocab_size
        self.context_length = network.context_length
        self.window = budget.window
        self._own = Desk(self._shared)

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
            Nothing is there, or it is not a causal language model.
        """
        if not isinstance(model, str | Path):
            return cls(model, batch_size=batch_size, cache_bytes=cache_bytes)
        use_threads_that_exist()
        with quietly():
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
            # Here the model computes for the first time.
            return cls(
                weights,
                batch_size=batch_size,
                cache_bytes=cache_bytes,
                fused=fused,
                # Code that comes with a model may change under the same name.
                passed=None if trust_remote_code else PassedChecks.of(weights),
            )

    @property
    def read_mode(self) -> str:
        """How label paths are read: "tree", "forked", "cached" or "uncached"."""
        return self._shared.modes.usual

    def describe(self) -> dict[str, str]:
        """Return a description of what runs, by name."""
        self._shared.check()
        network = self._shared.network
        model = network.model
        millions = sum(weights.numel() for weights in model.parameters()) / 1e6
        dtype = str(network.dtype).removeprefix("torch.")
        return {
            "model": f"{type(model).__name__}, {millions:,.1f} M parameters",
            "weights": f"{dtype} on {network.device}",
            "reads": self._shared.modes.describe(),
            "context": f"{self.context_length:,} tokens",
            "in flight": f"{self.window} texts",
        }

    def findings(self) -> list[Finding]:
        """Compare each fast way of reading with plain forward passes.

        A way that is wrong for a model was found out on loading, and is not taken.
        """
        return [
            Finding(
                f"{mode} reads against plain forward passes",
                "the same" if fault is None else f"not taken: {fault}",
                is_fault=False,
            )
            for mode, fault in self.faults_of_reading().items()
        ]

    def faults_of_reading(self) -> dict[ReadMode, str | None]:
        """Compare each fast way of reading with plain passes; None: it is right."""
        modes: tuple[ReadMode, ...] = ("tree", "forked", "cached")

        def compare() -> dict[ReadMode, str | None]:
            self._shared.check()
            with torch.inference_mode():
                network = self._shared.network
                return {mode: fault_on_sample(network, mode) for mode in modes}

        return self._shared.turns.run(compare)

    def __repr__(self) -> str:
        model = (
            type(self._shared.network.model).__name__ if not self.closed else "closed"
        )
        return f"TransformersEngine({model}, read_mode={self.read_mode!r})"

    def open_line(self) -> Line:
        """Return a line of one's own; see `classify.engines.sharing`."""
        return Desk(self._shared)

    def submit(self, request: Request) -> int:
        """Take a request and return its ticket."""
        return self._own.submit(request)

    def poll(self) -> list[Completed]:
        """Answer one batch: reads that follow up, then new reads, then generations."""
        return self._own.poll()

    def free_memory(self) -> None:
        """Drop the keys and values that are kept between reads; they cost time only."""
        self._shared.turns.run(self._shared.free_memory)

    def close(self) -> None:
        """Free the model, as soon as the batch that is computed now is done."""
        self.closed = True
        self._shared.close()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
