"""The engine on torch and transformers: CPU or one accelerator.

The only package, with the tokenizer loader, that imports torch or transformers.
"""

from classify.engines.transformers.engine import TransformersEngine

__all__ = ["TransformersEngine"]
