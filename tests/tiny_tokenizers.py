"""Small tokenizers of the main kinds, made in a second and without a download."""

import functools
import json

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
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


def _byte_bpe(corpus=CORPUS, *, special=SPECIAL, pattern=None, **options) -> Tokenizer:
    """Byte-level BPE, whose words are those of a pattern or else of GPT-2."""
    backend = Tokenizer(models.BPE(**options))
    pieces = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pattern is None)
    if pattern is not None:
        split = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
        pieces = pre_tokenizers.Sequence([split, pieces])
    backend.pre_tokenizer = pieces
    backend.decoder = decoders.ByteLevel()
    backend.train_from_iterator(
        corpus,
        trainers.BpeTrainer(
            vocab_size=600,
            special_tokens=list(special),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return backend


# Each character as a word, and within one.
PRINTABLE = ["".join(map(chr, range(33, 127))), " ".join(map(chr, range(33, 127)))] * 4

TEKKEN_PATTERN = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s+"
CHINESE = [
    "明日明天文明今日日本本日明文天文文本文字日文中文明白天天日日本文明日",
    "今日明日日明明日天文天明文日本日本人文明人人文",
] * 4


def tekken_like() -> Tokenizer:
    """Byte-level BPE whose words are runs of letters, Chinese ones too: Tekken's."""
    return _byte_bpe([*CORPUS, *CHINESE], pattern=TEKKEN_PATTERN, ignore_merges=True)


def byte_level_with(*added: AddedToken, special=SPECIAL) -> Tokenizer:
    """Byte-level BPE with further tokens."""
    backend = _byte_bpe(special=special)
    for each in added:
        (backend.add_special_tokens if each.special else backend.add_tokens)([each])
    return backend


def prefix_space() -> Tokenizer:
    """Byte-level BPE with a space put before a text, as RoBERTa has it."""
    backend = _byte_bpe()
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    return backend


def superword() -> Tokenizer:
    """Byte-level BPE whose merges run across spaces."""
    return _byte_bpe(pattern=r"[^\n]+|\n")


def word_piece() -> Tokenizer:
    """WordPiece, as BERT has it: lower case, no bytes, [UNK]."""
    backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[UNK]", *SPECIAL]
    backend.train_from_iterator(
        [*CORPUS, *PRINTABLE],
        trainers.WordPieceTrainer(
            vocab_size=400, special_tokens=special, show_progress=False
        ),
    )
    return backend


def unigram(*, scheme: str = "always", bytes_too: bool = False) -> Tokenizer:
    """Unigram, as T5 and XGLM have it; its vocabulary holds the control tokens."""
    backend = Tokenizer(models.Unigram())
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    backend.decoder = decoders.Metaspace(prepend_scheme=scheme)
    special = ["<unk>", *SPECIAL, *(f"<0x{at:02X}>" for at in range(256) if bytes_too)]
    backend.train_from_iterator(
        [*CORPUS, *PRINTABLE],
        trainers.UnigramTrainer(
            vocab_size=400 + 256 * bytes_too,
            special_tokens=special,
            unk_token="<unk>",
            show_progress=False,
        ),
    )
    content = json.loads(backend.to_str())
    content["model"]["byte_fallback"] = bytes_too
    content["added_tokens"] = [
        each for each in content["added_tokens"] if "<0x" not in each["content"]
    ]
    return Tokenizer.from_str(json.dumps(content))


def legacy_llama() -> Tokenizer:
    """BPE with a space put before every run of text by the normalizer: Llama 2."""
    backend = Tokenizer(
        models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )
    backend.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    special = ["<unk>", *SPECIAL, *(f"<0x{at:02X}>" for at in range(256))]
    backend.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(
            vocab_size=650, special_tokens=special, show_progress=False
        ),
    )
    content = json.loads(backend.to_str())
    content["added_tokens"] = [
        each for each in content["added_tokens"] if "<0x" not in each["content"]
    ]
    return Tokenizer.from_str(json.dumps(content))


def wrap(backend: Tokenizer, *, chat: bool = True, **names) -> PreTrainedTokenizerFast:
    """Wrap a tokenizer as transformers saves and loads it."""
    names = {"bos_token": "<|bos|>", "eos_token": "<|end|>"} | names
    names = {key: each for key, each in names.items() if each is not None}
    wrapped = PreTrainedTokenizerFast(tokenizer_object=backend, **names)
    wrapped.chat_template = CHAT_TEMPLATE if chat else None
    return wrapped


def _wrapped(backend: Tokenizer, name: str, *, chat: bool) -> TextTokenizer:
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<|bos|>", eos_token="<|end|>"
    )
    wrapped.add_special_tokens({"additional_special_tokens": SPECIAL[2:]})
    wrapped.chat_template = CHAT_TEMPLATE if chat else None
    return TextTokenizer(wrapped, name)


QUOTING = [
    """{"label": "refund"}\n{"label": "billing", "by": 'me'}\n["refund"]""",
    """It's the user's: 'refund', ['billing'], "U.S." and "U.S."} (billing), (it).""",
] * 8


@functools.cache
def quoting() -> TextTokenizer:
    """Byte-level BPE that joins what closes quotation marks with what follows."""
    return _wrapped(_byte_bpe(QUOTING), "quoting", chat=True)
