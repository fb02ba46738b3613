"""Connecting to a server: its address and key, its model, and the test it must pass."""

import json
import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classify.engines import choose_engine, clear_engines, load_engine
from classify.engines.diagnosis import describe
from classify.engines.hosts import is_loopback
from classify.engines.server import ServerEngine
from classify.engines.server.address import authorization, base_url
from classify.engines.server.served import choose_model, vocabulary_size
from classify.errors import ConfigError, EngineError, ModelLoadError
from tests.serving import DROP, SmallServer, a_folder_with
from tests.test_server_engine import LOGPROBS, VOCAB, assert_reads_right, whole
from tests.tiny_tokenizers import byte_level

BYTES = byte_level().backend.backend_tokenizer.to_str()
BASE = "http://127.0.0.1:8000/v1"


@pytest.fixture
def folder(tmp_path):
    return a_folder_with(tmp_path / "model", VOCAB)


@pytest.fixture
def small():
    """Start small servers; they end with the test."""
    started = []

    def start(**options):
        server = SmallServer(LOGPROBS, VOCAB, **options)
        server.start()
        started.append(server)
        return server

    yield start
    for server in started:
        server.stop()


def loaded(folder, server, **options):
    return ServerEngine.load(folder, url=server.url, **options)


# --------------------------------------------------------------------- the address


@pytest.mark.parametrize(
    "url",
    [
        "http://h:1",
        "http://h:1/",
        "http://h:1//",
        "HTTP://h:1/v1",
        " http://h:1/v1/\n",
        "http://h:1/v1?",
        "http://h:1/v1/completions",
        "http://h:1/v1/completions/",
        "http://h:1/v1/chat/completions",
        "http://h:1/v1/models",
        "http://h:1/docs",
        "http://h:1/openapi.json",
        "http://h:1/health",
        "http://h:1/version",
        "http://h:1/completion",
        "http://h:1/props",
        "http://h:1/api/generate",
        "http://h:1/api/v0",
    ],
)
def test_an_address_may_name_an_endpoint(url):
    assert base_url(url) == "http://h:1/v1"


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("localhost:8000", "http://localhost:8000/v1"),
        ("localhost", "http://localhost/v1"),
        ("LOCALHOST:8000/v1", "http://LOCALHOST:8000/v1"),
        ("127.0.0.1:8000/v1/completions", "http://127.0.0.1:8000/v1"),
        ("0.0.0.0:8000", "http://0.0.0.0:8000/v1"),
        ("localhost:11434/api", "http://localhost:11434/v1"),
        ("https://router/api", "https://router/api/v1"),
        ("[::1]:8000", "http://[::1]:8000/v1"),
        ("http://[fd00::2]:8000/v1/", "http://[fd00::2]:8000/v1"),
        ("https://gateway/llm/v1/chat/completions", "https://gateway/llm/v1"),
        ("https://gateway/v1/team/7", "https://gateway/v1/team/7/v1"),
    ],
)
def test_an_address_is_taken_where_it_is_clear(url, base):
    assert base_url(url) == base


@given(
    st.sampled_from(["http", "https"]),
    st.from_regex(r"[a-z]([a-z0-9-]{0,8}[a-z0-9])?(\.[a-z]{2,5})?", fullmatch=True),
    st.none() | st.integers(1, 65535),
    st.lists(st.from_regex(r"[a-z0-9]{1,6}", fullmatch=True), max_size=3),
)
def test_an_address_is_its_own_base(scheme, host, port, path):
    url = "/".join([f"{scheme}://{host}" + (f":{port}" if port else ""), *path])
    base = base_url(url)
    assert base.endswith("/v1")
    assert base_url(base) == base


