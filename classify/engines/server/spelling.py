"""How a model's tokens are written: for servers that take and show text, not ids.

A text stands for token ids only if the tokenizer makes exactly these of it, and what a
server shows stands for an id only if no other token is written like that.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from classify.engines.byte_marks import BYTE_OF_MARK
from classify.engines.server.served import model_file
from classify.errors import ModelLoadError, first_line

__all__ = ["Spelling"]

_HALF = "\N{REPLACEMENT CHARACTER}"


class Spelling:
    """The tokens of a model and how they are written.

    Parameters
    ----------
    fast : tokenizers.Tokenizer
    name : str
        The model, for messages.

    Examples
    --------
    >>> from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    >>> fast = Tokenizer(models.BPE({"a": 0, "b": 1, "ab": 2}, [("a", "b")]))
    >>> fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    >>> fast.decoder = decoders.ByteLevel()
    >>> spelling = Spelling(fast, "tiny")
    >>> spelling.text_of([2, 0]), spelling.text_of([0, 1])
    ('aba', None)
    >>> spelling.written_as(b"ab")
    (2,)
    """

    def __init__(self, fast: Any, name: str) -> None:
        self._fast = fast
        kinds = _kinds(json.loads(fast.to_str()).get("decoder"))
        if "ByteLevel" in kinds:
            write = _from_marks
        elif kinds & {"Metaspace", "ByteFallback", "Replace"}:
            write = _from_pieces
        else:
            raise ModelLoadError(
                f"The tokenizer of {name!r} does not say how its tokens are written: "
                "its decoder is neither ByteLevel nor SentencePiece's. A server that "
                "takes text needs this: use a server that takes token ids."
            )
        added = fast.get_added_tokens_decoder()
        self._written: dict[int, bytes] = {
            token: added[token].content.encode() if token in added else write(piece)
            for piece, token in fast.get_vocab(with_added_tokens=True).items()
        }
        #: Whether a server may show a token without its space, as it may be decoded
        #: alone.
        self.may_strip = write is _from_pieces
        self._ids: dict[bytes, tuple[int, ...]] = {}
        self._halves: tuple[int, ...] = ()
        for token, written in self._written.items():
            self._ids[written] = (*self._ids.get(written, ()), token)
            if _HALF in written.decode("utf-8", "replace"):
                self._halves += (token,)
        #: Tokens that a server may read only if it is asked to.
        self.controls = {i: each.content for i, each in added.items() if each.special}
        alone = fast.encode("a", add_special_tokens=False).ids
        with_start = fast.encode("a", add_special_tokens=True).ids
        at = next((n for n, token in enumerate(with_start) if [token] == alone[:1]), 0)
        #: What the tokenizer puts before a text.
        self.start: tuple[int, ...] = tuple(with_start[:at])

    @classmethod
    def load(cls, model: str, revision: str | None = None) -> Self:
        """Read the tokenizer of a model from a folder or the hub.

        Raises
        ------
        ModelLoadError
            It has no ``tokenizer.json``, or one that cannot be used.
        """
        path = model_file(model, "tokenizer.json", revision)
        from tokenizers import Tokenizer

        try:
            fast = Tokenizer.from_file(str(path))
        # The library raises exceptions of no kind of its own.
        except Exception as error:
            raise ModelLoadError(
                f"The server engine cannot read {path}, which says how the model's "
                f"tokens are written: {first_line(error)}."
            ) from error
        return cls(fast, Path(model).name)

    def __len__(self) -> int:
        return max(self._written) + 1

    def bytes_of(self, token: int) -> bytes | None:
        """Return how a token is written; None if there is none."""
        return self._written.get(token)

    def written_as(self, written: bytes) -> tuple[int, ...]:
        """Return the tokens that are written like this."""
        ids = self._ids.get(written, ())
        may_strip = self.may_strip and written
        return ids + self._ids.get(b" " + written, ()) if may_strip else ids

    def shown_as(self, text: str) -> tuple[int, ...]:
        """Return the tokens that a server may show as this text."""
        return self._halves if _HALF in text else self.written_as(text.encode())

    def ids_of(self, text: str) -> tuple[int, ...]:
        """Return the tokens of a text, control tokens included where it spells them."""
        return tuple(self._fast.encode(text, add_special_tokens=False).ids)

    def text_of(self, token_ids: Sequence[int]) -> str | None:
        """Return the text whose tokens these are, or None if no text has them."""
        written = b"".join(self._written.get(token, b"\xff") for token in token_ids)
        try:
            text = written.decode()
        except UnicodeDecodeError:
            return None
        wanted = tuple(token_ids)
        # Some tokenizers put a space before a text.
        return next(
            (
                each
                for each in (text, text.removeprefix(" "))
                if self.ids_of(each) == wanted
            ),
            None,
        )


def _kinds(decoder: Any) -> set[str]:
    """Return the types of a decoder and of what it consists of."""
    if not isinstance(decoder, dict):
        return set()
    parts = decoder.get("decoders") or []
    return {str(decoder.get("type"))}.union(*map(_kinds, parts))


def _from_marks(piece: str) -> bytes:
    try:
        return bytes(BYTE_OF_MARK[mark] for mark in piece)
    except KeyError:
        return piece.encode()


def _from_pieces(piece: str) -> bytes:
    if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
        return bytes.fromhex(piece[3:5])
    return piece.replace("▁", " ").encode()
