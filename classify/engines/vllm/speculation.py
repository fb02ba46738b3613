"""Speculative decoding: what can be asked for, checked before vLLM starts.

A drafter proposes tokens, the model verifies them all in one pass. Tokens and tracked
values are those without speculation; only the number of passes changes.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from classify.errors import ConfigError

__all__ = ["SpeculationFigures", "speculation_figures", "speculative_config"]

_LABEL_DRAFTER = "classify.engines.vllm.drafting.LabelDrafter"
# Prompt lookup: the shortest and longest run of tokens to look up.
_LOOKUP = {"prompt_lookup_min": 2, "prompt_lookup_max": 4}

# Method: what it needs beside its name, and what we set where nothing is said.
_METHODS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "labels": ((), {"num_speculative_tokens": 5}),
    "ngram": ((), {"num_speculative_tokens": 5, **_LOOKUP}),
    "suffix": ((), {}),
    "draft_model": (("model",), {"num_speculative_tokens": 3}),
    "eagle": (("model",), {"num_speculative_tokens": 3}),
    "eagle3": (("model",), {"num_speculative_tokens": 3}),
    "medusa": (("model",), {}),
    "mlp_speculator": (("model",), {}),
    "mtp": ((), {"num_speculative_tokens": 1}),
}


@dataclass(frozen=True, slots=True)
class SpeculationFigures:
    """How well the drafts were, since the engine started.

    Attributes
    ----------
    n_drafts : int
        Times that tokens were drafted.
    n_draft_tokens : int
        Tokens drafted.
    n_accepted_tokens : int
        Tokens of these that the model would have generated too.
    """

    n_drafts: int
    n_draft_tokens: int
    n_accepted_tokens: int

    @property
    def acceptance_rate(self) -> float:
        """Share of drafted tokens that were accepted; NaN before the first draft."""
        if not self.n_draft_tokens:
            return float("nan")
        return self.n_accepted_tokens / self.n_draft_tokens

    @property
    def mean_accepted_length(self) -> float:
        """Tokens generated per verification: 1 + accepted / drafts; 1 without drafts."""
        if not self.n_drafts:
            return 1.0
        return 1.0 + self.n_accepted_tokens / self.n_drafts


def speculative_config(
    speculation: str | Mapping[str, Any] | None,
) -> dict[str, Any] | None:
    """Return vLLM's ``speculative_config`` for what a user asks.

    Parameters
    ----------
    speculation : str, mapping or None
        The name of a method that needs nothing else ("labels", "ngram", "suffix",
        "mtp"); or a mapping with ``method``, ``model`` for methods that draft with one
        (draft_model, eagle, eagle3, medusa, mlp_speculator),
        ``num_speculative_tokens`` and any other key of vLLM's; or a mapping with the
        one key ``speculative_config``, handed to vLLM unchecked. None: none.

        "labels" is this package's own: it drafts the rest of a label as soon as its
        token paths leave one choice, the label seen most before that, and repeats of
        the text elsewhere.

    Raises
    ------
    ConfigError
        A method is unknown, or lacks something.

    Examples
    --------
    >>> speculative_config("ngram")["num_speculative_tokens"]
    5
    >>> speculative_config({"method": "eagle", "model": "head"})["model"]
    'head'
    """
    if speculation is None:
        return None
    given = {"method": speculation} if isinstance(speculation, str) else {**speculation}
    if "speculative_config" in given:
        if len(given) > 1:
            others = ", ".join(sorted(set(given) - {"speculative_config"}))
            raise ConfigError(
                "speculation has speculative_config and beside it "
                f"{others}: put everything into speculative_config, or nothing."
            )
        return dict(given["speculative_config"])
    method = given.get("method")
    if method not in _METHODS:
        raise ConfigError(
            f"The speculation method must be one of {', '.join(_METHODS)}. Got "
            f"{method!r}. For any other of vLLM's, give {{speculative_config: {{…}}}}."
        )
    needs, defaults = _METHODS[method]
    for key in needs:
        if not given.get(key):
            raise ConfigError(
                f"Speculation by {method!r} needs {key!r}: a folder or hub id, as in "
                f"{{method: {method}, {key}: …}}."
            )
    tokens = given.get("num_speculative_tokens", 1)
    if isinstance(tokens, bool) or not isinstance(tokens, int) or tokens < 1:
        raise ConfigError(
            f"num_speculative_tokens must be an integer from 1. Got {tokens!r}."
        )
    config = {**defaults, **given}
    if method == "labels":
        if "model" in given:
            raise ConfigError(
                "Speculation by 'labels' drafts without a model: leave 'model' out."
            )
        return {**config, "method": "custom_class", "model": _LABEL_DRAFTER}
    _check_known(method)
    return config


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


def _check_known(method: str) -> None:
    try:
        from vllm.config.speculative import SpeculativeMethod
    except ImportError:
        return  # without vLLM, `load` says what to install
    known = _names(SpeculativeMethod)
    if method not in known:
        raise ConfigError(
            f"The installed vLLM has no speculation method {method!r}; it has "
            f"{', '.join(sorted(known))}. Upgrade vLLM, or use another."
        )


def _names(literal: Any) -> set[str]:
    names = set()
    for one in get_args(literal):
        names.update({one} if isinstance(one, str) else _names(one))
    return names