ADDRESSES = {
    "none": (
        None,
        (
            "The server engine needs the address of a server: give url, such as "
            "http://localhost:8000/v1."
        ),
    ),
    **{
        f"{url!r}": (
            url,
            (
                "url must be the http:// or https:// address of a server, such as "
                "http://localhost:8000/v1; /v1 may be left out. Got "
                f"{url!r}."
            ),
        )
        for url in (
            "gpu-box:8000",
            "ftp://h",
            "http://",
            "http:/h",
            "http://h:x",
            "http://h:99999",
            "http://[::1",
            "http://a b",
            "http://h/a\\b",
            "",
            8000,
        )
    },
    "password without http": (
        "me:secret@h:1",
        (
            "url must be the http:// or https:// address of a server, such as "
            "http://localhost:8000/v1; /v1 may be left out. Got '…@h:1'."
        ),
    ),
    "page": (
        "https://docs.vllm.ai/serving/server.html",
        (
            "url must be the address of a server's API, which ends in /v1, such as "
            "http://localhost:8000/v1, and not of a page. Got "
            "'https://docs.vllm.ai/serving/server.html'."
        ),
    ),
    "password": (
        "http://me:secret@h:1",
        (
            "url has a user name or password for 'h': leave it out. A key is taken "
            "from the environment variable that api_key_env names."
        ),
    ),
    "query": (
        "http://h/v1?key=1",
        (
            "url must be the address of a server alone, without anything after ? or #. "
            "Got 'http://h/v1?…'."
        ),
    ),
}


@pytest.mark.parametrize("case", ADDRESSES)
def test_what_is_no_address_is_refused(folder, case):
    url, message = ADDRESSES[case]
    with pytest.raises(ConfigError, match=whole(message)):
        ServerEngine.load(folder, url=url)


@pytest.mark.parametrize(
    ("host", "answer"),
    [
        ("localhost", True),
        ("127.0.0.1:80", True),
        ("[::1]:80", True),
        ("0.0.0.0:80", True),
        ("10.0.0.1", False),
        ("localhost.example", False),
    ],
)
def test_which_hosts_are_this_machine(host, answer):
    assert is_loopback(f"http://{host}/v1") is answer


# ------------------------------------------------------------------------- the key


def test_a_key_is_sent_and_never_shown(small, folder, monkeypatch, caplog):
    key = "sk-a-key-that-nobody-sees"
    monkeypatch.setenv("A_KEY", key)
    caplog.set_level("DEBUG")
    server = small(key=key)
    engine = loaded(folder, server, api_key_env="A_KEY")
    assert_reads_right(engine)
    shown = [repr(engine), str(engine.describe()), str(vars(engine)), caplog.text]
    shown.append(repr(engine._connection._idle[0].headers))
    # The server repeats what it was sent, as some do.
    server.key = "another"
    with pytest.raises(EngineError) as caught:
        assert_reads_right(engine)
    assert str(caught.value) == (
        f"The server at {server.url}/v1 refused a request (HTTP 401: Incorrect API key "
        "provided: …). It does not accept the key: check the environment variable that "
        "api_key_env names."
    )
    shown.append(str(caught.value.__cause__))
    engine.close()
    assert not any(key in each for each in shown)


def test_a_missing_key_is_named(small, folder):
    server = small(key="x")
    message = (
        f"The server at {server.url}/v1 refused a request (HTTP 401: Incorrect API key "
        "provided:). It may need a key: name the environment variable that holds it "
        "with api_key_env."
    )
    with pytest.raises(EngineError, match=whole(message)):
        loaded(folder, server)


