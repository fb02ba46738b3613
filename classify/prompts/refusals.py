"""Chat templates that cannot be used, and what to do instead."""

from collections.abc import Sequence

from classify.errors import PromptError
from classify.prompts.slot import Chat, Message, Slot, find_slot
from classify.prompts.switches import flags_in_text
from classify.prompts.thinking import last_thought
from classify.wording import parameter

__all__ = ["not_chosen", "not_kept", "not_led", "not_rendered"]


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
            f"{name} ends the prompt with {end[0]!r}, which never comes before an "
            "answer, so that a label would be read where the model writes something "
            "else."
        )
        ways.append(f"give what leads to the answer as {parameter('answer_prefix')}")
    ways.append(_way_off(chat))
    ways.append(f"or use {parameter('chat', False)}")
    sentence = ", ".join(ways)
    return PromptError(f"{fault} {sentence[0].upper()}{sentence[1:]}.")


def _is_rendered(chat: Chat, messages: Sequence[Message]) -> bool:
    try:
        chat.render(messages, generate=True)
    except PromptError:
        return False
    return True


def _way_off(chat: Chat) -> str:
    """Say how to turn thinking off, if the template looks for words that do it."""
    *before, last = chat.messages
    first = next((each for each in before if each["role"] == "system"), None)
    for flag in flags_in_text(chat.tokenizer.chat_source):
        system = flag if first is None else f"{first['content']} {flag}"
        others = chat.messages if first is None else chat.messages[1:]
        asked = [{"role": "system", "content": system}, *others]
        if _is_led(chat._replace(messages=asked)):
            return f"turn thinking off with {parameter('system', flag)}"
        asked = [*before, {**last, "content": f"{last['content']} {flag}"}]
        if _is_led(chat._replace(messages=asked)):
            return (
                f"turn thinking off with {flag!r} at the end of the prompt "
                f"({parameter('template')})"
            )
    return (
        "turn thinking off with a switch of the template's own "
        f"({parameter('template_arguments')})"
    )


def _is_led(chat: Chat) -> bool:
    slot = find_slot(chat)
    return slot.lead is not None and bool(slot.generation_prompt)


def not_chosen() -> PromptError:
    """Return the error of a recipe whose template is still to be chosen."""
    return PromptError(
        f"No prompt has been chosen yet for {parameter('template', 'auto')}: call fit, "
        "run classify predict on a file, or choose one with classify tune."
    )
