"""How the parts of a prompt are laid out: as one plain text, or as a chat."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from classify.errors import PromptError
from classify.prompts.parts import Field, Part, answer_behind, trimmed
from classify.prompts.refusals import not_kept, not_led, not_rendered
from classify.prompts.slot import Chat, Slot, find_slot
from classify.prompts.switches import attempts, thinking_attempts, ways_off
from classify.prompts.thinking import is_open, last_thought
from classify.prompts.thought import (
    ThoughtSlot,
    end_of_thought,
    find_thought,
)
from classify.tokenizer import Segment, Tokenizer

__all__ = [
    "Layout",
    "lay_out_chat",
    "lay_out_plain",
    "lay_out_thought",
    "lay_out_turn",
]

# Marks that stand for data while a chat template is rendered, and around what is added
# to see whether it stays: private-use characters, which no template and no sane text
# contains.
_MARK = re.compile("\ue010(\\d+)\ue011")
_INNER = "\ue016"
_TAG = re.compile(r"<[^<>\s]+>|\[[^\[\]]+\]")
# Two days that differ in every part of a date.
_OTHER_DAYS = ("1999-12-31", "2000-01-01")
_EMPTY: Mapping[str, Any] = {"tools": [], "documents": []}
# What templates change if they change texts: case, white space, marks, the length.
_CHANGEABLE = "Aa  \"'&<b>\\/{ {# \r\n\n\t# é你 " + "words " * 1000

# Rows as shown, and the answers to them, or where these are filled in.
Examples = Sequence[tuple[Sequence[Part], str | Field]]


class Layout(NamedTuple):
    """The parts of a prompt in order, and how the chat template writes answers.

    Attributes
    ----------
    parts : list of Segment or Field
    separator : str or None
        What stands before an answer; None: decide by the prompt's tail.
    slot : Slot or None
        Where the chat template has the answer written.
    date : str or None
        The date that the chat template writes as today's.
    thought : ThoughtSlot or None
        Where the model thinks before it answers: `parts` end there.
    """

    parts: list[Part]
    separator: str | None
    slot: Slot | None = None
    date: str | None = None
    thought: ThoughtSlot | None = None


def lay_out_plain(
    tokenizer: Tokenizer,  # noqa: ARG001 all ways to lay a prompt out are called alike
    system: Sequence[Part],
    examples: Examples,
    body: Sequence[Part],
    answer_prefix: str,
    template_arguments: None = None,  # noqa: ARG001
) -> Layout:
    """Write system prompt, examples and body one after the other."""
    prefix = Segment(answer_prefix, is_data=False)
    gap = Segment("\n\n", is_data=False)
    parts: list[Part] = [*system, gap] if system else []
    for shown, answer in examples:
        parts += [*shown, prefix, answer_behind([*shown, prefix], answer), gap]
    return Layout([*parts, *body, prefix], None)


def lay_out_thought(
    tokenizer: Tokenizer,
    system: Sequence[Part],
    examples: Examples,
    body: Sequence[Part],
    answer_prefix: str,
    template_arguments: Mapping[str, Any],
) -> Layout | None:
    """Render the chat template up to where the model thinks; None if it cannot."""
    prefix = _split(tokenizer, answer_prefix)
    messages, held = _written(system, examples, body, prefix)
    source, given = tokenizer.chat_source, _dated(template_arguments)
    for arguments in thinking_attempts(source, given):
        try:
            chat, rendered = _accepted(tokenizer, messages, arguments, len(held))
        except PromptError:
            continue  # the conversation is laid out without a thought then, or refused
        thought = _closed_with(chat, find_thought(chat, ways_off(source)), prefix.head)
        if thought is not None:
            break
    else:
        return None
    held = _trimmed(chat, rendered, system, examples, body, prefix)
    slot = find_slot(chat)._replace(thinking="first")
    text = rendered.removesuffix(slot.generation_prompt) + thought.opening
    closing, separator = thought.closing + prefix.words, None
    if not prefix.words:
        separator = closing[len(closing.rstrip(" ")) :]
        closing = closing.rstrip(" ")
    return Layout(
        _placed(text, held),
        separator,
        slot,
        _date(chat),
        thought._replace(closing=closing),
    )


def lay_out_chat(
    tokenizer: Tokenizer,
    system: Sequence[Part],
    examples: Examples,
    body: Sequence[Part],
    answer_prefix: str,
    template_arguments: Mapping[str, Any],
) -> Layout:
    """Render the chat template once, with marks where the rows' text belongs.

    Raises
    ------
    PromptError
        The template refuses the roles, drops a part, or does not lead to an answer.
    """
    prefix = _split(tokenizer, answer_prefix)
    messages, held = _written(system, examples, body, prefix)
    best = _best_draft(tokenizer, messages, len(held), prefix, template_arguments)
    if best.lead is None:
        raise not_led(best.chat, best.slot, answer_prefix)
    held = _trimmed(best.chat, best.rendered, system, examples, body, prefix)
    text = best.rendered.removesuffix(best.slot.generation_prompt) + best.lead
    separator: str | None = None
    if not prefix.words:
        bare = text.rstrip(" ")
        # After what the template writes, an answer begins as the template has it.
        separator = "" if prefix.head else text[len(bare) :]
        text = text if prefix.head else bare
    date = _date(best.chat)
    return Layout(_placed(text, held), separator, best.slot, date)


def lay_out_turn(
    tokenizer: Tokenizer,
    system: Sequence[Part],
    examples: Examples,
    body: Sequence[Part],
    answer_prefix: str,
    template_arguments: Mapping[str, Any],
) -> Layout:
    """Render the chat template up to the model's turn, for free generation.

    Raises
    ------
    PromptError
        The template refuses the roles, or drops a part.
    """
    prefix = _Prefix("", answer_prefix)
    messages, held = _written(system, examples, body, prefix)
    arguments = _dated(template_arguments)
    chat, rendered = _accepted(tokenizer, messages, arguments, len(held))
    held = _trimmed(chat, rendered, system, examples, body, prefix)
    spoken = Segment(answer_prefix, is_data=False)
    return Layout([*_placed(rendered, held), spoken], None, None, _date(chat))


@dataclass(frozen=True)
class _Prefix:
    """The start of the model's answer: what a template writes, and the words after."""

    head: str
    words: str


