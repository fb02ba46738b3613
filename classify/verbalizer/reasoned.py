"""Prompts that end where a model begins to think, and the answers after the thought.

An `AnswerSpace` finds the token paths of label words after fixed text, which closes
the thought; a `ReasonedSpace` puts it after prompts whose thought is still to come.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from classify.errors import PromptTooLongError
from classify.labels import LabelSet
from classify.prompts import CompiledPrompt
from classify.prompts.closing import ThoughtEnd
from classify.verbalizer.audit import LabelAudit, ThoughtAudit
from classify.verbalizer.verbalizer import AnswerSpace, ScorablePrompt, Verbalizer
from classify.wording import parameter

__all__ = ["ReasonedSpace"]

# A text is cut if it leaves less of the context for the thought than this share, or
# than the most tokens of a thought if these are fewer.
_MIN_THOUGHT_SHARE = 0.25


class ReasonedSpace:
    """The token paths of label words after a prompt and a thought.

    Parameters
    ----------
    verbalizer : Verbalizer
    prompt : CompiledPrompt
        With a thought.
    labels : LabelSet
    max_tokens : int
        Most tokens of a thought.
    """

    def __init__(
        self,
        verbalizer: Verbalizer,
        prompt: CompiledPrompt,
        labels: LabelSet,
        max_tokens: int,
    ) -> None:
        self.prompt = prompt
        self._max_tokens = max_tokens
        self._answers = AnswerSpace(verbalizer, prompt.answering(), labels)
        self._end = ThoughtEnd.of(prompt, n_given_up=self._answers.n_boundary_tokens)

    def encode(
        self, rows: Sequence[Mapping[str, str]], context_length: int
    ) -> list[ScorablePrompt]:
        """Encode rows; each prompt ends where the model begins to think.

        A thought may have `max_tokens` tokens, or as many as the context leaves.

        Raises
        ------
        PromptTooLongError
            See `CompiledPrompt.encode`.
        """
        trie = self._answers.trie
        n_behind = len(self._end.closing) + trie.tree.max_depth
        least = min(self._max_tokens, int(context_length * _MIN_THOUGHT_SHARE))
        left = context_length - n_behind - least
        try:
            encoded = self.prompt.encode(rows, suffix="", max_tokens=left)
        except PromptTooLongError as error:
            raise PromptTooLongError(
                f"{error} Of the model's {context_length} tokens, {least} are kept for "
                f"its thought ({parameter('max_reasoning_tokens')}) and {n_behind} for "
                "the answer."
            ) from None
        return [
            ScorablePrompt(
                ids,
                trie,
                cut,
                self._end,
                min(self._max_tokens, context_length - n_behind - len(ids)),
            )
            for ids, cut in zip(encoded.token_ids, encoded.truncated, strict=True)
        ]

    def audit(self) -> LabelAudit:
        """Return a report on prompt and label tokens, for people to check."""
        tokenizer, thought = self.prompt.tokenizer, self.prompt.thought
        assert thought is not None
        row = dict.fromkeys(self.prompt.fields, "a text")
        [start] = tokenizer.encode([self.prompt.render_tail(row)])
        return replace(
            self._answers.audit(),
            prompt_pieces=tokenizer.pieces(start[-6:]),
            prompt_text=self.prompt.written("a text"),
            bos=() if self.prompt.is_chat else tokenizer.pieces(tokenizer.bos_ids),
            is_chat=self.prompt.is_chat,
            thought=ThoughtAudit(
                is_native=thought.is_native,
                end=thought.end,
                closing_pieces=tokenizer.pieces(self._end.closing),
                max_tokens=self._max_tokens,
            ),
        )
