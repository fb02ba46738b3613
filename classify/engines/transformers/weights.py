"""From a folder or a hub id to a causal language model, or a sentence why not."""

import os
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils.logging import (
    disable_progress_bar,
    enable_progress_bar,
    is_progress_bar_enabled,
)

from classify.errors import ConfigError, ModelLoadError

__all__ = ["choose_device", "load_weights"]

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
            return torch.device("cuda")
        if torch.backends.mps.is_available():
            return torch.device("mps")
        return torch.device("cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"The device {device!r} cannot be used here: {_first_line(error)} "
            'Use "auto", "cpu", or an accelerator that this machine has.'
        ) from error
    return chosen


def _choose_dtype(dtype: str, device: torch.device) -> torch.dtype | str:
    if dtype == "auto":
        # CPUs are at home in float32, and it is the reference for all numbers.
        return torch.float32 if device.type == "cpu" else "auto"
    if dtype not in _DTYPES:
        raise ConfigError(
            f"dtype must be one of auto, {', '.join(_DTYPES)}. Got {dtype!r} instead."
        )
    return _DTYPES[dtype]


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
        Nothing is there, it is no causal language model, or weights are missing.
    """
    where: dict[str, Any] = {
        "revision": revision,
        "trust_remote_code": trust_remote_code,
    }
    chosen_dtype = _choose_dtype(dtype, device)
    try:
        config = AutoConfig.from_pretrained(name, **where)
    except (OSError, ValueError, KeyError) as error:
        raise _not_found(name, error) from error
    if getattr(config, "is_encoder_decoder", False):
        raise _wrong_kind(name, config, "an encoder-decoder model")
    if attn_implementation is not None:
        where["attn_implementation"] = attn_implementation
    shown = is_progress_bar_enabled()
    disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            name, config=config, dtype=chosen_dtype, output_loading_info=True, **where
        )
    except ValueError as error:
        if "Unrecognized configuration class" in str(error):
            raise _wrong_kind(name, config, "no causal language model") from error
        raise ModelLoadError(f"The model {name!r} cannot be loaded: {error}") from error
    except (OSError, RuntimeError, ImportError) as error:
        raise ModelLoadError(f"The model {name!r} cannot be loaded: {error}") from error
    finally:
        if shown:
            enable_progress_bar()  # type: ignore[no-untyped-call]
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


def _not_found(name: str, error: Exception) -> ModelLoadError:
    path = Path(name).expanduser()
    if path.is_dir():
        return ModelLoadError(
            f"The folder {name!r} holds no model that transformers can load: "
            f"{_first_line(error)}"
        )
    looks_like_path = name.startswith((".", "/", "~")) or name.count("/") > 1
    if looks_like_path:
        return ModelLoadError(
            f"There is no folder {name!r} (looked in {Path.cwd()}). Give a folder with "
            "config.json and weights, or a hub id such as 'Qwen/Qwen2.5-0.5B'."
        )
    offline = any(
        os.environ.get(variable, "").upper() in {"1", "ON", "YES", "TRUE"}
        for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    )
    hub = (
        "the hub was not asked, because HF_HUB_OFFLINE is set"
        if offline
        else f"the hub answered: {_first_line(error)}"
    )
    return ModelLoadError(
        f"There is no model {name!r}: no such folder in {Path.cwd()}, not in the local "
        f"hub cache, and {hub}. Check the name, or give a folder."
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
