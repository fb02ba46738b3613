"""The engine on torch and transformers: CPU or one accelerator.

The only package, with the tokenizer loader, that imports transformers. Importing it
loads neither: the engine is fetched when it is first used.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from classify.engines.transformers.engine import TransformersEngine

__all__ = ["TransformersEngine"]


def __getattr__(name: str) -> object:
    if name != "TransformersEngine":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from classify.engines.transformers.engine import TransformersEngine

    return TransformersEngine