@dataclass(frozen=True)
class _Draft:
    """A conversation as a template writes it with some arguments, and its slot."""

    chat: Chat
    rendered: str
    slot: Slot
    prefix: _Prefix

    @property
    def lead(self) -> str | None:
        """What stands between the user's text and the label."""
        if not self.prefix.head:
            return (
                None if self.slot.lead is None else self.slot.lead + self.prefix.words
            )
        # Its writer says what follows the generation prompt.
        lead = self.slot.generation_prompt + self.prefix.head + self.prefix.words
        return None if is_open(lead) else lead

    @property
    def is_forced(self) -> bool:
        """Whether the generation prompt alone leads away from the answer."""
        if self.prefix.head:
            return self.lead is None
        return self.lead is None or is_open(self.slot.generation_prompt)

    @property
    def order(self) -> tuple[bool, bool, bool]:
        """Least where it leads to the answer, by itself, and turns thinking off."""
        return self.lead is None, self.is_forced, self.slot.thinking == "skipped"


def _best_draft(
    tokenizer: Tokenizer,
    messages: Sequence[Mapping[str, str]],
    n_held: int,
    prefix: _Prefix,
    given: Mapping[str, Any],
) -> _Draft:
    """Return the conversation with arguments that lead to an answer, if any do."""
    drafts: list[_Draft] = []
    refusal: PromptError | None = None
    for arguments in attempts(tokenizer.chat_source, _dated(given)):
        try:
            chat, rendered = _accepted(tokenizer, messages, arguments, n_held)
        except PromptError as error:
            refusal = refusal or error
            continue
        drafts.append(_Draft(chat, rendered, find_slot(chat), prefix))
        # Of a template that knows thinking and leaves it out, a way to turn it off may
        # yet be found.
        if not drafts[-1].is_forced and drafts[-1].slot.thinking != "skipped":
            break
    if not drafts:
        assert refusal is not None, "there was an attempt"
        raise refusal
    return min(drafts, key=lambda draft: draft.order)


def _dated(given: Mapping[str, Any]) -> dict[str, Any]:
    today = datetime.now().astimezone().date().isoformat()
    return {"strftime_now": today, **given}


def _written(
    system: Sequence[Part],
    examples: Examples,
    body: Sequence[Part],
    prefix: _Prefix,
) -> tuple[list[dict[str, str]], list[Part]]:
    """Return the messages, with marks in place of data, and the marked parts."""
    held: list[Part] = []

    def marked(parts: Sequence[Part]) -> str:
        content = ""
        for part in parts:
            if isinstance(part, Segment) and not part.is_data:
                content += part.text
            else:
                content += f"\ue010{len(held)}\ue011"
                held.append(part)
        return content

    words = Segment(prefix.words, is_data=False)
    messages = [{"role": "system", "content": marked(system)}] if system else []
    for shown, answer in examples:
        spoken = [words, answer_behind([words], answer)]
        messages.append({"role": "user", "content": marked(shown)})
        messages.append({"role": "assistant", "content": marked(spoken)})
    messages.append({"role": "user", "content": marked(body)})
    return messages, held


