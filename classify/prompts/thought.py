r"""Where a model thinks before it answers, and what leads from there to an answer.

A template shows this in one of several ways, tried in this order: it renders an answer
with its thought; it renders an empty block where thinking is turned off; it opens a
block, or has tags for one, which are commonly closed in one way.
"""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from classify.errors import PromptError
from classify.prompts.slot import Chat, answer_mark, find_slot, shown_thought
from classify.prompts.thinking import (
    Thought,
    first_tag,
    is_open,
    last_thought,
    opening_tag,
)
from classify.tokenizer import Tokenizer

__all__ = ["THOUGHT", "ThoughtSlot", "end_of_thought", "find_thought"]

# Stands for a thought where what follows it is encoded.
THOUGHT = "a"


class ThoughtSlot(NamedTuple):
    r"""The place of a thought.

    Attributes
    ----------
    opening : str
        What stands between the user's text and the thought.
    closing : str
        What stands between the thought and the answer.
    end : str
        The part of `closing` that the model writes itself when it is done thinking: a
        control token, a tag, or the words that begin the last line.
    is_native : bool
        Whether the model has a thinking mode; if not, the prompt asks it to think.
    """

    opening: str
    closing: str
    end: str
    is_native: bool = True

    @property
    def pattern(self) -> re.Pattern[str]:
        """Pattern that finds the end in the text of a thought."""
        if self.is_native:
            return re.compile(re.escape(self.end))
        # At the start of a line, marked as a heading or in bold, as models do.
        stem = self.end.rstrip(":")
        bold = r"[*_]*" + re.escape(self.end[len(stem) :])
        return re.compile(rf"(?m)^[*_#>\s]*{re.escape(stem)}{bold}")


def end_of_thought(tokenizer: Tokenizer, closing: str) -> str:
    """Return the control token or tag in `closing` that ends a thought."""
    controls = [(start, end) for start, end, _ in tokenizer.find_controls(closing)]
    tag = first_tag(closing)
    spans = [*controls[:1], *([tag] if tag else [])]
    start, end = min(spans, default=(0, 0))
    return closing[start:end]


def find_thought(
    chat: Chat, ways_off: Sequence[Mapping[str, Any]]
) -> ThoughtSlot | None:
    """Return where the model thinks, if the template lets it think here.

    Parameters
    ----------
    chat : Chat
    ways_off : sequence of mapping
        Template arguments that turn thinking off.
    """
    prompt = chat.behind(generate=True)
    thought = last_thought(prompt)
    if thought is not None and not thought.is_open:
        return None
    ways = (
        _shown(chat, prompt),
        _shown_empty(chat, prompt, ways_off),
        _known(chat, prompt, thought),
    )
    for opening, closing in itertools.chain(*ways):
        end = end_of_thought(chat.tokenizer, closing)
        if end and not is_open(opening + closing):
            return ThoughtSlot(opening, closing, end)
    return None


# Each yields what may stand before a thought, and between it and an answer.


def _shown(chat: Chat, prompt: str) -> Iterator[tuple[str, str]]:
    """Take what the template writes around a thought."""
    shown = shown_thought(chat)
    if shown is None:
        return
    opening, closing = shown
    if opening.rstrip() == prompt.rstrip() and is_open(prompt):
        yield prompt, closing
    elif opening.startswith(prompt):
        yield opening, closing


def _shown_empty(
    chat: Chat, prompt: str, ways_off: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[str, str]]:
    """Take apart the empty block that the template writes where thinking is off."""
    for way in ways_off:
        off = chat._replace(arguments={**chat.arguments, **way})
        try:
            lead = find_slot(off).lead or ""
        except PromptError:
            continue
        block = lead[len(prompt) :] if lead.startswith(prompt) else ""
        if last_thought(block) is not None:
            at = 0 if is_open(prompt) else opening_tag(block)
            yield prompt + block[:at], block[at:]


def _known(
    chat: Chat, prompt: str, thought: Thought | None
) -> Iterator[tuple[str, str]]:
    """Take what commonly closes a block that is open, or that the template closes."""
    if thought is not None:
        if thought.closing is not None:
            yield prompt, thought.closing + answer_mark(chat)
        return
    for tag in chat.tokenizer.control_tokens.values():
        block = last_thought(f"{tag}\n")
        closing = None if block is None else block.closing
        if closing is not None and closing.strip() in chat.tokenizer.chat_source:
            yield f"{prompt}{tag}\n", closing
