"""How the command line spells the parameters that errors and warnings name."""

from collections.abc import Mapping

from classify.engines.registry import is_engine_option
from classify.wording import NO_VALUE

__all__ = ["as_option"]

# Parameters of Python whose option has another name.
_OTHER_NAMES = {
    "X_unlabeled": "--unlabeled",
    "address": "--ray",
    "n_workers": "--workers",
    "template_arguments": "--template-argument",
    "y": "--label-column",
}


def as_option(name: str, value: object) -> str:
    """Return an option, with a value as one types it.

    Examples
    --------
    >>> as_option("max_errors", NO_VALUE), as_option("engine", "vllm")
    ('--max-errors', '--engine vllm')
    >>> as_option("restart", True), as_option("chat", False)
    ('--restart', '--no-chat')
    >>> as_option("served_model_name", NO_VALUE), as_option("prior", {"a": 0.5})
    ('--engine-option served_model_name=…', '--prior a=0.5')
    """
    if is_engine_option(name):
        shown = "…" if value is NO_VALUE else _typed(value)
        return f"--engine-option {name}={shown}"
    option = _OTHER_NAMES.get(name, f"--{name.replace('_', '-')}")
    if value is NO_VALUE or value is True:
        return option
    if value is False:
        return f"--no-{option.removeprefix('--')}"
    return f"{option} {_typed(value)}"


def _typed(value: object) -> str:
    if isinstance(value, Mapping):
        return ",".join(f"{key}={each}" for key, each in value.items())
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) and (not value or set(value) & set(" \t;|&'\"\\$*?")):
        return repr(value)
    return str(value)
