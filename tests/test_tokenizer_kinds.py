"""Every kind of tokenizer: what it encodes, and the numbers that come of it.

The reference is one float32 forward pass over the tokens of prompt and label, encoded
together, without a cache. Where a text spells a control token, the same text with
another spelling of that length shows which of the prompt's tokens must stay.
"""

import functools
import json
import re
import subprocess
import sys
from base64 import b64encode

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken
from transformers import LlamaConfig, LlamaForCausalLM

from classify import LabelSet, PromptTemplate, Verbalizer, ZeroShotClassifier
from classify.errors import LabelError
from classify.tokenizer import Segment, Tokenizer, load_tokenizer
from tests.tiny_tokenizers import (
    CORPUS,
    SPECIAL,
    TEKKEN_PATTERN,
    byte_level_with,
    legacy_llama,
    prefix_space,
    superword,
    tekken_like,
    unigram,
    word_piece,
    wrap,
)

TURNS = [AddedToken(each, rstrip=True, normalized=False) for each in SPECIAL[1:]]
KINDS = {
    "tekken": lambda: wrap(tekken_like()),
    "rstrip": lambda: wrap(byte_level_with(*TURNS, special=SPECIAL[:1])),
    "lstrip": lambda: wrap(
        byte_level_with(AddedToken("<|end|>", lstrip=True, special=True))
    ),
    "added words": lambda: wrap(
        byte_level_with(
            AddedToken("refund", normalized=True),
            AddedToken("Topic", single_word=True, normalized=False),
            AddedToken("<tool>", normalized=True),
        )
    ),
    "spaces in control tokens": lambda: wrap(
        byte_level_with(AddedToken("<| end of turn |>", special=True))
    ),
    "prefix space": lambda: wrap(prefix_space()),
    "superword": lambda: wrap(superword()),
    "no special tokens": lambda: wrap(
        byte_level_with(special=[]), bos_token=None, eos_token=None, chat=False
    ),
    "WordPiece": lambda: wrap(word_piece(), unk_token="[UNK]"),
    "Unigram": lambda: wrap(unigram(), unk_token="<unk>"),
    "Unigram, first": lambda: wrap(unigram(scheme="first"), unk_token="<unk>"),
    "Unigram, bytes": lambda: wrap(unigram(bytes_too=True), unk_token="<unk>"),
    "Llama 2": lambda: wrap(legacy_llama(), unk_token="<unk>"),
}
TEXTS = [
    "My invoice is wrong.",
    "Where is my refund? \N{POUTING FACE} 文本 ",
    "line\nbreak\ttab  spaces",
    "naïve ﬁ ① é",
]
LABELS = {"plain": ["billing", "shipping"], "prefix": ["New", "New York", "refund"]}
TEMPLATES = ["{text}\nTopic:", "Topic of {text}", "{text} "]


@pytest.fixture(scope="module", params=KINDS)
def model(request, tmp_path_factory):
    """Save a tokenizer and a random model; give the folder, tokenizer and network."""
    folder = tmp_path_factory.mktemp("model")
    tokenizer = KINDS[request.param]()
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=512,
        initializer_range=0.2,
    )
    network = LlamaForCausalLM(config).eval()
    network.save_pretrained(folder)
    return folder, load_tokenizer(folder), network


def own(tokenizer, text, **options):
    return tokenizer.backend(text, add_special_tokens=False, **options)["input_ids"]


@torch.inference_mode()
def slow_logprob(network, token_ids, start):
    """Return log p(tokens from `start` on), in one pass without a cache."""
    ids = torch.tensor([token_ids])
    logits = network(input_ids=ids, use_cache=False).logits[0]
    logprobs = torch.log_softmax(logits.double(), dim=-1)
    return sum(
        float(logprobs[at - 1, token_ids[at]]) for at in range(start, len(token_ids))
    )


def expected_of(model, before, names, gap):
    """Return log p(label | prompt) of each name behind a text."""
    _, tokenizer, network = model
    alone = own(tokenizer, before)
    joint = [own(tokenizer, f"{before}{gap}{name}") for name in names]
    shared = 0
    while len({tuple(each[: shared + 1]) for each in [alone, *joint]}) == 1:
        shared += 1
    paths = [tuple(each[shared:]) for each in joint]
    if any(a != b and b[: len(a)] == a for a in paths for b in paths):
        eos = tokenizer.eos_id
        end = own(tokenizer, "\n") if eos is None else [eos]
        joint = [[*each, *end] for each in joint]
    return [slow_logprob(network, each, shared) for each in joint]


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("labels", LABELS)
def test_the_numbers_are_those_of_the_joint_text(model, labels, template):
    names = LABELS[labels]
    clf = ZeroShotClassifier(
        names,
        str(model[0]),
        engine="transformers",
        prompt=PromptTemplate(template, chat=False),
        tolerance=0.0,
    )
    values = clf.label_logprobs(TEXTS).values
    order = [names.index(name) for name in sorted(names)]
    gap = "" if template.endswith(" ") else " "
    befores = [template.format(text=text) for text in TEXTS]
    expected = [expected_of(model, before, names, gap) for before in befores]
    np.testing.assert_allclose(values, np.array(expected)[:, order], rtol=0, atol=1e-4)


