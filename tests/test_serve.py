"""`classify serve`: requests and answers, what is refused, and many clients at once."""

import asyncio
import contextlib
import json
import logging
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from typer.testing import CliRunner

from classify import LabelCalibrator, SelectiveClassifier
from classify.cli import app as cli
from classify.demo import tickets_yaml
from classify.errors import ConfigError
from classify.serve import ServeSettings, make_app
from tests.serving import kept_port
from tests.test_async import HeldEngine
from tests.test_cli_options import example_of
from tests.tiny_tokenizers import byte_level
from tests.toy_jobs import NO_TEXT, ScatteredEngine, dying_engine, make
from tests.toy_model import hashed_engine

httpx = pytest.importorskip("httpx")
running = pytest.importorskip("classify.serve.running")

TEXTS = ["Where is my parcel?", "I was charged twice."]
NAMES = ["billing", "shipping"]


def client_of(app, **options):
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://test", **options)


def ask(app, body=None, path="/v1/classify", **options):
    """Send one request; return the response."""

    async def send():
        async with client_of(app) as client:
            if body is None and not options:
                return await client.get(path)
            content = {} if "content" in options else {"json": body}
            return await client.post(path, **content, **options)

    return asyncio.run(send())


def results_of(app, **body):
    response = ask(app, body)
    assert response.status_code == 200, response.text
    return response.json()["results"]


def refused(app, body, status=422, **options):
    """Send a request that is refused; return the sentence."""
    response = ask(app, body, **options)
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type"}
    return error["message"]


# ----------------------------------------------------------------------------- answers


def test_answers_are_those_of_the_classifier():
    clf = make()
    proba, scores = clf.predict_proba(TEXTS), clf.label_logprobs(TEXTS)
    results = results_of(make_app(clf), texts=TEXTS)
    for at, result in enumerate(results):
        assert result.pop("probabilities") == dict(zip(NAMES, proba[at], strict=True))
        assert result == {
            "label": NAMES[proba[at].argmax()],
            "probability": proba[at].max(),
            "lower": pytest.approx(proba[at].max(), abs=1e-3),
            "upper": pytest.approx(proba[at].max(), abs=1e-3),
            "certain": True,
            "label_mass": scores.label_mass[at],
            "unresolved": scores.unresolved[at],
            "truncated": False,
            "error": None,
        }


def test_a_bad_text_fails_alone():
    app = make_app(make(), ServeSettings(max_text_length=30))
    texts = [TEXTS[0], " ", None, 7, ["a"], "half \ud83d", "long " * 10, TEXTS[1]]
    body = json.dumps({"texts": texts})
    response = ask(app, content=body, headers={"content-type": "application/json"})
    results = response.json()["results"]
    good = results_of(make_app(make()), texts=TEXTS)
    assert [results[0], results[-1]] == good
    assert [result["error"] for result in results[1:-1]] == [
        NO_TEXT,
        NO_TEXT,
        "the text is a value of type int: send a string.",
        "the text holds a value of type list, not a string: convert it first.",
        "the text contains a lone surrogate: \\ud800 to \\udfff must come in pairs.",
        "the text has 50 characters, but this server allows 30: shorten it.",
    ]
    assert {result["label"] for result in results[1:-1]} == {None}


def test_an_answer_that_cannot_be_used_is_of_its_text_alone():
    def next_logprobs(token_ids):
        row = np.full(len(byte_level()), -np.log(len(byte_level())))
        return row * np.nan if "spoilt" in byte_level().decode(token_ids) else row

    from classify.engines import FakeEngine

    engine = FakeEngine.from_function(next_logprobs, len(byte_level()))
    good, bad = results_of(make_app(make(engine=engine)), texts=["fine", "spoilt"])
    assert good["label"] in NAMES
    assert (bad["label"], "NaN" in bad["error"]) == (None, True)


