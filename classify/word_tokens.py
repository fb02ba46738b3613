"""Words to track: the tokens that begin each of them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from classify.errors import InputError
from classify.tokenizer import Tokenizer
from classify.tracking import common_prefix_length

__all__ = ["TrackedWord", "Words", "tracked_words"]

Words = Sequence[str] | Mapping[str, str | Sequence[str]]


class TrackedWord(NamedTuple):
    """A word, and the tokens that begin it.

    Attributes
    ----------
    name : str
    token_ids : tuple of int
        The first token of each spelling, after a space and without; each once.
    pieces : tuple of str
        Their text.
    is_whole : bool
        Whether these tokens are the whole word. If not, its value is that of its
        beginning, which other words may share.
    """

    name: str
    token_ids: tuple[int, ...]
    pieces: tuple[str, ...]
    is_whole: bool


def tracked_words(words: Words, tokenizer: Tokenizer) -> tuple[TrackedWord, ...]:
    """Return the words with the tokens that begin them, or raise InputError."""
    if isinstance(words, str) or not words:
        raise InputError(
            f"words must be a sequence of words, such as ['yes', 'no']. Got {words!r}."
        )
    spelled: Mapping[str, str | Sequence[str]] = (
        words if isinstance(words, Mapping) else {word: word for word in words}
    )
    if len(spelled) < len(words):
        twice = next(word for word in words if [*words].count(word) > 1)
        raise InputError(f"The word {twice!r} is given twice: remove one.")
    found = []
    owners: dict[int, TrackedWord] = {}
    for name, spellings in spelled.items():
        if isinstance(spellings, str):
            spellings = [spellings]
        word = _tracked_word(name, spellings, tokenizer)
        for token, piece in zip(word.token_ids, word.pieces, strict=True):
            if other := owners.get(token):
                raise InputError(
                    f"The words {other.name!r} and {name!r} begin with the same token, "
                    f"{piece!r}, and cannot be told apart: remove one, or make them "
                    "spellings of one word."
                )
            owners[token] = word
        found.append(word)
    return tuple(found)


def _tracked_word(
    name: str, spellings: Sequence[str], tokenizer: Tokenizer
) -> TrackedWord:
    firsts: dict[int, bool] = {}
    for spelling in spellings:
        if not isinstance(spelling, str) or not spelling.strip():
            raise InputError(
                f"The word {name!r} has an empty spelling, {spelling!r}: remove it."
            )
        for tokens in _tokenized(spelling.strip(), tokenizer):
            if not tokens or tokens[0] == tokenizer.unknown_id:
                raise InputError(
                    f"The tokenizer of {tokenizer.name!r} has no token for the start "
                    f"of {spelling!r}: remove it."
                )
            firsts[tokens[0]] = firsts.get(tokens[0], True) and len(tokens) == 1
    ids = tuple(firsts)
    return TrackedWord(name, ids, tokenizer.pieces(ids), all(firsts.values()))


def _tokenized(word: str, tokenizer: Tokenizer) -> Iterator[list[int]]:
    """Yield the tokens of a word after a space, and at the start of a line."""
    encode = tokenizer.encode_text
    for before, space in (("a", " "), ("\n", "")):
        alone, joint = encode(before), encode(before + space + word)
        shared = common_prefix_length([alone, joint])
        apart = joint[shared:] if shared == len(alone) else encode(space + word)
        tokens = list(apart)
        # A separate space token could begin any word.
        while tokens and not tokenizer.pieces(tokens[:1])[0].strip():
            del tokens[0]
        yield tokens
