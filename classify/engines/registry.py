"""The engines that there are, by name."""

from collections.abc import Mapping
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from classify.engines.kinds import EngineKind, EngineOption
from classify.errors import ConfigError

__all__ = [
    "AUTO",
    "KINDS",
    "candidates",
    "changes_values",
    "command_line_options",
    "engine_names",
    "fallback",
    "is_engine_option",
    "kind_of",
    "kind_of_file",
    "kinds",
    "kinds_with_option",
    "selected_by",
    "takers",
]

AUTO = "auto"
# The module of each engine's `KIND`, imported when it is needed. "auto" asks them from
# the last to the first, which takes whatever no other does.
KINDS = {
    "transformers": "classify.engines.transformers.kind",
    "vllm": "classify.engines.vllm.kind",
    "server": "classify.engines.server.kind",
    "llamacpp": "classify.engines.llamacpp.kind",
}


def engine_names() -> tuple[str, ...]:
    """Return the values of the parameter `engine`, "auto" first.

    Examples
    --------
    >>> engine_names()
    ('auto', 'transformers', 'vllm', 'server', 'llamacpp')
    """
    return (AUTO, *KINDS)


def kind_of(name: str) -> EngineKind:
    """Return an engine's kind.

    Raises
    ------
    ConfigError
        No engine has this name.
    """
    if name not in KINDS:
        near = get_close_matches(name, engine_names(), n=1, cutoff=0.4)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ConfigError(
            f"There is no engine {name!r}: it must be one of "
            f"{', '.join(engine_names())}.{hint}"
        )
    return cast(EngineKind, import_module(KINDS[name]).KIND)


def kind_of_file(model: Any) -> EngineKind | None:
    """Return the only kind that loads a model, as the name of its file says.

    Examples
    --------
    >>> kind_of_file("model.gguf").name, kind_of_file("org/name")
    ('llamacpp', None)
    """
    if not isinstance(model, str | Path):
        return None
    name = str(model).lower()
    suffixed = (kind for kind in kinds() if kind.file_suffix)
    return next((each for each in suffixed if name.endswith(each.file_suffix)), None)


def kinds() -> list[EngineKind]:
    """Return all kinds, in the order in which they are listed."""
    return [kind_of(name) for name in KINDS]


def kinds_with_option(name: str) -> list[EngineKind]:
    """Return the kinds that list an option; failing that, those that may take it.

    Examples
    --------
    >>> [kind.name for kind in kinds_with_option("url")]
    ['server']
    >>> [kind.name for kind in kinds_with_option("max_num_partial_prefills")]
    ['vllm']
    """
    return takers(name) or [kind for kind in kinds() if kind.takes_option(name)]


def changes_values(engine: str, option: str) -> bool:
    """Whether what an engine answers depends on an option.

    Examples
    --------
    >>> changes_values("vllm", "quantization"), changes_values("vllm", "max_num_seqs")
    (True, False)
    """
    return engine not in KINDS or kind_of(engine).changes_values(option)


def fallback() -> EngineKind:
    """Return the kind that runs everywhere: the first that is listed."""
    return kinds()[0]


def takers(name: str) -> list[EngineKind]:
    """Return the kinds that take a setting, or list an option.

    Examples
    --------
    >>> [kind.name for kind in takers("speculation")]
    ['vllm']
    """
    return [kind for kind in kinds() if kind.takes(name)]


def is_engine_option(name: str) -> bool:
    """Whether some engine lists an option that the command line has no option for.

    Examples
    --------
    >>> is_engine_option("timeout"), is_engine_option("url"), is_engine_option("text")
    (True, False, False)
    """
    listed = any(kind.lists(name) for kind in kinds())
    return listed and name not in command_line_options()


def command_line_options() -> dict[str, EngineOption]:
    """Return the options of engines that the command line has options for.

    Examples
    --------
    >>> list(command_line_options())
    ['url', 'api_key_env', 'api']
    """
    listed = (each for kind in kinds() for each in kind.options)
    return {each.name: each for each in listed if each.on_command_line}


def selected_by(options: Mapping[str, Any]) -> EngineKind | None:
    """Return the kind that ``engine="auto"`` takes because of options.

    Examples
    --------
    >>> selected_by({"url": "http://localhost:8000"}).name
    'server'
    """
    chosen = (kind for kind in reversed(kinds()) if kind.is_selected_by(options))
    return next(chosen, None)


def candidates(name: str, model: Any, options: Mapping[str, Any]) -> list[EngineKind]:
    """Return the kinds that a name may mean for a model, on one machine or another.

    Examples
    --------
    >>> [kind.name for kind in candidates("auto", "org/name", {})]
    ['transformers', 'vllm']
    """
    if name != AUTO:
        return [kind_of(name)]
    selected = selected_by(options) or kind_of_file(model)
    if selected is not None:
        return [selected]
    return [kind for kind in kinds() if kind.suits is not None]
