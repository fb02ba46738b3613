"""Engines that several threads share, as a web service does."""

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pandas as pd
import pytest

from classify import ZeroShotClassifier
from classify.demo import tickets_csv
from classify.engines import (
    FakeEngine,
    clear_engines,
    generate,
    load_engine,
    read,
    sharing,
)
from classify.engines.llamacpp.engine import LlamaCppEngine
from classify.engines.server import ServerEngine
from classify.engines.sharing import Exchange, SharedLine, open_line
from classify.engines.transformers import TransformersEngine
from classify.engines.turns import Shelf, Turns
from classify.errors import EngineError, InputError
from classify.jobs import open_table, run_job
from classify.tokenizer import Segment
from classify.tracking import Completed, ReadRequest, TrackedRequest
from tests.serving import SmallServer, a_folder_with
from tests.tiny_gguf import write_gguf
from tests.tiny_models import (
    VOCAB,
    make_model,
    make_reference,
    random_prompt,
    random_tree,
)
from tests.tiny_tokenizers import byte_level
from tests.toy_jobs import ScatteredEngine, job_of, make
from tests.toy_model import hashed_engine

N_THREADS = 6
TREE = random_tree(n_paths=12)
INNER = tuple(TREE.inner_nodes.tolist())
CLOSED = "This engine was closed: load it again."


def raises(message, error=EngineError):
    return pytest.raises(error, match=f"^{re.escape(message)}$")


def wait_until(true):
    """Wait for what another thread is about to do."""
    until = time.monotonic() + 60
    while not true():
        assert time.monotonic() < until, "it never happened"
        time.sleep(0.001)


def in_threads(*work):
    """Run work in threads that begin together; return their results."""
    barrier = threading.Barrier(len(work))

    def begin(one):
        barrier.wait(60)
        return one()

    with ThreadPoolExecutor(len(work)) as pool:
        return [each.result(120) for each in [pool.submit(begin, one) for one in work]]


class Modest:
    """An engine as a user may write one: the protocol, and no more."""

    name = "modest"
    __slots__ = ("_engine", "context_length", "vocab_size", "window")

    def __init__(self, reference):
        self._engine = FakeEngine.from_function(reference.logprobs, VOCAB)
        self.vocab_size, self.window, self.context_length = VOCAB, 3, 128

    def submit(self, request):
        return self._engine.submit(request)

    def poll(self):
        return self._engine.poll()

    def close(self):
        self._engine.close()


def _server(reference, folder):
    server = SmallServer(reference.logprobs, VOCAB, max_model_len=129)
    server.start()
    return ServerEngine.load(a_folder_with(folder, VOCAB), url=server.url)


def _llamacpp(reference, folder):
    return LlamaCppEngine.load(write_gguf(folder / "tiny.gguf", reference.model))


ENGINES = {
    "fake": lambda reference, _: FakeEngine.from_function(reference.logprobs, VOCAB),
    "modest": lambda reference, _: Modest(reference),
    "scattered": lambda reference, _: ScatteredEngine(
        FakeEngine.from_function(reference.logprobs, VOCAB), seed=0
    ),
    "server": _server,
    "llamacpp": _llamacpp,
    "transformers": lambda *_: TransformersEngine(make_model("llama"), batch_size=3),
    "transformers, cached": lambda *_: TransformersEngine(make_model("bloom_alibi")),
}


@pytest.fixture(params=ENGINES)
def shared(request, tmp_path):
    architecture = "bloom_alibi" if "cached" in request.param else "llama"
    reference = make_reference(architecture)
    engine = ENGINES[request.param](reference, tmp_path)
    yield engine, reference
    engine.close()


# ------------------------------------------------------------------- right answers


def check_threads(engine, reference):
    """Let threads read and generate, each on texts of its own, several times."""
    close = {"atol": 2e-5, "rtol": 0.0}

    def work(which):
        prompts = [random_prompt(3 + which + n, 10 * which + n) for n in range(4)]
        for _ in range(2):
            for nodes in ((0,), INNER):
                answers = read(engine, [ReadRequest(p, TREE, nodes) for p in prompts])
                for prompt, edges in zip(prompts, answers, strict=True):
                    expected = reference.edges(prompt, TREE, nodes)
                    known = ~np.isnan(expected)
                    np.testing.assert_allclose(edges[known], expected[known], **close)
            request = TrackedRequest(prompts[0], [5], max_tokens=3, stop_token_ids=())
            [[one]] = generate(engine, [request])
            expected = reference.tracked(prompts[0], one.token_ids, [5])
            np.testing.assert_allclose(one.tracked_logprobs[5], expected[5], **close)

    in_threads(*[lambda which=which: work(which) for which in range(N_THREADS)])