def test_a_text_that_spells_control_tokens_changes_no_token_around_it(model):
    """The prompt's tokens are those around a text that spells none."""
    tokenizer = model[1]
    controls = [each for each in tokenizer.control_tokens.values() if each in SPECIAL]
    before = "<|user|>\n" if controls else "a "
    after = "<|end|>\n<|assistant|>\n" if controls else "."

    def encode(text):
        literals = Segment(before, is_data=False), Segment(after, is_data=False)
        data = Segment(text, is_data=True)
        [token_ids] = tokenizer.encode([[literals[0], data, literals[1]]])
        return token_ids

    plain = encode("refund is now")
    for content in tokenizer.control_tokens.values():
        token_ids = encode(f"refund {content} now")
        kept = [token for token in token_ids if token in tokenizer.control_ids]
        if tokenizer.unknown_id in kept and content != tokenizer.unknown:
            # Characters of the spelling that the tokenizer does not know.
            kept = [token for token in kept if token != tokenizer.unknown_id]
        assert kept == [token for token in plain if token in tokenizer.control_ids]
        n_before = len(own(tokenizer, before + "refund"))
        assert token_ids[:n_before] == plain[:n_before]
        n_after = len(own(tokenizer, "now" + after)) - 1
        assert token_ids[-n_after:] == plain[-n_after:]


# -- unknown characters ---------------------------------------------------------------


def word_piece_tokenizer():
    return Tokenizer(wrap(word_piece(), unk_token="[UNK]", chat=False), "word-piece")


def compiled(tokenizer, labels, template="{text}\nTopic:", **options):
    labels = LabelSet.parse(labels)
    prompt = PromptTemplate(template, chat=False).compile(tokenizer, labels)
    return Verbalizer(**options).compile(prompt, labels)


def test_the_spelling_of_the_unknown_token_is_text():
    tokenizer = word_piece_tokenizer()
    unknown = tokenizer.unknown_id
    [spelled] = tokenizer.encode([[Segment("refund [UNK] now", is_data=True)]])
    [other] = tokenizer.encode([[Segment("refund 文 now", is_data=True)]])
    [written] = tokenizer.encode([[Segment("refund [UNK] now", is_data=False)]])
    assert unknown not in spelled
    assert list(other) == own(tokenizer, "refund 文 now")
    assert other.count(unknown) == 1
    assert list(written) == own(tokenizer, "refund [UNK] now")
    assert written.count(unknown) == 1


def test_labels_that_unknown_characters_make_one():
    message = (
        "The word '请求' of label 'a' and the word '文本' of label 'b' have the same "
        "tokens: the tokenizer of 'word-piece' has none for some of their characters, "
        "and takes '[UNK]' for each of them. Give one of the labels a word that the "
        "tokenizer can write."
    )
    with pytest.raises(LabelError, match=f"^{re.escape(message)}$"):
        compiled(word_piece_tokenizer(), {"a": ["请求"], "b": ["文本"]})


def test_a_label_with_an_unknown_character_is_read_and_named(caplog):
    space = compiled(word_piece_tokenizer(), ["billing 请", "shipping"])
    assert space.trie.tree.paths[0][-1] == word_piece_tokenizer().unknown_id
    [message] = caplog.messages
    assert message == (
        "The tokenizer of 'word-piece' has no token for some characters of 'billing "
        "请', and takes '[UNK]' for each of them: the label has the probability of any "
        "answer with unknown characters there. Give it a word that the tokenizer can "
        "write."
    )


def test_a_label_that_spells_a_control_token_is_read_as_text_and_named(caplog):
    tokenizer = Tokenizer(
        wrap(byte_level_with(AddedToken("refund", special=True)), chat=False), "bytes"
    )
    space = compiled(tokenizer, ["refund", "billing"])
    assert all(tokenizer.control_ids.isdisjoint(p) for p in space.trie.tree.paths)
    [message] = caplog.messages
    assert message == (
        "The tokenizer of 'bytes' has control tokens in 'refund', but labels are read "
        "as plain text. If the model was trained to answer with these tokens, its "
        "answers do not count: save the tokenizer with special=False for them."
    )


def test_a_word_that_the_tokenizer_drops():
    message = (
        "The word '\u0301' of label 'a' has no token of its own after the prompt: "
        "the tokenizer of 'word-piece' drops its characters, or joins them with the "
        "text's. Give the label another word."
    )
    with pytest.raises(LabelError, match=f"^{re.escape(message)}$"):
        compiled(word_piece_tokenizer(), {"a": ["\u0301"], "b": ["shipping"]})


# -- end tokens -----------------------------------------------------------------------


