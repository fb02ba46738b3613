"""Label words as token paths in the context of the prompt that they answer."""

from classify.verbalizer.verbalizer import (
    AnswerSpace,
    ScorablePrompt,
    Shortlist,
    Verbalizer,
)

__all__ = ["AnswerSpace", "ScorablePrompt", "Shortlist", "Verbalizer"]
