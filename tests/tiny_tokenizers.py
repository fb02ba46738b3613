"""Small tokenizers of the main kinds, made in a second and without a download."""

import functools
import json

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from classify.tokenizer import Tokenizer as TextTokenizer

CORPUS = [
    "My invoice is wrong and billing does not answer.",
    "The parcel was shipped to New York and New Jersey; shipping took a week!",
    "Topic: billing\nTopic: shipping\nTopic: New York\nLabel: refund request",
    "Where is my refund? I asked for a refund twice...\nAnswer: refund",
    "great good bad terrible positive negative neutral sports politics",
] * 4

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    "{{ '<|' + m['role'] + '|>\n' + m['content'] + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
SPECIAL = ["<|bos|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"]


def _trained(pre_tokenizer, decoder, *, vocab_size: int, prefix: str = "") -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoder
    alphabet = pre_tokenizers.ByteLevel.alphabet() if prefix == "byte" else []
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=SPECIAL,
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def _with_byte_fallback(tokenizer: Tokenizer) -> Tokenizer:
    """Add a token for each byte, so that any character can be written."""
    content = json.loads(tokenizer.to_str())
    vocab = content["model"]["vocab"]
    for byte in range(256):
        vocab[f"<0x{byte:02X}>"] = len(vocab)
    content["model"]["byte_fallback"] = True
    return Tokenizer.from_str(json.dumps(content))


@functools.cache
def byte_level(*, adds_bos: bool = True, chat: bool = True) -> TextTokenizer:
    """Byte-level BPE, as GPT-2 and Llama 3 have it."""
    backend = _trained(
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        decoders.ByteLevel(),
        vocab_size=400,
        prefix="byte",
    )
    if adds_bos:
        backend.post_processor = TemplateProcessing(
            single="<|bos|> $A", special_tokens=[("<|bos|>", 0)]
        )
    return _wrapped(backend, "byte-level", chat=chat)


@functools.cache
def metaspace() -> TextTokenizer:
    """Metaspace BPE with a space put before a text's start, as Llama 2 has it."""
    backend = _trained(
        pre_tokenizers.Metaspace(prepend_scheme="first"),
        decoders.Sequence(
            [decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="first")]
        ),
        vocab_size=300,
    )
    backend = _with_byte_fallback(backend)
    backend.post_processor = TemplateProcessing(
        single="<|bos|> $A", special_tokens=[("<|bos|>", 0)]
    )
    return _wrapped(backend, "metaspace", chat=True)


@functools.cache
def with_tags() -> TextTokenizer:
    """Byte-level BPE with control tokens that are not flagged special (<think>)."""
    backend = _trained(
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        decoders.ByteLevel(),
        vocab_size=400,
        prefix="byte",
    )
    backend.add_tokens(
        [AddedToken(tag, special=False) for tag in ("<think>", "[TOOL]")]
    )
    return _wrapped(backend, "with-tags", chat=True)


def _wrapped(backend: Tokenizer, name: str, *, chat: bool) -> TextTokenizer:
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<|bos|>", eos_token="<|end|>"
    )
    wrapped.add_special_tokens({"additional_special_tokens": SPECIAL[2:]})
    wrapped.chat_template = CHAT_TEMPLATE if chat else None
    return TextTokenizer(wrapped, name)
