"""How answers end: the tokens that a model writes after one."""

from dataclasses import dataclass, field

from classify.engines.byte_marks import MARK_OF_BYTE
from classify.errors import LabelError
from classify.labels import LabelSet
from classify.prompts import CompiledPrompt
from classify.tokenizer import Segment, Tokenizer

__all__ = ["End", "choose_end"]


@dataclass(frozen=True)
class End:
    """What is put after every word: text encoded with it, and control tokens.

    Where the text closes quotation marks, brackets or a tag, any token that begins with
    its last token ends a word too: a model may write `"}` as one token.
    """

    text: str = ""
    ids: tuple[int, ...] = ()
    # Where the text closes an answer: whose tokens may close it.
    closing_of: Tokenizer | None = None
    _found: dict[str, tuple[int, ...]] = field(
        default_factory=dict, compare=False, repr=False
    )

    def paths(self, path: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        """Return a path with each of the tokens that may end it."""
        if self.closing_of is None:
            return (path,)
        [last] = self.closing_of.pieces(path[-1:])
        if last not in self._found:
            self._found[last] = _closing_ids(self.closing_of, last)
        ends = sorted({path[-1], *self._found[last]})
        return tuple((*path[:-1], token_id) for token_id in ends)


def choose_end(prompt: CompiledPrompt, labels: LabelSet, wanted: str) -> End:
    """Return the end of the `wanted` kind; for "auto", the first that exists.

    Raises
    ------
    LabelError
        There is no such end.
    """
    tokenizer = prompt.tokenizer
    eos_id = tokenizer.eos_id
    candidates: dict[str, End | None] = {
        "closing": _closing(prompt, labels),
        "end_of_turn": _end_of_turn(prompt),
        "eos": None if eos_id is None else End(ids=(eos_id,)),
        "newline": End("\n") if tokenizer.writes("\n") else None,
    }
    if wanted != "auto":
        candidates = {wanted: candidates[wanted]}
    for end in candidates.values():
        if end is not None:
            return end
    if wanted == "auto":
        raise LabelError(
            "The answers need an end token, but the tokenizer of "
            f"{tokenizer.name!r} has no end of turn, no end of sequence and no "
            "token for a newline: give the labels words of which none is "
            "a prefix of another, and leave out end='always'."
        )
    raise LabelError(
        f"end_token={wanted!r}, but there is none with the tokenizer of "
        f"{tokenizer.name!r} and this prompt: use end_token='auto'."
    )


def _closing(prompt: CompiledPrompt, labels: LabelSet) -> End | None:
    """Return what closes the quotation marks, brackets or tag of an answer."""
    mark = prompt.closing
    words = (word for label in labels for word in label.words)
    # A word that contains it could not be distinguished from the end of another.
    if not mark or not prompt.tokenizer.writes(mark) or any(mark in w for w in words):
        return None
    return End(mark, closing_of=prompt.tokenizer)


def _closing_ids(tokenizer: Tokenizer, closing: str) -> tuple[int, ...]:
    """Return the tokens that begin with a closing quotation mark or bracket.

    Not those in which a letter or digit follows, as after an apostrophe.
    """
    in_bytes = "".join(MARK_OF_BYTE[byte] for byte in closing.encode())
    found = [
        token_id
        for token, token_id in tokenizer.backend.get_vocab().items()
        if isinstance(token, str) and token.startswith((closing, in_bytes))
    ]
    return tuple(
        token_id
        for token_id, piece in zip(found, tokenizer.pieces(found), strict=True)
        if token_id not in tokenizer.control_ids
        and piece.startswith(closing)
        and not piece[len(closing) : len(closing) + 1].isalnum()
    )


def _end_of_turn(prompt: CompiledPrompt) -> End | None:
    """Return what the chat template puts after an answer."""
    end = prompt.slot.end if prompt.slot else ""
    controls = prompt.tokenizer.find_controls(end)
    if not controls:
        return None
    text, rest = end[: controls[0][0]], end[controls[0][0] :]
    [ids] = prompt.tokenizer.encode([[Segment(rest, is_data=False)]])
    return End(text, ids)