def _accepted(
    tokenizer: Tokenizer,
    messages: Sequence[Mapping[str, str]],
    arguments: Mapping[str, Any],
    n_held: int,
) -> tuple[Chat, str]:
    """Return the conversation in a form that the template takes, and its text.

    Contents are texts; or lists of parts, if the template refuses or loses those. Some
    templates go through lists that are only there when tools are in use.
    """
    refusal: PromptError | None = None
    for as_parts, further in ((False, {}), (True, {}), (False, _EMPTY)):
        chat = Chat(tokenizer, messages, {**further, **arguments}, as_parts)
        try:
            rendered = chat.render(messages, generate=True)
        except PromptError as error:
            refusal = refusal or not_rendered(chat, error)
            continue
        dropped = _dropped(chat, rendered, n_held)
        if dropped is None:
            return chat, rendered
        refusal = refusal or not_kept(tokenizer.name, dropped)
    assert refusal is not None, "there was an attempt"
    raise refusal


def _dropped(chat: Chat, rendered: str, n_held: int) -> str | None:
    """Return the role of the first message that the template changes or drops."""
    last = len(chat.messages) - 1
    found = _MARK.findall(rendered)
    if sorted(found, key=int) != [str(at) for at in range(n_held)]:
        for at, message in enumerate(chat.messages):
            if any(
                found.count(mark) != 1 for mark in _MARK.findall(message["content"])
            ):
                return "text" if at == last else message["role"]
    ended = [
        {**each, "content": f"{each['content']}{_INNER}{at}{_CHANGEABLE}{_INNER}"}
        for at, each in enumerate(chat.messages)
    ]
    written = chat.render(ended, generate=True).split(_INNER)
    for at, message in enumerate(chat.messages):
        if f"{at}{_CHANGEABLE}" not in written:
            return "text" if at == last else message["role"]
    return None


def _trims(chat: Chat, rendered: str) -> tuple[bool, bool]:
    """Return whether the template cuts white space off a content's start and end."""
    *others, last = chat.messages

    def is_same(content: str) -> bool:
        asked = [*others, {**last, "content": content}]
        return chat.render(asked, generate=True) == rendered

    return is_same(f"\n {last['content']}"), is_same(f"{last['content']} \n")


def _trimmed(
    chat: Chat,
    rendered: str,
    system: Sequence[Part],
    examples: Examples,
    body: Sequence[Part],
    prefix: _Prefix,
) -> list[Part]:
    """Return what the marks stand for, with white space cut as the template does."""
    left, right = _trims(chat, rendered)
    shown = [(trimmed(rows, left=left, right=right), word) for rows, word in examples]
    body = trimmed(body, left=left, right=right)
    return _written(system, shown, body, prefix)[1]


def _placed(text: str, held: Sequence[Part]) -> list[Part]:
    """Put what the marks stand for into a rendered text."""
    return [
        held[int(piece)] if at % 2 else Segment(piece, is_data=False)
        for at, piece in enumerate(_MARK.split(text))
    ]


def _date(chat: Chat) -> str | None:
    """Return the date that the template writes, if it writes one."""
    today: str = chat.arguments["strftime_now"]
    one, other = (
        chat.render(chat.messages, generate=True, strftime_now=day)
        for day in _OTHER_DAYS
    )
    return today if one != other else None


def _closed_with(
    chat: Chat, thought: ThoughtSlot | None, head: str
) -> ThoughtSlot | None:
    """Return the place of a thought, closed with the answer prefix if that says how."""
    if not head:
        return thought
    opening = chat.behind(generate=True) if thought is None else thought.opening
    if is_open(opening) and not is_open(opening + head):
        return ThoughtSlot(opening, head, end_of_thought(chat.tokenizer, head))
    return thought and thought._replace(closing=thought.closing + head)


def _split(tokenizer: Tokenizer, prefix: str) -> _Prefix:
    """Split an answer prefix into what a template writes and the words after it."""
    source = tokenizer.chat_source
    ends = [end for _, end, _ in tokenizer.find_controls(prefix)]
    ends += [
        tag.end()
        for tag in _TAG.finditer(prefix)
        if tag.group() in source or last_thought(tag.group()) is not None
    ]
    end = max(ends, default=0)
    words = prefix[end:].lstrip() if end else prefix
    return _Prefix(prefix.removesuffix(words), words)
