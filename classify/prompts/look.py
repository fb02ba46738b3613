"""One of several prompts about a text."""

from typing import TYPE_CHECKING, NamedTuple

from classify.labels import LabelSet
from classify.prompts.compiled import CompiledPrompt
from classify.tokenizer import Tokenizer

if TYPE_CHECKING:
    from classify.prompts.template import PromptTemplate

__all__ = ["Look"]


class Look(NamedTuple):
    """One of the prompts about a text, whose probabilities are averaged.

    Attributes
    ----------
    template : PromptTemplate
        Of one form of answer.
    labels : LabelSet
    order : tuple of int, length n_labels
        Which label is at each place of the list.
    answers : LabelSet
        The labels, with the words that stand for them in this answer.
    """

    template: "PromptTemplate"
    labels: LabelSet
    order: tuple[int, ...]
    answers: LabelSet

    def compile(self, tokenizer: Tokenizer, *, reasons: bool) -> CompiledPrompt:
        """Join it with a tokenizer; see `PromptTemplate.compile`."""
        return self.template.compile(
            tokenizer, self.labels, self.order, reasons=reasons
        )
