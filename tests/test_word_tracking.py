"""Words followed over a free generation, against one uncached forward pass a step."""

import re

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from classify import PromptTemplate, track
from classify.demo import model_folder
from classify.engines import FakeEngine
from classify.engines.server import ServerEngine
from classify.errors import AnswerError, ConfigError, InputError, PromptError
from classify.tokenizer import Tokenizer
from tests.serving import SmallServer, a_folder_with
from tests.tiny_tokenizers import (
    byte_level,
    legacy_llama,
    metaspace,
    prefix_space,
    superword,
    unigram,
    wrap,
)
from tests.toy_model import hashed_logprobs

TEXTS = ["Where is my parcel?", "I was charged twice, and my card is blocked."]
WORDS = {"parcel": ["parcel", "Parcel"], "card": "card", "shipping": "shipping"}


@pytest.fixture(scope="module")
def model():
    return AutoModelForCausalLM.from_pretrained(
        model_folder(), dtype=torch.float32
    ).eval()


@pytest.fixture(scope="module")
def backend():
    return AutoTokenizer.from_pretrained(model_folder())


@torch.inference_mode()
def followed(model, backend, prompt, words, max_tokens):
    """Generate greedily, a pass over everything at each step; tokens and values."""
    ids, tokens, values = list(prompt), [], []
    for _ in range(max_tokens):
        logits = model(torch.tensor([ids]), use_cache=False).logits[0, -1]
        logprobs = torch.log_softmax(logits.double(), dim=-1).numpy()
        values.append(
            [np.log(np.exp(logprobs[list(word.token_ids)]).sum()) for word in words]
        )
        ids.append(int(logprobs.argmax()))
        tokens.append(ids[-1])
        if tokens[-1] in eos_ids(model):
            break
    return tokens, np.array(values)


def eos_ids(model):
    ends = model.generation_config.eos_token_id
    return ends if isinstance(ends, list) else [ends]


