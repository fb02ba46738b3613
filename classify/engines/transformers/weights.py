"""Loads a causal language model from a folder or hub id, or says why it cannot."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils.logging import (
    disable_progress_bar,
    enable_progress_bar,
    get_verbosity,
    is_progress_bar_enabled,
    set_verbosity,
)

from classify.engines.sources import (
    check_config,
    check_source,
    check_weights,
    damaged,
)
from classify.errors import ConfigError, ModelLoadError
from classify.wording import parameter

__all__ = ["choose_device", "load_weights", "quietly"]

_DTYPES = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float64": torch.float64,
}


def choose_device(device: str) -> torch.device:
    """Resolve "auto" to the accelerator, if there is one, and the CPU otherwise."""
    if device == "auto":
        if torch.cuda.is_available():
            return choose_device("cuda")
        if torch.backends.mps.is_available():
            return torch.device("mps")
        return torch.device("cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"The device {device!r} cannot be used here: "
            f"{_first_line(error).rstrip('.')}. "
            'Use "auto", "cpu", or an accelerator that this machine has.'
        ) from error
    return chosen


def _choose_dtype(dtype: str, device: torch.device) -> torch.dtype | str:
    if dtype == "auto":
        # CPUs are at home in float32, and it is the reference for all numbers.
        return torch.float32 if device.type == "cpu" else "auto"
    if dtype not in _DTYPES:
        raise ConfigError(
            f"{parameter('dtype')} must be one of auto, {', '.join(_DTYPES)}. Got "
            f"{dtype!r} instead."
        )
    return _DTYPES[dtype]


@contextmanager
def quietly() -> Iterator[None]:
    """Let transformers say nothing of its own, unless it has been asked to.

    What matters, such as missing weights, is looked for and said by us.
    """
    shown, verbosity = is_progress_bar_enabled(), get_verbosity()
    disable_progress_bar()  # type: ignore[no-untyped-call]
    if "TRANSFORMERS_VERBOSITY" not in os.environ:
        set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        set_verbosity(verbosity)
        if shown:
            enable_progress_bar()  # type: ignore[no-untyped-call]


def load_weights(
    name: str,
    *,
    dtype: str,
    device: torch.device,
    trust_remote_code: bool,
    revision: str | None,
    attn_implementation: str | None,
) -> Any:
    """Load a causal language model onto a device.

    Raises
    ------
    ModelLoadError
        Nothing is there, it is not a causal language model, or weights are missing.
    """
    where: dict[str, Any] = {
        "revision": revision,
        "trust_remote_code": trust_remote_code,
        "local_files_only": check_source(name, revision=revision),
    }
    check_config(name)
    chosen_dtype = _choose_dtype(dtype, device)
    try:
        config = AutoConfig.from_pretrained(name, **where)
    except (OSError, ValueError, KeyError) as error:
        raise _not_loaded(name, error) from error
    if getattr(config, "is_encoder_decoder", False):
        raise _wrong_kind(name, config, "an encoder-decoder model")
    check_weights(name)
    if attn_implementation is not None:
        where["attn_implementation"] = attn_implementation
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            name, config=config, dtype=chosen_dtype, output_loading_info=True, **where
        )
    except SafetensorError as error:
        raise damaged(name, f"They cannot be read: {_first_line(error)}") from error
    except ValueError as error:
        if "Unrecognized configuration class" in str(error):
            raise _wrong_kind(name, config, "not a causal language model") from error
        raise _not_loaded(name, error) from error
    except (OSError, RuntimeError, ImportError, KeyError) as error:
        raise _not_loaded(name, error) from error
    model, report = loaded
    missing = sorted(report["missing_keys"])
    if missing:
        raise ModelLoadError(
            f"The model {name!r} lacks weights of a causal language model "
            f"({', '.join(missing[:3])}{', …' if len(missing) > 3 else ''}): they "
            "would be random. Use a checkpoint trained to predict the next token."
        )
    try:
        return model.to(device)
    except RuntimeError as error:
        raise ModelLoadError(
            f"The model {name!r} does not fit on {device}: {_first_line(error)}"
        ) from error


def _wrong_kind(name: str, config: Any, kind: str) -> ModelLoadError:
    return ModelLoadError(
        f"The model {name!r} is {kind} (model type {config.model_type!r}). This engine "
        "needs one that predicts the next token, such as Llama, Qwen or GPT-2."
    )


def _not_loaded(name: str, error: Exception) -> ModelLoadError:
    return ModelLoadError(f"The model {name!r} cannot be loaded: {_first_line(error)}")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
