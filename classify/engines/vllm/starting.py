"""Starting vLLM on a model, and messages if it does not start."""

import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from classify.engines.sources import (
    check_config,
    check_source,
    check_weights,
    snapshot_of,
)
from classify.engines.vllm.parameters import require_vllm
from classify.engines.vllm.processes import check_may_start, children_without_interrupts
from classify.engines.vllm.speculation import check_installed
from classify.errors import ConfigError, EngineError, ModelLoadError
from classify.wording import parameter

__all__ = ["lora_request_of", "start", "with_float32_head"]

# vLLM looks at every attribute of some of torch's modules.
_DEPRECATED = "`torch.distributed.reduce_op` is deprecated"
_FLOAT32 = ("float32", "float")  # as vLLM spells it


def start(
    *,
    model: str,
    dtype: str,
    device: str,
    batch_size: int | str,
    trust_remote_code: bool,
    revision: str | None,
    speculative_config: Mapping[str, Any] | None,
    lora: str | Path | None,
    options: Mapping[str, Any],
) -> Any:
    """Return a ``vllm.LLM`` that tracks; the arguments are those of `VllmEngine.load`.

    `options` win over what we would choose.

    Raises
    ------
    ConfigError
        An option is none of vLLM's, or contradicts another.
    ModelLoadError
        vLLM cannot load the model.
    """
    check_may_start()
    # Its log would go to stdout, where results go, and its warnings are of no use to
    # who classifies: that there is no tokenizer, with a traceback, for one.
    os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    # vLLM reports how it is used to its makers, unless told not to.
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    if check_source(model, revision=revision):
        model = snapshot_of(model, revision)
    check_config(model)
    check_weights(model)
    platform = _platform()
    if device not in ("auto", platform, f"{platform}:0"):
        raise ConfigError(
            f"The installed vLLM computes on {platform!r}, not on {device!r}. Use "
            f"{parameter('device', 'auto')}, or {parameter('engine', 'transformers')}."
        )
    chosen: dict[str, Any] = {
        "trust_remote_code": trust_remote_code,
        "revision": revision,
        "speculative_config": speculative_config,
        "skip_tokenizer_init": True,
        "enable_prefix_caching": True,
        "scheduling_policy": "priority",
        "use_tqdm_on_load": False,
        "disable_log_stats": speculative_config is None,
        "dtype": "float32" if dtype == "auto" and platform == "cpu" else dtype,
    }
    if speculative_config is not None:
        check_installed(speculative_config)
    if platform == "cpu":
        # Compilation takes minutes there and gains little.
        chosen["enforce_eager"] = True
    if platform == "cpu" and "gpu_memory_utilization" not in options:
        # In GiB. vLLM would take nearly all memory, and fail where it is in use.
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "4")
    if batch_size != "auto":
        chosen["max_num_seqs"] = batch_size
    if lora is not None:
        chosen["enable_lora"] = True
    if options.get("quantization") is None:
        chosen["hf_overrides"] = with_float32_head
    asked = {**chosen, **options}
    variables = _environment(platform, asked)
    with _children_with(variables), warnings.catch_warnings():
        warnings.filterwarnings("ignore", re.escape(_DEPRECATED), FutureWarning)
        return _started(model, asked, sorted(options))


def _environment(platform: str, options: Mapping[str, Any]) -> dict[str, str]:
    """Return the environment variables of vLLM's processes."""
    variables = {"PYTHONWARNINGS": _warnings_of_children()}
    if str(options["dtype"]) in _FLOAT32:
        # vLLM's attention kernels for float32 multiply in TF32 otherwise, with 10 bits.
        variables["TRITON_F32_DEFAULT"] = os.environ.get("TRITON_F32_DEFAULT", "ieee")
    eager = options.get("enforce_eager", False)
    if platform == "cpu" and eager and "TORCH_COMPILE_DISABLE" not in os.environ:
        # vLLM compiles its sampler even so: on a CPU that is half a minute of C++ at
        # the first start, to count a few numbers.
        variables["TORCH_COMPILE_DISABLE"] = "1"
    return variables


def with_float32_head(config: Any) -> Any:
    """Return a model's configuration in which vLLM computes logits in float32.

    In bfloat16 they lie on a grid of an eighth of a nat. A quantized model's head may
    be quantized too, which vLLM cannot compute so.
    """
    if getattr(config, "quantization_config", None) is None:
        config.update({"head_dtype": "float32"})
    return config


def _warnings_of_children() -> str:
    """Return PYTHONWARNINGS without what vLLM makes torch say."""
    given = os.environ.get("PYTHONWARNINGS")
    ours = f"ignore:{_DEPRECATED}:FutureWarning"
    return f"{given},{ours}" if given else ours


@contextmanager
def _children_with(variables: Mapping[str, str]) -> Iterator[None]:
    """Start processes with these in their environment."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _started(model: str, options: Mapping[str, Any], given: list[str]) -> Any:
    """Return the ``LLM``; `given` are the options that a user named."""
    from classify.engines.vllm import LLM

    try:
        with children_without_interrupts():
            return LLM(model=model, **options)
    except TypeError as error:
        raise ConfigError(
            f"vLLM does not know one of the options {given}: {error}"
        ) from error
    except (ValueError, OSError) as error:
        raise ModelLoadError(
            f"vLLM cannot load the model {model!r}: {_first_line(error)}"
        ) from error
    except RuntimeError as error:
        if isinstance(error, EngineError):
            raise
        raise ModelLoadError(
            f"vLLM did not start with the model {model!r}: {_first_line(error)} See "
            "its own error message above."
        ) from error


def lora_request_of(lora: str | Path | None) -> Any:
    """Return vLLM's request for an adapter in a folder; None without one."""
    if lora is None:
        return None
    from vllm.lora.request import LoRARequest

    return LoRARequest("adapter", 1, str(lora))


def _platform() -> str:
    require_vllm()
    from vllm.platforms import current_platform

    return str(current_platform.device_type)


def _first_line(error: BaseException) -> str:
    said = str(error)
    if isinstance(error, ValidationError):
        # Its first line only counts the errors.
        said = error.errors()[0]["msg"].removeprefix("Value error, ")
    return (said.strip().splitlines() or [type(error).__name__])[0]
