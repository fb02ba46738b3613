"""The recipes used when none is given, for chats and as plain prompts.

{labels} is written as "a, b, c", one a line, or not at all; or with codes.
"""

from collections.abc import Mapping

__all__ = ["CHAT_TEMPLATES", "ENDINGS", "PLAIN_TEMPLATES"]

CHAT_TEMPLATES: Mapping[str, str] = {
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
}
PLAIN_TEMPLATES: Mapping[str, str] = {
    "inline": "Categories: {labels}\n\nText: {text}\nCategory:",
    "lines": "Categories:\n{labels}\n\nText: {text}\nCategory:",
    "none": "Text: {text}\nCategory:",
    "letter": "Categories:\n{labels}\n\nText: {text}\nLetter of the category:",
    "letters": "Categories:\n{labels}\n\nText: {text}\nLetters of the category:",
}
# What those for words end with, and a prompt that asks for a thought first does not.
ENDINGS = ("\n\nAnswer with the category only.", "\nCategory:")
