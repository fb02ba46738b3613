"""The recipes used when none is given, for chats and as plain prompts.

{labels} is written as "a, b, c", one a line, or not at all; or with codes. "whether"
asks about one label, of which {labels} are the answers.
"""

from collections.abc import Mapping
from typing import Any

from classify.prompts.listing import codes

__all__ = ["ENDINGS", "recipe_for"]

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
# What those for words end with, and a prompt that asks for a thought first does not.
ENDINGS = ("\n\nAnswer with the category only.", "\nCategory:", "\nApplies:")


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
    return (_CHAT_TEMPLATES if is_chat else _PLAIN_TEMPLATES)[name]
