"""Prompts for free generation: no labels, and no place for an answer."""

from dataclasses import replace

from classify.errors import PromptError
from classify.prompts.compiled import CompiledPrompt
from classify.prompts.compiling import check_tokenizer, joined, solved
from classify.prompts.layout import lay_out_plain, lay_out_turn
from classify.prompts.parts import Field, parse
from classify.prompts.template import PromptTemplate
from classify.tokenizer import Tokenizer
from classify.wording import parameter

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
    check_tokenizer(tokenizer, chat=is_chat)
    body, system = parse(recipe.template or ""), parse(recipe.system or "")
    if Field("labels") in (*body, *system):
        raise PromptError(
            "The prompt has the placeholder {labels}, but there are no labels here: "
            "remove it."
        )
    if recipe.chooses_examples:
        raise PromptError(
            "Examples from a table are for labels, and there are none here: give "
            f"{parameter('examples')} as pairs of a text and its answer."
        )
    examples = solved(recipe.listed_examples, body, str)
    prefix = recipe.answer_prefix
    if is_chat:
        arguments = recipe.template_arguments or {}
        layout = lay_out_turn(tokenizer, system, examples, body, prefix, arguments)
    else:
        layout = lay_out_plain(tokenizer, system, examples, body, prefix)
    return joined(layout, tokenizer, is_chat=bool(is_chat), too_long=recipe.too_long)
