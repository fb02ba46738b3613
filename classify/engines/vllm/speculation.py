"""Speculative decoding: vLLM's configuration, and its counts."""

from collections.abc import Iterable, Mapping
from typing import Any, get_args

from classify.engines.speculation import (
    OWN_KEY,
    SpeculationFigures,
    checked_speculation,
)
from classify.errors import ConfigError

__all__ = [
    "check_installed",
    "method_of",
    "speculation_figures",
    "speculative_config",
]

# What vLLM calls a drafter that is loaded by the name of its class, and ours.
_CUSTOM = "custom_class"
_LABEL_DRAFTER = "classify.engines.vllm.drafting.LabelDrafter"


def speculative_config(
    speculation: str | Mapping[str, Any] | None,
) -> dict[str, Any] | None:
    """Return vLLM's ``speculative_config`` for the parameter `speculation`.

    Examples
    --------
    >>> speculative_config("ngram")["num_speculative_tokens"]
    5
    """
    checked = checked_speculation(speculation)
    if checked is None:
        return None
    if OWN_KEY in checked:
        return dict(checked[OWN_KEY])
    if checked["method"] == "labels":
        return {**checked, "method": _CUSTOM, "model": _LABEL_DRAFTER}
    return checked


def speculation_figures(metrics: Iterable[Any]) -> SpeculationFigures:
    """Add up vLLM's counters of speculative decoding."""
    counted = {
        metric.name: int(metric.value)
        for metric in metrics
        if metric.name.startswith("vllm:spec_decode_num_") and hasattr(metric, "value")
    }
    return SpeculationFigures(
        n_drafts=counted.get("vllm:spec_decode_num_drafts", 0),
        n_draft_tokens=counted.get("vllm:spec_decode_num_draft_tokens", 0),
        n_accepted_tokens=counted.get("vllm:spec_decode_num_accepted_tokens", 0),
    )


def method_of(config: Any) -> str:
    """Return our name of the method in vLLM's ``SpeculativeConfig``."""
    ours = config.method == _CUSTOM and config.model == _LABEL_DRAFTER
    return "labels" if ours else str(config.method)


def check_installed(config: Mapping[str, Any]) -> None:
    """Raise ConfigError unless the installed vLLM has the method of a configuration.

    One that names no method, since vLLM can tell it from the model, passes.
    """
    from vllm.config.speculative import SpeculativeMethod

    method, known = config.get("method"), _names(SpeculativeMethod)
    if method is not None and method not in known:
        raise ConfigError(
            f"The installed vLLM has no speculation method {method!r}; it has "
            f"{', '.join(sorted(known))}. Upgrade vLLM, or use another."
        )


def _names(literal: Any) -> set[str]:
    names = set()
    for one in get_args(literal):
        names.update({one} if isinstance(one, str) else _names(one))
    return names