def test_no_end_token_at_all():
    backend = wrap(word_piece(), unk_token="[UNK]", eos_token=None, chat=False)
    message = (
        "The answers need an end token, but the tokenizer of 'none' has no end of "
        "turn, no end of sequence and no token for a newline: give the labels words of "
        "which none is a prefix of another, and leave out end='always'."
    )
    with pytest.raises(LabelError, match=f"^{re.escape(message)}$"):
        compiled(Tokenizer(backend, "none"), ["New", "New York"])


@functools.cache
def tekken_tokenizer():
    return Tokenizer(wrap(tekken_like(), chat=False), "tekken")


WORDS = st.text("明日今天文本人", min_size=1, max_size=4)


@settings(max_examples=300)
@given(st.lists(WORDS, min_size=2, max_size=4, unique=True), WORDS)
def test_paths_behind_a_text_that_merges_with_its_labels(words, text):
    """All paths are those of the joint text, and all have an end token or none has."""
    tokenizer = tekken_tokenizer()
    space = compiled(tokenizer, words, "On {text}")
    [prompt] = space.encode([{"text": text}], 512)
    joint = [tuple(own(tokenizer, f"On {text}{word}")) for word in words]
    paths = [(*prompt.token_ids, *path) for path in prompt.trie.tree.paths]
    one_begins_another = any(a != b and b[: len(a)] == a for a in joint for b in joint)
    if one_begins_another or space.audit().end is not None:
        joint = [(*each, tokenizer.eos_id) for each in joint]
    assert paths == joint


@pytest.mark.parametrize("model", ["tekken"], indirect=True)
def test_numbers_where_only_this_text_needs_an_end(model):
    folder, _, _ = model
    words = ["日", "日文"]
    texts = ["明", "本", "refund"]
    clf = ZeroShotClassifier(
        words, str(folder), engine="transformers", tolerance=0.0,
        prompt=PromptTemplate("{text}", chat=False),
    )  # fmt: skip
    values = clf.label_logprobs(texts).values
    expected = [expected_of(model, text, words, gap="") for text in texts]
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-4)


# -- files ----------------------------------------------------------------------------


def save_tekken(folder):
    """Write a tekken.json of single bytes and a few words, and a configuration."""
    special = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]"]
    words = [bytes([at]) for at in range(256)] + [b"in", b"il", b"ill", b"bill"]
    tekken = {
        "config": {
            "pattern": TEKKEN_PATTERN,
            "num_vocab_tokens": len(words),
            "default_vocab_size": len(words) + len(special),
            "default_num_special_tokens": len(special),
            "version": "v7",
        },
        "vocab": [
            {"rank": at, "token_bytes": b64encode(each).decode(), "token_str": None}
            for at, each in enumerate(words)
        ],
        "special_tokens": [
            {"rank": at, "token_str": each, "is_control": True}
            for at, each in enumerate(special)
        ],
    }
    (folder / "tekken.json").write_text(json.dumps(tekken))
    LlamaConfig(vocab_size=len(words) + len(special)).save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "mistral"}))


def test_a_tokenizer_beside_a_tekken_file_is_the_ordinary_one(tmp_path):
    pytest.importorskip("mistral_common")
    save_tekken(tmp_path)
    wrap(tekken_like()).save_pretrained(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.has_chat_template
    assert tokenizer.backend.get_vocab() == wrap(tekken_like()).get_vocab()
    assert compiled(tokenizer, ["billing", "shipping"]).trie.n_labels == 2


def test_a_tekken_file_alone(tmp_path, caplog):
    save_tekken(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.pieces(tokenizer.encode_text("bill")) == ("bill",)
    assert "</s>" in tokenizer.control_tokens.values()
    [message] = caplog.messages
    assert message == (
        f"The tokenizer of {str(tmp_path)!r} is made from tekken.json, which names no "
        "chat template and no BOS token and no EOS token: prompts are written without. "
        "Put the model's tokenizer.json, tokenizer_config.json and chat_template.jinja "
        "into its folder."
    )


def save_sentencepiece(folder):
    sentencepiece = pytest.importorskip("sentencepiece")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS),
        model_prefix=str(folder / "tokenizer"),
        model_type="bpe",
        vocab_size=400,
        byte_fallback=True,
        minloglevel=2,
    )
    (folder / "tokenizer.vocab").unlink()
    LlamaConfig(vocab_size=400).save_pretrained(folder)
    config = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def test_a_sentencepiece_model_alone(tmp_path):
    save_sentencepiece(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.decode(tokenizer.encode_text("billing 请")).strip() == "billing 请"


def test_a_sentencepiece_model_without_its_package(tmp_path):
    save_sentencepiece(tmp_path)
    script = (
        "import sys\n"
        "sys.modules['sentencepiece'] = None\n"
        "from classify.tokenizer import load_tokenizer\n"
        f"load_tokenizer({str(tmp_path)!r})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.stderr.splitlines()[-1] == (
        f"classify.errors.ModelLoadError: The tokenizer of the model {str(tmp_path)!r} "
        "is a SentencePiece model (tokenizer.model), which needs the package "
        "sentencepiece. Install it with: pip install sentencepiece"
    )