def test_rows_have_the_columns_of_the_prompt():
    clf = make(template="{title}: {text}\nTopic:")
    app = make_app(clf, text_column="body", labels_column="which")
    rows = [
        {"title": "Late", "body": TEXTS[0], "which": NAMES, "id": 3},
        {"title": None, "body": TEXTS[1], "which": "shipping|billing"},
        {"body": TEXTS[1], "which": NAMES},
        {"title": "x", "body": TEXTS[1], "which": ["billing", "refund"]},
        {"title": "x", "body": "", "which": NAMES},
    ]
    *good, no_title, no_label, no_text = results_of(app, rows=rows)
    import pandas as pd

    frame = pd.DataFrame({"title": ["Late", ""], "text": TEXTS})
    expected = clf.predict_proba(frame)
    assert [each["probabilities"]["billing"] for each in good] == [*expected[:, 0]]
    assert no_title["error"] == "there is no column 'title', which the prompt needs."
    assert no_label["error"].startswith("'refund' is not one of the labels")
    assert no_text["error"] == NO_TEXT
    assert refused(app, {"texts": TEXTS}) == (
        "The prompt needs the columns 'title', 'body': give rows."
    )


def test_no_text_gives_no_result():
    assert results_of(make_app(make()), texts=[]) == []
    assert results_of(make_app(make()), rows=[]) == []


def test_labels_of_a_request():
    app = make_app(make(("billing", "shipping", "refund")))
    some = results_of(app, texts=TEXTS, labels=["shipping", "billing"])
    expected = make().predict_proba(TEXTS)
    assert [list(each["probabilities"]) for each in some] == [NAMES[::-1]] * 2
    np.testing.assert_allclose(
        [[each["probabilities"][name] for name in NAMES] for each in some], expected
    )
    own = results_of(app, texts=TEXTS, labels={"x": "unknown", "y": None})
    expected = make(("x", "y")).predict_proba(TEXTS)
    np.testing.assert_allclose(
        [[each["probabilities"][name] for name in "xy"] for each in own], expected
    )
    sentence = refused(app, {"texts": TEXTS, "labels": ["billing", "refunds"]})
    assert sentence == (
        "'refunds' is not one of the labels: 'billing', 'shipping', 'refund'. Did you "
        "mean 'refund'? To use other labels in a request, give a mapping of names to "
        "descriptions or null."
    )
    assert "at least two labels" in refused(
        app, {"texts": TEXTS, "labels": ["billing"]}
    )


def test_labels_in_another_unicode_form_are_those_that_were_declared():
    app = make_app(make(("caf\u00e9", "shipping", "refund")), labels_column="which")
    some = ["shipping", "cafe\u0301"]
    [asked] = results_of(app, texts=TEXTS[:1], labels=some)
    assert list(asked["probabilities"]) == ["shipping", "caf\u00e9"]
    assert results_of(app, rows=[{"text": TEXTS[0], "which": some}]) == [asked]


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        ({1: "low", 2: "medium", 5: "high"}, "ordinal"),
        (["pet/dog", "pet/cat", "car"], "tree"),
    ],
)
def test_answers_have_the_results_of_the_kind(labels, kind):
    import pandas as pd

    clf = make().set_params(labels=labels, kind=kind)
    app = make_app(clf)
    frame = clf.classify_frame(pd.DataFrame({"text": TEXTS}))
    columns = list(clf.question_kind().columns)
    results = results_of(app, texts=TEXTS)
    assert columns
    for result, row in zip(results, frame[columns].to_dict("records"), strict=True):
        assert {name: result[name] for name in columns} == {
            name: None if pd.isna(value) else value for name, value in row.items()
        }
    fields = ask(app, path="/openapi.json").json()["components"]["schemas"]["Result"]
    assert set(columns) <= set(fields["properties"])
    [own] = results_of(app, texts=TEXTS[:1], labels={"x": None, "y": None})
    assert not set(columns) & set(own)


def test_a_server_without_labels_needs_them_in_requests():
    app = make_app(make(None))
    assert refused(app, {"texts": TEXTS}) == (
        "There are no labels: give labels, a mapping of names to descriptions or null."
    )
    results = results_of(app, texts=TEXTS, labels=NAMES)
    assert results == results_of(make_app(make()), texts=TEXTS)
    app = make_app(make(None), selective=SelectiveClassifier.at(0.999, "any"))
    [result] = results_of(app, texts=TEXTS[:1], labels=NAMES)
    assert (result["label"], result["abstained"]) == (None, "low probability")


