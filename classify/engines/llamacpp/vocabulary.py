"""The vocabulary and the chat template of a GGUF file, as a tokenizer.

llama.cpp knows how each kind of file splits text; a tokenizer of transformers is made
from such a file for some architectures only, without the rule that this model splits
words by.
"""

import ctypes
from functools import cached_property
from typing import Any, NamedTuple

from classify.engines.llamacpp.network import Model

__all__ = ["GgufTokenizer", "load_vocabulary"]

# enum llama_token_attr
_UNKNOWN, _CONTROL, _USER_DEFINED = 1, 8, 16


class _AddedToken(NamedTuple):
    content: str
    special: bool


class GgufTokenizer:
    """The parts of a tokenizer that `Tokenizer` uses, over llama.cpp.

    Parameters
    ----------
    model : Model
        A GGUF file whose vocabulary is loaded.

    Attributes
    ----------
    added_tokens_decoder : dict of int to token with `content` and `special`
    chat_template : str or None
    bos_token, eos_token, unk_token : str or None
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self._library, self._vocab = model.library, model.vocab
        attributes = [
            self._library.llama_vocab_get_attr(self._vocab, token_id)
            for token_id in range(model.vocab_size)
        ]
        added = _CONTROL | _UNKNOWN | _USER_DEFINED
        self.added_tokens_decoder = {
            token_id: _AddedToken(
                self.convert_ids_to_tokens(token_id), bool(flags & ~_USER_DEFINED)
            )
            for token_id, flags in enumerate(attributes)
            if flags & added
        }
        self.all_special_ids = [
            token_id
            for token_id, token in self.added_tokens_decoder.items()
            if token.special
        ]
        self.all_special_tokens = [
            self.convert_ids_to_tokens(token_id) for token_id in self.all_special_ids
        ]
        self.chat_template = model.metadata("tokenizer.chat_template")
        self.bos_token = self._named(self._library.llama_vocab_bos(self._vocab))
        self.eos_token = self._named(self._library.llama_vocab_eos(self._vocab))
        unknown = [at for at, flags in enumerate(attributes) if flags & _UNKNOWN]
        self.unk_token = self._named(unknown[0]) if unknown else None

    def _named(self, token_id: int) -> str | None:
        return None if token_id < 0 else self.convert_ids_to_tokens(token_id)

    def __len__(self) -> int:
        return self._model.vocab_size

    @property
    def eos_token_id(self) -> int | None:
        """The id of the token that ends a text, if there is one."""
        token_id = int(self._library.llama_vocab_eos(self._vocab))
        return None if token_id < 0 else token_id

    def convert_ids_to_tokens(self, token_id: int) -> str:
        """Return how the vocabulary spells a token."""
        text: bytes = self._library.llama_vocab_get_text(self._vocab, token_id)
        return text.decode(errors="replace")

    def convert_tokens_to_ids(self, token: str) -> int | None:
        """Return the id of a token by its spelling."""
        return self._ids.get(token)

    def get_vocab(self) -> dict[str, int]:
        """Return the ids of all tokens by their spelling."""
        return dict(self._ids)

    @cached_property
    def _ids(self) -> dict[str, int]:
        ids = range(self._model.vocab_size)
        return {self.convert_ids_to_tokens(token_id): token_id for token_id in ids}

    def __call__(
        self,
        text: str | list[str],
        *,
        add_special_tokens: bool = True,
        split_special_tokens: bool = False,
        verbose: bool = True,
    ) -> dict[str, Any]:
        """Encode a text, or several."""

        def encode(one: str) -> list[int]:
            return self._encode(one, add_special_tokens, not split_special_tokens)

        texts = encode(text) if isinstance(text, str) else list(map(encode, text))
        return {"input_ids": texts}

    def _encode(self, text: str, *flags: bool) -> list[int]:
        """Encode a text; flags: whether BOS is added, whether controls are parsed."""
        in_bytes = text.encode()
        n_most = len(in_bytes) + 8
        while True:
            ids = (ctypes.c_int32 * n_most)()
            arguments = (in_bytes, len(in_bytes), ids, n_most)
            n = self._library.llama_tokenize(self._vocab, *arguments, *flags)
            if n >= 0:
                return ids[:n]
            n_most = -n

    def decode(self, token_ids: list[int], *, skip_special_tokens: bool = True) -> str:
        """Return the text of token ids."""
        ids = (ctypes.c_int32 * len(token_ids))(*token_ids)
        n_most = 16 * len(token_ids) + 16
        while True:
            buffer = ctypes.create_string_buffer(n_most)
            n = self._library.llama_detokenize(
                self._vocab,
                ids,
                len(token_ids),
                buffer,
                n_most,
                skip_special_tokens,
                not skip_special_tokens,
            )
            if n >= 0:
                return buffer.raw[:n].decode(errors="replace")
            n_most = -n

    def get_chat_template(self) -> str | None:
        """Return the template of the GGUF file."""
        return self.chat_template

    def apply_chat_template(
        self,
        messages: list[dict[str, Any]],
        *,
        tokenize: bool,
        add_generation_prompt: bool,
        **variables: Any,
    ) -> str:
        """Return the text of messages, as transformers would write it."""
        from transformers.utils.chat_template_utils import render_jinja_template

        assert not tokenize
        special = {"bos_token": self.bos_token, "eos_token": self.eos_token}
        special["unk_token"] = self.unk_token
        named = {name: token for name, token in special.items() if token is not None}
        # Texts, and where the assistant speaks; it is annotated as a string.
        rendered: Any = render_jinja_template(
            conversations=[messages],
            chat_template=self.chat_template,
            add_generation_prompt=add_generation_prompt,
            **{**named, **variables},
        )
        return str(rendered[0][0])


def load_vocabulary(model: str) -> GgufTokenizer:
    """Load the tokenizer of a GGUF file; its weights stay on the disk."""
    return GgufTokenizer(Model(model, vocab_only=True))
