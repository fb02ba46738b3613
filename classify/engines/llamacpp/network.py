"""A GGUF model that is loaded: tokens of many sequences in, logits out."""

import ctypes
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from weakref import finalize

import numpy as np
import numpy.typing as npt

from classify.engines.forks import was_forked_with
from classify.engines.llamacpp.library import Batch, last_error, library
from classify.engines.sources import other_kind
from classify.errors import EngineError, ModelLoadError

__all__ = [
    "N_SEQUENCES",
    "Logits",
    "Model",
    "Network",
    "NoRoomError",
    "Token",
    "Use",
    "log_softmax",
]

Logits = npt.NDArray[np.float32]
"""Shape (vocab_size,)."""
Use = Callable[[Logits], object]

# Sequences are numbered from 0 to below this.
N_SEQUENCES = 128
# Tokens in a pass, and how many of them may have logits: those of 128 tokens of a
# vocabulary of 150,000 take 77 MB.
N_BATCH = 512
MAX_OUTPUTS = N_SEQUENCES
# The memory is taken at once, so a model made for a million tokens does not decide.
_MAX_CONTEXT = 8192
_FLOAT32 = 0  # enum ggml_type
_MAGIC = b"GGUF"


class NoRoomError(Exception):
    """There is no memory for the keys and values of these tokens."""


@dataclass(eq=False)
class Token:
    """A token to compute.

    Attributes
    ----------
    token_id, position : int
    sequences : list of int
        Those that it belongs to. It sees what comes before it in the first of them, so
        all must be the same up to here.
    uses : list of callable
        Each gets the logits of what comes next, which are valid during the call.
    """

    token_id: int
    position: int
    sequences: list[int]
    uses: list[Use] = field(default_factory=list)


class Model:
    """A GGUF file that is loaded, or only its vocabulary.

    Parameters
    ----------
    path : str or path
    vocab_only : bool, default=False
    on_gpus : bool, default=False
        Whether GPUs compute, where xllamacpp was built for them.

    Attributes
    ----------
    library : ctypes.CDLL
    handle, vocab : int
        What llama.cpp's functions take.
    vocab_size : int

    Raises
    ------
    ModelLoadError
        There is no such file, or no model in it.
    """

    def __init__(
        self, path: str | Path, *, vocab_only: bool = False, on_gpus: bool = False
    ) -> None:
        self.library = library()
        self.on_gpus = on_gpus
        _check_file(path)
        params = self.library.llama_model_default_params()
        params.vocab_only = vocab_only
        params.n_gpu_layers = -1 if on_gpus else 0
        last_error()
        where = os.fsencode(Path(path).expanduser())
        self.handle = self.library.llama_model_load_from_file(where, params)
        if not self.handle:
            raise ModelLoadError(
                f"llama.cpp cannot load {str(path)!r}: {last_error()}. If it is not "
                "fully downloaded, download it again; if its architecture is newer "
                "than xllamacpp, upgrade that."
            )
        self.handles = {"model": self.handle}
        self.free = finalize(self, _free, self.library, os.getpid(), self.handles)
        self.free.atexit = False  # the system takes all of it back
        self.vocab = self.library.llama_model_get_vocab(self.handle)
        self.vocab_size = int(self.library.llama_vocab_n_tokens(self.vocab))

    def metadata(self, key: str) -> str | None:
        """Return a value of the GGUF file as text; None if the file has none."""
        function, name = self.library.llama_model_meta_val_str, key.encode()
        length = function(self.handle, name, None, 0)
        if length < 0:
            return None
        buffer = ctypes.create_string_buffer(length + 1)
        function(self.handle, name, buffer, length + 1)
        return buffer.value.decode(errors="replace")

    def description(self) -> str:
        """Return a description of the model."""
        buffer = ctypes.create_string_buffer(256)
        self.library.llama_model_desc(self.handle, buffer, len(buffer))
        millions = self.library.llama_model_n_params(self.handle) / 1e6
        return f"{buffer.value.decode()}, {millions:,.1f} M parameters"

    def fault(self) -> str | None:
        """Return why the engine cannot use this model, if it cannot."""
        lib, model = self.library, self.handle
        if lib.llama_model_has_encoder(model) or not lib.llama_model_has_decoder(model):
            return "it has an encoder, so it is not a causal language model"
        if lib.llama_model_is_diffusion(model):
            return "it is a diffusion model, not a causal language model"
        architecture = self.metadata("general.architecture")
        if self.metadata(f"{architecture}.attention.causal") == "false":
            return "its attention is not causal"
        if self.vocab_size < 1:
            return "it has no vocabulary"
        if lib.llama_model_is_recurrent(model) or lib.llama_model_is_hybrid(model):
            return (
                f"its architecture, {architecture}, is recurrent, and the llamacpp "
                "engine forks only the KV cache of attention; use the model in its "
                "original format with another engine"
            )
        return None