def test_calibration_and_threshold_apply_and_belong_to_the_labels():
    clf = make(calibrator=LabelCalibrator("prior_matching"))
    clf.fit([f"text {at}" for at in range(20)])
    selective = SelectiveClassifier.at(0.999, NAMES)
    app = make_app(clf, selective=selective)
    results = results_of(app, texts=TEXTS)
    proba = clf.predict_proba(TEXTS)
    assert [each["probabilities"]["billing"] for each in results] == [*proba[:, 0]]
    assert [each["label"] for each in results] == [None, None]
    assert [each["abstained"] for each in results] == ["low probability"] * 2
    assert refused(app, {"texts": TEXTS, "labels": {"a": None, "b": None}}) == (
        "The calibration, threshold or sets of this server belong to its own labels: "
        "leave labels out, or list some of their names."
    )


# ---------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({}, "Give texts or rows, and not both."),
        ({"texts": [], "rows": []}, "Give texts or rows, and not both."),
        ({"texts": "one"}, "texts: input should be a valid list."),
        ({"rows": ["one"]}, "rows[0]: input should be a valid dictionary."),
        (
            {"texts": [], "label": []},
            "Unknown field label: remove it, or correct its name.",
        ),
        ([], "The request must be a JSON object, sent as application/json."),
    ],
)
def test_a_request_that_cannot_be_read(body, sentence):
    assert refused(make_app(make()), body) == sentence


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "Expecting property name enclosed in double quotes"),
        *(
            (
                content,
                "it is not UTF-8, is nested too deeply, or has too long a number",
            )
            for content in (b'"\xff"', b"[" * 100_000, b"9" * 5000)
        ),
    ],
)
def test_a_body_that_is_no_json(content, said):
    headers = {"content-type": "application/json"}
    sentence = refused(make_app(make()), None, content=content, headers=headers)
    assert sentence == f"The request is not JSON: {said}."


@pytest.mark.parametrize(
    "content",
    [
        b'{"texts": ["one"], "texts": ["two"]}',
        b'{"texts": ["one"], "labels": {"texts": "a", "b": null, "texts": "c"}}',
    ],
)
def test_a_key_that_a_body_has_twice(content):
    headers = {"content-type": "application/json"}
    assert refused(make_app(make()), None, content=content, headers=headers) == (
        "The request has the key 'texts' twice in one JSON object: remove or rename "
        "one of them."
    )


def test_limits_on_a_request():
    settings = ServeSettings(max_texts=2, max_labels=2, max_text_length=40)
    app = make_app(make(), settings)
    assert refused(app, {"texts": ["a"] * 3}, 413) == (
        "The request has 3 texts, but this server allows 2: send fewer in one request."
    )
    labels = dict.fromkeys("abc")
    assert refused(app, {"texts": ["a"], "labels": labels}, 413) == (
        "The request has 3 labels, but this server allows 2: send fewer in one request."
    )
    labels = {"a": "x" * 50, "b": None}
    assert refused(app, {"texts": ["a"], "labels": labels}, 413) == (
        "The request has 70 characters in its labels, but this server allows 40: send "
        "fewer in one request."
    )


def test_a_body_that_is_too_large_is_not_read_to_its_end():
    app = make_app(make(), ServeSettings(max_body_bytes=100))
    n_sent = 0

    async def pieces():
        nonlocal n_sent
        for _ in range(1000):
            n_sent += 1
            yield b"x" * 60

    sentence = (
        "The request is larger than the 100 bytes that this server allows: send fewer "
        "texts in one request."
    )
    assert refused(app, None, 413, content=pieces()) == sentence
    assert n_sent == 2
    assert refused(app, {"texts": ["x" * 100]}, 413) == sentence


def test_a_body_that_does_not_arrive():
    app = make_app(make(), ServeSettings(timeout=0.01))

    async def pieces():
        yield b"{"
        await asyncio.sleep(60)

    assert refused(app, None, 408, content=pieces()) == (
        "The request did not arrive within 0.01 seconds."
    )


