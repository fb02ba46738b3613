"""Servers that list the likeliest tokens only: what they say, and what they do not."""

import json
import re
import threading
import time

import numpy as np
import pytest
from tokenizers import Tokenizer

from classify import PromptTemplate, ZeroShotClassifier
from classify.engines import FakeEngine, clear_engines, generate, read
from classify.engines.answers import checked_answer
from classify.engines.server import ServerEngine
from classify.engines.server.listing import Entry, entries_of, token_list
from classify.engines.server.selftest import check_sum
from classify.engines.server.spelling import Spelling
from classify.errors import AnswerError, ConfigError, EngineError, InputError
from classify.jobs import Classification, RowColumns, open_table, run_job
from classify.tokenizer import Tokenizer as TextTokenizer
from classify.tracking import EdgeBounds, ReadRequest, TokenTree, TrackedRequest
from tests.chat_templates import STYLES, chat_tokenizer
from tests.listing_servers import LlamaServer, LmStudioServer, OllamaServer
from tests.real_model import gguf_file, transformers_folder
from tests.serving import SmallServer, a_folder_with
from tests.test_server_engine import whole
from tests.tiny_tokenizers import byte_level, metaspace
from tests.toy_jobs import csv_of
from tests.toy_model import hashed_logprobs

LABELS = ["billing", "shipping", "New York", "New Jersey", "refund"]
TEXTS = ["My invoice is wrong.", "Where is my parcel?", "Hello"]
SERVERS = {"ollama": OllamaServer, "openai": LmStudioServer}


@pytest.fixture(autouse=True)
def _fresh():
    clear_engines()
    yield
    clear_engines()


class Tiny:
    """A model that is a hash function, with the folder of its tokenizer."""

    def __init__(self, path, tokenizer):
        self.fast = tokenizer.backend.backend_tokenizer
        self.vocab_size = len(tokenizer)
        self.logprobs = hashed_logprobs(self.vocab_size, sharpness=3.0)
        self.folder = a_folder_with(path, self.vocab_size)
        tokenizer.backend.save_pretrained(path)
        config = {"vocab_size": self.vocab_size, "max_position_embeddings": 512}
        (path / "config.json").write_text(json.dumps(config))

    def serve(self, kind, **options):
        server = kind(self.logprobs, self.vocab_size, fast=self.fast, **options)
        server.start()
        return server


@pytest.fixture
def tiny(tmp_path):
    return Tiny(tmp_path / "model", byte_level(adds_bos=False))


@pytest.fixture
def serve():
    """Start servers of `Tiny` and engines over them; all end with the test."""
    started = []

    def start(tiny, kind, *, options=None, **of_server):
        server = tiny.serve(kind, **of_server)
        started.append(server)
        quick = {"retries": 1, "patience": 10.0, **(options or {})}
        engine = ServerEngine.load(tiny.folder, url=server.url, **quick)
        started.append(engine)
        return server, engine

    yield start
    for one in reversed(started):
        getattr(one, "close", getattr(one, "stop", None))()


def ids_of(tiny, text):
    return tuple(tiny.fast.encode(text, add_special_tokens=False).ids)


def tree_of(tiny, *texts):
    return TokenTree([ids_of(tiny, text) for text in texts])


def truth(tiny, prompt, tree):
    """log p of each edge, from one call per node."""
    edges = np.full(tree.n_nodes, np.nan)
    for node in tree.inner_nodes.tolist():
        row = tiny.logprobs((*prompt, *tree.path(node)))
        for child in tree.children(node):
            edges[child] = row[tree.tokens[child]]
    return edges[1:]


def bounds_of(engine, prompt, tree):
    nodes = tuple(tree.inner_nodes.tolist())
    [bounds] = read(engine, [ReadRequest(prompt, tree, nodes)])
    return bounds


# --------------------------------------------------------------- small servers of text


