"""Thinking blocks in what a chat template writes: which are open, and which are closed.

Models differ in how they spell them: ``<think>``, ``[THINK]``, ``<|START_THINKING|>``,
``<seed:think>``, ``<|channel>thought``, ``<|open|>think<|sep|>``.
"""

import re
from typing import NamedTuple

__all__ = [
    "Thought",
    "closing_tag",
    "first_tag",
    "is_open",
    "last_thought",
    "names_thinking",
    "opening_tag",
]

_WORDS = (
    r"(?:think(?:ing)?|thoughts?|reason(?:ing)?|analysis|cot|reflection|scratchpad"
    r"|inner_monologue)"
)
# One tag that names thinking, such as <think> or <|END_THINKING|>.
_TAG = re.compile(
    rf"[<\[◁](?![^<>\[\]◁▷'\"\s]*effort)[^<>\[\]◁▷'\"\s]*?(?<![a-z]){_WORDS}(?![a-z])"
    r"[^<>\[\]◁▷'\"\s]*[>\]▷]",
    re.IGNORECASE,
)
# A tag, and the word after it: <|channel>thought, <|open|>think<|sep|>.
_NAMED = re.compile(rf"<[^<>\s]*>{_WORDS}(?=<|\n|$)(?:<[^<>\s]*>)?", re.IGNORECASE)
# A block ends, or none begins: <|think_off|>.
_CLOSES = re.compile(
    r"/|(?<![a-z])(?:end|close|stop|off|no|none|skip)(?![a-z])", re.IGNORECASE
)
_WORD = re.compile(rf"(?<![a-z])(?:no)?{_WORDS}(?![a-z])", re.IGNORECASE)
_ANY_TAG = re.compile(r"<[^<>\s]+>")
# How the tag that closes a block is made of the one that opens it.
_COUNTERPARTS = {
    r"([<\[◁])(\w[\w:]*[>\]▷])": r"\1/\2",
    r"<\|START_(\w+\|>)": r"<|END_\1",
    r"<\|begin_of_(\w+\|>)": r"<|end_of_\1",
}


class Thought(NamedTuple):
    """The last thinking block of a text.

    Attributes
    ----------
    opener : str
        What opens it, with the white space after; "" if only its end is there.
    is_open : bool
    """

    opener: str
    is_open: bool

    @property
    def closing(self) -> str | None:
        """What models commonly close such a block with; None where that is unknown."""
        closer = closing_tag(self.opener.rstrip())
        if closer is None or not self.opener.endswith("\n"):
            return closer
        return f"\n{closer}\n\n"


def closing_tag(tag: str) -> str | None:
    """Return the tag that commonly closes what one opens, if there is one.

    Examples
    --------
    >>> closing_tag("<think>"), closing_tag("<|START_THINKING|>")
    ('</think>', '<|END_THINKING|>')
    >>> closing_tag("<|assistant|>")
    """
    for pattern, counterpart in _COUNTERPARTS.items():
        if re.fullmatch(pattern, tag):
            return re.sub(pattern, counterpart, tag)
    return None


def last_thought(text: str) -> Thought | None:
    r"""Return the last thinking block in what a template writes before an answer.

    Examples
    --------
    >>> last_thought("<|assistant|>\n<think>\n")
    Thought(opener='<think>\n', is_open=True)
    >>> last_thought("<|assistant|></think>")
    Thought(opener='', is_open=False)
    >>> last_thought("<|channel>thought\n<channel|>").is_open
    False
    >>> last_thought("<|assistant|>")
    """
    found: Thought | None = None
    depth = 0
    for match in _TAG.finditer(text):
        if _CLOSES.search(match.group()):
            depth = max(0, depth - 1)
            found = Thought(found.opener if found else "", is_open=depth > 0)
        else:
            depth += 1
            found = Thought(_with_space(text, match), is_open=True)
    if found is not None:
        return found
    for match in _NAMED.finditer(text):
        if not _CLOSES.search(match.group().partition(">")[0]):
            is_open = _ANY_TAG.search(text, match.end()) is None
            found = Thought(_with_space(text, match), is_open)
    return found


def is_open(text: str) -> bool:
    """Return whether a text ends inside a thinking block."""
    thought = last_thought(text)
    return thought is not None and thought.is_open


def names_thinking(text: str) -> bool:
    """Return whether a name or a few words are about thinking.

    Examples
    --------
    >>> names_thinking("enable_thinking"), names_thinking("/nothink")
    (True, True)
    >>> names_thinking("season")
    False
    """
    return _WORD.search(text) is not None


def first_tag(text: str) -> tuple[int, int] | None:
    r"""Return where the first tag that names thinking begins and ends.

    Examples
    --------
    >>> first_tag("\n</think>\n\n")
    (1, 9)
    """
    match = _TAG.search(text)
    return match and match.span()


def opening_tag(text: str) -> int:
    r"""Return where the opening of a block ends, and a thought would begin.

    Examples
    --------
    >>> opening_tag("<think>\n\n</think>")
    8
    >>> opening_tag("<|channel>thought\n<channel|>")
    18
    """
    match = _TAG.search(text) or _NAMED.search(text)
    if match is None:
        return 0
    # One line break belongs to the opening, and another to what closes the block.
    return match.end() + text.startswith("\n", match.end())


def _with_space(text: str, match: re.Match[str]) -> str:
    rest = text[match.end() :]
    return match.group() + rest[: len(rest) - len(rest.lstrip())]
