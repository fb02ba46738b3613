"""Engines by name, loaded once in a process.

A model takes seconds to load and much memory, and scikit-learn clones estimators
freely (`cross_val_score`, `Pipeline`). So equal arguments give the same engine object,
in whatever thread, as long as the model's files are the same. A forked child loads its
own.
"""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from classify.engines import forks  # noqa: F401 notes what a fork leaves behind
from classify.engines.choice import choose_engine
from classify.engines.files import files_of
from classify.engines.kinds import SETTINGS, EngineKind
from classify.engines.protocol import BaseEngine
from classify.engines.registry import (
    fallback,
    kind_of,
    kind_of_file,
    kinds_with_option,
    takers,
)
from classify.engines.turns import LOADING, Shelf
from classify.errors import ConfigError, MissingDependencyError, ModelLoadError
from classify.wording import parameter

__all__ = ["clear_engines", "load_engine"]

_logger = logging.getLogger(__name__)

# A second model in addition to the first is common (a comparison); more are a mistake
# in memory.
_MAX_KEPT = 2
_loaded: Shelf[tuple[object, ...], BaseEngine] = Shelf(_MAX_KEPT, making=LOADING)
_told: set[tuple[str, str]] = set()


def load_engine(
    name: str,
    model: Any,
    *,
    dtype: str = "auto",
    device: str = "auto",
    batch_size: int | str = "auto",
    trust_remote_code: bool = False,
    revision: str | None = None,
    speculation: str | Mapping[str, Any] | None = None,
    **options: Any,
) -> BaseEngine:
    """Load an engine by name; equal arguments give the engine loaded before.

    It is loaded again if it was closed, if files of the model, of an adapter or of a
    draft model were saved since, and in a forked child.

    Parameters
    ----------
    name : {"auto", "transformers", "vllm", "server", "llamacpp"}
        Which engine. "auto" chooses one for this machine; see `choose_engine`.
    model : str, path or model object
        A folder, a hub id, or a model that the engine's constructor takes.
    dtype : str, default="auto"
        Number format of the weights: "auto" is float32 on a CPU and the checkpoint's
        own on an accelerator.
    device : str, default="auto"
        Where to compute, such as "cpu" or "cuda:1".
    batch_size : int or "auto", default="auto"
        Texts per batch.
    trust_remote_code : bool, default=False
        Whether code that comes with the model may run.
    revision : str, default=None
        Revision of a hub model.
    speculation : str or mapping, default=None
        Speculative decoding, for vLLM; see `classify.engines.speculation`.
    **options
        Further options of the engine: those of `TransformersEngine.load`, of
        `VllmEngine.load`, of `ServerEngine.load`, or of `LlamaCppEngine.load`.

    Returns
    -------
    Engine
        Shared with every caller that asked for the same; `clear_engines` forgets it.

    Raises
    ------
    ConfigError
        No engine has this name, or the engine has no such option, or not this value
        of it.
    MissingDependencyError
        The engine needs a package that is not installed.
    ModelLoadError
        The model cannot be loaded, or does not predict the next token.
    """
    name, reason = choose_engine(name, model, device=device, options=options)
    settings = {
        "dtype": dtype,
        "device": device,
        "batch_size": batch_size,
        "trust_remote_code": trust_remote_code,
        "revision": revision,
        "speculation": speculation,
    }
    given = {**settings, **options}
    # A model object is known by its identity: the engine keeps it alive.
    what = str(model) if isinstance(model, str | Path) else id(model)
    files = files_of(model, given)
    key = (os.getpid(), name, what, _frozen(given), files)

    def load() -> BaseEngine:
        # Engines of the same model as it was before take up memory only.
        _loaded.drop(lambda other: other[:-1] == key[:-1])
        engine = _load(name, model, given, reason)
        if files_of(model, given) != files:
            engine.close()
            raise ModelLoadError(
                f"The files of the model {str(model)!r} changed while it was being "
                "loaded: load it again when all of them are saved."
            )
        return engine

    return _loaded.get(key, load, good=lambda engine: not engine.closed)


def clear_engines() -> None:
    """Forget the engines loaded so far; those still in use elsewhere stay alive."""
    _loaded.drop()


def _load(name: str, model: Any, given: Mapping[str, Any], reason: str) -> BaseEngine:
    """Load an engine; `reason` is why "auto" chose it, empty where it was named."""
    kind, last = kind_of(name), fallback()
    try:
        engine = kind.load(model, **_options(kind, model, given, reason))
    except MissingDependencyError as error:
        if kind is last or not reason:
            raise
        _logger.warning(
            "The %s engine is used instead of %s. %s", last.name, name, error
        )
        why = f"{kind.title} cannot be used"
        return _load(last.name, model, given, why)
    except ModelLoadError as error:
        if kind is not last and reason:
            error.add_note(
                f"{parameter('engine', 'auto')} took {kind.title} here: try "
                f"{last.named()}."
            )
        raise
    if reason and (name, reason) not in _told:
        _told.add((name, reason))
        _logger.info("Engine %s: %s.", name, reason)
    return engine


def _options(
    kind: EngineKind, model: Any, given: Mapping[str, Any], reason: str
) -> dict[str, Any]:
    """Return the arguments of an engine's `load`, or raise ConfigError."""
    which = f"The {kind.name} engine" + (f" (auto: {reason})" if reason else "")
    options = dict(given)
    for setting, sentence in kind.refused.items():
        value = options.pop(setting, SETTINGS[setting])
        if value != SETTINGS[setting]:
            others = " or ".join(each.named() for each in takers(setting))
            named = {"setting": parameter(setting), "value": value, "others": others}
            raise ConfigError(sentence.format(which=which, **named))
    unknown = sorted(
        name for name in options if name not in SETTINGS and not kind.takes_option(name)
    )
    if unknown:
        own = ", ".join(sorted(each.name for each in kind.options))
        raise ConfigError(
            f"{which} has no option {', '.join(map(repr, unknown))}. Its options are "
            f"{own}{_elsewhere(unknown)}."
        )
    kind.check_model(model)
    only = kind_of_file(model)
    # A server has its own model: the file is that of its tokenizer.
    if kind.runs_here and only is not None and only is not kind:
        raise ConfigError(
            f"{which} cannot load {str(model)!r}: {only.models} needs {only.named()}."
        )
    kind.check_values(options)
    return options


def _elsewhere(unknown: list[str]) -> str:
    """Return which engine has options that another does not know."""
    for kind in kinds_with_option(unknown[0]):
        if all(kind.takes_option(name) for name in unknown):
            return f"; those of {kind.title} need {kind.named()}"
    return ""


def _frozen(value: Any) -> Any:
    """Return a hashable stand-in, equal for equal options in whatever order."""
    if isinstance(value, Mapping):
        return frozenset((str(key), _frozen(each)) for key, each in value.items())
    if isinstance(value, list | tuple):
        return tuple(_frozen(each) for each in value)
    return repr(value)