def test_each_thread_gets_its_own_answers(shared):
    check_threads(*shared)


@pytest.mark.parametrize("vllm_engine", ["vllm"], indirect=True)
def test_threads_share_vllm(vllm_engine):
    check_threads(vllm_engine, make_reference("llama_wide_heads"))


def test_threads_share_a_classifier():
    clf = ZeroShotClassifier(["billing", "shipping", "refund"], device="cpu")
    other = ZeroShotClassifier(["shipping", "billing"], device="cpu")
    frame = pd.read_csv(tickets_csv())[["text"]]
    texts = frame["text"].tolist()
    expected, two = clf.predict_proba(texts), other.predict_proba(texts)
    labels, scores = clf.predict(texts), clf.label_logprobs(texts).values
    clear_engines()
    clf, other = (
        ZeroShotClassifier(["billing", "shipping", "refund"], device="cpu"),
        ZeroShotClassifier(["shipping", "billing"], device="cpu"),
    )
    close = {"atol": 1e-4, "rtol": 0.0}

    def probabilities(part):
        np.testing.assert_allclose(
            clf.predict_proba(texts[part]), expected[part], **close
        )

    def of_another():
        np.testing.assert_allclose(other.predict_proba(texts), two, **close)

    def one_by_one():
        assert [clf.predict([text])[0] for text in texts[:6]] == labels[:6].tolist()

    def a_frame():
        found = clf.classify_frame(frame)
        assert found["label"].tolist() == labels.tolist()

    def logprobs():
        np.testing.assert_allclose(clf.label_logprobs(texts).values, scores, atol=1e-3)

    in_threads(
        *[lambda n=n: probabilities(slice(6 * n, 6 * n + 6)) for n in range(4)],
        of_another,
        one_by_one,
        a_frame,
        logprobs,
    )
    parts = [texts[start : start + 6] for start in range(0, 24, 6)]
    found = joblib.Parallel(4, backend="threading")(
        joblib.delayed(clf.predict_proba)(part) for part in parts
    )
    np.testing.assert_allclose(np.concatenate(found), expected, **close)


def test_a_job_has_the_same_bytes_whatever_else_is_asked(tmp_path):
    tickets = pd.read_csv(tickets_csv())["text"].tolist()
    table = pd.DataFrame(
        {"text": [f"{n}: {tickets[n % len(tickets)]}" for n in range(96)]}
    )
    clf = ZeroShotClassifier(["billing", "shipping", "refund"], device="cpu")

    def run(name):
        job = job_of(clf, probabilities=True)
        run_job(job, open_table(table), tmp_path / name, part_rows=32)
        return (tmp_path / name).read_bytes()

    alone = run("alone.csv")
    finished = threading.Event()

    def job():
        try:
            return run("beside.csv")
        finally:
            finished.set()

    def others():
        while not finished.is_set():
            clf.predict_proba(tickets[:7])
            clf.predict_proba([f"{table['text'][40]} again"])

    assert in_threads(job, others, others)[0] == alone


def test_a_tokenizer_is_one_thread_at_a_time():
    # Control tokens that a text spells are encoded with another setting.
    tokenizer = byte_level()
    plain = [[Segment("<|bos|>", is_data=False), Segment("a text", is_data=True)]]
    spelled = [[Segment("<|bos|>", is_data=False), Segment("a <|eos|>", is_data=True)]]
    expected = [tokenizer.encode(each) for each in (plain, spelled)]

    def work(which):
        for _ in range(200):
            prompts = (plain, spelled)[which]
            assert tokenizer.encode(prompts) == expected[which]

    in_threads(*[lambda n=n: work(n % 2) for n in range(4)])


# ------------------------------------------------------------------------ fair turns


def test_turns_come_in_the_order_in_which_they_were_asked_for():
    turns, order = Turns(), []
    waiting = []

    def later():
        turns.run(lambda: order.append("second"))

    def first():
        waiting.append(threading.Thread(target=later))
        waiting[0].start()
        wait_until(lambda: len(turns._line()) == 2)
        order.append("first")

    turns.run(first)
    # Straight away again: it is the other's turn.
    turns.run(lambda: order.append("third"))
    waiting[0].join(60)
    assert order == ["first", "second", "third"]


