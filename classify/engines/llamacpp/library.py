"""llama.cpp's C functions, from the library in the package xllamacpp.

xllamacpp's own classes end at a server that answers in JSON. Its library exports
llama.cpp's C functions as well: tokens of many sequences in, the logits of the whole
vocabulary out.

C structures come without a description of themselves, and llama.cpp inserts fields from
release to release. So the defaults that the library fills in are compared with those
known, and a library with another layout is refused before anything is passed to it.
"""

import ctypes
import functools
import threading
from ctypes import (
    POINTER,
    c_bool,
    c_char_p,
    c_float,
    c_int,
    c_int8,
    c_int32,
    c_size_t,
    c_uint32,
    c_void_p,
)
from typing import Any

from classify.engines.llamacpp.kind import XLLAMACPP
from classify.errors import MissingDependencyError

__all__ = ["Batch", "last_error", "library"]

# enum ggml_log_level; a message may come in pieces.
_ERROR, _CONTINUED = 4, 5


class ModelParams(ctypes.Structure):
    """struct llama_model_params."""

    n_gpu_layers: int
    vocab_only: bool

    _fields_ = (
        ("devices", c_void_p),
        ("tensor_buft_overrides", c_void_p),
        ("n_gpu_layers", c_int32),
        ("split_mode", c_int),
        ("load_mode", c_int),
        ("lazy_mode", c_int),
        ("main_gpu", c_int32),
        ("tensor_split", c_void_p),
        ("progress_callback", c_void_p),
        ("progress_callback_user_data", c_void_p),
        ("kv_overrides", c_void_p),
        ("vocab_only", c_bool),
        ("check_tensors", c_bool),
        ("use_extra_bufts", c_bool),
        ("no_host", c_bool),
        ("no_alloc", c_bool),
        ("load_mtp", c_bool),
        # What later releases append is passed on unchanged.
        ("rest", c_void_p * 8),
    )


class ContextParams(ctypes.Structure):
    """struct llama_context_params."""

    n_ctx: int
    n_batch: int
    n_ubatch: int
    n_seq_max: int
    n_outputs_max: int
    n_outputs_max_per_seq: int
    n_threads: int
    n_threads_batch: int
    flash_attn_type: int
    type_k: int
    type_v: int
    offload_kqv: bool
    op_offload: bool
    kv_unified: bool

    _fields_ = (
        ("n_ctx", c_uint32),
        ("n_batch", c_uint32),
        ("n_ubatch", c_uint32),
        ("n_seq_max", c_uint32),
        ("n_rs_seq", c_uint32),
        ("n_outputs_max", c_uint32),
        ("n_outputs_max_per_seq", c_uint32),
        ("n_threads", c_int32),
        ("n_threads_batch", c_int32),
        ("ctx_type", c_int),
        ("rope_scaling_type", c_int),
        ("pooling_type", c_int),
        ("attention_type", c_int),
        ("flash_attn_type", c_int),
        ("rope_freq_base", c_float),
        ("rope_freq_scale", c_float),
        ("yarn_ext_factor", c_float),
        ("yarn_attn_factor", c_float),
        ("yarn_beta_fast", c_float),
        ("yarn_beta_slow", c_float),
        ("yarn_orig_ctx", c_uint32),
        ("defrag_thold", c_float),
        ("cb_eval", c_void_p),
        ("cb_eval_user_data", c_void_p),
        ("type_k", c_int),
        ("type_v", c_int),
        ("callbacks", c_void_p * 3),
        ("embeddings", c_bool),
        ("offload_kqv", c_bool),
        ("no_perf", c_bool),
        ("op_offload", c_bool),
        ("swa_full", c_bool),
        ("kv_unified", c_bool),
        ("rest", c_void_p * 8),
    )


class Batch(ctypes.Structure):
    """struct llama_batch."""

    _fields_ = (
        ("n_tokens", c_int32),
        ("token", POINTER(c_int32)),
        ("embd", c_void_p),
        ("pos", POINTER(c_int32)),
        ("n_seq_id", POINTER(c_int32)),
        ("seq_id", POINTER(POINTER(c_int32))),
        ("logits", POINTER(c_int8)),
    )


# What llama.cpp fills in. These pin the place of every field that is set here.
_MODEL_DEFAULTS = {
    "n_gpu_layers": -1,
    "split_mode": 1,
    "load_mode": -1,
    "lazy_mode": 1,
    "main_gpu": 0,
    "vocab_only": False,
    "use_extra_bufts": True,
}
_CONTEXT_DEFAULTS = {
    "n_ctx": 512,
    "n_batch": 2048,
    "n_ubatch": 512,
    "n_seq_max": 1,
    "n_outputs_max": 0,
    "n_outputs_max_per_seq": 1,
    "n_threads": 4,
    "n_threads_batch": 4,
    "rope_scaling_type": -1,
    "pooling_type": -1,
    "attention_type": -1,
    "flash_attn_type": -1,
    "yarn_ext_factor": -1.0,
    "defrag_thold": -1.0,
    "type_k": 1,
    "type_v": 1,
    "embeddings": False,
    "offload_kqv": True,
    "no_perf": True,
    "op_offload": True,
    "swa_full": True,
    "kv_unified": False,
}

_FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    # name: (what it returns, what it takes)
    "llama_backend_init": (None, ()),
    "llama_log_set": (None, (c_void_p, c_void_p)),
    "llama_model_default_params": (ModelParams, ()),
    "llama_context_default_params": (ContextParams, ()),
    "llama_model_load_from_file": (c_void_p, (c_char_p, ModelParams)),
    "llama_model_free": (None, (c_void_p,)),
    "llama_model_desc": (c_int32, (c_void_p, c_char_p, c_size_t)),
    "llama_model_meta_val_str": (c_int32, (c_void_p, c_char_p, c_char_p, c_size_t)),
    "llama_model_n_params": (ctypes.c_uint64, (c_void_p,)),
    "llama_model_n_ctx_train": (c_int32, (c_void_p,)),
    "llama_model_has_encoder": (c_bool, (c_void_p,)),
    "llama_model_has_decoder": (c_bool, (c_void_p,)),
    "llama_model_is_recurrent": (c_bool, (c_void_p,)),
    "llama_model_is_hybrid": (c_bool, (c_void_p,)),
    "llama_model_is_diffusion": (c_bool, (c_void_p,)),
    "llama_model_get_vocab": (c_void_p, (c_void_p,)),
    "llama_vocab_n_tokens": (c_int32, (c_void_p,)),
    "llama_vocab_get_text": (c_char_p, (c_void_p, c_int32)),
    "llama_vocab_get_attr": (c_int, (c_void_p, c_int32)),
    "llama_vocab_is_eog": (c_bool, (c_void_p, c_int32)),
    "llama_vocab_bos": (c_int32, (c_void_p,)),
    "llama_vocab_eos": (c_int32, (c_void_p,)),
    "llama_tokenize": (
        c_int32,
        (c_void_p, c_char_p, c_int32, POINTER(c_int32), c_int32, c_bool, c_bool),
    ),
    "llama_detokenize": (
        c_int32,
        (c_void_p, POINTER(c_int32), c_int32, c_char_p, c_int32, c_bool, c_bool),
    ),
    "llama_init_from_model": (c_void_p, (c_void_p, ContextParams)),
    "llama_free": (None, (c_void_p,)),
    "llama_get_memory": (c_void_p, (c_void_p,)),
    "llama_memory_clear": (None, (c_void_p, c_bool)),
    "llama_memory_seq_rm": (c_bool, (c_void_p, c_int32, c_int32, c_int32)),
    "llama_memory_seq_cp": (None, (c_void_p, c_int32, c_int32, c_int32, c_int32)),
    "llama_decode": (c_int32, (c_void_p, Batch)),
    "llama_get_logits_ith": (POINTER(c_float), (c_void_p, c_int32)),
}


class _Complaints(threading.local):
    """llama.cpp's error messages in this thread; its other messages are dropped."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.level = 0


_complaints = _Complaints()


def _log(level: int, text: bytes, _: int) -> None:
    if level == _CONTINUED:
        level = _complaints.level
    _complaints.level = level
    if level == _ERROR and text.strip():
        _complaints.lines.append(text.decode(errors="replace").strip())


# Kept here: the library calls it for as long as the process lives.
_LOG = ctypes.CFUNCTYPE(None, c_int, c_char_p, c_void_p)(_log)


def last_error() -> str:
    """Return llama.cpp's first error message since the last call."""
    # "llama_model_load: error loading model: …" is said again by each caller.
    lines, _complaints.lines = _complaints.lines, []
    if not lines:
        return "it gives no reason"
    what = lines[0].rpartition("error loading model: ")[2]
    return what.removesuffix(".")


@functools.cache
def library() -> Any:
    """Return llama.cpp's library, with the functions that are used here.

    Raises
    ------
    MissingDependencyError
        xllamacpp is not installed, or its library is not one that is known.
    """
    try:
        import xllamacpp
        from xllamacpp import xllamacpp as extension
    except ImportError:
        raise XLLAMACPP.missing() from None
    loaded = ctypes.CDLL(extension.__file__)
    try:
        for name, (result, arguments) in _FUNCTIONS.items():
            function = getattr(loaded, name)
            function.restype, function.argtypes = result, arguments
    except AttributeError as error:
        raise _unknown(xllamacpp.__version__, str(error)) from None
    for made, defaults in (
        (loaded.llama_model_default_params(), _MODEL_DEFAULTS),
        (loaded.llama_context_default_params(), _CONTEXT_DEFAULTS),
    ):
        for field, expected in defaults.items():
            if getattr(made, field) != expected:
                fault = f"{type(made).__name__}.{field} has moved"
                raise _unknown(xllamacpp.__version__, fault)
    loaded.llama_log_set(_LOG, None)
    loaded.llama_backend_init()
    return loaded


def _unknown(version: str, fault: str) -> MissingDependencyError:
    return MissingDependencyError(
        f"The llamacpp engine cannot use xllamacpp {version}: the C interface of its "
        f"llama.cpp is not the one that this engine supports ({fault}). Install "
        "xllamacpp 2026.10.11549, which it supports."
    )
