"""Prompts that ask models without a thinking mode to think first, then answer."""

from collections.abc import Mapping, Sequence
from typing import Any

from classify.prompts.layout import Examples, Layout, lay_out_chat, lay_out_plain
from classify.prompts.parts import Part
from classify.prompts.thought import ThoughtSlot
from classify.tokenizer import Segment, Tokenizer

__all__ = ["in_words", "lay_out_in_words"]

_ANSWER_LINE = "Answer:"
_ASK_TO_THINK = (
    "Think step by step. Then finish with a line that begins with {end!r}, followed by "
    "the answer only."
)


def lay_out_in_words(
    tokenizer: Tokenizer,
    system: Sequence[Part],
    examples: Examples,
    body: Sequence[Part],
    answer_prefix: str,
    template_arguments: Mapping[str, Any] | None,
) -> Layout:
    """Ask in words for a thought that ends with a line for the answer.

    `template_arguments` None stands for a plain prompt.
    """
    prefix = answer_prefix if answer_prefix.strip() else _ANSWER_LINE
    thought = in_words(prefix)
    ask = _ASK_TO_THINK.format(end=thought.end)
    asked = [*body, Segment(f"\n\n{ask}", is_data=False)]
    if template_arguments is None:
        shown = [
            ([*rows, Segment("\n", is_data=False)], word) for rows, word in examples
        ]
        parts = lay_out_plain(tokenizer, system, shown, asked, prefix).parts
        ending, layout = "\n\nReasoning:", Layout([], None)
    else:
        layout = lay_out_chat(
            tokenizer, system, examples, asked, prefix, template_arguments
        )
        parts, ending = layout.parts, ""
    # Not part of the prompt: the model writes these words, or they close its thought.
    *parts, last = parts
    assert isinstance(last, Segment), "it ends with the words"
    text = last.text.removesuffix(prefix).rstrip(" ") + ending
    parts.append(Segment(text, is_data=False))
    return layout._replace(parts=parts, separator=None, thought=thought)


def in_words(answer_prefix: str) -> ThoughtSlot:
    r"""Return the place of a thought that ends with a line of these words.

    Examples
    --------
    >>> slot = in_words("Answer:")
    >>> slot.closing, slot.pattern.search("It is a bill.\n**Answer:** b").span()
    ('\nAnswer:', (14, 23))
    >>> slot.pattern.search("The line with Answer: comes last.")
    """
    return ThoughtSlot("", f"\n{answer_prefix}", answer_prefix.strip(), is_native=False)
