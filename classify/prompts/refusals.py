"""What a chat template does that a prompt cannot be made of, and how to go on."""

from collections.abc import Sequence

from classify.errors import PromptError
from classify.prompts.slot import Chat, Message, Slot, find_slot
from classify.prompts.thinking import last_thought
from classify.wording import parameter

__all__ = ["not_kept", "not_led", "not_rendered"]

_NO_THINK = "/no_think"


def not_rendered(chat: Chat, refusal: PromptError) -> PromptError:
    """Say what of a conversation a template refuses: system prompt or examples."""
    last = chat.messages[-1]
    without = {
        "leave out the system prompt": [
            each for each in chat.messages if each["role"] != "system"
        ],
        "leave out the examples": [
            each for each in chat.messages if each["role"] == "system" or each is last
        ],
    }
    advice = "give it what it lacks with " + parameter("template_arguments")
    for way, messages in without.items():
        if len(messages) < len(chat.messages) and _is_rendered(chat, messages):
            advice = way
            break
    advice = f"{advice[0].upper()}{advice[1:]}, or use {parameter('chat', False)}."
    return PromptError(f"{refusal} {advice}")


def not_kept(name: str, role: str) -> PromptError:
    """Say that a template drops a system prompt, an example, or the text."""
    chat = parameter("chat", False)
    if role == "system":
        return PromptError(
            f"The chat template of {name!r} drops the system prompt: put its text into "
            f"the prompt ({parameter('template')}) instead, or use {chat}."
        )
    if role == "text":
        return PromptError(
            f"The chat template of {name!r} changes or drops parts of its messages, so "
            f"that the text cannot be placed: use {chat}."
        )
    return PromptError(
        f"The chat template of {name!r} changes or drops the examples: leave them out, "
        f"or use {chat}."
    )


def not_led(chat: Chat, slot: Slot, answer_prefix: str) -> PromptError:
    """Say that a prompt does not lead to an answer, and what would."""
    prompt = slot.generation_prompt + answer_prefix
    thought = last_thought(prompt)
    name = f"The chat template of {chat.tokenizer.name!r}"
    ways = []
    if thought is not None and thought.is_open:
        opener = thought.opener.rstrip()
        fault = (
            f"{name} opens a thinking block with {opener!r}, and does not show how an "
            "answer follows it, so that a label would be read inside the thought."
        )
        closing = thought.closing
        if closing is None:
            ways.append(f"give what ends the block as {parameter('answer_prefix')}")
        else:
            ways.append(f"close the block with {parameter('answer_prefix', closing)}")
    else:
        end = slot.generation_prompt.strip().splitlines()[-1:] or [""]
        fault = (
            f"{name} ends the prompt with {end[0]!r}, which never stands before an "
            "answer, so that a label would be read where the model writes something "
            "else."
        )
        ways.append(f"give what leads to the answer as {parameter('answer_prefix')}")
    if _NO_THINK in chat.tokenizer.chat_source and _helps(chat):
        ways.append(f"turn thinking off with {parameter('system', _NO_THINK)}")
    else:
        ways.append(
            "turn thinking off with a switch of the template's own "
            f"({parameter('template_arguments')})"
        )
    ways.append(f"or use {parameter('chat', False)}")
    sentence = ", ".join(ways)
    return PromptError(f"{fault} {sentence[0].upper()}{sentence[1:]}.")


def _is_rendered(chat: Chat, messages: Sequence[Message]) -> bool:
    try:
        chat.render(messages, generate=True)
    except PromptError:
        return False
    return True


def _helps(chat: Chat) -> bool:
    """Return whether a template leads to an answer if the system prompt says so."""
    first, *others = chat.messages
    if first["role"] == "system":
        system = {**first, "content": f"{first['content']} {_NO_THINK}"}
    else:
        system, others = {"role": "system", "content": _NO_THINK}, [first, *others]
    found = find_slot(chat._replace(messages=[system, *others]))
    return found.lead is not None
