"""The engine over a server: against a small one that fails as it is told to."""

import asyncio
import math
import re
import subprocess
import sys
import threading
import time
from email.utils import formatdate

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classify.engines import generate, read
from classify.engines.server import ServerEngine
from classify.engines.server.connection import Connection
from classify.engines.server.reading import in_parts
from classify.engines.server.retrying import Fault, Patience, Trial, seconds_to_wait
from classify.errors import AnswerError, EngineError, InputError
from classify.tracking import ReadRequest, TokenTree, TrackedRequest
from tests.interrupting import interrupted_inside
from tests.serving import DRIP, DROP, HALF, MAX_IDS, NEVER, SmallServer, a_folder_with
from tests.toy_model import hashed_logprobs

VOCAB = 400
LOGPROBS = hashed_logprobs(VOCAB)
TREE = TokenTree([(5, 7), (5, 8), (9,)])
PROMPT = (3, 4)


@pytest.fixture
def folder(tmp_path):
    return a_folder_with(tmp_path / "model", VOCAB)


@pytest.fixture
def serve(folder):
    """Start a small server and an engine over it; both end with the test."""
    started = []

    def start(*, options=None, logprobs=LOGPROBS, **of_server):
        server = SmallServer(logprobs, VOCAB, **of_server)
        server.start()
        started.append(server)
        quick = {"retries": 2, "patience": 60.0, "self_test": False, **(options or {})}
        engine = ServerEngine.load(folder, url=server.url, **quick)
        started.append(engine)
        return server, engine

    yield start
    for one in reversed(started):
        getattr(one, "close", getattr(one, "stop", None))()


def edges(prompt, tree, nodes):
    """What reading `nodes` must give; NaN elsewhere."""
    expected = np.full(tree.n_nodes, np.nan)
    for node in nodes:
        row = LOGPROBS((*prompt, *tree.path(node)))
        for child in tree.children(node):
            expected[child] = row[tree.tokens[child]]
    return expected


def assert_reads_right(engine, n_texts=6):
    prompts = [(token, 1) for token in range(n_texts)]
    answers = read(engine, [ReadRequest(prompt, TREE, (0, 1)) for prompt in prompts])
    for prompt, answer in zip(prompts, answers, strict=True):
        np.testing.assert_allclose(answer, edges(prompt, TREE, (0, 1)), atol=1e-12)


def whole(message):
    return f"^{re.escape(message)}$"


# ------------------------------------------------------------------ what is asked


def test_reads_are_one_request_a_node_for_one_token(serve):
    server, engine = serve()
    [answer] = read(engine, [ReadRequest(PROMPT, TREE, (0, 1))])
    np.testing.assert_allclose(answer, edges(PROMPT, TREE, (0, 1)), atol=1e-12)
    asked = sorted(server.requests, key=lambda each: len(each["prompt"]))
    assert [each["prompt"] for each in asked] == [[3, 4], [3, 4, 5]]
    assert [each["logprob_token_ids"] for each in asked] == [[5, 9], [7, 8]]
    assert {each["max_tokens"] for each in asked} == {1}
    assert engine.n_requests == 2 + 2  # which models there are, and which version


@given(st.integers(0, 2000))
def test_ids_are_split_into_few_parts_of_much_the_same_length(n):
    parts = in_parts(range(n))
    assert [token for part in parts for token in part] == list(range(n))
    assert len(parts) == math.ceil(n / MAX_IDS)
    lengths = [len(part) for part in parts]
    assert not parts or (max(lengths) <= MAX_IDS and max(lengths) - min(lengths) <= 1)


@pytest.mark.parametrize("n_children", [1, 128, 129, 300])
def test_more_ids_than_a_server_takes_are_split_and_merged(serve, n_children):
    server, engine = serve()
    tree = TokenTree([(token,) for token in range(n_children)])
    [answer] = read(engine, [ReadRequest(PROMPT, tree, (0,))])
    np.testing.assert_allclose(answer, edges(PROMPT, tree, (0,)), atol=1e-12)
    assert len(server.requests) == math.ceil(n_children / 128)
    [[generation]] = generate(
        engine, [TrackedRequest(PROMPT, range(n_children), max_tokens=3)]
    )
    for step in range(3):
        row = LOGPROBS((*PROMPT, *generation.token_ids[:step]))
        for token, values in generation.tracked_logprobs.items():
            assert values[step] == pytest.approx(row[token], abs=1e-12)