@pytest.mark.parametrize("api", SERVERS)
@pytest.mark.parametrize("n_listed", [1, 5, 20])
def test_the_truth_lies_within_what_is_listed(tiny, serve, api, n_listed):
    _, engine = serve(tiny, SERVERS[api], options={"top_logprobs": n_listed})
    assert engine.lists_only
    tree = tree_of(tiny, " refund", " billing", " New York", " New Jersey", " shipping")
    n_exact = 0
    for text in ("Topic:", "Label: refund, topic", "Where is my parcel? Answer:"):
        prompt = ids_of(tiny, text)
        bounds, expected = bounds_of(engine, prompt, tree), truth(tiny, prompt, tree)
        assert (bounds.lower[1:] <= expected + 1e-9).all()
        assert (expected <= bounds.upper[1:] + 1e-9).all()
        known = bounds.lower[1:] == bounds.upper[1:]
        np.testing.assert_allclose(bounds.values[1:][known], expected[known])
        n_exact += known.sum()
    assert (n_exact > 0) or n_listed < 20


@pytest.mark.parametrize("api", SERVERS)
def test_what_speaks_is_found_out_and_described(tiny, serve, api):
    server, engine = serve(tiny, SERVERS[api])
    described = engine.describe()
    name = {"ollama": "Ollama 0.13.5", "openai": "an OpenAI-style server"}[api]
    assert described["server"] == f"{server.url}/v1, {name}"
    assert described["shows"] == (
        "bounds: the 20 most likely tokens are listed; any other token has at "
        "most the probability of the last one"
    )
    assert described["prompts"] == "text, whose tokens are counted"
    assert [each.problem for each in engine.self_test()] == [""] * 5
    named = ServerEngine.load(tiny.folder, url=server.url, api=api)
    assert named.describe() == described
    named.close()


def test_a_tokenizer_with_a_start_of_text_and_a_server_that_puts_it(tmp_path, serve):
    tiny = Tiny(tmp_path / "with", byte_level(adds_bos=True))
    server, engine = serve(tiny, OllamaServer, adds_start=True)
    tree = tree_of(tiny, " refund", " billing")
    prompt = (0, *ids_of(tiny, "Topic:"))
    bounds, expected = bounds_of(engine, prompt, tree), truth(tiny, prompt, tree)
    assert (bounds.lower[1:] <= expected + 1e-9).all()
    assert (expected <= bounds.upper[1:] + 1e-9).all()
    assert server.requests[-1]["prompt"].startswith("Topic:")
    with pytest.raises(AnswerError, match=r"^The server takes text, and no text has"):
        bounds_of(engine, prompt[1:], tree)


class StrippingServer(LmStudioServer):
    """LM Studio's, but it decodes each token alone: SentencePiece drops the space."""

    def text_of(self, token):
        return super().text_of(token).removeprefix(" ")


@pytest.mark.parametrize("kind", [LmStudioServer, StrippingServer])
def test_sentencepiece_tokens_are_looked_up_as_they_are_written(tmp_path, serve, kind):
    tiny = Tiny(tmp_path / "pieces", metaspace())
    _, engine = serve(tiny, kind, adds_start=True)
    tree = TokenTree([(token,) for token in range(5, tiny.vocab_size)])
    n_known = 0
    for text in ("Topic", "Label: refund", "Where is my parcel? Answer:"):
        prompt = (0, *ids_of(tiny, text))
        bounds, expected = bounds_of(engine, prompt, tree), truth(tiny, prompt, tree)
        assert (bounds.lower[1:] <= expected + 1e-9).all()
        assert (expected <= bounds.upper[1:] + 1e-9).all()
        n_known += (bounds.lower == bounds.upper).sum()
    assert n_known > 20


