"""The engine on torch and transformers: CPU or one accelerator.

The only package, with the tokenizer loader, that imports transformers. Importing it
loads neither: the engine is fetched when it is first used.
"""

from typing import TYPE_CHECKING

from classify.lazy import lazy_names

if TYPE_CHECKING:
    from classify.engines.transformers.engine import TransformersEngine

__all__ = ["TransformersEngine"]

__getattr__, __dir__ = lazy_names(__name__, {".engine": ["TransformersEngine"]})