def test_a_servers_own_greatest_length_and_stops_are_gone_beyond(serve):
    def spoil(asked, choice):
        # Two tokens at most, and a stop that nobody asked for.
        choice["token_ids"] = choice["token_ids"][:2]
        choice["logprobs"]["top_logprobs"] = choice["logprobs"]["top_logprobs"][:2]
        choice["finish_reason"] = "stop"

    server, engine = serve(spoil=spoil)
    [[generation]] = generate(
        engine, [TrackedRequest(PROMPT, [1], max_tokens=5, stop_token_ids=())]
    )
    expected = []
    for _ in range(5):
        expected.append(int(LOGPROBS((*PROMPT, *expected)).argmax()))
    assert list(generation.token_ids) == expected
    assert generation.finish_reason == "length"
    assert [each["max_tokens"] for each in server.requests] == [5, 3, 1]


def test_what_a_server_has_for_defaults_is_overruled(serve):
    server, engine = serve()
    generate(engine, [TrackedRequest(PROMPT, temperature=0.7, seed=1, max_tokens=2)])
    [asked] = server.requests
    for name, value in {
        "temperature": 0.7,
        "top_p": 1.0,
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
    }.items():
        assert asked[name] == value


def test_no_more_requests_at_once_than_asked_for(serve):
    server, engine = serve(options={"batch_size": 3}, trouble=lambda _: 0.01)
    assert engine.window == 3
    assert_reads_right(engine, n_texts=20)
    assert server.most_at_once == 3


def test_what_is_impossible_is_minus_infinity(serve):
    def spoil(asked, choice):
        choice["logprobs"]["top_logprobs"][0]["token_id:9"] = -9999.0

    _, engine = serve(spoil=spoil)
    [answer] = read(engine, [ReadRequest(PROMPT, TREE, (0,))])
    assert answer[2] == -math.inf


# ------------------------------------------------------- what is tried again, and how


TROUBLE = {
    "busy": (429, {}, {"error": {"message": "slow down"}}),
    "an error": (500, {}, b"Internal Server Error"),
    "a bad gateway": (502, {}, b""),
    "starting": (503, {}, {"detail": "loading"}),
    "too slow": (504, {}, b""),
    "no JSON": (200, {}, b"<html>"),
    "closed": DROP,
    "closed in the middle": HALF,
}


@pytest.mark.parametrize("trouble", TROUBLE.values(), ids=TROUBLE)
def test_a_failure_is_tried_again(serve, trouble):
    # The second, the fifth, … request fails; so do some of those that come again.
    server, engine = serve(trouble=lambda n: trouble if n in (1, 4, 9) else None)
    assert_reads_right(engine)
    assert len(server.requests) == 12 + 3


@pytest.mark.parametrize("trouble", [NEVER, DRIP])
def test_an_answer_that_comes_too_late_is_asked_for_again(serve, trouble):
    server, engine = serve(
        trouble=lambda n: trouble if n == 1 else None,
        # On a busy machine others come too late as well.
        options={"timeout": 0.3, "retries": 1000},
    )
    assert_reads_right(engine)
    assert server.requests.count(server.requests[1]) >= 2


def test_a_server_says_when_it_wants_to_be_asked_again(serve):
    server, engine = serve(
        trouble=lambda n: (429, {"retry-after": "1"}, b"") if n == 0 else None
    )
    began = time.monotonic()
    read(engine, [ReadRequest(PROMPT, TREE, (0,))])
    assert time.monotonic() - began >= 1.0
    assert len(server.requests) == 2


def test_a_request_that_breaks_the_server_is_given_up(serve):
    server, engine = serve(trouble=lambda _: (500, {}, {"error": {"message": "oh"}}))
    message = (
        f"The server at {server.url}/v1 did not answer: HTTP 500: oh (tried 3 times). "
        "Check that it is running and that url is its address."
    )
    with pytest.raises(EngineError, match=whole(message)):
        read(engine, [ReadRequest(PROMPT, TREE, (0,))])
    # The text, and then a prompt of one token, to see which of them is to blame.
    assert [len(each["prompt"]) for each in server.requests] == [2] * 3 + [1] * 3


