"""Calls that are awaited: the same values, shared batches, clean cancellation."""

import asyncio
import re
import threading

import numpy as np
import pytest

from classify import LabelCalibrator
from classify.errors import DataError, EngineError
from classify.scoring import LiveRun
from tests.tiny_tokenizers import byte_level
from tests.toy_jobs import NO_TEXT, ScatteredEngine, asked, dying_engine, make
from tests.toy_model import hashed_engine

TEXTS = [f"text number {at}" for at in range(12)]


def an_engine(kind):
    engine = hashed_engine(len(byte_level()), window=4)
    return ScatteredEngine(engine, 3) if kind == "scattered" else engine


class HeldEngine:
    """Answers nothing before it is let go; tells when it is asked."""

    name, asynchronous, closed = "fake", False, False

    def __init__(self, window=4):
        self._engine = hashed_engine(len(byte_level()), window=window)
        self.window, self.requests = window, self._engine.requests
        self.vocab_size = self._engine.vocab_size
        self.context_length = self._engine.context_length
        self.asked, self.go = threading.Event(), threading.Event()

    def submit(self, request):
        return self._engine.submit(request)

    def poll(self):
        self.asked.set()
        assert self.go.wait(60)
        return self._engine.poll()

    def close(self):
        self.closed = True


@pytest.mark.parametrize("kind", ["batches", "scattered"])
def test_values_are_those_of_the_calls_that_block(kind):
    clf = make(engine=an_engine(kind))

    async def calls():
        return await asyncio.gather(
            clf.alabel_logprobs(TEXTS),
            clf.apredict_proba(TEXTS[::-1]),
            clf.apredict([*TEXTS, *TEXTS]),
            clf.apredict_proba(TEXTS, labels=[["shipping", "billing"]] * len(TEXTS)),
            clf.apredict_proba([]),
        )

    scores, proba, labels, candidates, none = asyncio.run(calls())
    np.testing.assert_array_equal(scores.values, clf.label_logprobs(TEXTS).values)
    expected = clf.predict_proba(TEXTS)
    np.testing.assert_array_equal(proba, expected[::-1])
    np.testing.assert_array_equal(
        candidates,
        clf.predict_proba(TEXTS, labels=[["shipping", "billing"]] * len(TEXTS)),
    )
    assert labels.tolist() == [*clf.predict(TEXTS), *clf.predict(TEXTS)]
    assert none.shape == (0, 2)


def test_a_calibrator_corrects_what_is_awaited():
    clf = make(calibrator=LabelCalibrator("prior_matching")).fit(TEXTS)
    found = asyncio.run(clf.apredict_proba(TEXTS))
    np.testing.assert_array_equal(found, clf.predict_proba(TEXTS))


def test_a_text_that_cannot_be_scored_is_named_before_the_model_is_asked():
    clf = make()
    with pytest.raises(DataError, match=rf"^Text 1: {re.escape(NO_TEXT)} Leave it out"):
        asyncio.run(clf.apredict(["good", " "]))
    assert clf.engine.requests == []


def test_calls_that_wait_at_the_same_time_share_a_batch():
    engine = HeldEngine(window=8)
    clf = make(engine=engine)

    async def calls():
        first = asyncio.create_task(clf.apredict_proba(["the first"]))
        await asyncio.to_thread(engine.asked.wait, 60)
        others = [asyncio.create_task(clf.apredict_proba([text])) for text in TEXTS[:6]]
        run = clf.scorer().model.live_run()
        while len(run._open) < 7:
            await asyncio.sleep(0)
        engine.go.set()
        return await asyncio.gather(first, *others)

    assert len(asyncio.run(calls())) == 7
    assert asked(engine)[0] == "the first"
    # The six that came while it was computed were all begun before any was answered.
    assert set(asked(engine)[1:7]) == set(TEXTS[:6])


def test_callers_take_turns():
    engine = HeldEngine(window=1)
    clf = make(engine=engine)

    async def calls():
        first = asyncio.create_task(
            clf.apredict_proba([f"long {at}" for at in range(9)])
        )
        await asyncio.to_thread(engine.asked.wait, 60)
        second = asyncio.create_task(clf.apredict_proba(["short"]))
        run = clf.scorer().model.live_run()
        while len(run._open) < 2:
            await asyncio.sleep(0)
        engine.go.set()
        await asyncio.gather(first, second)

    asyncio.run(calls())
    assert asked(engine).index("short") <= 2


def test_a_cancelled_call_drops_its_texts_and_no_other():
    engine = HeldEngine(window=1)
    clf = make(engine=engine)

    async def calls():
        first = asyncio.create_task(clf.apredict_proba(["kept"]))
        await asyncio.to_thread(engine.asked.wait, 60)
        second = asyncio.create_task(clf.apredict_proba(TEXTS))
        run = clf.scorer().model.live_run()
        while len(run._open) < 2:
            await asyncio.sleep(0)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        engine.go.set()
        return await first, await clf.apredict_proba(["later"])

    kept, later = asyncio.run(calls())
    assert asked(engine) == ["kept", "later"]
    np.testing.assert_array_equal(
        [*kept, *later], make().predict_proba(["kept", "later"])
    )


def test_an_engine_that_fails_fails_every_call_and_the_next_one_begins_anew():
    engine = dying_engine("deadly", window=2)
    clf = make(engine=engine)

    async def calls():
        return await asyncio.gather(
            clf.apredict_proba(["deadly"]),
            clf.apredict_proba(["deadly", *TEXTS]),
            return_exceptions=True,
        )

    failures = asyncio.run(calls())
    assert [(type(each), str(each)) for each in failures] == [
        (EngineError, "The engine died.")
    ] * 2
    np.testing.assert_array_equal(
        asyncio.run(clf.apredict_proba(TEXTS)), make().predict_proba(TEXTS)
    )


def test_the_thread_ends_with_the_last_text():
    clf = make()
    asyncio.run(clf.apredict_proba(TEXTS))
    for thread in threading.enumerate():
        if thread.name == "classify-live-run":
            thread.join(60)
            assert not thread.is_alive()


def test_a_run_is_over_one_engine():
    engine, other = hashed_engine(8), hashed_engine(8)
    run = LiveRun(engine)
    assert run.runs_on(engine)
    assert not run.runs_on(other)
