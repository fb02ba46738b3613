"""Which engine runs a model: the one named, or the one that fits the machine."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from classify.engines.kinds import EngineKind
from classify.engines.registry import (
    AUTO,
    kind_of,
    kind_of_file,
    kinds,
    selected_by,
)
from classify.errors import ConfigError, MissingDependencyError

__all__ = ["EngineChoice", "choose_engine"]


class EngineChoice(NamedTuple):
    """An engine's name, and why it is this one; no reason where it was asked for."""

    name: str
    reason: str


def choose_engine(
    name: str,
    model: Any,
    *,
    device: str = "auto",
    options: Mapping[str, Any] | None = None,
) -> EngineChoice:
    """Return which engine a name stands for; "auto" looks at the machine.

    "auto" takes vLLM where it is installed and there is a GPU for it, and transformers
    otherwise: on a CPU, for another device than the first GPU, for a model object. It
    takes llama.cpp for a GGUF file, and a server where the options have its ``url``.

    Parameters
    ----------
    name : {"auto", "transformers", "vllm", "server", "llamacpp"}
    model : str, path or model object
    device : str, default="auto"
    options : mapping, default=None
        Options of the engine.

    Raises
    ------
    ConfigError
        No engine has this name.
    MissingDependencyError
        The engine needs a newer version of a package than is installed.

    Examples
    --------
    >>> choose_engine("auto", "org/name", device="cpu")
    EngineChoice(name='transformers', reason="for device 'cpu'")
    >>> choose_engine("auto", "model.gguf")
    EngineChoice(name='llamacpp', reason='')
    >>> choose_engine("transformers", "org/name")
    EngineChoice(name='transformers', reason='')
    """
    if name != AUTO:
        selected: EngineKind | None = kind_of(name)
    else:
        selected = selected_by(options or {}) or kind_of_file(model)
    if selected is None:
        return _fitting(model, device)
    fault = None if selected.fault is None else selected.fault()
    if fault is not None:
        raise MissingDependencyError(fault)
    return EngineChoice(selected.name, "")


def _fitting(model: Any, device: str) -> EngineChoice:
    """Return the engine that fits the machine; its reason may be why not another."""
    reason = ""
    for kind in reversed(kinds()):
        if kind.suits is not None:
            verdict = kind.suits(model, device)
            reason = verdict.reason or reason
            if verdict.is_taken:
                return EngineChoice(kind.name, reason)
    raise ConfigError(f"No engine fits this model and machine: {reason}.")
