"""How label words will be read, for people to check."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from markupsafe import Markup

from classify.markup import table, token_html

__all__ = ["ExampleAudit", "LabelAudit", "ThoughtAudit", "WordAudit"]

# A notebook shows no more words than can be looked through.
_N_SHOWN_WORDS = 100


class WordAudit(NamedTuple):
    """How one label word will be read."""

    label: str
    word: str
    token_ids: tuple[int, ...]
    pieces: tuple[str, ...]
    prefix_of: tuple[str, ...]


class ThoughtAudit(NamedTuple):
    """Where the model thinks before it answers.

    Attributes
    ----------
    is_native : bool
        Whether the model has a thinking mode; if not, the prompt asks it to think.
    end : str
        The text that the model ends its thought with.
    closing_pieces : tuple of str
        The tokens from the thought to the answer.
    max_tokens : int
        Most tokens of a thought.
    """

    is_native: bool
    end: str
    closing_pieces: tuple[str, ...]
    max_tokens: int


class ExampleAudit(NamedTuple):
    """Which rows of a table are shown as examples.

    Attributes
    ----------
    source : str
        The table.
    choice : {"balanced", "random", "nearest"}
    n_rows : int
        Rows that examples are chosen from.
    shown : tuple of (str, str)
        Text and label of those that are shown with all texts but themselves; empty
        where each text has its own.
    """

    source: str
    choice: str
    n_rows: int
    shown: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class LabelAudit:
    """A report on prompt and label tokens, made before a model is loaded.

    Attributes
    ----------
    words : tuple of WordAudit
        Each label word with its token path (the end token included, where added) and
        the words that it is a prefix of.
    end : str or None
        The spelling of the end token of every path, or None if none was needed.
    prompt_pieces : tuple of str
        The last tokens before the answer; or before the thought, if there is one.
    prompt_text : str
        The prompt of ``a text``, up to the answer; or to the thought, if there is one.
    n_boundary_tokens : int
        How many tokens the prompt's own encoding gave up to the paths.
    bos : tuple of str
        What is put before a plain prompt, as the tokenizer's own encoding does.
    is_chat : bool
        Whether the chat template writes the prompt.
    n_nodes, n_inner, n_branching : int
        Size of the trie: all nodes; those that can be read; those with a choice.
    max_depth : int
        Tokens of the longest path.
    per_text : bool
        Whether paths depend on the text, and are found for each text.
    thinking : {"none", "skipped", "closed", "open", "first"} or None
        What the chat template does with thinking; see `classify.prompts.slot.Slot`.
        None for a plain prompt.
    answer_end : str or None
        What the chat template writes after an answer; None for a plain prompt.
    date : str or None
        The date that the chat template writes as today's.
    thought : ThoughtAudit or None
        Where the model thinks before it answers, if it does.
    examples : ExampleAudit or None
        Which rows of a table are shown as examples, if there is one.
    """

    words: tuple[WordAudit, ...]
    end: str | None
    prompt_pieces: tuple[str, ...]
    prompt_text: str
    n_boundary_tokens: int
    bos: tuple[str, ...]
    is_chat: bool
    n_nodes: int
    n_inner: int
    n_branching: int
    max_depth: int
    per_text: bool
    thinking: str | None
    answer_end: str | None
    date: str | None
    thought: ThoughtAudit | None = None
    examples: ExampleAudit | None = None

    def _repr_html_(self) -> str:
        shown = self.words[:_N_SHOWN_WORDS]
        rows = [
            [
                word.label,
                word.word,
                _pieces_html(word.pieces),
                " ".join(map(str, word.token_ids)),
                ", ".join(word.prefix_of),
            ]
            for word in shown
        ]
        header = ["label", "word", "tokens", "token ids", "begins"]
        facts = [
            f"Shown: {len(shown)} of {len(self.words)} words",
            f"Prompt ends: … {_pieces_html(self.prompt_pieces)}",
            f"End token: {'none' if self.end is None else _pieces_html([self.end])}",
            f"Trie: {self.n_nodes} nodes, longest path {self.max_depth} tokens",
        ]
        if self.thought is not None:
            closing = _pieces_html(self.thought.closing_pieces)
            facts.insert(2, f"Thought ends: {closing}")
        if self.per_text:
            facts.append("The words' tokens depend on how a text ends")
        return f"{table('lllll', header, rows)}\n<p>{'<br>'.join(facts)}</p>"


def _pieces_html(pieces: Sequence[str]) -> Markup:
    return Markup(" ").join(map(token_html, pieces))