@pytest.mark.parametrize("keyed", [False, True])
def test_parts_of_characters_are_unknown_not_guessed(tiny, serve, keyed):
    # Half of this vocabulary are single bytes, which a server shows as one text.
    server, engine = serve(tiny, LmStudioServer)
    server.keyed = keyed
    halves = [token for token in range(256) if "\ufffd" in server.text_of(token)]
    tree = TokenTree([(token,) for token in range(tiny.vocab_size)])
    n_shown = 0
    for text in ("Topic:", "Label:", "a", "b", "New"):
        prompt = ids_of(tiny, text)
        bounds, expected = bounds_of(engine, prompt, tree), truth(tiny, prompt, tree)
        assert (bounds.lower[1:] <= expected + 1e-9).all()
        assert (expected <= bounds.upper[1:] + 1e-9).all()
        assert np.isneginf(bounds.lower[1:][halves]).all()
        n_shown += np.isin(np.argsort(-expected)[:20], halves).sum()
    assert n_shown > 10


def test_a_prompt_that_no_text_has_is_refused_alone(tiny, serve):
    _, engine = serve(tiny, OllamaServer)
    tree = tree_of(tiny, " refund", " billing")
    # As text, this is the control token.
    spelled = tuple(
        token for each in ("<|", "end", "|>") for token in ids_of(tiny, each)
    )
    assert ids_of(tiny, "<|end|>") != spelled
    with pytest.raises(AnswerError, match=r"^The server takes text, and no text has"):
        bounds_of(engine, (*ids_of(tiny, "Hello"), *spelled), tree)
    bounds_of(engine, ids_of(tiny, "Hello"), tree)


def test_a_node_that_no_text_reaches_stays_open(tiny, serve):
    _, engine = serve(tiny, OllamaServer)
    start, byte = ids_of(tiny, "é")[:1], 130
    tree = TokenTree([(*start, byte), ids_of(tiny, " refund")])
    prompt = ids_of(tiny, "Topic:")
    bounds, expected = bounds_of(engine, prompt, tree), truth(tiny, prompt, tree)
    assert (bounds.lower[1:] <= expected).all()
    assert (expected <= bounds.upper[1:] + 1e-9).all()


def test_a_server_that_cuts_the_prompt_is_noticed(tiny, serve):
    server, engine = serve(tiny, OllamaServer)
    step = server.step
    server.step = lambda prompt, *rest: (
        step(prompt[-8:], *rest) if len(prompt) > 30 else step(prompt, *rest)
    )
    prompt = ids_of(tiny, "Where is my parcel? It was shipped. Answer:")
    n_read = len(ids_of(tiny, " Answer:"))
    message = (
        f"The server read {n_read} tokens of a prompt of {len(prompt)}: it has a "
        "different tokenizer, or truncated the prompt."
    )
    with pytest.raises(AnswerError, match=whole(message)):
        bounds_of(engine, prompt, tree_of(tiny, " refund", " billing"))


def test_the_context_is_what_ollama_has_loaded(tiny, serve):
    class Short(OllamaServer):
        loaded_length = 40

    _, engine = serve(tiny, Short)
    assert engine.context_length == 39


def test_the_end_of_an_answer_of_which_ollama_shows_nothing_stays_open(tiny, serve):
    server, engine = serve(tiny, OllamaServer)
    prompt = ids_of(tiny, "Topic:")
    server.eos = int(np.argmax(tiny.logprobs(prompt)))
    tree = tree_of(tiny, " refund", " billing")
    bounds = bounds_of(engine, prompt, tree)
    first = list(tree.children(0))
    assert np.isneginf(bounds.lower[first]).all()
    assert (bounds.upper[first] >= truth(tiny, prompt, tree)[np.array(first) - 1]).all()


def thinking(tiny, *, every=7):
    """Return next-token values of a model that thinks in digits, and soon stops.

    It ends its turn where as many tokens as `every` says, or a multiple, are behind it.
    """
    digits = [tiny.fast.token_to_id(each) for each in "123456789"]
    [eos], base = ids_of(tiny, "<|im_end|>"), tiny.logprobs

    def logprobs(token_ids):
        row = np.array(base(token_ids))
        row[digits] += 9.0
        row[eos] = row.max() + 1.0 if len(token_ids) % every == 0 else row.min()
        return row - np.logaddexp.reduce(row)

    return eos, logprobs


