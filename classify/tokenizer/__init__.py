"""Text to token ids; users' text is strictly separated from our own."""

from classify.tokenizer.loading import load_tokenizer
from classify.tokenizer.tokenizer import Segment, Tokenizer

__all__ = ["Segment", "Tokenizer", "load_tokenizer"]
