"""From a recipe to a prompt: labels listed, examples placed, laid out."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from classify.errors import PromptError
from classify.labels import LabelSet
from classify.prompts.compiled import CompiledPrompt
from classify.prompts.example_table import Example
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
from classify.prompts.recipes import without_ending
from classify.tokenizer import Segment, Tokenizer
from classify.wording import parameter

__all__ = [
    "Resolved",
    "check_tokenizer",
    "compile_resolved",
    "joined",
    "solved",
    "with_examples",
]


class Resolved(NamedTuple):
    """A recipe in which nothing is left to choose; see `PromptTemplate`.

    Attributes
    ----------
    template, system : str
    examples : sequence of (text or mapping, label), or int
        Those that are listed, or the number of places for examples of a table.
    is_chat : bool
    options, answer, answer_prefix, too_long : str
    label_in_answer : bool
    arguments : mapping
        Variables of the chat template.
    """

    template: str
    system: str
    examples: Sequence[tuple[str | Mapping[str, str], str]] | int
    is_chat: bool
    options: str
    answer: str
    answer_prefix: str
    label_in_answer: bool
    arguments: Mapping[str, Any]
    too_long: str


def check_tokenizer(tokenizer: Tokenizer, *, chat: bool | str) -> None:
    """Raise PromptError where a chat template is needed and there is none."""
    if chat is True and not tokenizer.has_chat_template:
        raise PromptError(
            f"The tokenizer of {tokenizer.name!r} has no chat template, which "
            f"{parameter('chat', True)} needs: use {parameter('chat', False)}, or "
            "a chat model."
        )


def compile_resolved(
    recipe: Resolved,
    tokenizer: Tokenizer,
    labels: LabelSet,
    order: tuple[int, ...],
    *,
    reasons: bool,
) -> CompiledPrompt:
    """Join a recipe with a tokenizer; see `PromptTemplate.compile`."""
    as_lines, as_codes = recipe.options == "lines", recipe.answer == "code"
    answers = coded(labels, order) if as_codes else labels
    in_order = [labels[at] for at in order]

    def compile_listed(listed: str) -> CompiledPrompt:
        layout = _layout(recipe, tokenizer, answers, listed, reasons=reasons)
        return joined(
            layout, tokenizer, is_chat=recipe.is_chat, too_long=recipe.too_long
        )

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
    layout: Layout, tokenizer: Tokenizer, *, is_chat: bool, too_long: str
) -> CompiledPrompt:
    """Return the prompt of a recipe that was laid out."""
    return CompiledPrompt(
        tokenizer=tokenizer,
        parts=tuple(merge(layout.parts)),
        is_chat=is_chat,
        separator=layout.separator,
        slot=layout.slot,
        date=layout.date,
        too_long=too_long,
        thought=layout.thought,
    )


def solved(
    examples: Sequence[tuple[str | Mapping[str, str], str]],
    body: Sequence[Part],
    answer_of: Callable[[str], str],
) -> Examples:
    """Return the examples that a recipe lists, and the answer to each."""
    return [
        (
            fill(body, row if isinstance(row, Mapping) else {"text": row}),
            answer_of(answer),
        )
        for row, answer in examples
    ]


def _layout(
    recipe: Resolved,
    tokenizer: Tokenizer,
    labels: LabelSet,
    written: str,
    *,
    reasons: bool,
) -> Layout:
    """Lay a recipe out, with the options as written."""

    def lay_out(template: str, form: Callable[..., Layout | None]) -> Layout | None:
        listed = Segment(written, is_data=True)
        body, system = (
            [listed if part == Field("labels") else part for part in parse(text)]
            for text in (template, recipe.system)
        )
        examples: Examples = (
            _places(body, recipe.examples)
            if isinstance(recipe.examples, int)
            else solved(recipe.examples, body, lambda name: labels[name].words[0])
        )
        arguments = recipe.arguments if recipe.is_chat else None
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
    layout = None
    if recipe.is_chat and reasons:
        layout = lay_out(template, lay_out_thought)
    if layout is None and reasons:
        layout = lay_out(without_ending(template), lay_out_in_words)
    elif layout is None:
        form = lay_out_chat if recipe.is_chat else lay_out_plain
        layout = lay_out(template, form)
    assert layout is not None, "prompts without a native thought have a layout"
    return layout


def _places(body: Sequence[Part], n_examples: int) -> list[tuple[list[Part], Field]]:
    """Return the places of examples in a prompt, and of their answers."""
    return [
        (
            [
                each._replace(name=_place(at, each.name))
                if isinstance(each, Field)
                else each
                for each in body
            ],
            Field(_place(at, "label")),
        )
        for at in range(n_examples)
    ]


def with_examples(
    row: Mapping[str, str], examples: Sequence[Example], answers: LabelSet
) -> dict[str, str]:
    """Return a row that fills the places of examples of a table too."""
    filled = dict(row)
    for at, (shown, label) in enumerate(examples):
        filled |= {_place(at, name): text for name, text in shown.items()}
        filled[_place(at, "label")] = answers[label].words[0]
    return filled


def _place(at: int, name: str) -> str:
    # No placeholder of a template can be called so.
    return f"{{{name}}} of example {at}"
