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
from classify.prompts.thinking import closing_tag, is_open, last_thought
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
    prompt, turn = chat.behind(generate=True), chat.behind()
    shown = _shown_answer(chat)
    reasoned = shown_thought(chat)
    lead = _lead(prompt, shown.before, reasoned)
    if lead is not None and _is_left_open(chat.tokenizer, lead, shown):
        lead = None
    # Whether the template always writes its generation prompt.
    is_always = turn == prompt and (lead or prompt).strip() == prompt.strip()
    is_cut = is_always or _ANSWER in shown.last  # something else follows the answer
    end = _end(chat.tokenizer, shown.last, shown.inner, is_cut=is_cut)
    thinking: Literal["none", "skipped", "closed", "open"]
    thought = last_thought(_generated(prompt if lead is None else lead, turn))
    if thought is not None:
        thinking = "open" if thought.is_open else "closed"
    else:
        is_known = reasoned is not None or last_thought(chat.tokenizer.chat_source)
        thinking = "skipped" if is_known else "none"
    return Slot(prompt, lead, end, thinking)


class _ShownAnswer(NamedTuple):
    """What a template writes around an answer.

    Attributes
    ----------
    before : str or None
        What stands before one without a thought, if the template takes that.
    last : str
        What stands after one that ends the conversation.
    inner : str
        What stands between one and the user's next text.
    """

    before: str | None = None
    last: str = ""
    inner: str = ""


def _shown_answer(chat: Chat) -> _ShownAnswer:
    answer: Message = {"role": "assistant", "content": _ANSWER}
    more = {"role": "user", "content": _NEXT}
    # Some want parts of answers and texts of users; some refuse an answer without a
    # thought, or one that ends the conversation.
    thoughts = ({**answer, **form} for form in _THOUGHTS)
    for form in (answer, _in_parts(answer), *thoughts):
        of_last = chat.behind(form).partition(_ANSWER)
        of_inner = chat.behind(form, more).partition(_NEXT)[0].partition(_ANSWER)
        before, is_kept, _ = of_last if of_last[1] else of_inner
        if is_kept:
            plain = None if _THOUGHT in before else before
            return _ShownAnswer(plain, of_last[2], of_inner[2])
    return _ShownAnswer()


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
        # The block was closed; what stands before an answer may still be missing.
        lead = _joined(prompt, mark) if last_thought(mark) is None else prompt
    elif reasoned is not None and prompt.rstrip() == reasoned[0].rstrip():
        lead = prompt + reasoned[1]
    else:
        lead = None
    return None if lead is None or is_open(lead) else lead


def _is_left_open(tokenizer: Tokenizer, lead: str, shown: _ShownAnswer) -> bool:
    """Return whether a lead ends with a tag that is closed within answers.

    It begins something like a thought then, whatever its name.
    """
    units = _UNIT.findall(lead.rstrip())
    closing = closing_tag(units[-1]) if units else None
    if closing is None or closing in shown.last + shown.inner:
        return False
    known = [tokenizer.chat_source, *tokenizer.control_tokens.values()]
    return any(closing in each for each in known)


def _generated(lead: str, turn: str) -> str:
    """Return a lead without what ends the user's turn, where that can be told."""
    return lead if turn == lead or is_open(turn) else lead.removeprefix(turn)


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
        # Text behind what both begin with is another turn's, whose header they share.
        starts = [end for _, end, _ in of_last if end >= ends[-1]]
        stops = [*(start for start, *_ in of_last if start >= ends[-1]), len(last)]
        rest = [last[at:to] for at, to in zip(starts, stops, strict=True)]
        is_cut = is_cut or bool("".join(rest).strip())
        return last[: ends[0] if is_cut else ends[-1]]
    if of_last and not is_cut:
        return last[: of_last[-1][1]]
    return inner[: of_inner[0][1]] if of_inner else ""


def _joined(prompt: str, mark: str) -> str:
    """Return a prompt with a mark behind it, of which it may have the start."""
    n_there = next(
        n for n in range(len(mark), -1, -1) if not n or prompt.endswith(mark[:n])
    )
    return prompt + mark[n_there if mark[:n_there].strip() else 0 :]


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