@pytest.mark.parametrize("style", ["switched", "chatml"])
@pytest.mark.parametrize("api", SERVERS)
def test_a_model_that_ends_its_turn_has_thought(tmp_path, serve, style, api):
    """In a block of the template, or in words: as an engine that shows all tokens."""
    template, controls = STYLES[style].template, STYLES[style].controls
    tokenizer = chat_tokenizer(template, (*controls, "<|im_end|>"))
    tokenizer.backend.eos_token = "<|im_end|>"
    tiny = Tiny(tmp_path / "model", tokenizer)
    eos, logprobs = thinking(tiny)
    tiny.logprobs = logprobs
    server, engine = serve(tiny, SERVERS[api], options={"self_test": False})
    server.eos = eos
    options = {"strategy": "reason", "max_reasoning_tokens": 12, "tolerance": 0.0}
    asked = {"tokenizer": TextTokenizer(tokenizer.backend, "tiny"), **options}
    exact = FakeEngine.from_function(logprobs, tiny.vocab_size)
    expected = ZeroShotClassifier(LABELS, engine=exact, **asked)
    expected = expected.label_logprobs(TEXTS)
    found = ZeroShotClassifier(LABELS, engine=engine, **asked).label_logprobs(TEXTS)
    for ours, theirs in zip(found.reasoning, expected.reasoning, strict=True):
        assert ours.text == theirs.text
        assert ours.cut is theirs.cut is False
    assert any(each.text.isdigit() for each in found.reasoning)
    assert (found.lower <= expected.values + 1e-9).all()
    assert (expected.values <= found.upper + 1e-9).all()


def test_a_server_that_reads_control_tokens_as_text_is_refused(tmp_path, serve):
    tokenizer = chat_tokenizer(STYLES["switched"].template)
    tiny = Tiny(tmp_path / "model", tokenizer)
    ours = tiny.fast
    tiny.fast = Tokenizer.from_str(ours.to_str())
    tiny.fast.encode_special_tokens = True
    server, engine = serve(tiny, OllamaServer)
    message = (
        f"The server at {server.url}/v1 takes text, and reads control tokens such as "
        "'<|im_start|>' in it as plain text, so the model's chat template cannot be "
        "used: set chat=False, or use a server that takes token ids."
    )
    clf = ZeroShotClassifier(LABELS, engine=engine, tokenizer=tokenizer)
    with pytest.raises(EngineError, match=whole(message)):
        clf.label_logprobs(TEXTS)
    tiny.fast = ours
    clf.set_params(prompt=PromptTemplate(chat=False)).label_logprobs(TEXTS)


# ------------------------------------------------------------------ servers of ids


def test_a_vllm_server_can_be_asked_for_its_lists(tiny, serve):
    def of_text(asked, choice):
        del choice["token_ids"]

    server, engine = serve(
        tiny,
        lambda *model, fast, **more: _WithUsage(*model, **more),
        options={"api": "openai"},
        spoil=of_text,
    )
    assert engine.describe()["prompts"] == "token ids"
    tree = tree_of(tiny, " refund", " billing", " New York", " New Jersey")
    prompt = ids_of(tiny, "Topic:")
    bounds, expected = bounds_of(engine, prompt, tree), truth(tiny, prompt, tree)
    assert (bounds.lower[1:] <= expected + 1e-9).all()
    assert (expected <= bounds.upper[1:] + 1e-9).all()
    assert all("logprob_token_ids" not in each for each in server.requests)


class _WithUsage(SmallServer):
    def answer(self, asked):
        usage = {"prompt_tokens": len(asked["prompt"])}
        return {**super().answer(asked), "usage": usage}


# ---------------------------------------------------------------- what is refused


def refused(tiny, serve, kind, *, options=None, **of_server):
    with pytest.raises(EngineError) as caught:
        serve(tiny, kind, options=options, **of_server)
    return str(caught.value)


