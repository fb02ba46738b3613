"""Where a chat template puts the answer, found from its own renderings.

A generation prompt is not always what stands before an answer: channels, response
marks, closed thinking blocks or a space may follow, and a thinking block may be open.
So the conversation is rendered without an answer, with one, with one that was thought
about, and followed by another turn, and the answer's place is where these agree.
"""

import re
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any, Literal, NamedTuple

from classify.errors import PromptError
from classify.prompts.thinking import is_open, last_thought
from classify.tokenizer import Tokenizer

__all__ = ["Chat", "Message", "Slot", "answer_mark", "find_slot", "shown_thought"]

Message = Mapping[str, Any]

# Private-use characters, which no template and no sane text contains.
_BEHIND, _ANSWER, _THOUGHT, _NEXT = "\ue012", "\ue013", "\ue014", "\ue015"
# How messages hold what was thought: by its own key, or as a part of the content.
_THOUGHTS: tuple[Message, ...] = (
    {"content": _ANSWER, "reasoning_content": _THOUGHT},
    {"content": _ANSWER, "reasoning": _THOUGHT},
    {"content": _ANSWER, "thinking": _THOUGHT},
    {
        "content": [
            {"type": "thinking", "thinking": _THOUGHT},
            {"type": "text", "text": _ANSWER},
        ]
    },
)
# A control token or tag, or a character.
_UNIT = re.compile(r"<[^<>\s]*>|\[/?[A-Z_ ]+\]|.", re.DOTALL)


class Slot(NamedTuple):
    """The place of the answer.

    Attributes
    ----------
    generation_prompt : str
        What the template puts after the user's text, where the model continues.
    lead : str or None
        What must stand there for the label to come next. None: the template does not
        show it.
    end : str
        What the template puts after an answer, up to and including its last control
        token; "": nothing.
    thinking : {"none", "skipped", "closed", "open", "first"}
        Whether the template knows no thinking block; knows one, and leaves it out;
        closes one before the answer; or leaves one open. "first": the model is to
        think before it answers.
    """

    generation_prompt: str
    lead: str | None
    end: str
    thinking: Literal["none", "skipped", "closed", "open", "first"]


class Chat(NamedTuple):
    """A conversation that ends with the user's turn, and how a template writes it."""

    tokenizer: Tokenizer
    messages: Sequence[Mapping[str, str]]
    arguments: Mapping[str, Any]
    # Some templates want contents as lists of parts.
    as_parts: bool = False

    def render(
        self, messages: Sequence[Message], *, generate: bool, **further: Any
    ) -> str:
        """Return the template's text of any messages."""
        if self.as_parts:
            messages = [_in_parts(message) for message in messages]
        return self.tokenizer.render_chat(
            messages, add_generation_prompt=generate, **{**self.arguments, **further}
        )

    def behind(self, *turns: Message, generate: bool = False) -> str:
        """Return what stands after the user's text where these turns follow.

        Nothing, where the template refuses them or drops the text.
        """
        *before, last = self.messages
        # The words that we end with stay at the end: some templates look at those.
        held, mark, tail = last["content"].rpartition("\ue011")
        asked = {**last, "content": held + mark + _BEHIND + tail}
        try:
            rendered = self.render([*before, asked, *turns], generate=generate)
        except PromptError:
            return ""
        behind = rendered.rpartition(_BEHIND)[2] if _BEHIND in rendered else ""
        tail = tail if behind.startswith(tail) else tail.rstrip()
        return behind.removeprefix(tail) if behind.startswith(tail) else ""


def find_slot(chat: Chat) -> Slot:
    """Find where a template has the answer to a conversation written."""
    answer: Message = {"role": "assistant", "content": _ANSWER}
    more = {"role": "user", "content": _NEXT}
    prompt = chat.behind(generate=True)
    forms = (answer, _in_parts(answer))  # some want parts of answers, texts of users
    answer = next((each for each in forms if _ANSWER in chat.behind(each)), answer)
    before, is_kept, last = chat.behind(answer).partition(_ANSWER)
    inner = chat.behind(answer, more).partition(_NEXT)[0].partition(_ANSWER)[2]
    plain = before if is_kept else None
    reasoned = shown_thought(chat)
    lead = _lead(prompt, plain, reasoned)
    # Whether the template always writes its generation prompt.
    is_always = chat.behind() == prompt and (lead or prompt).strip() == prompt.strip()
    is_cut = is_always or _ANSWER in last  # something else follows the answer
    end = _end(chat.tokenizer, last, inner, is_cut=is_cut)
    thinking: Literal["none", "skipped", "closed", "open"]
    thought = last_thought(prompt if lead is None else lead)
    if thought is not None:
        thinking = "open" if thought.is_open else "closed"
    else:
        is_known = reasoned is not None or last_thought(chat.tokenizer.chat_source)
        thinking = "skipped" if is_known else "none"
    return Slot(prompt, lead, end, thinking)


