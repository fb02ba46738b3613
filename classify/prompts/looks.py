"""The prompts of a recipe: with a date, and in several orders and forms."""

from dataclasses import replace
from typing import Any, NamedTuple

from classify.errors import PromptError
from classify.labels import LabelSet
from classify.prompts.compiled import CompiledPrompt
from classify.prompts.listing import coded, orders
from classify.prompts.template import PromptTemplate
from classify.tokenizer import Tokenizer
from classify.wording import parameter

__all__ = ["Look", "dated", "looks"]


def looks(template: PromptTemplate, labels: LabelSet) -> tuple["Look", ...]:
    """Return the prompts whose probabilities are averaged for each text.

    Raises
    ------
    PromptError
        There are fewer than `n_orders` orders, or a label has several words with
        ``answer="code"``.
    """
    if template.answer == "code":
        for label in labels:
            if len(label.words) > 1:
                raise PromptError(
                    f"Label {label.name!r} has several words, but with "
                    f"{parameter('answer', 'code')} only its code is read: give it "
                    f"one word, or use {parameter('answer', 'text')}."
                )
    forms: tuple[Any, ...] = (template.answer,)
    if template.answer == "both":
        forms = ("text", "code")
    return tuple(
        Look(
            replace(template, answer=form, n_orders=1),
            labels,
            order,
            coded(labels, order) if form == "code" else labels,
        )
        for order in orders(len(labels), template.n_orders)
        for form in forms
    )


def dated(recipe: PromptTemplate, date: str) -> PromptTemplate:
    """Return the same with this date where a chat template writes today's."""
    members = tuple(dated(each, date) for each in recipe.ensemble)
    arguments = dict(recipe.template_arguments or {})
    if recipe.chat is not False and "strftime_now" not in arguments:
        arguments["strftime_now"] = date
    return replace(recipe, ensemble=members, template_arguments=arguments or None)


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

    template: PromptTemplate
    labels: LabelSet
    order: tuple[int, ...]
    answers: LabelSet

    def compile(
        self, tokenizer: Tokenizer, *, reasons: bool, n_examples: int
    ) -> CompiledPrompt:
        """Join it with a tokenizer; see `PromptTemplate.compile`."""
        return self.template.compile(
            tokenizer, self.labels, self.order, reasons=reasons, n_examples=n_examples
        )