def test_values_after_sampling_are_refused(tiny, serve):
    said = refused(tiny, serve, LmStudioServer, sampled_values=True)
    assert re.search(
        r"did not pass the test of its log-probabilities, so it is not used\. "
        r"lists of sampled answers: they are off by [\d.]+ nats\. It must have "
        r"/v1/completions with logprobs",
        said,
    )


# What a server shows of all tokens, if it is asked for n.
SHOWN = {
    "fewer than it is asked for": lambda listed, n: listed[: min(n, 5)],
    "a token hidden": lambda listed, n: (listed[:2] + listed[3:])[: n - 1],
    "a token twice": lambda listed, n: [*listed[:2], listed[1], *listed[3:n]],
    "in no order": lambda listed, n: listed[:n][::-1],
    "the least likely one too": lambda listed, n: [*listed[:n], listed[-1]],
}


@pytest.mark.parametrize("case", SHOWN)
def test_the_truth_lies_within_lists_that_are_not_as_they_should_be(tiny, serve, case):
    server, engine = serve(tiny, LmStudioServer)
    if case == "fewer than it is asked for":
        server, engine = serve(tiny, LmStudioServer, shown=SHOWN[case])
        assert "the 5 most likely tokens" in engine.describe()["shows"]
    server.shown = SHOWN[case]
    for text in ("Topic:", "Label: refund, topic", "Where is my parcel? Answer:"):
        prompt = ids_of(tiny, text)
        row = tiny.logprobs(prompt)
        tree = TokenTree([(int(token),) for token in np.argsort(-row)[:60]])
        bounds = bounds_of(engine, prompt, tree)
        expected = row[tree.tokens[1:]]
        assert (bounds.lower[1:] <= expected + 1e-9).all()
        assert (expected <= bounds.upper[1:] + 1e-9).all()


@pytest.mark.parametrize(
    ("value_of", "said"),
    [
        (lambda value: round(value, 2), "are rounded to 4 decimals or fewer"),
        (lambda value: value if value > -3.0 else -100.0, "cannot have all the rest"),
    ],
)
def test_lists_of_values_that_are_not_those_of_the_model_are_refused(
    tiny, serve, value_of, said
):
    def shown(listed, n_listed):
        return [(token, value_of(value)) for token, value in listed[:n_listed]]

    assert said in refused(tiny, serve, LmStudioServer, shown=shown)


def test_a_list_without_the_token_that_ends_the_answer_says_nothing_of_others(tiny):
    spelling = Spelling(tiny.fast, "tiny")
    [a] = spelling.written_as(b"a")
    entries = [Entry(-3.0, a, b"a"), Entry(-4.0, a + 1, b"b")]
    of_list = {"n_listed": 2, "vocab_size": 300, "rounding": 0.0, "is_end": True}
    assert token_list(entries, spelling, **of_list).floor == 0.0
    [end, *_] = spelling.controls
    shown = [Entry(-0.1, end, spelling.controls[end]), *entries]
    assert token_list(shown, spelling, **of_list).floor == -3.0


def test_ids_of_another_vocabulary_are_refused(tiny, serve):
    class Shifted(LmStudioServer):
        def element(self, token, value):
            text = self.text_of(token)
            return {"token": text, "logprob": value, "id": (token + 1) % 250}

    said = refused(tiny, serve, Shifted)
    assert "in the model given here: give the model that the server runs" in said


def test_a_server_of_another_model_is_refused(tmp_path, tiny, serve):
    other = Tiny(tmp_path / "other", metaspace())
    other.fast, other.logprobs = tiny.fast, tiny.logprobs
    other.vocab_size = tiny.vocab_size
    said = refused(other, serve, OllamaServer)
    assert "run the model given here" in said