def shown_thought(chat: Chat) -> tuple[str, str] | None:
    """Return what the template puts before a thought, and between it and an answer."""
    for message in _THOUGHTS:
        text = chat.behind({"role": "assistant", **message})
        before, found, _ = text.partition(_ANSWER)
        if found and before.count(_THOUGHT) == 1:
            opening, _, closing = before.partition(_THOUGHT)
            return opening, closing
    return None


def answer_mark(chat: Chat) -> str:
    """Return what a template writes before an answer in place of a thought."""
    answer = chat.behind({"role": "assistant", "content": _ANSWER})
    _, mark = _apart(chat.behind(generate=True), answer.partition(_ANSWER)[0])
    return mark if last_thought(mark) is None else ""


def _lead(
    prompt: str, plain: str | None, reasoned: tuple[str, str] | None
) -> str | None:
    """Return what leads to an answer, of the generation prompt and of what is shown.

    `plain` is what stands before an answer, `reasoned` what stands around a thought.
    """
    shown = [plain] if plain is not None else []
    if reasoned is not None:
        shown.append("".join(reasoned))
    for text in shown:
        if text.startswith(prompt) and not is_open(text):
            return text
    lead: str | None = prompt
    extra, mark = ("", "") if plain is None else _apart(prompt, plain)
    thought = last_thought(extra)
    if not extra.strip():
        lead = prompt[: len(prompt) - len(extra)] + mark if mark.strip() else prompt
    elif thought is not None and not thought.is_open:
        # The block was closed, and what stands before an answer is still missing.
        lead = prompt + (mark if last_thought(mark) is None else "")
    elif reasoned is not None and prompt.rstrip() == reasoned[0].rstrip():
        lead = prompt + reasoned[1]
    else:
        lead = None
    return None if lead is None or is_open(lead) else lead


def _end(tokenizer: Tokenizer, last: str, inner: str, *, is_cut: bool) -> str:
    """Return the end of an answer, of what stands after one.

    `last` stands after the last answer of a conversation, `inner` between one and the
    user's next text. Both begin with the end: some templates put a token after the
    last answer that ends the whole conversation, and all put the next turn's header
    after the others. Where they begin differently, a model writes what is last; where
    nothing is, the next turn's header. Where something else follows, as after an
    answer that is written twice, or the generation prompt of a template that always
    writes it, `is_cut` is true, and the end is the first control token.
    """
    of_last, of_inner = tokenizer.find_controls(last), tokenizer.find_controls(inner)
    ends = []
    for one, other in zip(of_last, of_inner, strict=False):
        if one != other or last[: one[1]] != inner[: one[1]]:
            break
        ends.append(one[1])
    if ends:
        return last[: ends[0] if is_cut else ends[-1]]
    if of_last and not is_cut:
        return last[: of_last[-1][1]]
    return inner[: of_inner[0][1]] if of_inner else ""


def _apart(prompt: str, plain: str) -> tuple[str, str]:
    """Return what two texts hold after the longest piece that both have.

    Mostly that is how both begin; some templates write something else after the last
    text, such as a reminder.
    """
    ours, shown = _UNIT.findall(prompt), _UNIT.findall(plain)
    match = SequenceMatcher(None, ours, shown, autojunk=False).find_longest_match()
    behind = ours[match.a + match.size :], shown[match.b + match.size :]
    return "".join(behind[0]), "".join(behind[1])


def _in_parts(message: Message) -> Message:
    content = message["content"]
    if not isinstance(content, str):
        return message
    return {**message, "content": [{"type": "text", "text": content}]}