def test_a_turn_within_a_turn_is_had_at_once():
    turns = Turns()
    assert turns.run(lambda: turns.run(lambda: 5)) == 5
    assert not turns.taken


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_a_turn_is_passed_on_whatever_happens(error):
    turns = Turns()

    def fail():
        raise error

    with pytest.raises(error):
        turns.run(fail)
    assert not turns.taken
    assert turns.run(lambda: 5) == 5


def test_a_long_call_lets_others_in():
    asked, began = [], threading.Event()

    def next_logprobs(token_ids):
        asked.append(token_ids[0])
        if token_ids == (1, 1):
            began.set()
            turns = sharing._exchange_of(engine).turns
            wait_until(lambda: len(turns._line()) == 2)
        return np.full(VOCAB, -np.log(VOCAB))

    engine = FakeEngine.from_function(next_logprobs, VOCAB, window=2)

    def long():
        read(engine, [ReadRequest((1, n), TREE, (0,)) for n in range(8)])

    def short():
        assert began.wait(60)
        read(engine, [ReadRequest((2,), TREE, (0,))])

    in_threads(long, short)
    assert asked == [1, 1, 2, 1, 1, 1, 1, 1, 1]


# ------------------------------------------------------- failures are of one caller


def test_a_failure_is_that_of_its_own_thread():
    reference = make_reference("llama")

    def next_logprobs(token_ids):
        if token_ids[0] == 7:
            raise ValueError("not this one")
        return reference.logprobs(token_ids)

    engine = FakeEngine.from_function(next_logprobs, VOCAB)

    def bad():
        for _ in range(20):
            with pytest.raises(ValueError, match=r"^not this one$"):
                read(engine, [ReadRequest((7, n), TREE, (0,)) for n in range(5)])

    def good():
        for n in range(20):
            prompt = (8, n)
            [edges] = read(engine, [ReadRequest(prompt, TREE, INNER)])
            np.testing.assert_allclose(edges, reference.edges(prompt, TREE, INNER))

    in_threads(bad, good, good)


def test_a_wrong_request_is_that_of_its_own_thread(shared):
    engine, reference = shared

    def bad():
        for _ in range(5):
            with pytest.raises(InputError, match="outside the vocabulary"):
                read(
                    engine,
                    [ReadRequest((3,), TREE, (0,)), ReadRequest((99,), TREE, (0,))],
                )

    def good():
        for n in range(5):
            [edges] = read(engine, [ReadRequest((8, n), TREE, (0,))])
            expected = reference.edges((8, n), TREE, (0,))
            known = ~np.isnan(expected)
            np.testing.assert_allclose(edges[known], expected[known], atol=2e-5)

    in_threads(bad, good, good)


class Stepping:
    """An asynchronous engine that answers what it is told to, when it is told to."""

    name = "stepping"
    asynchronous = True
    window, vocab_size, context_length = 8, VOCAB, 128

    def __init__(self):
        self.requests, self.answered, self.next_step = [], set(), []
        self.closed = False
        self.in_poll, self.go_on = threading.Event(), threading.Event()

    def submit(self, request):
        self.requests.append(request)
        return len(self.requests) - 1

    def poll(self):
        self.in_poll.set()
        assert self.go_on.wait(60)
        if self.next_step:
            raise self.next_step.pop()
        open_tickets = set(range(len(self.requests))) - self.answered
        self.answered |= open_tickets
        return [
            Completed(ticket, np.full(TREE.n_nodes, self._first(ticket)))
            for ticket in sorted(open_tickets)
        ]

    def _first(self, ticket):
        return float(self.requests[ticket].prompt_token_ids[0])

    def close(self):
        self.closed = True
        self.go_on.set()


def two_lines(engine):
    """One line that is in `poll`, in a thread, and one that waits for its turn."""
    pool = ThreadPoolExecutor(2)
    lines = [open_line(engine), open_line(engine)]
    for which, line in enumerate(lines):
        line.submit(ReadRequest((which,), TREE, (0,)))
    first = pool.submit(lines[0].poll)
    assert engine.in_poll.wait(60)
    second = pool.submit(lines[1].poll)
    pool.shutdown(wait=False)
    return first, second, lines


def test_an_interrupted_thread_loses_nothing_of_the_others():
    engine = Stepping()
    # As if the answers had been on their way just then.
    engine.next_step = [KeyboardInterrupt()]
    engine.answered = {0, 1}
    first, second, _ = two_lines(engine)
    engine.go_on.set()
    with pytest.raises(KeyboardInterrupt):
        first.result(60)
    [answer] = second.result(60)
    assert (answer.ticket, answer.result[1]) == (0, 1.0)


