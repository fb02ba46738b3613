"""Engines by name, loaded once in a process.

A model takes seconds to load and much memory, and scikit-learn clones estimators
freely (`cross_val_score`, `Pipeline`). So equal arguments give the same engine object.
"""

from collections import OrderedDict
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from classify.engines.protocol import Engine
from classify.errors import ConfigError

__all__ = ["clear_engines", "load_engine"]

# name: (module, class); the class has `load(model, **options)`. Imported late: an
# engine may need packages that are not installed.
_ENGINES = {
    "transformers": ("classify.engines.transformers", "TransformersEngine"),
}
# A second model beside the first is common (a comparison); more are a mistake in
# memory.
_MOST_KEPT = 2
_loaded: OrderedDict[tuple[object, ...], Engine] = OrderedDict()


def load_engine(
    name: str,
    model: Any,
    *,
    dtype: str = "auto",
    device: str = "auto",
    batch_size: int | str = "auto",
    trust_remote_code: bool = False,
    **options: Any,
) -> Engine:
    """Load an engine by name; equal arguments give the engine loaded before.

    Parameters
    ----------
    name : {"auto", "transformers"}
        Which engine. "auto" is the one that fits the machine.
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
    **options
        Further options of the engine, such as ``revision``.

    Returns
    -------
    Engine
        Shared with every caller that asked for the same; `clear_engines` forgets it.

    Raises
    ------
    ConfigError
        No engine has this name.
    ModelLoadError
        The model cannot be loaded, or is none that predicts next tokens.
    """
    name = _resolve(name)
    options.update(
        dtype=dtype,
        device=device,
        batch_size=batch_size,
        trust_remote_code=trust_remote_code,
    )
    # A model object is known by its identity: the engine keeps it alive.
    what = str(model) if isinstance(model, str | Path) else id(model)
    key = (
        name,
        what,
        *sorted((option, repr(value)) for option, value in options.items()),
    )
    engine = _loaded.get(key)
    if engine is None or getattr(engine, "closed", False):
        module, attribute = _ENGINES[name]
        engine = cast(
            Engine, getattr(import_module(module), attribute).load(model, **options)
        )
        _loaded[key] = engine
    _loaded.move_to_end(key)
    while len(_loaded) > _MOST_KEPT:
        _loaded.popitem(last=False)
    return engine


def clear_engines() -> None:
    """Forget the engines loaded so far; those still in use elsewhere stay alive."""
    _loaded.clear()


def _resolve(name: str) -> str:
    if name == "auto":
        return "transformers"
    if name not in _ENGINES:
        known = ["auto", *_ENGINES]
        near = get_close_matches(name, known, n=1, cutoff=0.4)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ConfigError(
            f"There is no engine {name!r}: it must be one of {', '.join(known)}.{hint}"
        )
    return name
