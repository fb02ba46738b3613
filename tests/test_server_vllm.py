"""The engine over a real vLLM server, which the tests start on this machine."""

import json
import threading
import time

import numpy as np
import pandas as pd
import pytest

from classify import ZeroShotClassifier
from classify.demo import model_folder, tickets_csv
from classify.engines import clear_engines, generate, load_engine, read
from classify.engines.server import ServerEngine
from classify.errors import EngineError
from classify.tracking import ReadRequest, TokenTree, TrackedRequest
from tests.job_states import n_parts
from tests.serving import VllmServer
from tests.test_job_server import run as run_job_over
from tests.test_job_server import texts_in

pytestmark = pytest.mark.slow

LABELS = ["billing", "billing dispute", "shipping", "account access", "refund"]
CLOSE = {"atol": 1e-4, "rtol": 0.0}
VOCAB = 4096


@pytest.fixture(scope="module")
def server(tmp_path_factory, vllm_forks):
    log = tmp_path_factory.mktemp("vllm") / "log"
    arguments = (log, "--max-model-len", 512)
    with VllmServer(vllm_forks, model_folder(), *arguments) as running:
        yield running


@pytest.fixture
def engine(server):
    one = ServerEngine.load(model_folder(), url=server.url)
    yield one
    one.close()


@pytest.fixture(scope="module")
def reference():
    return load_engine("transformers", model_folder(), device="cpu")


def prompts(n_prompts, length=40):
    rng = np.random.default_rng(n_prompts)
    shared = rng.integers(3, VOCAB, length).tolist()
    return [(*shared, *rng.integers(3, VOCAB, 5).tolist()) for _ in range(n_prompts)]


def classifier(server, **options):
    over_server = {"engine": "server", "engine_options": {"url": server.url}}
    of = {"labels": LABELS, "model": "demo", **options}
    return (
        ZeroShotClassifier(**of, **over_server),
        ZeroShotClassifier(**of, engine="transformers", device="cpu"),
    )


@pytest.mark.parametrize(
    "options", [{"tolerance": 0.0}, {"strategy": "generate"}], ids=str
)
def test_labels_are_as_probable_as_with_transformers(server, options):
    texts = list(pd.read_csv(tickets_csv())["text"][:24])
    ours, theirs = classifier(server, **options)
    got, expected = ours.label_logprobs(texts), theirs.label_logprobs(texts)
    np.testing.assert_allclose(got.values, expected.values, **CLOSE)
    np.testing.assert_allclose(got.unresolved, expected.unresolved, **CLOSE)
    assert ours.predict(texts).tolist() == theirs.predict(texts).tolist()
    clear_engines()


def test_what_runs_is_told_and_passes_its_test(server, engine):
    described = engine.describe()
    assert described["server"].startswith(f"{server.url}/v1, vLLM 0.")
    assert described["model"] == str(model_folder())
    assert described["context"] == "511 tokens"
    cases = engine.self_test()
    assert [case.problem for case in cases] == [""] * 5
    assert max(case.difference for case in cases[1::2]) < 1e-3


def test_its_lists_alone_give_bounds_that_hold(server, reference):
    engine = ServerEngine.load(model_folder(), url=server.url, api="openai")
    assert engine.describe()["prompts"] == "token ids"
    tree = TokenTree([(token,) for token in range(3, VOCAB)])
    requests = [ReadRequest(prompt, tree, (0,)) for prompt in prompts(3)]
    for got, expected in zip(
        read(engine, requests), read(reference, requests), strict=True
    ):
        known = got.lower[1:] == got.upper[1:]
        assert 15 <= known.sum() <= 20
        np.testing.assert_allclose(got.values[1:][known], expected[1:][known], **CLOSE)
        assert (expected[1:] <= got.upper[1:] + 1e-4).all()
    engine.close()


def test_three_hundred_ids_are_read(engine, reference):
    tree = TokenTree([(token,) for token in range(0, 3000, 10)])
    requests = [ReadRequest(prompt, tree, (0,)) for prompt in prompts(3)]
    for got, expected in zip(
        read(engine, requests), read(reference, requests), strict=True
    ):
        np.testing.assert_allclose(got[1:], expected[1:], **CLOSE)


