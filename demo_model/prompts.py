"""Prompts and chats: how a text and its options are laid out for the model."""

from __future__ import annotations

import random
from collections.abc import Sequence

from demo_model.ontology import prompt_forms
from demo_model.options import Option

PAD, BOS, END = "<|pad|>", "<|bos|>", "<|end|>"
ROLES = ("system", "user", "assistant")
SPECIAL_TOKENS = (PAD, BOS, END, *(f"<|{role}|>" for role in ROLES))
ANSWER_ONLY = "Answer with the category only."

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] not in ['system', 'user', 'assistant'] %}"
    "{{ raise_exception('Unknown role: ' + message['role']) }}{% endif %}"
    "{{ '<|' + message['role'] + '|>\\n' + message['content'] + '<|end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)


def turn(role: str, content: str) -> str:
    """Write one chat turn.

    Parameters
    ----------
    role : {"system", "user", "assistant"}
        Who speaks.
    content : str
        What is said.

    Returns
    -------
    str
        The turn with its control tokens.
    """
    return f"<|{role}|>\n{content}{END}\n"


def instruction(form: str, text: str, options: Sequence[Option], noun: str) -> str:
    """Fill an instruction.

    Parameters
    ----------
    form : str
        A form of ``data/prompts.yaml``.
    text : str
        The text to classify.
    options : sequence of Option
        The labels, in the order shown.
    noun : str
        What the classes are called.

    Returns
    -------
    str
        The instruction.
    """
    lines = "\n".join(
        f"- {option.name}: {option.description}"
        if option.description
        else f"- {option.name}"
        for option in options
    )
    # One pass over the form: a text that holds "{labels}" stays as it is.
    return form.format(
        text=text,
        labels=", ".join(option.name for option in options),
        list=lines,
        noun=noun,
        Noun=noun[:1].upper() + noun[1:],
    )


def draw_form(rng: random.Random, kind: str, default: float = 0.5) -> str:
    """Draw an instruction form.

    Parameters
    ----------
    rng : random.Random
        Where choices come from.
    kind : str
        Key in ``data/prompts.yaml``.
    default : float, default=0.5
        Probability of the package's own form, the first of its kind.

    Returns
    -------
    str
        The form.
    """
    forms = prompt_forms()[kind]
    if len(forms) == 1 or rng.random() < default:
        return forms[0]
    return rng.choice(forms[1:])


def draw_system(rng: random.Random) -> str:
    """Draw an optional system turn.

    Parameters
    ----------
    rng : random.Random
        Where choices come from.

    Returns
    -------
    str
        A turn, or nothing four times in five.
    """
    if rng.random() < 0.8:
        return ""
    return turn("system", rng.choice(prompt_forms()["system"]))