def test_a_server_that_is_away_is_waited_for(serve, caplog):
    server, engine = serve(options={"patience": 1.0})
    server.stop()
    began = time.monotonic()
    with pytest.raises(EngineError) as caught:
        read(engine, [ReadRequest(PROMPT, TREE, (0, 1))])
    assert time.monotonic() - began >= 1.0
    message = (
        f"The server at {server.url}/v1 did not answer: ConnectError: All connection "
        "attempts failed (tried N times). Check that it is running and that url is "
        "its address."
    )
    assert re.sub(r"tried \d+", "tried N", str(caught.value)) == message
    # Once, for all requests.
    [warning] = caplog.messages
    assert warning == (
        f"The server at {server.url}/v1 does not answer (ConnectError: All connection "
        "attempts failed): trying again for up to 1 s."
    )


def test_a_server_killed_and_started_again_changes_nothing(serve):
    server, engine = serve(options={"patience": 600.0}, trouble=lambda _: 0.002)
    prompts = [(n % VOCAB, n // VOCAB, 1) for n in range(150)]
    tickets = {
        engine.submit(ReadRequest(prompt, TREE, (0, 1))): prompt for prompt in prompts
    }
    answers = {}
    for n_before in (30, 90):
        while len(answers) < n_before:
            answers.update(engine.poll())
        server.stop()
        time.sleep(0.2)  # while it is asked in vain
        server.start()
    while len(answers) < len(prompts):
        answers.update(engine.poll())
    for ticket, prompt in tickets.items():
        np.testing.assert_allclose(
            answers[ticket], edges(prompt, TREE, (0, 1)), atol=1e-12
        )


@given(
    st.lists(
        st.tuples(st.booleans(), st.floats(0, 3)),
        max_size=20,
    ),
    st.integers(0, 5),
)
def test_waits_are_bounded_and_tries_are_counted(faults, retries):
    trial = Trial(Patience(retries, 60.0))
    n_broken = 0
    for n, (away, wait) in enumerate(faults, 1):
        fault = Fault("it", away, wait)
        n_broken += not away
        if n_broken > retries:
            tries = f" (tried {n} times)" if n > 1 else ""
            with pytest.raises(EngineError, match=whole(f"it{tries}")):
                trial.wait(fault)
            return
        assert wait <= trial.wait(fault) <= max(wait, 0.25 * 2.0 ** (n - 1), 1e-9)


@given(st.floats(0, 600), st.floats(0, 30))
def test_a_server_that_is_away_is_waited_for_and_no_longer(patience, seconds_a_try):
    now = 0.0
    trial = Trial(Patience(0, patience), clock=lambda: now)
    waited, n_tries = 0.0, 0
    for n_tries in range(1, 1000):
        now = waited + n_tries * seconds_a_try
        try:
            waited += trial.wait(Fault("it", away=True))
        except EngineError:
            break
    # From the first failure on.
    assert waited <= patience + 1e-6
    assert now - seconds_a_try >= patience - 1e-6


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("2", 2.0),
        ("-2", 0.0),
        ("nan", 0.0),
        ("inf", 0.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("Wed, 21 Oct 2015 07:28:00", 0.0),
        ("tomorrow", 0.0),
        (None, 0.0),
    ],
)
def test_what_a_retry_after_header_says(header, seconds):
    assert seconds_to_wait(header) == seconds


def test_a_retry_after_date_in_the_future_is_waited_for():
    date, before = formatdate(4e9, usegmt=True), time.time()
    waited = seconds_to_wait(date)
    assert 4e9 - time.time() <= waited <= 4e9 - before


# ------------------------------------------------------------- what is not tried again


REFUSALS = {
    "wrong": (
        (400, {}, {"error": {"message": "no."}}),
        "HTTP 400: no.",
        "Check that api is what the server speaks.",
    ),
    "not found": (
        (404, {}, {"detail": "Not Found"}),
        "HTTP 404: Not Found",
        (
            "Check that url is the address of the server's API, which usually ends in "
            "/v1, and that it runs this model."
        ),
    ),
    "no key": (
        (401, {}, {"error": "Unauthorized"}),
        "HTTP 401: Unauthorized",
        (
            "It may need a key: name the environment variable that holds it with "
            "api_key_env."
        ),
    ),
    "elsewhere": (
        (307, {"location": "https://elsewhere/v1"}, b""),
        "HTTP 307: Temporary Redirect",
        (
            "It redirects to https://elsewhere/v1, which is not followed: give that "
            "address as url if it is the server's."
        ),
    ),
    "not understood": (
        (422, {}, b"un\n processable"),
        "HTTP 422: un processable",
        "Check that api is what the server speaks.",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_refusal_is_told_in_the_servers_own_words(serve, case):
    trouble, what, advice = REFUSALS[case]
    server, engine = serve(trouble=lambda _: trouble)
    message = f"The server at {server.url}/v1 refused a request ({what}). {advice}"
    with pytest.raises(EngineError, match=whole(message)):
        read(engine, [ReadRequest(PROMPT, TREE, (0,))])
    # Where others may fare better, a prompt of one token is asked too.
    is_of_one = trouble[0] in (400, 422)
    assert [each["prompt"] for each in server.requests[1:]] == [[0]] * is_of_one


def test_a_failure_of_one_request_is_its_answer(serve):
    refusal = (400, {}, {"error": {"message": "not this"}})
    server, engine = serve()
    server.trouble = lambda n: refusal if server.requests[n]["prompt"][0] == 13 else 0.1
    first, bad, last = (
        engine.submit(ReadRequest((token, 1), TREE, (0,))) for token in (10, 13, 11)
    )
    answers = {}
    while len(answers) < 3:
        answers.update(engine.poll())
    for ticket, token in ((first, 10), (last, 11)):
        np.testing.assert_allclose(
            answers[ticket], edges((token, 1), TREE, (0,)), atol=1e-12
        )
    assert isinstance(answers[bad], AnswerError)
    assert str(answers[bad]) == (
        "The server gave no answer for this text: HTTP 400: not this."
    )
    assert engine.poll() == []
    assert_reads_right(engine)


def test_a_failure_of_all_comes_after_the_answers(serve):
    refusal = (401, {}, {"error": {"message": "the key has expired"}})
    server, engine = serve()
    server.trouble = lambda n: (
        refusal if server.requests[n]["prompt"][0] == 13 else None
    )
    first = engine.submit(ReadRequest((10, 1), TREE, (0,)))
    assert [ticket for ticket, _ in engine.poll()] == [first]
    engine.submit(ReadRequest((13, 1), TREE, (0,)))
    message = (
        f"The server at {server.url}/v1 refused a request (HTTP 401: the key has "
        "expired). It may need a key: name the environment variable that holds it with "
        "api_key_env."
    )
    with pytest.raises(EngineError, match=whole(message)):
        engine.poll()
    assert engine.poll() == []
    assert_reads_right(engine)


def test_an_answer_without_an_id_is_an_error_never_a_number(serve):
    def spoil(asked, choice):
        choice["logprobs"]["top_logprobs"][0].pop("token_id:9", None)

    _, engine = serve(spoil=spoil)
    message = (
        "The server answered without a log-probability of token 9, which was asked for "
        "(logprob_token_ids)."
    )
    for request in (
        ReadRequest(PROMPT, TREE, (0,)),
        TrackedRequest(PROMPT, [9], max_tokens=2),
    ):
        with pytest.raises(AnswerError, match=whole(message)):
            read(engine, [request])


def test_values_are_found_by_id_wherever_they_stand(serve):
    def spoil(asked, choice):
        steps = choice["logprobs"]["top_logprobs"]
        steps[:] = [dict(reversed(step.items())) for step in steps]

    _, engine = serve(spoil=spoil)
    assert_reads_right(engine)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda _, choice: choice.pop("token_ids"),
            (
                "The server answered no tokens with 2 steps of log-probabilities: each "
                "token needs its own."
            ),
        ),
        (
            # Not of the prompt of one token by which a right server is known.
            lambda asked, choice: (
                asked["max_tokens"] > 1 and choice["logprobs"]["top_logprobs"].pop()
            ),
            (
                "The server answered 2 tokens with 1 steps of log-probabilities: each "
                "token needs its own."
            ),
        ),
        (
            lambda asked, choice: (
                asked["max_tokens"] > 1
                and choice.update(token_ids=[], logprobs={"top_logprobs": []})
            ),
            "The server generated 0 tokens, but was asked for 1 to 2.",
        ),
    ],
    ids=["no tokens", "too few values", "nothing"],
)
def test_a_generation_with_something_missing_is_an_error(serve, spoil, message):
    _, engine = serve(spoil=spoil)
    with pytest.raises(AnswerError, match=whole(message)):
        generate(engine, [TrackedRequest(PROMPT, [9], max_tokens=2)])