@pytest.mark.parametrize("value", [None, "", "  "])
def test_a_variable_that_is_not_set_is_named(monkeypatch, value):
    monkeypatch.delenv("NO_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("NO_KEY", value)
    message = (
        "api_key_env names 'NO_KEY', but no environment variable of that name is set: "
        "set it to the key, or leave api_key_env out for a server that needs none."
    )
    with pytest.raises(ConfigError, match=whole(message)):
        authorization(BASE, "NO_KEY")


@pytest.mark.parametrize("value", ["two\nlines", "schlüssel"])
def test_a_variable_that_holds_no_key_is_not_shown(monkeypatch, value):
    monkeypatch.setenv("A_KEY", value)
    message = (
        "The environment variable 'A_KEY' holds no key: a key has printable ASCII "
        "characters only, on one line."
    )
    with pytest.raises(ConfigError, match=whole(message)):
        authorization(BASE, "A_KEY")


@pytest.mark.parametrize(
    ("base", "warnings"),
    [
        (BASE, []),
        ("https://gpu/v1", []),
        (
            "http://gpu/v1",
            [
                (
                    "The key in A_KEY is sent over plain http to http://gpu/v1, where "
                    "others can read it: use https."
                )
            ],
        ),
    ],
)
def test_a_key_over_plain_http_is_warned_of(monkeypatch, caplog, base, warnings):
    monkeypatch.setenv("A_KEY", "k")
    assert authorization(base, "A_KEY") == {"Authorization": "Bearer k"}
    assert caplog.messages == warnings


def test_a_proxy_that_cannot_be_used_is_told(folder, monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "ftp://proxy")
    message = (
        "The environment's settings for proxies and certificates (HTTPS_PROXY, "
        "ALL_PROXY, SSL_CERT_FILE, …) cannot be used: Unknown scheme for proxy URL "
        "URL('ftp://proxy')"
    )
    with pytest.raises(ConfigError, match=whole(message)):
        ServerEngine.load(folder, url="http://gpu-box:8000")


def test_a_proxy_is_not_asked_for_this_machine(small, folder, monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    loaded(folder, small()).close()


# ---------------------------------------------------------------------- the options


@pytest.fixture(autouse=True)
def _fresh():
    clear_engines()
    yield
    clear_engines()


def test_engines_are_loaded_by_name_and_shared(small, folder):
    server = small()
    engine = load_engine("server", folder, url=server.url, batch_size=5)
    assert engine.window == 5
    assert engine.asynchronous
    assert load_engine("server", str(folder), url=server.url, batch_size=5) is engine
    other = load_engine("server", folder, url=server.url)
    assert other.window == 64
    assert repr(other) == f"ServerEngine('{server.url}/v1', 'small')"
    assert describe(other) == {
        "server": f"{server.url}/v1, vLLM 0.99.0",
        "model": "small",
        "shows": "exact log-probabilities: any token's is asked for by its id",
        "context": "4,095 tokens",
        "in flight": "64 texts, 64 requests at once",
    }
    engine.close()
    other.close()


def test_auto_is_a_server_where_its_address_is_given():
    assert choose_engine("auto", "m", device="cpu").name == "transformers"
    for name in ("auto", "server"):
        assert choose_engine(name, "m", options={"url": BASE}) == ("server", "")


OPTIONS = {
    "dtype": (
        {"dtype": "float32"},
        (
            "dtype is 'float32', but the server has chosen its own already: leave "
            "dtype out, or start the server with it."
        ),
    ),
    "device": (
        {"device": "cuda:1"},
        (
            "device is 'cuda:1', but the server has chosen its own already: leave "
            "device out, or start the server with it."
        ),
    ),
    "batch size": (
        {"batch_size": 0},
        (
            "batch_size must be 'auto' or an integer from 1: with the server engine, "
            "most requests at once. Got 0."
        ),
    ),
    "timeout": ({"timeout": 0}, "timeout must be a number, at least 0.001. Got 0."),
    "retries": ({"retries": -1}, "retries must be a whole number, at least 0. Got -1."),
    "patience": (
        {"patience": "long"},
        "patience must be a number, at least 0. Got 'long'.",
    ),
    "speculation": (
        {"speculation": "ngram"},
        (
            "The server engine has no speculative decoding: use engine='vllm', or "
            "leave speculation out."
        ),
    ),
    "api": (
        {"api": "tgi"},
        (
            "api must be one of 'auto', 'vllm', 'llamacpp', 'ollama', 'openai'. Got "
            "'tgi'."
        ),
    ),
    "top_logprobs": (
        {"top_logprobs": 0},
        "top_logprobs must be a whole number, at least 1, or None. Got 0.",
    ),
    "unknown": (
        {"max_model_len": 5},
        (
            "The server engine has no option 'max_model_len'. Its options are api, "
            "api_key_env, patience, retries, self_test, served_model_name, timeout, "
            "top_logprobs, url; those of vLLM need engine='vllm'."
        ),
    ),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_an_option_that_is_not_allowed_is_refused(folder, case):
    options, message = OPTIONS[case]
    with pytest.raises(ConfigError, match=whole(message)):
        load_engine("server", folder, url=BASE, **options)


def test_a_model_object_has_no_name():
    message = (
        "The server engine loads models by name: give a folder or a hub id, not an "
        "object of type object."
    )
    with pytest.raises(ConfigError, match=whole(message)):
        load_engine("server", object(), url=BASE)


def test_httpx_is_named_where_it_is_missing(folder):
    code = f"""
import sys
sys.modules["httpx"] = None
from classify.engines import load_engine
load_engine("server", {str(folder)!r}, url={BASE!r})
"""
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert process.stderr.endswith(
        "MissingDependencyError: The server engine needs httpx, which is not "
        "installed. Install it with: pip install 'classify-lm[server]'\n"
    )


def test_a_server_that_is_not_there_is_soon_told(small, folder):
    server = small()
    server.stop()
    with pytest.raises(EngineError) as caught:
        loaded(folder, server)
    assert re.sub(r"tried \d+", "tried N", str(caught.value)) == (
        f"The server at {server.url}/v1 did not answer: ConnectError: All connection "
        "attempts failed (tried N times). Check that it is running and that url is "
        "its address."
    )


# ------------------------------------------------------------------ the server's model


def listing(*names, **more):
    return {"data": [{"id": name, "max_model_len": 9, **more} for name in names]}


@pytest.mark.parametrize(
    ("names", "model", "served", "chosen"),
    [
        (["a"], "org/b", None, "a"),
        (["a", "org/b"], "org/b", None, "org/b"),
        (["a", "b"], "org/b", None, "b"),
        (["a", "b"], "/models/b/", None, "b"),
        (["a", "b"], "org/b", "a", "a"),
    ],
)
def test_which_model_is_asked(names, model, served, chosen):
    asked = choose_model(listing(*names), model, base=BASE, served_model_name=served)
    assert asked[:2] == (chosen, 9)


def test_a_model_is_known_by_where_it_was_loaded_from():
    cards = listing("x", root="org/x")["data"] + listing("y", root="org/y")["data"]
    assert choose_model({"data": cards}, "org/y", base=BASE).name == "y"


@pytest.mark.parametrize(
    ("model", "served", "asked"),
    [("org/c", None, "'org/c'"), ("org/a", "c", "'c'")],
)
def test_a_model_that_the_server_has_not_is_refused(model, served, asked):
    message = (
        f"The server at {BASE} has no model {asked}; it has 'a', 'b'. Give "
        "one of these as served_model_name."
    )
    with pytest.raises(ConfigError, match=whole(message)):
        choose_model(listing("a", "b"), model, base=BASE, served_model_name=served)


@pytest.mark.parametrize("answer", [None, [], {}, {"data": 3}, {"data": [{"x": 1}, 2]}])
def test_what_lists_no_models_is_no_server(answer):
    message = (
        f"The server at {BASE} lists no models (/v1/models), as vLLM, llama.cpp's "
        "server, Ollama and LM Studio do."
    )
    with pytest.raises(EngineError, match=whole(message)):
        choose_model(answer, "m", base=BASE)


def test_a_server_that_does_not_say_how_much_it_takes_is_none_of_vllms(small, folder):
    server = small(max_model_len=None)
    for api, message in (
        (
            "vllm",
            (
                "does not report the context length of 'small' (max_model_len in "
                "/v1/models), as vLLM does: give api='openai' if it is not a vLLM "
                "server."
            ),
        ),
        (
            "llamacpp",
            (
                "does not report the sizes of its vocabulary and context (n_vocab in "
                "/v1/models, n_ctx in /props), as llama.cpp's does: give api='openai' "
                "if it is a different server."
            ),
        ),
    ):
        (folder / "tokenizer.json").write_text(BYTES)
        with pytest.raises(
            EngineError, match=whole(f"The server at {server.url}/v1 {message}")
        ):
            loaded(folder, server, api=api)


@pytest.mark.parametrize(
    "config",
    [
        {"vocab_size": 7},
        {"text_config": {"vocab_size": 7}, "vision_config": {"vocab_size": 3}},
        {"thinker_config": {"text_config": {"vocab_size": 7}}},
    ],
)
def test_the_vocabulary_is_that_of_the_language_model(tmp_path, config):
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert vocabulary_size(str(tmp_path)) == 7


@pytest.mark.parametrize("content", ["{}", "[]", '{"vocab_size": "7"}'])
def test_a_config_without_a_vocabulary_is_refused(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    message = (
        f"{tmp_path / 'config.json'} names no vocab_size. Give the folder or hub id of "
        "the model that the server runs."
    )
    with pytest.raises(ModelLoadError, match=whole(message)):
        vocabulary_size(str(tmp_path))


def test_a_folder_without_a_config_is_refused(tmp_path):
    path = tmp_path / "config.json"
    message = (
        f"The server engine reads {path} for the model's vocabulary, and cannot: "
        f"[Errno 2] No such file or directory: {str(path)!r}. Give the folder or hub "
        "id of the model that the server runs."
    )
    with pytest.raises(ModelLoadError, match=whole(message)):
        vocabulary_size(str(tmp_path))


@pytest.mark.parametrize(
    ("model", "start"),
    [
        ("no/such-model", "There is no model 'no/such-model': no such folder in "),
        ("not a name", "There is no folder 'not a name' (looked in "),
        ("/no/such/folder", "There is no folder '/no/such/folder' (looked in "),
    ],
)
def test_a_model_that_is_nowhere_is_refused(model, start):
    with pytest.raises(ModelLoadError, match=f"^{re.escape(start)}"):
        vocabulary_size(model)


# ------------------------------------------------------------------ the engine's test


def refusal_of(folder, server):
    """What a server is refused for, without what is said of every one."""
    with pytest.raises(EngineError) as caught:
        loaded(folder, server)
    begin = (
        f"The server at {server.url}/v1 (vLLM 0.99.0) did not pass the test of its "
        "log-probabilities, so it is not used. "
    )
    end = (
        ". It must be vLLM 0.26 or newer, which knows logprob_token_ids, without "
        "--speculative-config and with its default --logprobs-mode. Or use "
        "api='openai', which needs only the most likely tokens and gives bounds, or "
        "engine='vllm', which has no such requirements."
    )
    said = str(caught.value)
    assert said.startswith(begin)
    assert said.endswith(end)
    return said.removeprefix(begin).removesuffix(end)


def test_a_right_server_passes(small, folder):
    server = small()
    engine = loaded(folder, server)
    cases = engine.self_test()
    assert [(case.name, case.problem, case.harm) for case in cases] == [
        ("log-probabilities of a prompt", "", ""),
        ("tracked values, alone", "", ""),
        ("the vocabulary", "", ""),
        ("tracked values of 128 tokens", "", ""),
        ("tracked values, in a batch with other requests", "", ""),
    ]
    assert [case.difference for case in cases[1::2]] == pytest.approx([0, 0], abs=1e-9)
    # Others are asked for at the same time, and some for their likeliest tokens.
    assert server.most_at_once > 3
    assert any(
        each.get("logprobs") == 2 and "logprob_token_ids" not in each
        for each in server.requests
    )
    engine.close()


def without_ids(asked, choice):
    """What a server answers that does not know `logprob_token_ids`."""
    if asked.get("logprob_token_ids"):
        steps = choice["logprobs"]["top_logprobs"]
        steps[:] = [dict(list(step.items())[:1]) for step in steps]


def first_step_only(asked, choice):
    """vLLM's V2 runner, when it speculates."""
    if asked.get("logprob_token_ids"):
        del choice["logprobs"]["top_logprobs"][1:]


def late_by_a_step(asked, choice):
    if asked.get("logprob_token_ids"):
        steps = choice["logprobs"]["top_logprobs"]
        steps[1:] = steps[:-1]


def masked(asked, choice):
    """With processed_logprobs: the values after the restriction to a few tokens."""
    for step in (choice["logprobs"] or {"top_logprobs": ()})["top_logprobs"]:
        for key in step if asked.get("allowed_token_ids") else ():
            allowed = int(key.partition(":")[2]) in asked["allowed_token_ids"]
            step[key] = 0.0 if allowed else -9999.0


def as_logits(asked, choice):
    """With raw_logits: not normalised, of the prompt and of what is generated."""
    for step in (choice["logprobs"] or {"top_logprobs": ()})["top_logprobs"]:
        step.update({key: value + 5.0 for key, value in step.items()})
    for step in choice["prompt_logprobs"] or ():
        for value in (step or {}).values():
            value["logprob"] += 5.0


def without_prompt(asked, choice):
    choice["prompt_logprobs"] = None


def short_prompt(asked, choice):
    choice["prompt_logprobs"] = (choice["prompt_logprobs"] or [])[:3]


MISSING = r"The server answered without a log-probability of token \d+, which was "
SPOILED = {
    "does not know ids": (
        without_ids,
        rf"tracked values, alone: {MISSING}asked for \(logprob_token_ids\)",
    ),
    "speculates": (
        first_step_only,
        (
            r"tracked values, alone: The server answered 8 tokens with 1 steps of log-"
            r"probabilities: each token needs its own"
        ),
    ),
    "is late": (late_by_a_step, r"tracked values, alone: they are off by [\d.]+ nats"),
    "masks": (masked, r"tracked values, alone: they are off by inf nats"),
    "gives logits": (
        as_logits,
        (
            r"log-probabilities of a prompt: the probabilities of the most likely "
            r"tokens add up to \d+(\.\d+)?: these are not log-probabilities"
        ),
    ),
    "scores no prompts": (
        without_prompt,
        (
            r"log-probabilities of a prompt: The server answered without the log-"
            r"probabilities of the prompt that were asked for \(prompt_logprobs\)"
        ),
    ),
    "scores half of a prompt": (
        short_prompt,
        (
            r"log-probabilities of a prompt: the server scored 3 tokens of a prompt of "
            r"26"
        ),
    ),
}


@pytest.mark.parametrize("case", SPOILED)
def test_a_server_that_answers_wrong_is_refused(small, folder, case):
    spoil, problem = SPOILED[case]
    assert re.fullmatch(problem, refusal_of(folder, small(spoil=spoil)))


def test_a_server_that_is_wrong_in_company_is_refused(small, folder):
    server = small()
    server.spoil = lambda asked, choice: (
        without_ids(asked, choice) if server.at_once > 1 else None
    )
    said = refusal_of(folder, server)
    assert said.startswith(
        "tracked values, in a batch with other requests: The server answered"
    )


@pytest.mark.parametrize(
    ("trouble", "problem"),
    [
        (
            (500, {}, {"error": {"message": "list index out of range"}}),
            "HTTP 500: list index out of range",
        ),
        (DROP, "RemoteProtocolError: Server disconnected without sending a response"),
    ],
)
def test_a_server_that_fails_is_refused_at_once(small, folder, trouble, problem):
    server = small()
    server.trouble = lambda n: (
        trouble if server.requests[n].get("logprob_token_ids") else None
    )
    assert refusal_of(folder, server) == f"tracked values, alone: {problem}"


def test_a_server_that_dies_in_company_is_refused(small, folder):
    server = small()
    server.trouble = lambda _: DROP if server.at_once > 1 else None
    assert refusal_of(folder, server) == (
        "tracked values, in a batch with other requests: RemoteProtocolError: Server "
        "disconnected without sending a response"
    )


@pytest.mark.parametrize("vocab_size", [VOCAB - 50, VOCAB - 1])
def test_a_server_with_more_tokens_runs_another_model(small, tmp_path, vocab_size):
    model = a_folder_with(tmp_path / "other", vocab_size)
    assert refusal_of(model, small()) == (
        f"the vocabulary: the server knows the token {vocab_size}, but the model named "
        f"here has {vocab_size} tokens, the last of which is {vocab_size - 1}: name "
        "the model that the server runs"
    )


def test_a_server_with_fewer_tokens_runs_another_model(small, tmp_path):
    model = a_folder_with(tmp_path / "other", VOCAB + 1)
    said = refusal_of(model, small())
    assert said == (
        f"the vocabulary: HTTP 400: out-of-vocab token ids. Vocabulary size: {VOCAB}"
    )


def test_others_who_suffer_are_warned_of(small, folder, caplog):
    def spoil(asked, choice):
        # vLLM's V1 runner, to a request beside one that tracks.
        if asked.get("logprobs") and not asked.get("logprob_token_ids"):
            for step in choice["logprobs"]["top_logprobs"]:
                sampled = next(iter(step.items()))
                step.clear()
                step.update([("token_id:0", -9999.0), sampled])

    server = small(spoil=spoil)
    loaded(folder, server).close()
    [warning] = caplog.messages
    assert warning == (
        f"While the server at {server.url}/v1 is used like this, other clients get "
        "wrong values for the most likely tokens (logprobs) that they request at the "
        "same time: this is a bug in vLLM. Use a server where other clients do not "
        "request them."
    )


def test_the_test_can_be_left_out(small, folder):
    server = small(spoil=without_ids)
    loaded(folder, server, self_test=False).close()
    assert server.requests == []
