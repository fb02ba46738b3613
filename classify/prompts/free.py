"""Prompts for free generation: no labels, and no place for an answer."""

from collections.abc import Mapping
from dataclasses import replace

from classify.errors import PromptError
from classify.prompts.compiled import CompiledPrompt
from classify.prompts.layout import lay_out_plain, lay_out_turn
from classify.prompts.parts import Field, fill, parse
from classify.prompts.template import PromptTemplate
from classify.tokenizer import Segment, Tokenizer

__all__ = ["compile_free"]


def compile_free(recipe: PromptTemplate, tokenizer: Tokenizer) -> CompiledPrompt:
    """Join a recipe with a tokenizer for free generation.

    A recipe without a template is the text alone, as the user's turn in a chat. The
    answers of its examples are texts.

    Raises
    ------
    PromptError
        The recipe has {labels}, or does not fit the tokenizer.
    """
    is_chat = tokenizer.has_chat_template if recipe.chat == "auto" else recipe.chat
    recipe = replace(recipe, template=recipe.template or "{text}", chat=is_chat)
    recipe.check_tokenizer(tokenizer)
    body, system = parse(recipe.template or ""), parse(recipe.system or "")
    if Field("labels") in (*body, *system):
        raise PromptError(
            "The prompt has the placeholder {labels}, but there are no labels here: "
            "remove it."
        )
    examples = [
        (fill(body, row if isinstance(row, Mapping) else {"text": row}), answer)
        for row, answer in recipe.examples
    ]
    if is_chat:
        layout = lay_out_turn(
            tokenizer, system, examples, body, recipe.template_arguments or {}
        )
    else:
        layout = lay_out_plain(tokenizer, system, examples, body, "")
    prefix = Segment(recipe.answer_prefix, is_data=False)
    return recipe.joined(tokenizer, layout._replace(parts=[*layout.parts, prefix]))
