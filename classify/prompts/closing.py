"""Turns what a model generated into a closed thought, in token ids.

A thought keeps the tokens that the model chose, and what closes it is encoded by
itself: no token spans the seam, whatever the thought ends with. Where a control token
ends thoughts, the model's own is kept. Where text does, the thought is cut at the last
token boundary before that text, and the closing is always written by us, in the same
tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from classify.prompts.compiled import CompiledPrompt
from classify.prompts.thought import THOUGHT
from classify.tokenizer import Segment, Tokenizer
from classify.tracking import TrackedGeneration, common_prefix_length

__all__ = ["ClosedThought", "ThoughtEnd"]


class ClosedThought(NamedTuple):
    """A thought, and the tokens added after it.

    Attributes
    ----------
    text : str
    token_ids : tuple of int
        The generated tokens, including the end of the thought if that is a control
        token.
    closing_token_ids : tuple of int
        Added after these, so that the answer comes next.
    cut : bool
        Whether the thought was cut at its maximum number of tokens.
    """

    text: str
    token_ids: tuple[int, ...]
    closing_token_ids: tuple[int, ...]
    cut: bool


@dataclass(frozen=True, eq=False)
class ThoughtEnd:
    """How thoughts after a prompt end, for one tokenizer.

    Attributes
    ----------
    prompt : CompiledPrompt
        With a thought.
    closing : tuple of int
        The tokens from a thought to where the paths of the answers begin.
    token : int or None
        The control token that ends a thought; None: text ends it.
    stop_token_ids : tuple of int
        Tokens at which the generation stops.
    """

    prompt: CompiledPrompt
    closing: tuple[int, ...]
    token: int | None
    stop_token_ids: tuple[int, ...]

    @classmethod
    def of(cls, prompt: CompiledPrompt, *, n_given_up: int) -> "ThoughtEnd":
        """Encode the closing; of its last tokens, some may belong to the paths."""
        thought, tokenizer = prompt.thought, prompt.tokenizer
        assert thought is not None, "asked where the model thinks"
        [before, joint] = tokenizer.encode(
            [
                [Segment(THOUGHT, is_data=False)],
                [Segment(THOUGHT + thought.closing, is_data=False)],
            ]
        )
        n_before = common_prefix_length([before, joint])
        closing = joint[n_before : len(joint) - n_given_up]
        controls = tokenizer.find_controls(thought.end)
        is_control = len(controls) == 1 and controls[0][:2] == (0, len(thought.end))
        token = controls[0][2] if is_control and controls[0][2] in closing else None
        end = prompt.slot.end if prompt.slot is not None else ""
        stops = [i for _, _, i in tokenizer.find_controls(end)]
        stops += [i for i in (tokenizer.eos_id, token) if i is not None]
        return cls(prompt, closing, token, tuple(dict.fromkeys(stops)))

    def close(self, generation: TrackedGeneration) -> ClosedThought:
        """Return the thought that was generated, and what follows it."""
        token_ids, tokenizer = generation.token_ids, self.prompt.tokenizer
        thought = self.prompt.thought
        assert thought is not None
        if self.token is not None and self.token in token_ids:
            at = token_ids.index(self.token)
            rest = self.closing[self.closing.index(self.token) + 1 :]
            text = tokenizer.decode(token_ids[:at])
            return ClosedThought(text.strip(), token_ids[: at + 1], rest, cut=False)
        found = None
        if self.token is None:
            found = thought.pattern.search(tokenizer.decode(token_ids))
        cut = found is None and generation.finish_reason != "stop"
        if found is not None:
            token_ids = token_ids[
                : n_tokens_within(tokenizer, token_ids, found.start())
            ]
        elif token_ids and not cut and token_ids[-1] in self.stop_token_ids:
            token_ids = token_ids[:-1]
        text = tokenizer.decode(token_ids)
        return ClosedThought(text.strip(), token_ids, self.closing, cut)


def n_tokens_within(
    tokenizer: Tokenizer, token_ids: Sequence[int], n_chars: int
) -> int:
    """Return how many of the first tokens write no more than so many characters."""
    low, high = 0, len(token_ids)
    while low < high:
        middle = (low + high + 1) // 2
        if len(tokenizer.decode(token_ids[:middle])) <= n_chars:
            low = middle
        else:
            high = middle - 1
    return low