def test_what_is_no_completion_is_an_error(serve):
    server, engine = serve(trouble=lambda _: (200, {}, {"hello": 1}))
    message = (
        f"The server at {server.url}/v1 did not answer: it answered something that is "
        "not a completion: \"{'hello': 1}\" (tried 3 times). Check that it is running "
        "and that url is its address."
    )
    with pytest.raises(EngineError, match=whole(message)):
        read(engine, [ReadRequest(PROMPT, TREE, (0,))])


def test_top_logprobs_need_one_token_more(serve):
    _, engine = serve(max_model_len=10)
    generate(engine, [TrackedRequest((1,) * 7, max_tokens=2, top_logprobs=1)])
    message = (
        "The request needs 10 tokens of context for its top_logprobs, but the model "
        "takes 9: shorten the prompt."
    )
    with pytest.raises(InputError, match=whole(message)):
        engine.submit(TrackedRequest((1,) * 8, max_tokens=2, top_logprobs=1))


def test_a_temperature_that_no_server_takes_is_refused(serve):
    _, engine = serve()
    message = "temperature must be at most 2 with the server engine. Got 2.5 instead."
    with pytest.raises(InputError, match=whole(message)):
        engine.submit(TrackedRequest(PROMPT, temperature=2.5))
    # Among allowed paths it is the engine that draws.
    generate(engine, [TrackedRequest(PROMPT, temperature=2.5, allowed=TREE)])


