"""The engine: a GGUF model in this process, asked in batches."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Literal, Self

import numpy as np

from classify.engines.forks import Home
from classify.engines.llamacpp.generation import generate
from classify.engines.llamacpp.network import Model, Network
from classify.engines.llamacpp.reading import Reader
from classify.engines.llamacpp.sequences import Sequences
from classify.engines.protocol import BaseEngine, Finding, Request, check_request
from classify.engines.sharing import CLOSED, read
from classify.engines.turns import Turns
from classify.errors import ConfigError, EngineError, ModelLoadError
from classify.tracking import (
    Completed,
    EdgeLogprobs,
    ReadRequest,
    TokenTree,
    TrackedRequest,
)
from classify.wording import parameter

__all__ = ["LlamaCppEngine"]

_WINDOW = 8
# What rounding may change, as a share of what another prompt changes. llama.cpp rounds
# activations to 8 bits before quantized weights, and a last digit tips what is rounded.
_ROUNDING = 0.25


class LlamaCppEngine(BaseEngine):
    """Answer requests with a GGUF file, computed by llama.cpp in this process.

    Log-probabilities are those of the full vocabulary, from the logits that llama.cpp
    computes. All nodes of all texts of a batch are read in one pass, as sequences that
    share the keys and values of whatever they begin with; prompts are kept between
    reads.

    Keys and values are float32. Of weights in float32, values are those of a pass over
    each prompt and path. Before quantized weights llama.cpp rounds activations to 8
    bits, and a last digit, which depends on what is computed side by side, tips what is
    rounded: there, two ways to compute the same in llama.cpp differ, and so does this.

    Parameters
    ----------
    network : Network
        The model.
    batch_size : int or "auto", default="auto"
        Most texts in a batch.

    Attributes
    ----------
    vocab_size, context_length, window : int
        See `classify.engines.Engine`.

    Examples
    --------
    >>> from classify.engines import read
    >>> from classify.tracking import ReadRequest, TokenTree
    >>> engine = LlamaCppEngine.load("model.gguf")  # doctest: +SKIP
    >>> tree = TokenTree([(5, 7), (5, 8)])
    >>> read(engine, [ReadRequest((1, 2), tree, (0, 1))])  # doctest: +SKIP
    """

    name = "llamacpp"

    def __init__(
        self, network: Network, *, batch_size: int | Literal["auto"] = "auto"
    ) -> None:
        self.window = _WINDOW if batch_size == "auto" else batch_size
        self.vocab_size = network.vocab_size
        self.context_length = network.context_length
        self._network = network
        self._sequences = Sequences(network)
        self._reader = Reader(self._sequences, self.window)
        self._generations: dict[int, TrackedRequest] = {}
        self._tickets = itertools.count()
        self._turns = Turns()
        self._home = Home()
        # Whether the last batch came to its end.
        self._sound = True

    @classmethod
    def load(
        cls,
        model: str | Path,
        *,
        device: str = "auto",
        batch_size: int | Literal["auto"] = "auto",
        n_ctx: int | None = None,
        n_threads: int | None = None,
    ) -> Self:
        """Load a GGUF file.

        Parameters
        ----------
        model : str or path
            A GGUF file, or the first of those that a model was split into.
        device : {"auto", "cpu"}
            "auto": GPUs, if there are any and xllamacpp was built for them.
        batch_size : int or "auto", default="auto"
            Most texts in a batch.
        n_ctx : int, optional
            Tokens whose keys and values there is memory for, and the longest prompt
            with its answer. By default as many as the model was made for, up to 8,192.
        n_threads : int, optional
            CPU threads. By default OMP_NUM_THREADS, or a thread for each CPU that this
            process may use.

        Raises
        ------
        MissingDependencyError
            xllamacpp is not installed.
        ModelLoadError
            There is no such file, or it is not a causal language model.
        """
        if device not in ("auto", "cpu"):
            raise ConfigError(
                f"{parameter('device')} must be auto or cpu with "
                f"{parameter('engine', 'llamacpp')}. Got {device!r}."
            )
        loaded = Model(model, on_gpus=device == "auto")
        fault = loaded.fault()
        if fault is not None:
            loaded.free()
            raise ModelLoadError(
                f"The model {str(model)!r} cannot be used with "
                f"{parameter('engine', 'llamacpp')}: {fault}."
            )
        network = Network(loaded, n_ctx=n_ctx, n_threads=n_threads)
        return cls(network, batch_size=batch_size)

    def describe(self) -> dict[str, str]:
        """Return a description of what runs, by name."""
        self._check()
        network = self._network
        return {
            "model": network.description,
            "context": f"{self.context_length:,} tokens",
            "keys and values": f"{network.n_cells:,} tokens in float32",
            "in flight": f"{self.window} texts",
            "threads": f"{network.n_threads}",
        }

    def findings(self) -> list[Finding]:
        """Compare reads of a batch with a pass over each prompt and path alone."""
        draw = np.random.default_rng(0)
        prompts = [
            tuple(draw.integers(self.vocab_size, size=size).tolist())
            for size in (9, 12)
        ]
        ids = draw.permutation(self.vocab_size)[:5].tolist()
        tree = TokenTree([(*ids[:2], ids[2]), (*ids[:2], ids[3]), (ids[4],)])
        nodes = tuple(tree.inner_nodes.tolist())
        requests = [ReadRequest(prompt, tree, nodes) for prompt in prompts]
        together = np.array(read(self, requests))[:, 1:]
        alone = np.array([self._read_alone(each) for each in requests])[:, 1:]
        difference = np.abs(together - alone).mean()
        explained = _ROUNDING * np.abs(alone[0] - alone[1]).mean()
        return [
            Finding(
                "reads of a batch against a pass for each node",
                f"log-probabilities differ by {difference:.1g} on average",
                is_fault=not difference <= explained,
            )
        ]

    def _read_alone(self, request: ReadRequest) -> EdgeLogprobs:
        """Read each node in a pass of its own, without the KV cache."""
        edges = np.full(request.tree.n_nodes, np.nan)
        for node in request.nodes:
            self.free_memory()
            [read_now] = read(self, [replace(request, nodes=(node,))])
            edges = np.where(np.isnan(edges), read_now, edges)
        return edges

    def __repr__(self) -> str:
        what = "closed" if self.closed else self._network.description
        return f"LlamaCppEngine({what})"

    def submit(self, request: Request) -> int:
        """Take a request and return its ticket."""
        self._check()
        check_request(
            request, vocab_size=self.vocab_size, context_length=self.context_length
        )
        ticket = next(self._tickets)
        if isinstance(request, ReadRequest):
            self._reader.waiting[ticket] = request
        else:
            self._generations[ticket] = request
        return ticket

    def poll(self) -> list[Completed]:
        """Answer one batch: reads first, then generations."""
        return self._turns.run(self._answer_batch)

    def free_memory(self) -> None:
        """Drop the prompts that are kept between reads; they cost time only."""
        self._turns.run(self._forget)

    def close(self) -> None:
        """Free the model, as soon as the batch that is computed now is done."""
        self.closed = True
        if self._home.is_here:
            self._turns.run(self._network.model.free)

    def _check(self) -> None:
        self._home.check()
        if self.closed:
            raise EngineError(CLOSED)

    def _forget(self) -> None:
        if not self.closed:
            self._sequences.forget()

    def _answer_batch(self) -> list[Completed]:
        if not self._reader.waiting and not self._generations:
            return []
        self._check()
        if not self._sound:
            self._sequences.forget()
        self._sound = False
        try:
            done = self._answer_some()
        except EngineError:
            self._reader.waiting.clear()
            self._generations.clear()
            raise
        self._sound = True
        return done

    def _answer_some(self) -> list[Completed]:
        if self._reader.waiting:
            return self._reader.answer_batch()
        batch = dict(list(self._generations.items())[: self.window])
        done = generate(self._network, self._sequences, batch)
        for ticket in batch:
            del self._generations[ticket]
        return done
