"""Whatever a server replies: right values, the error of a text, or of the server."""

import copy
import json
import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classify import ZeroShotClassifier
from classify.demo import model_folder
from classify.engines import clear_engines, read
from classify.engines.server import ServerEngine
from classify.engines.server.replies import parsed_json, refusal_in
from classify.errors import AnswerError, EngineError
from classify.jobs import Classification, RowColumns
from classify.tracking import ReadRequest, TokenTree
from tests.serving import DROP, HALF, SmallServer, a_folder_with
from tests.toy_jobs import csv_of, rows_of, run
from tests.toy_model import hashed_logprobs

VOCAB = 64
LOGPROBS = hashed_logprobs(VOCAB)
TREE = TokenTree([(5,), (9,)])
REQUEST = ReadRequest((3, 4), TREE, (0,))
NAN, INF = float("nan"), float("inf")


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A small server, and an engine over it that soon gives a request up."""
    folder = a_folder_with(tmp_path_factory.mktemp("served") / "model", VOCAB)
    with SmallServer(LOGPROBS, VOCAB) as server:
        engine = ServerEngine.load(
            folder, url=server.url, retries=0, patience=0.0, self_test=False
        )
        yield server, engine
        engine.close()


def expected():
    row = LOGPROBS((3, 4))
    return np.array([NAN, row[5], row[9]])


def reply_to(server, number):
    """Return the right reply to a request."""
    return {"choices": [server._choice(server.requests[number])]}


def read_with(served, reply, *, to_all=False):
    """Read with a server whose reply is another; to the text, or to everything."""
    server, engine = served

    def trouble(number):
        if not to_all and server.requests[number]["prompt"] == [0]:
            return None
        given = reply(reply_to(server, number))
        if not isinstance(given, tuple | str):
            body = given if isinstance(given, bytes) else json.dumps(given).encode()
            given = (200, {}, body)
        return given

    server.trouble = trouble
    try:
        [edges] = read(engine, [REQUEST])
    finally:
        server.trouble = None
    return edges


def changed(change):
    """Return what changes the one step of a reply."""

    def reply(right):
        change(right["choices"][0]["logprobs"]["top_logprobs"])
        return right

    return reply


def with_value(value):
    """Change the value of the last token that was asked for."""
    return changed(lambda steps: steps[0].update({list(steps[0])[-1]: value}))


def of_choice(**fields):
    def reply(right):
        right["choices"][0].update(fields)
        return right

    return reply


def gave_none(what):
    return f"The server gave no answer for this text: {what}."


WITHOUT_9 = (
    "The server answered without a log-probability of token 9, which was asked for "
    "(logprob_token_ids)."
)


def no_number(shown):
    return (
        f"The server answered with {shown} as the log-probability of token 9: it must "
        "be a number."
    )


def above_one(total):
    return (
        f"The model's probabilities for this text add up to {total}, and cannot be "
        "above 1: they are wrong, so it gets no label."
    )


def named_twice(right):
    before, key, after = json.dumps(right).rpartition('"token_id:')
    name = after.partition('"')[0]
    return f'{before}{key}{name}": -0.5, {key}{after}'.encode()


UNUSABLE = {
    "all 0": (
        changed(lambda steps: steps[0].update(dict.fromkeys(steps[0], 0.0))),
        above_one("2"),
    ),
    "positive": (with_value(3.0), None),
    "huge": (with_value(10**400), above_one("inf")),
    "Infinity": (with_value(INF), above_one("inf")),
    "NaN": (with_value(NAN), no_number("nan")),
    "null": (with_value(None), no_number("None")),
    "text": (with_value("-1.5"), no_number("'-1.5'")),
    "true": (with_value(True), no_number("True")),
    "a list": (with_value([-1.0]), no_number("[-1.0]")),
    "other ids": (
        changed(lambda steps: steps.__setitem__(0, {"token_id:5": -1.0, "9": -1.0})),
        WITHOUT_9,
    ),
    "words": (
        changed(lambda steps: steps.__setitem__(0, {" a": -1.0})),
        WITHOUT_9.replace("9", "5"),
    ),
    "a step too many": (
        changed(lambda steps: steps.append(steps[0])),
        ("The server answered with log-probabilities of 2 steps, but 1 was asked for."),
    ),
    "a step of nothing": (
        changed(lambda steps: steps.__setitem__(0, None)),
        WITHOUT_9.replace("9", "5"),
    ),
    "no step": (changed(lambda steps: steps.clear()), WITHOUT_9.replace("9", "5")),
    "no logprobs": (of_choice(logprobs=None), WITHOUT_9.replace("9", "5")),
    "logprobs of text": (of_choice(logprobs="none"), WITHOUT_9.replace("9", "5")),
    "another index": (
        of_choice(index=1),
        gave_none("it answered another question (index 1)"),
    ),
    "broken off": (
        of_choice(finish_reason="abort"),
        gave_none("it answered what broke off ('abort')"),
    ),
    "a prompt that was cut": (
        lambda right: {**right, "usage": {"prompt_tokens": 9}},
        gave_none("it answered a prompt of 9 tokens instead of 2"),
    ),
    "no choice": (
        lambda _: {"choices": []},
        gave_none(
            "it answered something that is not a completion: \"{'choices': []}\""
        ),
    ),
    "two choices": (lambda right: {"choices": right["choices"] * 2}, None),
    "a choice of nothing": (
        lambda _: {"choices": [None]},
        gave_none(
            "it answered something that is not a completion: \"{'choices': [None]}\""
        ),
    ),
    "no object": (
        lambda _: [],
        gave_none("it answered something that is not a completion: '[]'"),
    ),
    "a key twice": (named_twice, None),
    "a web page": (
        lambda _: b"<html><title>Log in</title>",
        gave_none("it answered a web page, '<html><title>Log in</title>'"),
    ),
    "cut": (lambda right: json.dumps(right).encode()[:-9], None),
    "nothing": (lambda _: b"", gave_none("it answered nothing")),
    "white space": (lambda _: b" \n", gave_none("it answered nothing")),
    "no UTF-8": (lambda _: b'{"a": "\xff"}', None),
    "too deep": (lambda _: b"[" * 100_000, None),
    "refused": (
        lambda _: (400, {}, {"error": {"message": "8,193 tokens are too many."}}),
        gave_none("HTTP 400: 8,193 tokens are too many"),
    ),
    "too large": (
        lambda _: (413, {}, b""),
        gave_none("HTTP 413: Request Entity Too Large"),
    ),
    "broken": (lambda _: (500, {}, b"oh"), gave_none("HTTP 500: oh")),
    "away for this text": (
        lambda _: (503, {}, b""),
        gave_none("HTTP 503: Service Unavailable"),
    ),
    "refused with 200": (
        lambda _: {"error": {"message": "no.", "code": "400"}},
        gave_none("HTTP 400: no"),
    ),
    "vLLM's old error": (
        lambda _: {"object": "error", "message": "no.", "code": 400},
        gave_none("HTTP 400: no"),
    ),
    "dropped": (lambda _: DROP, None),
    "half": (lambda _: HALF, None),
    "bad gzip": (lambda _: (200, {"content-encoding": "gzip"}, b"no gzip"), None),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_a_reply_that_cannot_be_used_is_the_error_of_its_text(served, case):
    reply, message = UNUSABLE[case]
    with pytest.raises(AnswerError) as caught:
        read_with(served, reply)
    if message is not None:
        assert str(caught.value) == message
    # The server is not to blame, and goes on.
    np.testing.assert_allclose(read(served[1], [REQUEST])[0], expected(), atol=1e-12)


@pytest.mark.parametrize("case", UNUSABLE)
def test_a_server_that_replies_so_to_everything_is_to_blame(served, case):
    reply, _ = UNUSABLE[case]
    server, _ = served
    with pytest.raises(EngineError) as caught:
        read_with(served, reply, to_all=True)
    assert not isinstance(caught.value, AnswerError)
    assert re.match(
        rf"The server at {re.escape(server.url)}/v1 "
        r"(did not answer: |refused a request \(HTTP |"
        r"gives no usable answer, even to a prompt of one token\. )",
        str(caught.value),
    )


USABLE = {
    "impossible": with_value(-9999.0),
    "-Infinity": with_value(-INF),
    "an integer": with_value(-1),
    "more than asked": changed(
        lambda steps: steps[0].update({"token_id:1": 5.0, "other": None})
    ),
    "no error": lambda right: {**right, "error": None},
    "no index": of_choice(index=None),
    "no finish reason": of_choice(finish_reason=None),
    "spaced": lambda right: json.dumps(right, indent=9).encode("utf-16"),
}


@pytest.mark.parametrize("case", USABLE)
def test_a_reply_in_another_dress_is_read(served, case):
    value = {"impossible": -INF, "-Infinity": -INF, "an integer": -1.0}
    edges = expected()
    edges[2] = value.get(case, edges[2])
    np.testing.assert_allclose(read_with(served, USABLE[case]), edges, atol=1e-12)


# ------------------------------------------------------------------- any garbage

GARBAGE = st.one_of(
    st.none(),
    st.booleans(),
    st.text(max_size=4),
    st.sampled_from(["-1.5", "NaN", NAN, INF, 1e300, 10**400, 0.7, 7, [], {}, [[]]]),
    st.lists(st.integers(1, 9), max_size=3),
    st.dictionaries(st.sampled_from(["token_id:5", "error", "a"]), st.none()),
)


def places_in(value, path=()):
    yield path
    keys = (
        list(value)
        if isinstance(value, dict)
        else range(len(value))
        if isinstance(value, list)
        else ()
    )
    for key in keys:
        yield from places_in(value[key], (*path, key))


def spoil_at(right, path, change, garbage):
    """Return a reply in which a place holds something else, or is not there."""
    if not path:
        return garbage
    spoilt = copy.deepcopy(right)
    holder = spoilt
    for key in path[:-1]:
        holder = holder[key]
    if change == "drop":
        del holder[path[-1]]
    elif change == "double" and isinstance(holder, list):
        holder.append(holder[path[-1]])
    else:
        holder[path[-1]] = garbage
    return spoilt


@settings(max_examples=300)
@given(st.data())
def test_garbage_never_becomes_a_value(served, data):
    right = reply_to_read()
    path = data.draw(st.sampled_from(list(places_in(right))))
    change = data.draw(st.sampled_from(["drop", "double", "replace"]))
    spoilt = spoil_at(right, path, change, data.draw(GARBAGE))
    try:
        edges = read_with(served, lambda _: spoilt)
    except EngineError:
        return
    # What was spoilt says nothing about the two tokens.
    np.testing.assert_allclose(edges, expected(), atol=1e-12)


@settings(max_examples=100)
@given(st.binary(max_size=40), st.integers(0, 400))
def test_bytes_never_become_a_value(served, content, cut):
    whole = json.dumps(reply_to_read()).encode()
    spoilt = whole[: min(cut, len(whole) - 1)] + content + b"\xff"
    with pytest.raises(EngineError):
        read_with(served, lambda _: spoilt)


def reply_to_read():
    row = LOGPROBS((3, 4))
    step = {f"token_id:{token}": float(row[token]) for token in (5, 9)}
    choice = {
        "index": 0,
        "text": "",
        "finish_reason": "length",
        "token_ids": None,
        "logprobs": {"top_logprobs": [step]},
        "prompt_logprobs": None,
    }
    return {"choices": [choice]}


# -------------------------------------------------------- errors behind status 200


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ({"code": 429}, 429),
        ({"code": "503"}, 503),
        ({"status": 502}, 502),
        ({"type": "overloaded_error"}, 503),
        ({"type": "rate_limit_error", "message": "x"}, 429),
        ({"code": "rate_limit_exceeded"}, 429),
        ({"type": "ServiceUnavailableError"}, 503),
        ({"type": "TooManyRequests"}, 429),
        ({"type": "invalid_request_error", "code": None}, 400),
        ({"type": "invalid_request_error", "code": "invalid_api_key"}, 401),
        ({"type": "NotFoundError"}, 404),
        ({"type": "server_error"}, 500),
        ({"code": 7}, 500),
        ("overloaded", 503),
        (["?"], 500),
    ],
)
def test_an_error_with_status_200_stands_for_another_status(error, status):
    assert refusal_in({"error": error}).status == status


@pytest.mark.parametrize(
    "error",
    [
        {"message": "slow down", "code": 429},
        {"message": "Overloaded", "type": "overloaded_error"},
        {"message": "loading", "code": 503},
    ],
)
def test_what_passes_is_waited_for_behind_any_status(tmp_path, error):
    folder = a_folder_with(tmp_path / "model", VOCAB)
    with SmallServer(LOGPROBS, VOCAB) as server:
        server.trouble = lambda n: (200, {}, {"error": error}) if n < 3 else None
        engine = ServerEngine.load(folder, url=server.url, retries=0, self_test=False)
        [edges] = read(engine, [REQUEST])
        engine.close()
    np.testing.assert_allclose(edges, expected(), atol=1e-12)


@given(st.recursive(st.none() | st.text() | st.integers(), st.lists))
def test_any_json_is_looked_through_for_an_error(body):
    assert parsed_json(json.dumps(body).encode()) == body
    assert refusal_in(body) is None
    assert body == {} or not body or refusal_in({"error": body}) is not None


# ------------------------------------------------------------------------- jobs

LABELS = ["billing", "shipping", "account access"]
MODEL_VOCAB = 4096


@pytest.fixture
def job_server():
    clear_engines()
    with SmallServer(hashed_logprobs(MODEL_VOCAB), MODEL_VOCAB) as server:
        yield server
    clear_engines()


def job_over(server, **options):
    classifier = ZeroShotClassifier(
        LABELS,
        str(model_folder()),
        engine="server",
        engine_options={
            "url": server.url,
            "self_test": False,
            "retries": 0,
            **options,
        },
    )
    return Classification(classifier=classifier, columns=RowColumns(text="text"))


def ids_of(job, text):
    """Return a run of tokens by which a prompt is known that has a text."""
    tokenizer = job.scorers()[0].model.space(job.scorers()[0].declared).prompt.tokenizer
    return list(tokenizer.encode_text(text))


def holds(prompt, ids):
    return any(
        prompt[at : at + len(ids)] == ids for at in range(len(prompt) - len(ids) + 1)
    )


REPLIES = {
    "§refused": (400, {}, {"error": {"message": "too long."}}),
    "§broken": (500, {}, {"error": {"message": "oh"}}),
    "§zeros": None,
    "§page": (200, {}, b"<html>"),
}
REASONS = [
    "",
    gave_none("HTTP 400: too long"),
    "",
    gave_none("HTTP 500: oh"),
    above_one("3"),
    gave_none("it answered a web page, '<html>'"),
    "",
]
TEXTS = ["one.", "§refused", "two.", "§broken", "§zeros", "§page", "three."]


def test_rows_are_set_aside_and_the_job_goes_on(job_server, tmp_path):
    job = job_over(job_server)
    marks = {text: ids_of(job, text) for text in REPLIES}

    def text_of(number):
        prompt = job_server.requests[number]["prompt"]
        return next((text for text in marks if holds(prompt, marks[text])), None)

    def spoil(asked, choice):
        if holds(asked["prompt"], marks["§zeros"]):
            for step in choice["logprobs"]["top_logprobs"]:
                step.update(dict.fromkeys(step, 0.0))

    job_server.trouble = lambda number: REPLIES.get(text_of(number))
    job_server.spoil = spoil
    source = csv_of(tmp_path / "in.csv", [[text] for text in TEXTS])
    cache = tmp_path / "cache"
    run(source, tmp_path / "out.csv", job, cache=cache)
    header, *rows = rows_of(tmp_path / "out.csv")
    assert [row[header.index("error")] for row in rows] == REASONS
    assert [bool(row[header.index("label")]) for row in rows] == [
        not reason for reason in REASONS
    ]
    run(source, tmp_path / "again.csv", job, part_rows=2)
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "out.csv").read_bytes()
    # A server that is well again is asked about those, and no other.
    job_server.trouble = job_server.spoil = None
    n_before = len(job_server.requests)
    run(source, tmp_path / "well.csv", job, cache=cache)
    assert {text_of(n) for n in range(n_before, len(job_server.requests))} == set(marks)
    assert all(row[header.index("label")] for row in rows_of(tmp_path / "well.csv")[1:])


def test_a_server_that_refuses_all_ends_the_job_which_goes_on(job_server, tmp_path):
    source = csv_of(tmp_path / "in.csv", [[text] for text in "abcdef"])
    run(source, tmp_path / "whole.csv", job_over(job_server))
    job = job_over(job_server)
    n_before = len(job_server.requests)
    job_server.trouble = lambda n: (401, {}, b"") if n > n_before + 5 else None
    with pytest.raises(EngineError, match=r"\(HTTP 401: Unauthorized\)"):
        run(source, tmp_path / "out.csv", job, part_rows=2)
    job_server.trouble = None
    run(source, tmp_path / "out.csv", job, part_rows=2)
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_a_retry_after_longer_than_the_patience_is_not_slept(served):
    headers = {"retry-after": "1e6"}
    for status in (500, 503):
        with pytest.raises(AnswerError):
            read_with(served, lambda _, status=status: (status, headers, b""))


def test_impossible_is_not_a_number_that_is_missing(served):
    edges = read_with(served, with_value(-1e30))
    assert edges[2] == -math.inf