def test_likeliest_tokens_are_right_beside_tracked_ones(engine, reference):
    # Of vLLM's V1 runner, `logprobs=k` beside a request with ids is wrong.
    requests = [
        TrackedRequest(
            prompt,
            [5, 6, 7] if n % 2 else None,
            max_tokens=4,
            top_logprobs=0 if n % 3 == 1 else 5,
            stop_token_ids=(),
        )
        for n, prompt in enumerate(prompts(24))
    ]
    answers = zip(
        generate(engine, requests), generate(reference, requests), strict=True
    )
    for [got], [expected] in answers:
        assert got.token_ids == expected.token_ids
        assert list(map(list, got.top_logprobs)) == list(
            map(list, expected.top_logprobs)
        )
        for one, other in zip(got.top_logprobs, expected.top_logprobs, strict=True):
            np.testing.assert_allclose(
                list(one.values()), list(other.values()), **CLOSE
            )
        for token, values in (got.tracked_logprobs or {}).items():
            np.testing.assert_allclose(
                values, expected.tracked_logprobs[token], **CLOSE
            )


def test_a_server_killed_under_load_and_started_again_loses_nothing(
    server, reference, tmp_path
):
    source = texts_in(tmp_path / "in.csv", 240)
    run_job_over(source, tmp_path / "whole.csv", server.url, part_rows=30)
    tree = TokenTree([(5, 6), (5, 7), (9,), (11, 12)])
    inner = tuple(tree.inner_nodes.tolist())
    requests = [ReadRequest(prompt, tree, inner) for prompt in prompts(240)]
    engine = ServerEngine.load(model_folder(), url=server.url)

    # A job that has finished some of its parts, and requests that are answered in part.
    outcome = []
    job = threading.Thread(
        target=lambda: outcome.append(
            run_job_over(source, tmp_path / "out.csv", server.url, part_rows=30)
        )
    )
    job.start()
    while not n_parts(tmp_path / "out.csv.job"):
        assert job.is_alive()
        time.sleep(0.01)
    tickets = [engine.submit(request) for request in requests]
    answers = {}
    while not answers:
        answers.update(engine.poll())
    assert len(answers) < len(tickets)
    assert job.is_alive()
    server.kill()
    server.start(wait=False)
    while len(answers) < len(tickets):
        answers.update(engine.poll())
    engine.close()
    job.join(600)

    for ticket, expected in zip(tickets, read(reference, requests), strict=True):
        np.testing.assert_allclose(answers[ticket][1:], expected[1:], **CLOSE)
    assert outcome[0].is_complete
    assert outcome[0].summary.n_labelled == 240
    # Not byte for byte: a sum of floats depends on what else is in the batch.
    found, expected = (pd.read_csv(tmp_path / f"{n}.csv") for n in ("out", "whole"))
    assert found["text"].tolist() == expected["text"].tolist()
    assert found["label"].tolist() == expected["label"].tolist()
    columns = [column for column in found if column.startswith("p(")]
    assert len(columns) == 3
    np.testing.assert_allclose(found[columns], expected[columns], rtol=0, atol=1e-5)


def test_a_server_that_speculates_and_answers_wrong_is_refused(tmp_path, vllm_forks):
    speculation = {
        "method": "ngram",
        "num_speculative_tokens": 4,
        "prompt_lookup_max": 4,
        "prompt_lookup_min": 1,
    }
    arguments = ("--max-model-len", 512)
    arguments += ("--speculative-config", json.dumps(speculation))
    log = tmp_path / "log"
    with VllmServer(vllm_forks, model_folder(), log, *arguments) as server:
        try:
            engine = ServerEngine.load(model_folder(), url=server.url)
        except EngineError as error:
            # 0.32: HTTP 500, since the values are lost.
            said = str(error)
            assert "did not pass the test of its log-probabilities" in said
            assert "tracked values, alone: " in said
            assert "without --speculative-config" in said
            # Nobody else's server was brought down by asking.
            server.wait()
        else:
            # A version that has learned it must be right, as far as it is asked.
            assert [case.problem for case in engine.self_test()] == [""] * 5
            engine.close()
