"""From a recipe to a prompt: labels listed, examples placed, laid out."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from classify.errors import PromptError
from classify.labels import LabelSet
from classify.prompts.compiled import CompiledPrompt
from classify.prompts.few_shot import example_parts
from classify.prompts.in_words import lay_out_in_words
from classify.prompts.layout import (
    Examples,
    Layout,
    lay_out_chat,
    lay_out_plain,
    lay_out_thought,
)
from classify.prompts.listing import coded, list_options
from classify.prompts.parts import Field, Part, fill, merge, parse, with_field
from classify.prompts.recipes import ENDINGS
from classify.tokenizer import Segment, Tokenizer
from classify.wording import parameter

if TYPE_CHECKING:
    from classify.prompts.template import PromptTemplate

__all__ = ["compile_resolved", "joined", "solved"]


def compile_resolved(
    recipe: "PromptTemplate",
    tokenizer: Tokenizer,
    labels: LabelSet,
    order: tuple[int, ...],
    *,
    reasons: bool,
    n_examples: int,
) -> CompiledPrompt:
    """Join a resolved recipe with a tokenizer; see `PromptTemplate.compile`."""
    as_lines, as_codes = recipe.options == "lines", recipe.answer == "code"
    answers = coded(labels, order) if as_codes else labels
    in_order = [labels[at] for at in order]

    def compile_listed(listed: str) -> CompiledPrompt:
        layout = _layout(
            recipe, tokenizer, answers, listed, reasons=reasons, n_examples=n_examples
        )
        return joined(recipe, tokenizer, layout)

    prompt = compile_listed(
        list_options(in_order, as_lines=as_lines, as_codes=as_codes)
    )
    if recipe.options != "verbatim":
        return prompt
    # What stands before an answer is known only now.
    words = [label.words[0] for label in in_order]
    answered = prompt.answering() if reasons else prompt
    return compile_listed(
        "\n".join(answered.separator_before(word) + word for word in words)
    )


def joined(
    recipe: "PromptTemplate", tokenizer: Tokenizer, layout: Layout
) -> CompiledPrompt:
    """Return the prompt of a resolved recipe that was laid out."""
    return CompiledPrompt(
        tokenizer=tokenizer,
        parts=tuple(merge(layout.parts)),
        is_chat=bool(recipe.chat),
        separator=layout.separator,
        slot=layout.slot,
        date=layout.date,
        too_long=recipe.too_long,
        thought=layout.thought,
    )


def solved(
    recipe: "PromptTemplate", body: Sequence[Part], answer_of: Callable[[str], str]
) -> Examples:
    """Return the examples that a recipe lists, and the answer to each."""
    return [
        (
            fill(body, row if isinstance(row, Mapping) else {"text": row}),
            answer_of(answer),
        )
        for row, answer in recipe.listed_examples
    ]


def _layout(
    recipe: "PromptTemplate",
    tokenizer: Tokenizer,
    labels: LabelSet,
    written: str,
    *,
    reasons: bool,
    n_examples: int,
) -> Layout:
    """Lay a recipe out, with the options as written."""

    def lay_out(template: str, form: Callable[..., Layout | None]) -> Layout | None:
        listed = Segment(written, is_data=True)
        body, system = (
            [listed if part == Field("labels") else part for part in parse(text)]
            for text in (template, recipe.system or "")
        )
        examples: Examples = (
            example_parts(body, n_examples)
            if recipe.chooses_examples
            else solved(recipe, body, lambda name: labels[name].words[0])
        )
        arguments = (recipe.template_arguments or {}) if recipe.chat else None
        prefix = recipe.answer_prefix
        laid = form(tokenizer, system, examples, body, prefix, arguments)
        if laid is None or not recipe.label_in_answer:
            return laid
        return laid._replace(parts=with_field(laid.parts, "label"))

    if reasons and recipe.label_in_answer:
        raise PromptError(
            f"{parameter('answer_prefix', recipe.answer_prefix)} has the label, but "
            f"with {parameter('strategy', 'reason')} the model must know it before it "
            "thinks: put {label} into the template."
        )
    template = recipe.template
    assert template is not None, "resolved"
    layout = None
    if recipe.chat and reasons:
        layout = lay_out(template, lay_out_thought)
    if layout is None and reasons:
        for ending in ENDINGS:
            template = template.removesuffix(ending)
        layout = lay_out(template, lay_out_in_words)
    elif layout is None:
        layout = lay_out(template, lay_out_chat if recipe.chat else lay_out_plain)
    assert layout is not None, "prompts without a native thought have a layout"
    return layout
