"""The engine over vLLM's offline ``LLM``."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self
from weakref import WeakKeyDictionary, finalize, proxy

import numpy as np

from classify.engines.forks import Home
from classify.engines.protocol import BaseEngine, Finding, Request, check_request
from classify.engines.sharing import CLOSED, Exchange, SharedLine
from classify.engines.speculation import SpeculationFigures
from classify.engines.vllm.facts import described, kv_tokens, stop_token_ids
from classify.engines.vllm.liveness import announce_death, dead_engine
from classify.engines.vllm.parameters import ids_only, sampling_params
from classify.engines.vllm.processes import leave_to_parent_in_forks
from classify.engines.vllm.reading import Chain, PackedTree, Waiting, chains_of
from classify.engines.vllm.selftest import check_tracking, self_test
from classify.engines.vllm.speculation import speculation_figures, speculative_config
from classify.engines.vllm.starting import lora_request_of, start
from classify.engines.vllm.wire import Wanted
from classify.errors import EngineError, InputError
from classify.tracking import (
    Completed,
    ReadRequest,
    TokenTree,
    TrackedRequest,
)

__all__ = ["VllmEngine"]

# Prompt lengths of the first texts, until real ones are seen.
_GUESSED_LENGTH = 512
_HIGHEST_TEMPERATURE = 2.0  # vLLM refuses any above
# vLLM's own 5 are too few for it to give back the memory that its processes share,
# hundreds of MB, which then stay taken after they are killed.
_SECONDS_TO_END = 15.0


class VllmEngine(BaseEngine):
    """Answer requests with vLLM, many at once, with tracking in its workers.

    Made with `VllmEngine.load`, or around a `classify.engines.vllm.LLM`.

    Parameters
    ----------
    llm : classify.engines.vllm.LLM
    lora_request : vllm.lora.request.LoRARequest, optional
        An adapter for every request.

    Attributes
    ----------
    n_requests : int
        vLLM requests sent so far.
    asynchronous : bool
        True: requests may be added while others run.
    """

    name = "vllm"
    asynchronous = True

    def __init__(self, llm: Any, *, lora_request: Any = None) -> None:
        self._llm = llm
        self._engine = llm.llm_engine
        core = self._engine.engine_core
        announce_death(core)
        leave_to_parent_in_forks(core)
        # At exit, too; not when this object is deleted, whose LLM may belong to someone
        # else.
        self._end = finalize(llm, core.shutdown, timeout=_SECONDS_TO_END)
        self._lora_request = lora_request
        config = self._engine.vllm_config
        self.vocab_size = int(config.model_config.get_vocab_size())
        # vLLM always generates a token more than a read needs.
        self.context_length = int(config.model_config.max_model_len) - 1
        self.closed = False
        self.n_requests = 0
        self._stop_token_ids = stop_token_ids(config.model_config)
        self._most_texts = int(config.scheduler_config.max_num_seqs)
        self._kv_tokens = kv_tokens(config)
        self._by_priority = config.scheduler_config.policy == "priority"
        self._mean_length = float(_GUESSED_LENGTH)
        self.window = self._texts_that_fit()
        self._tickets = itertools.count()
        self._names = itertools.count()
        self._waiting: dict[int, Waiting] = {}
        self._ticket_of: dict[str, int] = {}
        self._done: list[Completed] = []
        self._home = Home()
        self._exchange = Exchange()
        # No cycle of references: an engine that no one uses is to end at once.
        self._own = self._line_of(proxy(self))
        self._packed: WeakKeyDictionary[TokenTree, PackedTree] = WeakKeyDictionary()

    @classmethod
    def load(
        cls,
        model: str | Path,
        *,
        dtype: str = "auto",
        device: str = "auto",
        batch_size: int | str = "auto",
        trust_remote_code: bool = False,
        revision: str | None = None,
        speculation: str | Mapping[str, Any] | None = None,
        lora: str | Path | None = None,
        self_test: bool = True,
        **options: Any,
    ) -> Self:
        """Start vLLM on a model.

        Parameters
        ----------
        model : str or path
            A hub id or a folder.
        dtype : str, default="auto"
            "auto": float32 on a CPU, else the checkpoint's.
        device : str, default="auto"
            vLLM is built for one kind of device: "auto", or that kind.
        batch_size : int or "auto", default="auto"
            Most requests that run at once (vLLM's ``max_num_seqs``).
        trust_remote_code : bool, default=False
            Whether code that comes with the model may run.
        revision : str, default=None
            Revision of a hub model.
        speculation : str or mapping, default=None
            Speculative decoding; see `classify.engines.speculation`.
        lora : str or path, default=None
            A folder with a LoRA adapter.
        self_test : bool, default=True
            Compare tracked values with full log-probabilities before the first text,
            and refuse a vLLM that answers wrong.
        **options
            Any other argument of ``vllm.LLM``, by its name:
            ``tensor_parallel_size``, ``gpu_memory_utilization``, ``max_model_len``,
            ``quantization``, ``enforce_eager``, ``seed``, ….

        Returns
        -------
        VllmEngine

        Raises
        ------
        ConfigError
            An option is none of vLLM's, or contradicts another.
        ModelLoadError
            vLLM cannot load the model.
        EngineError
            The installed vLLM answers wrong.
        """
        llm = start(
            model=str(model),
            dtype=dtype,
            device=device,
            batch_size=batch_size,
            trust_remote_code=trust_remote_code,
            revision=revision,
            speculative_config=speculative_config(speculation),
            lora=lora,
            options=options,
        )
        engine = cls(llm, lora_request=lora_request_of(lora))
        if self_test:
            check_tracking(llm)
        return engine

    @property
    def llm(self) -> Any:
        """The ``vllm.LLM`` that answers."""
        return self._llm

    def __repr__(self) -> str:
        if self.closed:
            return "VllmEngine(closed)"
        return f"VllmEngine({self._engine.vllm_config.model_config.model!r})"

    def describe(self) -> dict[str, str]:
        """Return a description of what runs, by name."""
        self._check_open()
        in_flight = f"{self.window} texts, {self._most_texts} requests at once"
        return {**described(self._llm), "in flight": in_flight}

    def speculation_figures(self) -> SpeculationFigures | None:
        """Return how many drafted tokens were accepted; None without speculation."""
        if self.closed or self._engine.vllm_config.speculative_config is None:
            return None
        return speculation_figures(self._llm.get_metrics())

    def findings(self) -> list[Finding]:
        """Compare tracked values with full log-probabilities."""
        return [
            Finding(
                f"tracked values, {case.name}",
                case.problem or f"off by at most {case.difference:.1e} nats",
                bool(case.problem),
            )
            for case in self_test(self._llm)
        ]

    def open_line(self) -> SharedLine:
        """Return a line of one's own; see `classify.engines.sharing`."""
        self._check_open()
        return self._line_of(self)

    def submit(self, request: Request) -> int:
        """Take a request and return its ticket."""
        self._check_request(request)
        return self._own.submit(request)

    def poll(self) -> list[Completed]:
        """Run vLLM until at least one request is finished."""
        return self._own.poll()

    def close(self) -> None:
        """Stop vLLM and free its memory."""
        # What is under way ends first: its sockets are not for two threads.
        self._exchange.turns.run(self._stop)
        self._own.close()

    def _line_of(self, engine: Self) -> SharedLine:
        return SharedLine(
            self._exchange,
            # Methods would keep alive the engine that a proxy stands for.
            submit=lambda request: engine._submit(request),  # noqa: PLW0108
            poll=lambda: engine._advance(),  # noqa: PLW0108
            closed=lambda: engine.closed,
        )

    def _submit(self, request: Request) -> int:
        self._check_request(request)
        ticket = next(self._tickets)
        length = len(request.prompt_token_ids)
        self._mean_length += 0.01 * (length - self._mean_length)
        self.window = self._texts_that_fit()
        if isinstance(request, ReadRequest):
            self._submit_read(ticket, request)
        else:
            self._submit_generation(ticket, request)
        return ticket

    def _advance(self) -> list[Completed]:
        """Let vLLM make a step."""
        self._home.check()
        if self._waiting and not self._done:
            for output in self._step():
                self._take(output)
        done, self._done = self._done, []
        return done

    def _stop(self) -> None:
        if self.closed:
            return
        self.closed = True
        self._forget()
        self._llm = self._engine = None
        self._end()

    def _check_request(self, request: Request) -> None:
        self._check_open()
        check_request(
            request, vocab_size=self.vocab_size, context_length=self.context_length
        )
        if (
            isinstance(request, TrackedRequest)
            and not request.temperature <= _HIGHEST_TEMPERATURE
        ):
            raise InputError(
                f"temperature must be at most {_HIGHEST_TEMPERATURE:g} with the vllm "
                f"engine. Got {request.temperature!r} instead."
            )

    def _texts_that_fit(self) -> int:
        """Texts to keep in flight: all that run at once, while their prompts fit.

        A text's later reads find its prompt in the prefix cache only while the prompts
        of all texts in flight fit into the memory for keys and values.
        """
        fit = int(0.8 * self._kv_tokens / self._mean_length)
        return max(1, min(self._most_texts, fit))

    def _check_open(self) -> None:
        self._home.check()
        if self.closed:
            raise EngineError(CLOSED)

    def _submit_read(self, ticket: int, request: ReadRequest) -> None:
        tree = request.tree
        edges = np.full(tree.n_nodes, np.nan)
        if not request.nodes:
            self._done.append(Completed(ticket, edges))
            return
        packed = self._pack(tree)
        # What is likely needed next is read on the way, where that is one request.
        partly = len(set(request.nodes)) < len(tree.inner_nodes)
        chains: dict[str, Chain] = {}
        for chain in chains_of(tree, request.nodes):
            prompt = (*request.prompt_token_ids, *tree.path(chain.nodes[0]))
            parameters = packed.read_parameters(
                chain, follow=partly, room=self.context_length - len(prompt) + 1
            )
            # A text that has begun goes before one that has not: its prompt is still
            # in the prefix cache, and its place in the window is soon free.
            begun = chain.nodes[0] != 0
            name = self._add(ticket, prompt, parameters, priority=-1 if begun else 0)
            chains[name] = chain
        self._waiting[ticket] = Waiting(request, len(chains), chains, edges)

    def _submit_generation(self, ticket: int, request: TrackedRequest) -> None:
        # Allowed paths end at their leaves, whatever tokens they go over.
        ends = () if request.allowed is not None else self._stop_token_ids
        stops = set(ends if request.stop_token_ids is None else request.stop_token_ids)
        if request.allowed is not None:
            packed = self._pack(request.allowed)
            stops.update(packed.stop_token_ids)
            wanted = packed.allowed(_distinct(request), request.top_logprobs)
        else:
            wanted = Wanted(_distinct(request), top=request.top_logprobs)
        parameters = sampling_params(
            wanted,
            len(wanted.token_ids),
            max_tokens=request.max_tokens,
            n=request.n,
            seed=_spread(request.seed),
            stop_token_ids=sorted(stops),
            **{**ids_only(), "temperature": request.temperature},
        )
        self._waiting[ticket] = Waiting(request, 1)
        self._add(ticket, request.prompt_token_ids, parameters)

    def _pack(self, tree: TokenTree) -> PackedTree:
        packed = self._packed.get(tree)
        if packed is None:
            packed = self._packed[tree] = PackedTree(tree, self.vocab_size)
        return packed

    def _add(
        self,
        ticket: int,
        prompt: Sequence[int],
        parameters: Any,
        *,
        priority: int = 0,
    ) -> str:
        name = str(next(self._names))
        self._ticket_of[name] = ticket
        self.n_requests += 1
        try:
            self._engine.add_request(
                name,
                {"prompt_token_ids": list(prompt)},
                parameters,
                lora_request=self._lora_request,
                priority=priority if self._by_priority else 0,
            )
        except dead_engine() as error:
            raise self._died(error) from error
        return name

    def _step(self) -> list[Any]:
        try:
            outputs: list[Any] = self._engine.step()
        except dead_engine() as error:
            raise self._died(error) from error
        return [output for output in outputs if output.finished]

    def _died(self, error: Exception) -> EngineError:
        n_lost = len(self._waiting)
        # What is left of its processes would stay for ever.
        self._stop()
        return EngineError(
            f"vLLM died with {n_lost} requests in flight ({type(error).__name__}): see "
            "its own message above, and load the engine again."
        )

    def _forget(self) -> None:
        self._waiting.clear()
        self._ticket_of.clear()
        self._done.clear()

    def _take(self, output: Any) -> None:
        ticket = self._ticket_of.pop(output.request_id)
        waiting = self._waiting[ticket]
        if waiting.take(output):
            del self._waiting[ticket]
            self._done.append(Completed(ticket, waiting.answer))


def _distinct(request: TrackedRequest) -> tuple[int, ...]:
    tracked = () if request.track_token_ids is None else request.track_token_ids
    return tuple(dict.fromkeys(int(token) for token in tracked))


def _spread(seed: int | None) -> int | None:
    """Return a seed of vLLM's, far from those of other seeds.

    vLLM gives the generations of a request consecutive ones, so that those of seeds
    side by side would be the same but for the first and the last.
    """
    if seed is None:
        return None
    [drawn] = np.random.SeedSequence(seed).generate_state(1, np.uint64)
    return int(drawn >> np.uint64(2))  # so that no sum leaves 63 bits