class Network:
    """A model with memory for the keys and values of many sequences.

    Parameters
    ----------
    model : Model
    n_ctx : int, optional
        Bound of the context, and of the memory.
    n_threads : int, optional
    n_batch : int, default=N_BATCH
        Tokens in a pass.

    Attributes
    ----------
    description : str
    context_length : int
    n_cells : int
        How many tokens' keys and values there is memory for; sequences share them.
    n_threads : int
    stop_token_ids : frozenset of int
    """

    def __init__(
        self,
        model: Model,
        *,
        n_ctx: int | None = None,
        n_threads: int | None = None,
        n_batch: int = N_BATCH,
    ) -> None:
        self.model = model
        self._library = model.library
        self._n_batch = n_batch
        self.n_threads = n_threads or _default_threads()
        self.vocab_size = model.vocab_size
        self.stop_token_ids = frozenset(
            token
            for token in range(self.vocab_size)
            if self._library.llama_vocab_is_eog(model.vocab, token)
        )
        made_for = int(self._library.llama_model_n_ctx_train(model.handle))
        self.description = model.description()
        self.context_length = min(made_for, n_ctx or _MAX_CONTEXT)
        # Paths hang after the longest prompt.
        self.n_cells = max(self.context_length + n_batch, N_SEQUENCES)
        self._context = model.handles["context"] = self._open()
        self._memory = self._library.llama_get_memory(self._context)

    def _open(self) -> Any:
        params = self._library.llama_context_default_params()
        params.n_ctx = self.n_cells
        params.n_batch = params.n_ubatch = max(self._n_batch, N_SEQUENCES)
        params.n_seq_max = N_SEQUENCES
        params.n_outputs_max = params.n_outputs_max_per_seq = MAX_OUTPUTS
        params.n_threads = params.n_threads_batch = self.n_threads
        # Keys and values that are not rounded are those of a pass without a cache.
        params.type_k = params.type_v = _FLOAT32
        params.offload_kqv = params.op_offload = self.model.on_gpus
        # One pool of cells: what sequences have in common is there once.
        params.kv_unified = True
        # Its kernels round values, and how depends on the batch.
        params.flash_attn_type = 0
        last_error()
        context = self._library.llama_init_from_model(self.model.handle, params)
        if not context:
            raise ModelLoadError(
                f"llama.cpp cannot allocate a KV cache of {self.n_cells:,} "
                f"tokens: {last_error()}. Set a smaller n_ctx."
            )
        return context

    def compute(self, tokens: Sequence[Token]) -> None:
        """Compute tokens, in their order, and hand out the logits.

        Raises
        ------
        NoRoomError
            Tokens in front of those that found no room were computed.
        EngineError
            llama.cpp failed.
        """
        for part in _parts(tokens, self._n_batch):
            self._decode(part)
            for at, token in enumerate(part):
                if token.uses:
                    values = self._library.llama_get_logits_ith(self._context, at)
                    logits = np.ctypeslib.as_array(values, (self.vocab_size,))
                    for use in token.uses:
                        use(logits)

    def _decode(self, tokens: Sequence[Token]) -> None:
        n = len(tokens)
        int32, pointer = ctypes.c_int32, ctypes.POINTER(ctypes.c_int32)
        sequences = [(int32 * len(each.sequences))(*each.sequences) for each in tokens]
        batch = Batch(
            n,
            (int32 * n)(*[token.token_id for token in tokens]),
            None,
            (int32 * n)(*[token.position for token in tokens]),
            (int32 * n)(*map(len, sequences)),
            (pointer * n)(*[ctypes.cast(each, pointer) for each in sequences]),
            (ctypes.c_int8 * n)(*[bool(token.uses) for token in tokens]),
        )
        last_error()
        status = self._library.llama_decode(self._context, batch)
        if status == 1:
            raise NoRoomError
        if status:
            raise EngineError(
                f"llama.cpp could not compute a batch (status {status}): "
                f"{last_error()}."
            )

    def copy(self, source: int, target: int, length: int) -> None:
        """Let a free sequence begin with the first tokens of another."""
        self._library.llama_memory_seq_cp(self._memory, source, target, 0, length)

    def cut(self, sequence: int, length: int = 0) -> None:
        """Forget what a sequence holds after its first tokens."""
        self._library.llama_memory_seq_rm(self._memory, sequence, length, -1)

    def clear(self) -> None:
        """Forget all sequences."""
        self._library.llama_memory_clear(self._memory, False)  # noqa: FBT003


def log_softmax(
    logits: Logits, token_ids: npt.NDArray[np.int64] | slice = slice(None)
) -> npt.NDArray[np.float64]:
    """Return log p of tokens over the full vocabulary, as float64."""
    greatest = logits.max()
    total = np.exp(logits - greatest).sum(dtype=np.float64)
    values: npt.NDArray[np.float64] = logits[token_ids].astype(np.float64)
    return values - (float(greatest) + float(np.log(total)))


def _parts(tokens: Sequence[Token], n_batch: int) -> Iterator[Sequence[Token]]:
    """Divide tokens into passes."""
    start = n_outputs = 0
    for at, token in enumerate(tokens):
        if at - start == n_batch or (n_outputs == MAX_OUTPUTS and token.uses):
            yield tokens[start:at]
            start, n_outputs = at, 0
        n_outputs += bool(token.uses)
    yield tokens[start:]


def _default_threads() -> int:
    if was_forked_with("xllamacpp"):
        return 1  # OpenMP waits in a forked child for threads of its parent
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdecimal() and int(asked):
        return int(asked)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _check_file(path: str | Path) -> None:
    file = Path(path).expanduser()
    if not file.is_file():
        raise ModelLoadError(
            f"There is no GGUF file {str(path)!r} (looked in {Path.cwd()})."
        )
    fault = other_kind(file)
    if fault is None:
        with file.open("rb") as opened:
            if opened.read(len(_MAGIC)) == _MAGIC:
                return
        fault = "it does not begin with GGUF"
    raise ModelLoadError(
        f"{str(path)!r} is not a GGUF file: {fault}. Download it again, or give a GGUF "
        "file."
    )


def _free(lib: Any, pid: int, handles: dict[str, Any]) -> None:
    if os.getpid() != pid:
        return  # the threads that this would wait for are not in a forked child
    if "context" in handles:
        lib.llama_free(handles["context"])
    lib.llama_model_free(handles["model"])
