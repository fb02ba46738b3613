"""A tokenizer of the tiny models' 61 tokens: characters, and what a chat is made of."""

import functools
import string

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from classify.tokenizer import Tokenizer as TextTokenizer
from tests.tiny_models import VOCAB

__all__ = ["character_tokenizer"]

_SPECIAL = ["<pad>", "<s>", "</s>", "<unk>", "<u>", "</u>", "<think>", "</think>"]
# A thought is open wherever an answer begins.
_TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'assistant' %}"
    "{{ '<think></think>' + m.content + '</u>' }}"
    "{% else %}{{ '<s><u>' + m.content + '</u>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<think>{% endif %}"
)


@functools.cache
def character_tokenizer() -> TextTokenizer:
    """Return it; a label is read behind ``</think>`` and ends with ``</u>``."""
    characters = (" \n.,?:" + string.ascii_letters)[: VOCAB - len(_SPECIAL)]
    vocab = {piece: at for at, piece in enumerate([*_SPECIAL, *characters])}
    backend = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r".|\n"), behavior="isolated")
    backend.decoder = decoders.Fuse()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=_SPECIAL[4:],
    )
    fast.chat_template = _TEMPLATE
    return TextTokenizer(fast, "characters")
