"""Engines by name, loaded once in a process.

A model takes seconds to load and much memory, and scikit-learn clones estimators
freely (`cross_val_score`, `Pipeline`). So equal arguments give the same engine object,
in whatever thread, as long as the model's files are the same. A forked child loads its
own.
"""

import inspect
import logging
import os
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from classify.engines import forks  # noqa: F401 notes what a fork leaves behind
from classify.engines.choice import ENGINES, choose_engine
from classify.engines.files import files_of
from classify.engines.protocol import Engine
from classify.engines.turns import LOADING, Shelf
from classify.errors import ConfigError, MissingDependencyError, ModelLoadError
from classify.wording import parameter

__all__ = ["clear_engines", "load_engine"]

_logger = logging.getLogger(__name__)

# A second model beside the first is common (a comparison); more are a mistake in
# memory.
_MOST_KEPT = 2
_loaded: Shelf[tuple[object, ...], Engine] = Shelf(_MOST_KEPT, making=LOADING)
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
) -> Engine:
    """Load an engine by name; equal arguments give the engine loaded before.

    It is loaded again if it was closed, if files of the model, of an adapter or of a
    draft model were saved since, and in a forked child.

    Parameters
    ----------
    name : {"auto", "transformers", "vllm", "server"}
        Which engine. "auto" is the one that fits the machine, see `choose_engine`.
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
        Speculative decoding, for vLLM; see `classify.engines.vllm.speculation`.
    **options
        Further options of the engine: those of `TransformersEngine.load`, of
        `VllmEngine.load`, or of `ServerEngine.load`.

    Returns
    -------
    Engine
        Shared with every caller that asked for the same; `clear_engines` forgets it.

    Raises
    ------
    ConfigError
        No engine has this name, or the engine has no such option.
    MissingDependencyError
        The engine needs a package that is not installed.
    ModelLoadError
        The model cannot be loaded, or is none that predicts next tokens.
    """
    name, reason = choose_engine(name, model, device=device)
    options.update(
        dtype=dtype,
        device=device,
        batch_size=batch_size,
        trust_remote_code=trust_remote_code,
        revision=revision,
    )
    if speculation is not None:
        options["speculation"] = speculation
    # A model object is known by its identity: the engine keeps it alive.
    what = str(model) if isinstance(model, str | Path) else id(model)
    files = files_of(model, options)
    key = (os.getpid(), name, what, _frozen(options), files)

    def load() -> Engine:
        # Engines of the same model as it was before take up memory only.
        _loaded.drop(lambda other: other[:-1] == key[:-1])
        engine = _load(name, model, options, reason)
        if files_of(model, options) != files:
            engine.close()
            raise ModelLoadError(
                f"The files of the model {str(model)!r} changed while it was being "
                "loaded: load it again when all of them are saved."
            )
        return engine

    return _loaded.get(key, load, good=lambda engine: not _is_closed(engine))


def clear_engines() -> None:
    """Forget the engines loaded so far; those still in use elsewhere stay alive."""
    _loaded.drop()


def _is_closed(engine: Engine) -> bool:
    return bool(getattr(engine, "closed", False))


def _load(name: str, model: Any, options: dict[str, Any], reason: str) -> Engine:
    """Load an engine; `reason` is why "auto" chose it, empty where it was named."""
    module, attribute = ENGINES[name]
    try:
        load = getattr(import_module(module), attribute).load
        _check_options(name, load, options, reason)
        engine = cast(Engine, load(model, **options))
    except MissingDependencyError as error:
        if name == "transformers" or not reason:
            raise
        _logger.warning("The transformers engine is used instead of vllm. %s", error)
        return _load("transformers", model, options, "vLLM cannot be used")
    except ModelLoadError as error:
        if name == "vllm" and reason:
            error.add_note(
                f"{parameter('engine', 'auto')} took vLLM here: try "
                f"{parameter('engine', 'transformers')}."
            )
        raise
    if reason and (name, reason) not in _told:
        _told.add((name, reason))
        _logger.info("Engine %s: %s.", name, reason)
    return engine


def _check_options(
    name: str, load: Callable[..., Any], options: Mapping[str, Any], reason: str
) -> None:
    """Raise ConfigError where an engine's `load` does not know an option."""
    known = inspect.signature(load).parameters
    if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in known.values()):
        return  # it says itself what it does not know
    which = f"The {name} engine" + (f" (auto: {reason})" if reason else "")
    if "speculation" in options and "speculation" not in known:
        raise ConfigError(
            f"{which} has no speculative decoding: use {parameter('engine', 'vllm')}, "
            f"or leave {parameter('speculation')} out."
        )
    unknown = sorted(set(options) - set(known))
    if unknown:
        named = inspect.signature(load_engine).parameters
        own = ", ".join(sorted(set(known) - set(named)))
        raise ConfigError(
            f"{which} has no option {', '.join(map(repr, unknown))}. Its options are "
            f"{own}; those of vLLM need {parameter('engine', 'vllm')}."
        )


def _frozen(value: Any) -> Any:
    """Return a hashable stand-in, equal for equal options in whatever order."""
    if isinstance(value, Mapping):
        return frozenset((str(key), _frozen(each)) for key, each in value.items())
    if isinstance(value, list | tuple):
        return tuple(_frozen(each) for each in value)
    return repr(value)