def test_a_key(monkeypatch):
    monkeypatch.setenv("SOME_KEY", "secret")
    app = make_app(make(), ServeSettings(client_key_env="SOME_KEY"))
    sentence = (
        "The API key is missing or wrong: send it as 'Authorization: Bearer KEY'."
    )
    for headers in ({}, {"authorization": "Bearer other"}, {"authorization": "secret"}):
        assert refused(app, {"texts": TEXTS}, 401, headers=headers) == sentence
    headers = {"authorization": "bearer secret"}
    assert ask(app, {"texts": TEXTS}, headers=headers).status_code == 200
    for path in ("/health", "/ready", "/metrics", "/docs"):
        assert ask(app, path=path).status_code == 200
    monkeypatch.setenv("SOME_KEY", " ")
    with pytest.raises(ConfigError, match=r"^The environment variable SOME_KEY of "):
        make_app(make(), ServeSettings(client_key_env="SOME_KEY"))


def test_limits_hold_where_the_application_is_mounted_in_another(monkeypatch, caplog):
    caplog.set_level(logging.INFO, "classify.serve.requests")
    monkeypatch.setenv("SOME_KEY", "secret")
    settings = ServeSettings(client_key_env="SOME_KEY", max_body_bytes=100)
    site = Starlette(routes=[Mount("/nlp", make_app(make(), settings))])
    path, key = "/nlp/v1/classify", {"authorization": "Bearer secret"}
    assert "The API key is missing" in refused(site, {"texts": TEXTS}, 401, path=path)
    long = {"texts": ["long " * 30]}
    assert "is larger than" in refused(site, long, 413, path=path, headers=key)
    assert ask(site, {"texts": TEXTS}, path, headers=key).status_code == 200
    assert ask(site, {}, "/nlp/v1/systemone", headers=key).json()["detail"]
    paths = [each.args[1] for each in caplog.records if "serve" in each.name]
    assert paths == [*["/v1/classify"] * 3, "/v1/systemone"]


def test_paths_that_there_are_not():
    app = make_app(make())
    assert refused(app, {}, 404, path="/v1/nothing") == "Not Found."
    assert ask(app, path="/v1/classify").json()["error"]["message"] == (
        "Method Not Allowed."
    )


def test_settings_that_contradict_each_other():
    with pytest.raises(
        ConfigError,
        match=r"^max_waiting=10 is below max_texts=1000: a full request would never be "
        r"accepted\. Raise the first or lower the second\.$",
    ):
        ServeSettings(max_waiting=10)


# -------------------------------------------------------------------------- under load


def test_more_than_may_wait_is_told_to_come_back():
    engine = HeldEngine()
    app = make_app(make(engine=engine), ServeSettings(max_texts=3, max_waiting=4))

    async def send():
        async with client_of(app) as client:
            first = asyncio.create_task(
                client.post("/v1/classify", json={"texts": ["a", "b", "c"]})
            )
            await asyncio.to_thread(engine.asked.wait, 60)
            busy = await client.post("/v1/classify", json={"texts": TEXTS})
            fits = asyncio.create_task(
                client.post("/v1/classify", json={"texts": ["d"]})
            )
            await asyncio.sleep(0)
            figures = (await client.get("/metrics")).text
            engine.go.set()
            return busy, figures, await first, await fits

    busy, figures, first, fits = asyncio.run(send())
    assert (busy.status_code, busy.headers["retry-after"]) == (429, "1")
    assert busy.json()["error"] == {
        "message": "3 texts are waiting, and no more than 4 may: try again later.",
        "type": "rate_limit_error",
    }
    assert 'classify_requests_total{path="/v1/classify",status="429"} 1.0' in figures
    assert (first.status_code, fits.status_code) == (200, 200)


def test_a_request_that_takes_too_long_and_those_behind_it():
    engine = HeldEngine()
    app = make_app(make(engine=engine), ServeSettings(timeout=0.01))
    assert refused(app, {"texts": TEXTS}, 504) == (
        "There was no answer within 0.01 seconds: send fewer texts, or try again later."
    )
    engine.go.set()


