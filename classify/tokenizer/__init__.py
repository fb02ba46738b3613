"""Text to token ids, with a wall between what we write and what users send."""

from classify.tokenizer.loading import load_tokenizer
from classify.tokenizer.tokenizer import Segment, Tokenizer

__all__ = ["Segment", "Tokenizer", "load_tokenizer"]