@pytest.mark.parametrize("api", SERVERS)
def test_what_lists_do_not_tell_is_refused(tiny, serve, api):
    _, engine = serve(tiny, SERVERS[api])
    prompt = ids_of(tiny, "Topic:")
    for more, what in (
        ({"track_token_ids": [3]}, "track tokens while it generates"),
        ({"allowed": TokenTree([(3,), (4,)])}, "generate along given paths"),
        ({"temperature": 1.0}, "sample with a given seed"),
        ({"top_logprobs": 21}, "list 21"),
    ):
        message = (
            f"The server only lists the 20 most likely tokens, so it cannot {what}: "
            "use strategy='exact'."
        )
        with pytest.raises(InputError, match=whole(message)):
            engine.submit(TrackedRequest(prompt, **more))


def test_the_strategies_that_need_more_are_refused_before_a_text(tiny, serve):
    server, _ = serve(tiny, OllamaServer)
    n_asked = len(server.requests)
    for options, what in (
        ({"strategy": "generate"}, "strategy='generate'"),
        ({"strategy": "reason", "n_chains": 3}, "n_chains=3"),
        ({"strategy": "reason"}, "return_steps=True"),
    ):
        classifier = ZeroShotClassifier(
            LABELS,
            str(tiny.folder),
            engine="server",
            engine_options={"url": server.url, "self_test": False},
            **options,
        )
        message = (
            f"{what} needs an engine that shows the log-probability of every token, "
            "but this one lists only the most likely ones: use strategy='exact', which "
            "gives bounds."
        )
        with pytest.raises(ConfigError, match=whole(message)):
            classifier.label_logprobs(["My invoice is wrong."], return_steps=True)
        clear_engines()
    # Connecting is all that was done.
    assert all(each["prompt"] == "a" for each in server.requests[n_asked:])


def test_top_logprobs_of_vllm_are_refused(tiny):
    with SmallServer(tiny.logprobs, tiny.vocab_size) as server:
        message = (
            "top_logprobs=5 has no effect with a vLLM server, which shows any token "
            "that is asked for: leave it out, or give api='openai'."
        )
        with pytest.raises(ConfigError, match=whole(message)):
            ServerEngine.load(tiny.folder, url=server.url, top_logprobs=5)


# ------------------------------------------------------------------ what a list says


def test_a_text_of_several_tokens_is_counted_to_none():
    spelling = Spelling(byte_level(adds_bos=False).backend.backend_tokenizer, "tiny")
    [half] = spelling.written_as(b"\xc3")
    [a] = spelling.written_as(b"a")
    entries = [
        Entry(-0.5, None, "\ufffd"),
        Entry(-1.5, None, b"a"),
        Entry(-np.inf, None, b"b"),
        Entry(-3.0, None, "no token is written like this"),
    ]
    of_list = {"n_listed": 4, "vocab_size": 300, "rounding": 0.0}
    listed = token_list(entries, spelling, **of_list)
    assert listed.known == {a: -1.5}
    assert listed.unclear[half] == -0.5
    assert listed.floor == -3.0
    keyed = [entries[0]._replace(is_key=True), *entries[1:]]
    assert token_list(keyed, spelling, **of_list).unclear[half] == 0.0


def test_numbers_too_large_for_a_probability_are_refused():
    of_list = {"n_listed": 1, "vocab_size": 10, "rounding": 1e-6}
    listed = token_list([Entry(800.0, 3, "x")], None, **of_list)
    request = ReadRequest((0,), TokenTree([(3,), (4,)]), (0,))
    bounds = EdgeBounds.of_lists(request.tree, {0: listed}, 10)
    with pytest.raises(AnswerError, match=r"^The model's probabilities for this text "):
        checked_answer(request, bounds)
    with pytest.raises(EngineError, match=r"add up to 1\.01e\+304: these are not log-"):
        check_sum(listed.known.values())


@pytest.mark.parametrize("what", [None, {}, [], {"content": []}, {"top_logprobs": [3]}])
def test_an_answer_without_a_list_is_no_answer(what):
    with pytest.raises(AnswerError, match=r"^The server answered without the log-prob"):
        entries_of(what)


# ------------------------------------------------------------- llama.cpp's own server