def as_chat(backend, text):
    return backend.apply_chat_template(
        [{"role": "user", "content": text}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=False,
    )


def check(tracked, model, backend, prompts, max_tokens):
    for at, prompt in enumerate(prompts):
        tokens, values = followed(model, backend, prompt, tracked.words, max_tokens)
        [one] = tracked.generations[at]
        assert one.text == backend.decode(tokens)
        assert len(one.tokens) == len(tokens)
        np.testing.assert_allclose(one.logprobs, values, rtol=0, atol=1e-4)


def test_values_are_those_of_a_pass_a_step(model, backend):
    tracked = track(TEXTS, WORDS, max_tokens=12)
    check(tracked, model, backend, [as_chat(backend, text) for text in TEXTS], 12)
    assert not tracked.errors
    assert not tracked.truncated


def test_a_plain_prompt_with_columns(model, backend):
    frame = pd.DataFrame({"text": TEXTS, "from": ["Ann", "Bo"]})
    recipe = PromptTemplate("From {from}: {text}\nTopic:", chat=False)
    tracked = track(frame, WORDS, prompt=recipe, max_tokens=9)
    prompts = [
        [
            *Tokenizer(backend, "demo").bos_ids,
            *backend.encode(
                f"From {row['from']}: {row['text']}\nTopic:", add_special_tokens=False
            ),
        ]
        for _, row in frame.iterrows()
    ]
    check(tracked, model, backend, prompts, 9)


def test_what_is_put_in_the_models_mouth_and_a_system_prompt(model, backend):
    recipe = PromptTemplate("{text}", answer_prefix="shipping or")
    tracked = track(TEXTS, WORDS, prompt=recipe, max_tokens=4)
    prompts = [
        backend.encode(
            backend.decode(as_chat(backend, text)) + "shipping or",
            add_special_tokens=False,
        )
        for text in TEXTS
    ]
    check(tracked, model, backend, prompts, 4)


@pytest.mark.slow
@pytest.mark.parametrize("vllm_engine", ["vllm demo, ngram"], indirect=True)
def test_vllm_with_speculation_gives_the_same(vllm_engine, model, backend):
    tracked = track(TEXTS, WORDS, engine=vllm_engine, max_tokens=12)
    check(tracked, model, backend, [as_chat(backend, text) for text in TEXTS], 12)
    drawn = track(TEXTS, WORDS, engine=vllm_engine, temperature=0.8, n=2, seed=1)
    again = track(TEXTS, WORDS, engine=vllm_engine, temperature=0.8, n=2, seed=1)
    assert {len(several) for several in drawn.generations.values()} == {2}
    for at in drawn.generations:
        texts = [one.text for one in drawn.generations[at]]
        assert texts == [one.text for one in again.generations[at]]


def test_the_table_has_a_row_for_each_text_step_and_word():
    tracked = track(TEXTS, WORDS, max_tokens=3)
    frame = tracked.to_frame()
    assert frame.columns.tolist() == ["row", "step", "token", "word", "logprob"]
    for at, [one] in tracked.generations.items():
        wide = frame[frame["row"] == at].pivot_table(
            index="step", columns="word", values="logprob"
        )
        np.testing.assert_array_equal(wide[[*WORDS]].to_numpy(), one.logprobs)
        tokens = frame[frame["row"] == at].drop_duplicates("step")["token"]
        assert tuple(tokens) == one.tokens


def test_several_generations_of_a_text():
    options = {"max_tokens": 6, "temperature": 1.5, "n": 3, "seed": 7}
    tracked = track(TEXTS, WORDS, **options)
    frame = tracked.to_frame()
    assert frame.columns[1] == "generation"
    assert set(frame["generation"]) == {0, 1, 2}
    assert frame.equals(track(TEXTS, WORDS, **options).to_frame())
    # Equal texts have draws of their own.
    equal = track(TEXTS[:1] * 2, WORDS, **options).generations
    first, second = ([one.text for one in equal[at]] for at in equal)
    assert first != second


def test_rows_that_cannot_be_used_are_set_aside():
    texts = [TEXTS[0], "", "parcel " * 2000, "half \ud800", TEXTS[1]]
    tracked = track(texts, WORDS, max_tokens=2, on_error="set_aside")
    assert [*tracked.generations] == [0, 4]
    assert [*tracked.errors] == [1, 2, 3]
    frame = tracked.to_frame()
    assert frame.columns.tolist()[-1] == "error"
    assert frame[frame["error"].notna()]["row"].tolist() == [1, 2, 3]
    assert frame["row"].is_monotonic_increasing
    assert "shorten the text" in str(tracked.errors[2])
    with pytest.raises(InputError, match=r"^Text 1: .* Pass on_error='set_aside' to"):
        track(texts, WORDS, max_tokens=2)
    cut = PromptTemplate("{text}", too_long="truncate")
    tracked = track(texts[2:3], WORDS, prompt=cut, max_tokens=2)
    assert tracked.truncated == (0,)


REFUSED = {
    "one string": (
        "yes",
        "words must be a sequence of words, such as ['yes', 'no']. Got 'yes'.",
    ),
    "none": ([], "words must be a sequence of words, such as ['yes', 'no']. Got []."),
    "a word twice": (
        ["card", "card"],
        "The word 'card' is given twice: remove one.",
    ),
    "no characters": (
        ["card", " "],
        "The word ' ' has an empty spelling, ' ': remove it.",
    ),
    "one first token": (
        {"card": "card", "again": ["card", "x"]},
        (
            "The words 'card' and 'again' begin with the same token, 'card', and "
            "cannot be told apart: remove one, or make them spellings of one word."
        ),
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_words_that_cannot_be_followed(case):
    words, message = REFUSED[case]
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        track(TEXTS, words)


TOKENIZERS = {
    "byte level": byte_level,
    "metaspace": metaspace,
    "prefix space": lambda: Tokenizer(wrap(prefix_space()), "a tokenizer"),
    "superwords": lambda: Tokenizer(wrap(superword()), "a tokenizer"),
    "unigram": lambda: Tokenizer(wrap(unigram(bytes_too=True)), "a tokenizer"),
    "llama": lambda: Tokenizer(wrap(legacy_llama()), "a tokenizer"),
}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_word_is_followed_by_the_tokens_that_begin_it(name):
    tokenizer = TOKENIZERS[name]()
    engine = FakeEngine.uniform(vocab_size=len(tokenizer), context_length=256)
    options = {"engine": engine, "tokenizer": tokenizer, "max_tokens": 2}
    tracked = track(["the card"], ["shipping", "billing"], **options)
    for at, word in enumerate(tracked.words):
        # What comes first behind other words, and begins with the word's letter.
        for before in ("the", "parcel\n"):
            space = "" if before.endswith("\n") else " "
            alone = tokenizer.encode_text(before)
            joint = tokenizer.encode_text(before + space + word.name)
            pieces = [
                (token, piece.strip())
                for token, piece in zip(joint, tokenizer.pieces(joint), strict=True)
            ][len(alone) :]
            first = next(token for token, piece in pieces if piece)
            assert first in word.token_ids
        assert all(word.name.startswith(piece.strip()) for piece in word.pieces)
        expected = np.log(len(word.token_ids) / len(tokenizer))
        values = tracked.generations[0][0].logprobs[:, at]
        np.testing.assert_allclose(values, expected, rtol=0, atol=1e-6)


def test_settings_are_checked():
    message = (
        "n=2 needs a temperature above 0: without it, all generations would be the "
        "same. Set temperature too."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        track(TEXTS, WORDS, n=2)
    message = (
        "max_tokens=1025 is more than the 1024 tokens that the model takes: use a "
        "smaller value."
    )
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        track(TEXTS, WORDS, max_tokens=1025)
    message = (
        "The prompt has the placeholder {labels}, but there are no labels here: remove "
        "it."
    )
    with pytest.raises(PromptError, match=f"^{re.escape(message)}$"):
        track(TEXTS, WORDS, prompt="{text} {labels}")


def test_on_a_server(tmp_path):
    tokenizer = byte_level()
    n_tokens = len(tokenizer)
    logprobs = hashed_logprobs(n_tokens)
    server = SmallServer(logprobs, n_tokens)
    server.start()
    folder = a_folder_with(tmp_path / "model", n_tokens)
    engine = ServerEngine.load(folder, url=server.url, self_test=False)
    try:
        options = {"engine": engine, "tokenizer": tokenizer, "max_tokens": 5}
        tracked = track(["the card"], ["shipping", "billing"], **options)
    finally:
        engine.close()
        server.stop()
    [one] = tracked.generations[0]
    ids = list(server.requests[0]["prompt"])
    for values in one.logprobs:
        row = logprobs(tuple(ids))
        for word, value in zip(tracked.words, values, strict=True):
            expected = np.logaddexp.reduce(row[list(word.token_ids)])
            assert value == pytest.approx(expected, abs=1e-12)
        ids.append(int(row.argmax()))


def test_an_answer_that_cannot_be_used_sets_its_text_aside_alone():
    tokenizer = byte_level()
    n_tokens = len(tokenizer)
    bad = tokenizer.encode_text("card")[-1]

    def logprobs(token_ids):
        value = np.nan if bad in token_ids else -np.log(n_tokens)
        return np.full(n_tokens, value)

    engine = FakeEngine.from_function(logprobs, vocab_size=n_tokens, context_length=99)
    options = {"engine": engine, "tokenizer": tokenizer, "max_tokens": 2}
    texts = ["the box", "the card", "a box"]
    tracked = track(texts, ["shipping"], on_error="set_aside", **options)
    assert [*tracked.generations] == [0, 2]
    assert isinstance(tracked.errors[1], AnswerError)
    with pytest.raises(AnswerError, match=r"^Text 1: .* Pass on_error='set_aside' to"):
        track(texts, ["shipping"], **options)