def test_when_the_model_fails_every_caller_is_told():
    engine = Stepping()
    engine.next_step = [EngineError("The model is gone.")]
    first, second, lines = two_lines(engine)
    engine.go_on.set()
    for each in (first, second):
        with raises("The model is gone."):
            each.result(60)
    # Each once; then both go on.
    for which, line in enumerate(lines):
        assert line.poll() == []
        line.submit(ReadRequest((which,), TREE, (0,)))
        [answer] = line.poll()
        assert answer.result[0] == which


def test_who_waits_for_an_engine_that_is_closed_is_told():
    engine = Stepping()
    first, second, _ = two_lines(engine)
    engine.answered = {0, 1}  # they never come
    engine.close()
    for each in (first, second):
        with raises(CLOSED):
            each.result(60)


def test_a_server_engine_that_is_closed_wakes_those_who_wait(tmp_path):
    asked = threading.Event()

    def trouble(_):
        asked.set()
        return 600.0

    with SmallServer(lambda _: np.zeros(VOCAB), VOCAB) as server:
        engine = ServerEngine.load(
            a_folder_with(tmp_path, VOCAB), url=server.url, self_test=False
        )
        server.trouble = trouble

        def wait():
            with raises(CLOSED):
                read(engine, [ReadRequest((1,), TREE, (0,))])

        def close():
            assert asked.wait(60)
            engine.close()

        in_threads(wait, wait, close)


def test_a_transformers_engine_that_is_closed_says_so_to_every_caller():
    engine = TransformersEngine(make_model("llama"))
    lines = [open_line(engine) for _ in range(2)]
    for line in lines:
        line.submit(ReadRequest((1, 2), TREE, (0,)))
    engine.close()
    for line in lines:
        with raises(CLOSED):
            line.poll()
        assert line.poll() == []
    with raises(CLOSED):
        open_line(engine)


def test_what_was_given_up_is_forgotten():
    engine, exchange = Stepping(), Exchange()
    engine.go_on.set()
    given_up, line = (
        SharedLine(
            exchange, submit=engine.submit, poll=engine.poll, closed=lambda: False
        )
        for _ in range(2)
    )
    given_up.submit(ReadRequest((1,), TREE, (0,)))
    line.submit(ReadRequest((2,), TREE, (0,)))
    given_up.close()
    assert [answer.result[0] for answer in line.poll()] == [2.0]
    assert exchange.owners == {}
    assert given_up.poll() == []


def test_batches_of_one_caller_are_not_mixed_with_what_another_left():
    asked = []

    def next_logprobs(token_ids):
        asked.append(token_ids[0])
        if asked == [1]:
            raise KeyboardInterrupt
        return np.full(VOCAB, -np.log(VOCAB))

    engine = FakeEngine.from_function(next_logprobs, VOCAB)
    with pytest.raises(KeyboardInterrupt):
        read(engine, [ReadRequest((1, n), TREE, (0,)) for n in range(4)])
    read(engine, [ReadRequest((2,), TREE, (0,))])
    assert asked == [1, 1, 1, 1, 2]
    assert engine.poll() == []


def test_an_engine_that_stops_answering_is_an_error_and_no_hang():
    engine = FakeEngine.uniform(VOCAB)
    engine.poll = list
    with raises(
        "The engine 'fake' answered 0 of 2 requests and then nothing more: `poll` must "
        "return [] only when no request is left."
    ):
        read(engine, [ReadRequest((n,), TREE, (0,)) for n in range(2)])


# ------------------------------------------------------------------------ made once


def test_what_is_made_is_made_once():
    shelf, made, begun = Shelf(2), [], threading.Barrier(2)

    def make_it():
        made.append(1)
        return object()

    def get():
        begun.wait(60)
        return shelf.get("a", make_it)

    one, other = in_threads(get, get)
    assert one is other
    assert made == [1]
    assert shelf.get("a", make_it, good=lambda _: False) is not one


def test_a_model_that_several_threads_load_is_loaded_once(tmp_path):
    make_model("llama").save_pretrained(tmp_path)
    clear_engines()

    def load():
        return load_engine("transformers", tmp_path, device="cpu")

    assert len(set(map(id, in_threads(load, load, load)))) == 1


def test_a_classifier_is_joined_with_its_model_once():
    engine = hashed_engine(len(byte_level()))
    clf = make(engine=engine)
    models = in_threads(*[lambda: clf.scorer().model] * 4)
    assert len(set(map(id, models))) == 1
