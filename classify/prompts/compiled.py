"""A prompt recipe joined with a tokenizer: rows in, token ids out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from classify.errors import PromptTooLongError
from classify.prompts.parts import (
    Field,
    Part,
    closing_behind,
    fill,
    separator_behind,
)
from classify.prompts.slot import Slot
from classify.prompts.thought import THOUGHT, ThoughtSlot
from classify.tokenizer import Segment, Tokenizer

__all__ = ["CompiledPrompt", "EncodedPrompts"]


class EncodedPrompts(NamedTuple):
    """Token ids of prompts, which texts were cut to fit, and the rows so cut.

    Each is a list of length n_texts.
    """

    token_ids: list[tuple[int, ...]]
    truncated: list[bool]
    rows: list[Mapping[str, str]]


@dataclass(frozen=True, eq=False)
class CompiledPrompt:
    """A prompt recipe joined with a tokenizer: renders and encodes rows.

    Attributes
    ----------
    tokenizer : Tokenizer
    parts : tuple
        Literal and data segments, and the fields between them, merged.
    is_chat : bool
        Whether a chat template wrote it.
    separator : str or None
        What stands before an answer; None: decide by the tail.
    slot : Slot or None
        Where the chat template has the answer written.
    date : str or None
        The date that the chat template writes as today's.
    thought : ThoughtSlot or None
        Where the model thinks before it answers: the prompt ends there.
    """

    tokenizer: Tokenizer
    parts: tuple[Part, ...]
    is_chat: bool
    separator: str | None
    slot: Slot | None
    date: str | None
    too_long: str
    thought: ThoughtSlot | None = None

    def answering(self) -> "CompiledPrompt":
        """Return the text between a thought and the answer, as a prompt."""
        assert self.thought is not None, "asked where the model thinks"
        behind = Segment(THOUGHT + self.thought.closing, is_data=False)
        return replace(self, parts=(behind,), thought=None)

    @property
    def fields(self) -> tuple[str, ...]:
        """The columns that a row must bring, in order of appearance."""
        names = [part.name for part in self.parts if isinstance(part, Field)]
        return tuple(dict.fromkeys(names))

    @property
    def tail_follows_data(self) -> bool:
        """Whether a row's text can stand in one run of text with the answer.

        If not, a control token lies between, and no merge can cross it.
        """
        for part in reversed(self.parts):
            if isinstance(part, Field):
                return True
            if not part.is_data and self.tokenizer.find_controls(part.text):
                return False
        return False

    def may_merge(self, spelling: str) -> bool:
        """Return whether a token may span the end of a row's text and an answer."""
        last = self.parts[-1]
        tail = "" if isinstance(last, Field) or last.is_data else last.text
        start = spelling[: len(spelling) - len(spelling.lstrip()) + 1]
        return self.tail_follows_data and self.tokenizer.may_span(tail + start)

    def separator_before(self, word: str) -> str:
        """Return what stands between the prompt and a label word: a space or nothing.

        The chat template's own where it has one, else `separator_behind` what follows
        the last control token.
        """
        if self.separator is not None:
            return self.separator
        return separator_behind(self._parts_behind_controls(), word)

    @property
    def closing(self) -> str:
        """What closes the bracket, quotation mark or tag around an answer, or ""."""
        if self.separator is not None:
            return ""
        return closing_behind(self._parts_behind_controls())

    def _parts_behind_controls(self) -> list[Part]:
        parts: list[Part] = []
        for part in reversed(self.parts):
            controls: Sequence[tuple[int, int, int]] = ()
            if isinstance(part, Segment) and not part.is_data:
                controls = self.tokenizer.find_controls(part.text)
                if controls:
                    part = Segment(part.text[controls[-1][1] :], is_data=False)
            parts.insert(0, part)
            if controls:
                break
        return parts

    def render(self, row: Mapping[str, str]) -> list[Segment]:
        """Fill a row's columns in.

        Raises
        ------
        PromptError
            A column is missing.
        """
        return fill(self.parts, row)

    def written(self, text: str) -> str:
        """Return the prompt of a row that has this text in every column."""
        segments = self.render(dict.fromkeys(self.fields, text))
        return "".join(segment.text for segment in segments)

    def render_tail(self, row: Mapping[str, str]) -> list[Segment]:
        """Fill a row in, and return the prompt from its last control token on.

        No merge crosses a control token, so this is all that the tokens of an answer
        depend on. Without one it is the whole prompt.
        """
        segments = self.render(row)
        for at in range(len(segments) - 1, -1, -1):
            text, is_data = segments[at]
            controls = () if is_data else self.tokenizer.find_controls(text)
            if controls:
                start = controls[-1][0]
                return [Segment(text[start:], is_data=False), *segments[at + 1 :]]
        return segments

    def encode(
        self, rows: Sequence[Mapping[str, str]], *, suffix: str, max_tokens: int
    ) -> EncodedPrompts:
        """Encode rows with `suffix` (the first label word) after each prompt.

        Parameters
        ----------
        rows : sequence of mapping
            Columns of each row; all must be strings.
        suffix : str
            Text to encode jointly with each prompt.
        max_tokens : int
            Most tokens, those of the suffix included.

        Raises
        ------
        PromptTooLongError
            The instructions alone do not fit, or a text does not and
            ``too_long="error"``.
        """
        ending = Segment(suffix, is_data=True)
        add_bos = not self.is_chat
        encoded = self.tokenizer.encode(
            [[*self.render(row), ending] for row in rows], add_bos=add_bos
        )
        truncated = [len(token_ids) > max_tokens for token_ids in encoded]
        kept = list(rows)
        for at, is_long in enumerate(truncated):
            if is_long:
                encoded[at], kept[at] = self._cut(
                    rows[at], ending, len(encoded[at]), max_tokens
                )
        return EncodedPrompts(encoded, truncated, kept)

    def _cut(
        self, row: Mapping[str, str], ending: Segment, n_tokens: int, max_tokens: int
    ) -> tuple[tuple[int, ...], Mapping[str, str]]:
        """Return the encoding with the longest start of the text that fits, and it."""
        if self.too_long == "error":
            raise PromptTooLongError(
                f"A prompt needs {n_tokens} tokens, but the model takes {max_tokens}: "
                "shorten the text, or allow it to be cut (too_long: truncate)."
            )
        text = row.get("text", "") if "text" in self.fields else ""

        def encode_start(n_chars: int) -> tuple[int, ...]:
            cut = self.render({**row, "text": text[:n_chars]})
            return self.tokenizer.encode([[*cut, ending]], add_bos=not self.is_chat)[0]

        # Tokens are at least roughly proportional to characters, so a bisection over
        # characters ends after about log2(len) encodings; the first guess is bounded by
        # the share that must go, so that a huge text is encoded whole only once.
        shortest = encode_start(0)
        if len(shortest) > max_tokens:
            raise PromptTooLongError(
                f"The prompt needs {len(shortest)} tokens without its text, but the "
                f"model takes {max_tokens}: shorten the instructions, list fewer "
                "labels or examples, or use a model with a longer context."
            )
        low, high, best = 0, len(text), shortest
        guess = int(high * (max_tokens / n_tokens))  # tokens per character, roughly
        while low < high:
            trial = encode_start(guess)
            if len(trial) <= max_tokens:
                low, best = guess, trial
                if max_tokens - len(trial) <= 1:
                    break
            else:
                high = guess - 1
            guess = (low + high + 1) // 2
        return best, {**row, "text": text[:low]}
