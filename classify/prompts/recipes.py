"""The recipes used when none is given, for chats and as plain prompts.

{labels} is written as "a, b, c", one a line, or not at all; or with codes. "whether"
asks about one label, of which {labels} are the answers.

With the labels first, all texts have the beginning of the prompt in common; with the
text first, all questions about a text have it in common, and as little as possible
comes after the labels.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from classify.errors import PromptError
from classify.labels import LabelSet
from classify.prompts.listing import codes
from classify.wording import parameter

__all__ = [
    "Options",
    "check_text_position",
    "options_for",
    "recipe_for",
    "text_first",
    "without_ending",
]

Options = Literal["auto", "inline", "lines", "verbatim", "none"]

_WORD_ONLY = "Answer with the category only. "

_CHAT_TEMPLATES: Mapping[str, str] = {
    "inline": (
        "Which of these categories describes the text best: {labels}?\n\n"
        "Text: {text}\n\nAnswer with the category only."
    ),
    "lines": (
        "Which of these categories describes the text best?\n{labels}\n\n"
        "Text: {text}\n\nAnswer with the category only."
    ),
    "none": (
        "Which category describes the text best?\n\n"
        "Text: {text}\n\nAnswer with the category only."
    ),
    "letter": (
        "Which of these categories describes the text best?\n{labels}\n\n"
        "Text: {text}\n\nAnswer with the letter only."
    ),
    "letters": (
        "Which of these categories describes the text best?\n{labels}\n\n"
        "Text: {text}\n\nAnswer with the letters only."
    ),
    # What is the same for all labels stands before the label: it is computed once.
    "whether": (
        "Text: {text}\n\nDoes the label below apply to the text? Answer with one of: "
        "{labels}.\n\nLabel: {label}"
    ),
}
_PLAIN_TEMPLATES: Mapping[str, str] = {
    "inline": "Categories: {labels}\n\nText: {text}\nCategory:",
    "lines": "Categories:\n{labels}\n\nText: {text}\nCategory:",
    "none": "Text: {text}\nCategory:",
    "letter": "Categories:\n{labels}\n\nText: {text}\nLetter of the category:",
    "letters": "Categories:\n{labels}\n\nText: {text}\nLetters of the category:",
    "whether": (
        "Text: {text}\n\nDoes the label below apply to the text? Answer with one of: "
        "{labels}.\nLabel: {label}\nApplies:"
    ),
}
_CHAT_TEXT_FIRST: Mapping[str, str] = {
    "inline": (
        f"Text: {{text}}\n\n{_WORD_ONLY}Which of these categories describes the text "
        "best: {labels}?"
    ),
    "lines": (
        f"Text: {{text}}\n\n{_WORD_ONLY}Which of these categories describes the text "
        "best?\n{labels}"
    ),
    "none": f"Text: {{text}}\n\n{_WORD_ONLY}Which category describes the text best?",
    "letter": (
        "Text: {text}\n\nAnswer with the letter only. Which of these categories "
        "describes the text best?\n{labels}"
    ),
    "letters": (
        "Text: {text}\n\nAnswer with the letters only. Which of these categories "
        "describes the text best?\n{labels}"
    ),
}
_PLAIN_TEXT_FIRST: Mapping[str, str] = {
    "inline": "Text: {text}\n\nCategories: {labels}\nCategory:",
    "lines": "Text: {text}\n\nCategories:\n{labels}\nCategory:",
    "none": _PLAIN_TEMPLATES["none"],
    "letter": "Text: {text}\n\nCategories:\n{labels}\nLetter of the category:",
    "letters": "Text: {text}\n\nCategories:\n{labels}\nLetters of the category:",
}
# What those for words end with, and a prompt that asks for a thought first does not.
_ENDINGS = ("\n\nAnswer with the category only.", "\nCategory:", "\nApplies:")


def options_for(prompt: Any, labels: LabelSet) -> Options:
    """Return how a PromptTemplate lists its options, "auto" resolved."""
    given: Options = prompt.options
    if given != "auto":
        return given
    is_long = any(label.description for label in labels) or prompt.answer == "code"
    return "lines" if is_long and prompt.asks == "which" else "inline"


def recipe_for(prompt: Any, *, is_chat: bool, options: str, n_labels: int) -> str:
    """Return our template for a PromptTemplate that has none of its own.

    Parameters
    ----------
    prompt : PromptTemplate
    is_chat : bool
    options : str
        How the options are listed, "auto" resolved.
    n_labels : int
    """
    name = "lines" if options == "verbatim" else options
    if prompt.asks == "whether":
        name = "whether"
    elif prompt.answer == "code":
        name = "letter" if len(codes(n_labels)[0]) == 1 else "letters"
    if prompt.text_position == "first" and prompt.asks == "which":
        return (_CHAT_TEXT_FIRST if is_chat else _PLAIN_TEXT_FIRST)[name]
    return (_CHAT_TEMPLATES if is_chat else _PLAIN_TEMPLATES)[name]


def without_ending(template: str) -> str:
    """Return a template without what asks for the label at once."""
    if template in _CHAT_TEXT_FIRST.values():
        return template.replace(_WORD_ONLY, "")
    for ending in _ENDINGS:
        template = template.removesuffix(ending)
    return template


def text_first(prompt: Any, *, always: bool = False) -> Any:
    """Return a PromptTemplate with the text first, if no template places it.

    Parameters
    ----------
    prompt : PromptTemplate
    always : bool, default=False
        Even if it says "last", as for the yes/no questions of a task with others.
    """
    members = tuple(text_first(each, always=always) for each in prompt.ensemble)
    is_ours = prompt.template is None or prompt.is_auto
    position = prompt.text_position
    if is_ours and (always or position == "auto"):
        position = "first"
    return replace(prompt, ensemble=members, text_position=position)


def check_text_position(prompt: Any) -> None:
    """Raise PromptError for a `text_position` that changes nothing."""
    what = parameter("text_position", prompt.text_position)
    if prompt.text_position == "auto":
        return
    if prompt.template is not None and not prompt.is_auto:
        raise PromptError(
            f"{what} is for the default template, but {parameter('template')} has its "
            "own place for the text: remove one of the two."
        )
    if prompt.text_position == "last" and prompt.asks == "whether":
        raise PromptError(
            f"{what} cannot be used for yes/no questions, which share the reading of "
            f"the text: remove {parameter('text_position')}, or give a template."
        )
