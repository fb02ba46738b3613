"""Prompts that are worth trying with any model."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from classify.labels import LabelSet
from classify.prompts.few_shot import example_settings
from classify.prompts.template import PromptTemplate

__all__ = ["CURRENT", "candidate_prompts", "few_shot_prompts"]

# The name of the classifier's own prompt.
CURRENT = "current"

_ASK = (
    "Which of these categories describes the text best: {labels}?\n\nText: {shown}\n\n"
    "Answer with the category only."
)
_ASK_OPEN = (
    "Which category describes the text best?\n\nText: {shown}\n\n"
    "Answer with the category only."
)
# {shown} stands for the columns that the prompt shows of a row.
_FORMS: Mapping[str, Mapping[str, Any]] = {
    "chat": {"chat": True, "template": _ASK},
    "chat, 'Category:'": {
        "chat": True,
        "template": _ASK,
        "answer_prefix": "Category:",
    },
    "chat, 'The label is:'": {
        "chat": True,
        "template": _ASK,
        "answer_prefix": "The label is:",
    },
    "chat, JSON": {
        "chat": True,
        "template": _ASK,
        "answer_prefix": '{"label": "',
    },
    "chat, labels not listed": {
        "chat": True,
        "template": _ASK_OPEN,
        "answer_prefix": "Category:",
        "options": "none",
    },
    "plain": {
        "chat": False,
        "template": "Categories: {labels}\n\nText: {shown}\nCategory:",
    },
    "plain, labels not listed": {
        "chat": False,
        "template": "Text: {shown}\nCategory:",
        "options": "none",
    },
    "plain, text alone": {
        "chat": False,
        "template": "{shown}\nCategory:",
        "options": "none",
    },
    "plain, labels last": {
        "chat": False,
        "template": "{shown}\n\nCategories: {labels}\nCategory:",
    },
    "plain, question": {
        "chat": False,
        "template": (
            "Text: {shown}\n\nQuestion: Which of these describes the text best: "
            "{labels}?\nAnswer:"
        ),
    },
}


def candidate_prompts(
    own: PromptTemplate, labels: LabelSet, *, has_chat_template: bool
) -> dict[str, PromptTemplate]:
    r"""Return one's own prompt, called "current", and others to compare it with.

    They show the same columns, the same system prompt and the same examples; but none
    from a table, which `few_shot_prompts` adds.

    Parameters
    ----------
    own : PromptTemplate
    labels : LabelSet
    has_chat_template : bool
        Whether the model takes chats.

    Examples
    --------
    >>> labels = LabelSet.parse(["billing", "shipping"])
    >>> prompts = candidate_prompts(PromptTemplate(), labels, has_chat_template=False)
    >>> prompts["plain, text alone"].template
    '{text}\nCategory:'
    """
    own = own.without_auto()
    shown = "\n".join(f"{{{name}}}" for name in own.fields)
    found = {CURRENT: own}
    known = [own.resolved(labels, has_chat_template=has_chat_template)]
    bare = replace(own, ensemble=())
    if own.chooses_examples:
        bare = replace(bare, **{name: _default(name) for name in example_settings(own)})
    for name, changes in _FORMS.items():
        arguments = own.template_arguments if changes["chat"] else None
        prompt = replace(
            bare,
            answer_prefix="",
            options="auto",
            text_position="auto",
            answer="text",
            n_orders=1,
            shortlist=None,
            template_arguments=arguments,
        )
        prompt = replace(
            prompt,
            **{
                **changes,
                "template": changes["template"].replace("{shown}", shown),
            },
        ).resolved(labels, has_chat_template=has_chat_template)
        if prompt not in known and (has_chat_template or not prompt.chat):
            found[name] = prompt
            known.append(prompt)
    return found


def few_shot_prompts(
    own: PromptTemplate, best: Mapping[str, PromptTemplate]
) -> dict[str, PromptTemplate]:
    """Return prompts with examples from the table of one's own, drawn and nearest."""
    found = {}
    for name, prompt in best.items():
        for choice in ("balanced", "nearest"):
            settings = {each: getattr(own, each) for each in example_settings(own)}
            settings["example_choice"] = choice
            if choice == "nearest":
                settings["example_seed"] = _default("example_seed")
            found[f"{name}, {choice} examples"] = replace(prompt, **settings)
    return found


def _default(setting: str) -> Any:
    return getattr(PromptTemplate, setting)