def test_the_texts_of_a_client_that_leaves_are_dropped():
    engine = HeldEngine()
    app = make_app(make(engine=engine))
    body = json.dumps({"texts": [f"text {at}" for at in range(20)]}).encode()
    left = asyncio.Event()
    sent = []

    async def receive():
        if body_parts:
            return body_parts.pop()
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    body_parts = [{"type": "http.request", "body": body, "more_body": False}]
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/classify",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
    }

    async def leave():
        asking = asyncio.create_task(app(scope, receive, send))
        await asyncio.to_thread(engine.asked.wait, 60)
        left.set()
        await asking
        engine.go.set()
        async with client_of(app) as client:
            return (await client.get("/metrics")).text

    figures = asyncio.run(leave())
    assert sent == []
    assert 'classify_requests_total{path="/v1/classify",status="499"} 1.0' in figures
    assert "classify_waiting_texts 0.0" in figures
    # One window was begun; the others never are.
    prompts = {request.prompt_token_ids for request in engine.requests}
    assert len(prompts) == 4


def test_an_engine_that_dies_gives_503_from_then_on():
    engine = dying_engine("deadly")
    app = make_app(make(engine=engine))
    assert ask(app, path="/ready").status_code == 200
    sentence = "The model cannot answer: The engine died."
    assert refused(app, {"texts": ["deadly"]}, 503) == sentence
    assert ask(app, path="/ready").status_code == 503
    assert ask(app, path="/health").status_code == 200
    # It was not closed, and may be back.
    assert len(results_of(app, texts=TEXTS)) == 2
    assert ask(app, path="/ready").status_code == 200
    engine.closed = True
    stopped = "The model cannot answer: The engine has stopped."
    assert refused(app, {"texts": TEXTS}, 503) == stopped
    assert ask(app, path="/ready").status_code == 503
    assert "classify_ready 0.0" in ask(app, path="/metrics").text


def test_logs_have_a_line_for_each_request_and_nothing_of_a_client(caplog):
    caplog.set_level(logging.INFO, "classify.serve.requests")

    class Broken(ScatteredEngine):
        def submit(self, request):
            raise KeyError(byte_level().decode(request.prompt_token_ids))

    app = make_app(make())
    ask(app, {"texts": ["private"]})
    ask(app, {"texts": ["private"], "private": 1})
    ask(app, {}, path="/v1/private?private=1")
    broken = make_app(make(engine=Broken(hashed_engine(len(byte_level())), 1)))
    response = ask(broken, {"texts": ["private"]})
    assert (response.status_code, response.json()["error"]["message"]) == (
        500,
        "Unexpected KeyError: see the log of the server.",
    )
    lines = [
        re.sub(r"\d+ ms", "N ms", record.getMessage())
        for record in caplog.records
        if record.name == "classify.serve.requests"
    ]
    assert lines[:3] == [
        "POST /v1/classify 200 1 texts N ms",
        "POST /v1/classify 422 0 texts N ms",
        "POST (unknown) 404 0 texts N ms",
    ]
    assert re.fullmatch(r"Unexpected KeyError at \S+test_serve\.py:\d+\.", lines[3])
    assert lines[4] == "POST /v1/classify 500 0 texts N ms"
    assert "private" not in caplog.text.replace("test_logs", "")


@pytest.mark.parametrize("kind", ["batches", "scattered"])
def test_two_hundred_clients_lose_nothing(kind):
    engine = hashed_engine(len(byte_level()), window=16)
    engine = ScatteredEngine(engine, 5, window=16) if kind == "scattered" else engine
    app = make_app(make(engine=engine))
    texts = [
        [f"client {at} says {word}" for word in ("one", "two")] for at in range(200)
    ]

    async def client(http, at):
        found = []
        for text in texts[at]:
            response = await http.post("/v1/classify", json={"texts": [text, ""]})
            assert response.status_code == 200, response.text
            result, empty = response.json()["results"]
            assert empty["error"] == NO_TEXT
            found.append(result["probabilities"]["billing"])
        return found

    async def everyone():
        async with client_of(app, timeout=None) as http:
            found = await asyncio.gather(*(client(http, at) for at in range(200)))
            return found, (await http.get("/metrics")).text

    found, figures = asyncio.run(everyone())
    flat = [text for pair in texts for text in pair]
    np.testing.assert_array_equal(np.ravel(found), make().predict_proba(flat)[:, 0])
    assert 'classify_requests_total{path="/v1/classify",status="200"} 400.0' in figures
    assert "classify_texts_total 800.0" in figures
    assert "classify_waiting_texts 0.0" in figures


# --------------------------------------------------------------------------- a process