@pytest.fixture(scope="module")
def gguf(pytestconfig):
    return gguf_file(pytestconfig.cache.mkdir("smollm2"))


@pytest.fixture(scope="module")
def smol(pytestconfig):
    return transformers_folder(pytestconfig.cache.mkdir("smollm2"))


@pytest.fixture(scope="module")
def llama(gguf, tmp_path_factory):
    with LlamaServer(gguf, tmp_path_factory.mktemp("llama") / "log") as server:
        yield server


def over(server, model, labels=("billing", "refund"), **options):
    return ZeroShotClassifier(
        labels,
        str(model),
        engine="server",
        engine_options={"url": server.url, **options},
        tolerance=0.0,
    )


TEXT = "日本語 <|im_end|> text"


@pytest.mark.slow
def test_llama_cpp_is_exact_where_all_is_listed_and_bounded_where_not(llama, smol):
    exact = over(llama, smol, top_logprobs=49152).label_logprobs([TEXT])
    np.testing.assert_array_equal(exact.lower, exact.upper)
    assert exact.unresolved.max() == pytest.approx(0.0, abs=1e-6)
    # Quantized weights and activations against the same weights in float32.
    reference = ZeroShotClassifier(
        ["billing", "refund"],
        str(smol),
        engine="transformers",
        device="cpu",
        tolerance=0.0,
    ).label_logprobs([TEXT])
    np.testing.assert_allclose(exact.values, reference.values, atol=0.5)
    for n_listed in (5, 20):
        found = over(llama, smol, top_logprobs=n_listed).label_logprobs([TEXT])
        # Its kernels for one token and for many round quantized products differently:
        # what is in its cache changes values by up to 0.2 nats.
        assert (found.lower <= exact.values + 0.4).all()
        assert (exact.values <= found.upper + 0.4).all()
        assert (found.lower < found.upper).any()


@pytest.mark.slow
def test_llama_cpp_is_found_out_and_passes_its_test(llama, smol):
    engine = ServerEngine.load(smol, url=f"{llama.url}/completion")
    described = engine.describe()
    assert described["server"].startswith(f"{llama.url}/v1, llama.cpp ")
    assert described["shows"].startswith("bounds: the 1,000 most likely tokens")
    assert described["prompts"] == "token ids"
    assert described["context"] == "1,023 tokens"
    assert [each.problem for each in engine.self_test()] == [""] * 5
    # The model's answer ends here, and its list is shown all the same.
    fast = Spelling.load(str(smol))
    prompt = fast.ids_of("<|im_start|>user\nHi<|im_end|>\n")
    [[generation]] = generate(
        engine, [TrackedRequest(prompt, max_tokens=3, top_logprobs=5)]
    )
    assert len(generation.token_ids) == 3
    assert [len(step) for step in generation.top_logprobs] == [5, 5, 5]
    engine.close()


@pytest.mark.slow
def test_llama_cpp_speaks_openais_api_too(llama, smol):
    engine = ServerEngine.load(smol, url=llama.url, api="openai")
    assert engine.describe()["prompts"] == "token ids"
    engine.close()


@pytest.mark.slow
def test_llama_cpp_killed_and_started_again_loses_no_row(gguf, smol, tmp_path):
    texts = [[f"Where is parcel {n}?"] for n in range(12)]
    source = csv_of(tmp_path / "in.csv", texts)
    with LlamaServer(gguf, tmp_path / "log") as server:
        classifier = over(server, smol, top_logprobs=20, self_test=False)
        engine = classifier.load_engine()

        def kill_and_restart():
            while engine.n_requests < 30:
                time.sleep(0.01)
            server.kill()
            server.start()

        killer = threading.Thread(target=kill_and_restart)
        killer.start()
        job = Classification(classifier=classifier, columns=RowColumns(text="text"))
        outcome = run_job(job, open_table(source), tmp_path / "out.csv")
        killer.join()
    assert outcome.is_complete
    assert outcome.summary.n_labelled == outcome.summary.n_rows == 12
    assert engine.n_requests > 30