# ------------------------------------------------------------------ interrupts, the end


def test_an_interrupt_leaves_the_engine_usable(serve):
    _, engine = serve(trouble=lambda n: NEVER if n == 0 else None)
    engine.submit(ReadRequest(PROMPT, TREE, (0,)))
    with pytest.raises(KeyboardInterrupt), interrupted_inside("poll"):
        engine.poll()
    # What was in flight still is, and is in nobody's way.
    assert_reads_right(engine)


def test_a_request_broken_off_at_any_moment_keeps_no_later_one_waiting(serve):
    server, _ = serve()
    once = Patience(retries=0, seconds=0.0)

    async def broken_off_and_asked_again(connection, n_turns):
        task = asyncio.ensure_future(connection.get(url, patience=once))
        for _ in range(n_turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return await connection.get(url, patience=once)

    url = f"{server.url}/version"
    for n_turns in range(40):
        connection = Connection(f"{server.url}/v1", {}, timeout=60.0, patience=once)
        answer = connection.start(broken_off_and_asked_again(connection, n_turns))
        assert answer.result(120) == {"version": "0.99.0"}, n_turns
        connection.close()


def test_closing_waits_for_no_answer_and_leaves_no_thread(serve):
    def threads():
        return {
            each for each in threading.enumerate() if each.name == "classify-server"
        }

    before = threads()
    arrived = threading.Event()

    def trouble(n):
        if n == 7:
            arrived.set()
        return NEVER

    _, engine = serve(trouble=trouble)
    for first in range(8):
        engine.submit(ReadRequest((first,), TREE, (0,)))
    assert len(threads() - before) == 1
    assert arrived.wait(60)
    # It would wait for as long as the server does.
    engine.close()
    engine.close()
    for thread in threads() - before:  # on a busy machine it may still be ending
        thread.join(60)
    assert threads() == before
    assert engine.closed
    assert repr(engine) == "ServerEngine(closed)"
    assert engine.poll() == []
    with pytest.raises(
        EngineError, match=whole("This engine was closed: load it again.")
    ):
        engine.submit(ReadRequest(PROMPT, TREE, (0,)))


def test_an_engine_that_nobody_closed_ends_with_the_process(serve, folder):
    server, _ = serve()
    code = f"""
from classify.engines import read
from classify.engines.server import ServerEngine
from classify.tracking import ReadRequest, TokenTree
engine = ServerEngine.load({str(folder)!r}, url={server.url!r})
read(engine, [ReadRequest((1,), TokenTree([(2,)]), (0,))])
engine.submit(ReadRequest((1,), TokenTree([(2,)]), (0,)))
"""
    process = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert process.stderr == ""
    assert process.returncode == 0