@pytest.mark.parametrize("is_forced", [False, True])
def test_a_server_finishes_its_requests_when_it_is_told_to_stop(tmp_path, is_forced):
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.serve_process"],
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    go = tmp_path / "go"
    try:
        url = process.stdout.readline().strip()
        ready = httpx.get(f"{url}/ready", timeout=60)
        assert ready.json() == {"status": "ready"}
        answers = []

        def send():
            texts = [f"wait for {go}", TEXTS[0]]
            with contextlib.suppress(httpx.TransportError):
                answers.append(
                    httpx.post(f"{url}/v1/classify", json={"texts": texts}, timeout=60)
                )

        sending = threading.Thread(target=send)
        sending.start()
        while not go.with_suffix(".begun").exists():
            assert process.poll() is None
        process.send_signal(signal.SIGINT if is_forced else signal.SIGTERM)
        while True:  # until it accepts no more
            try:
                httpx.get(f"{url}/health")
            except httpx.TransportError:
                break
        if is_forced:
            process.send_signal(signal.SIGINT)  # a second Ctrl-C
        else:
            go.touch()
        out, err = process.communicate(timeout=60)
        sending.join(60)
        assert (process.returncode, out) == (0, "stopped\n")
        assert "Traceback" not in err
        if not is_forced:
            assert [answer.status_code for answer in answers] == [200]
            results = answers[0].json()["results"]
            assert [each["error"] for each in results] == [None] * 2
    finally:
        process.kill()
        process.communicate()


def test_the_example_of_help_and_the_request_of_the_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(tickets_yaml(), tmp_path)
    *arguments, port_option, _ = example_of("serve")
    assert port_option == "--port"
    page = (Path(__file__).parents[1] / "docs" / "server.md").read_text("utf-8")
    body = re.search(r"curl [^`]*/v1/classify[^`]*-d '([^']*)'", page)[1]
    answer, said = answer_of_command(arguments, body)
    assert [each["label"] for each in answer.json()["results"]] == ["shipping"]
    url = re.escape(str(answer.url).removesuffix("/v1/classify"))
    assert re.search(f"Listening on {url}; documentation", said)
    assert re.search(r"POST /v1/classify 200 1 texts \d+ ms\n", said)
    assert said.splitlines()[-1] == "Stopped."


def answer_of_command(arguments, body):
    """Run a server until it has answered one request; return that, and its notes."""
    runner, answers = CliRunner(), []
    port = kept_port(runner)

    def use():
        url = f"http://127.0.0.1:{port}"
        headers = {"content-type": "application/json"}
        with httpx.Client(headers=headers, timeout=60) as client:
            while not answers and not ended.wait(0.01):
                with contextlib.suppress(httpx.TransportError):
                    client.get(f"{url}/ready")
                    answers.append(client.post(f"{url}/v1/classify", content=body))
        if answers:  # else nobody waits for the signal, and it would end the tests
            signal.raise_signal(signal.SIGTERM)

    ended = threading.Event()
    using = threading.Thread(target=use)
    using.start()
    result = runner.invoke(cli, [*arguments, "--port", str(port)])
    ended.set()
    using.join(60)
    assert result.exit_code == 0, result.output
    [answer] = answers
    return answer, result.stderr


def test_an_address_that_is_taken_is_known_before_a_model_is_loaded():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            ConfigError,
            match=rf"^The server cannot listen on host='127\.0\.0\.1' port={port}: "
            r"Address already in use\. Choose another address or port\.$",
        ):
            running.listen("127.0.0.1", port)
    running.listen("127.0.0.1", 0).close()


# ------------------------------------------------------------------------ documentation


def test_the_examples_of_the_documentation_are_answered():
    app = make_app(make())
    spec = ask(app, path="/openapi.json").json()
    assert ask(app, path="/docs").status_code == 200
    content = spec["paths"]["/v1/classify"]["post"]["requestBody"]["content"]
    examples = content["application/json"]["examples"]
    assert set(examples) == {"texts", "labels", "rows"}
    fields = spec["components"]["schemas"]["Result"]["properties"]
    for example in examples.values():
        for result in results_of(app, **example["value"]):
            assert set(result) <= set(fields)
            assert result["error"] is None
