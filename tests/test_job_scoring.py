"""Chunks through a model: in order, each text once, however the engine answers."""

import random
from collections import Counter
from contextlib import contextmanager

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classify import PromptTemplate, ZeroShotClassifier
from classify.demo import tickets_csv
from classify.engines import FakeEngine
from classify.errors import EngineError
from classify.jobs import JobWatcher, RowColumns, open_table
from classify.jobs.chunk_texts import ChunkTexts
from classify.jobs.identity import score_digest
from classify.jobs.pool import LocalPool
from classify.jobs.scheduler import Scheduler
from classify.jobs.store import ScoreStore
from tests.tiny_tokenizers import byte_level
from tests.toy_jobs import (
    NO_TEXT,
    Countdown,
    ScatteredEngine,
    asked,
    dying_engine,
    make,
)
from tests.toy_model import hashed_engine


def engine(**options):
    return hashed_engine(len(byte_level()), **options)


class Run(JobWatcher):
    """A scorer over some texts, and what it was seen to do."""

    def __init__(self, used, texts, store, *, n_rows=2, stopping=None, **options):
        scorer = options.pop("scorer", None)
        if scorer is None:
            scorer = make(engine=used).set_params(**options).scorer()
        self.n_taken, self.n_rows, self.n_tokens = 0, 0, 0
        self.n_to_finish = []
        self._chunks = open_table(pd.DataFrame({"text": texts})).chunks(n_rows)
        stopping = stopping or (lambda: False)
        self._scheduler = Scheduler(
            [scorer],
            RowColumns(),
            digests=[score_digest(scorer)],
            store=store,
            pool=LocalPool([scorer], stopping),
            watcher=self,
            stopping=stopping,
        )

    def progressed(self, n_rows, n_tokens):
        self.n_rows += n_rows
        self.n_tokens += n_tokens

    def stopping(self, n_texts):
        self.n_to_finish.append(n_texts)

    def _taken(self):
        for at, chunk in enumerate(self._chunks):
            self.n_taken += 1
            yield at, chunk

    def score(self):
        return self._scheduler.score(self._taken())


@contextmanager
def scored(used, texts, **options):
    with ScoreStore.temporary() as store:
        yield Run(used, texts, store, **options)


def reasons(answer):
    return {at: str(error) for at, error in answer.errors.items()}


def expected(texts):
    return make().label_logprobs(texts).values


def test_scores_are_those_of_the_classifier():
    texts = ["a", "b", "", "a", "c", "b", "d"]
    with scored(engine(), texts, n_rows=3) as run:
        chunks = list(run.score())
    assert [each.index for each in chunks] == [0, 1, 2]
    assert [each.chunk.cells("text") for each in chunks] == [
        *(texts[:3], texts[3:6], texts[6:])
    ]
    assert [reasons(each.answers[0]) for each in chunks] == [{2: NO_TEXT}, {}, {}]
    values = np.concatenate([each.answers[0].scores.values for each in chunks])
    assert values == pytest.approx(expected([*texts[:2], *texts[3:]]), abs=1e-12)
    assert (run.n_rows, run.n_taken) == (7, 3)


@given(
    texts=st.lists(st.sampled_from(["a", "b", "c", "d", "e", "f", ""]), max_size=30),
    n_rows=st.integers(1, 5),
    seed=st.integers(0, 1000),
    window=st.integers(1, 6),
)
@settings(max_examples=60)
def test_an_asynchronous_engine_changes_nothing(texts, n_rows, seed, window):
    used = engine()
    scattered = ScatteredEngine(used, seed, window=window)
    with (
        scored(scattered, texts, n_rows=n_rows) as run,
        scored(engine(), texts, n_rows=n_rows) as other,
    ):
        pairs = zip(run.score(), other.score(), strict=True)
        for one, two in pairs:
            assert one.chunk.cells("text") == two.chunk.cells("text")
            assert reasons(one.answers[0]) == reasons(two.answers[0])
            for name in ("values", "lower", "upper", "unresolved", "n_reads"):
                found = getattr(one.answers[0].scores, name)
                assert np.array_equal(found, getattr(two.answers[0].scores, name))
    assert Counter(asked(used)) == Counter(set(texts) - {""})
    assert run.n_rows == other.n_rows == len(texts)
    assert run.n_tokens == other.n_tokens


def test_a_text_in_flight_is_not_asked_again():
    # The first text lands last: all later chunks wait for it, and all have it.
    texts = ["slow", "a", "slow", "b", "a", "slow", "c", "slow"]
    used = engine()
    scattered = ScatteredEngine(used, 0, window=8, held="slow")
    with scored(scattered, texts) as run:
        chunks = list(run.score())
    assert sorted(asked(used)) == ["a", "b", "c", "slow"]
    values = np.concatenate([each.answers[0].scores.values for each in chunks])
    assert np.array_equal(values, expected(texts))
    assert run.n_rows == 8


def test_few_chunks_wait_for_a_slow_text():
    texts = ["slow", *(f"text {n}." for n in range(200))]
    scattered = ScatteredEngine(engine(), 0, window=4, held="slow")
    with scored(scattered, texts) as run:
        taken = [run.n_taken for _ in run.score()]
    # One that is handed out, and at most eight behind it.
    assert all(n - at <= 8 for at, n in enumerate(taken)), taken
    assert taken[0] == 8
    assert len(taken) == 101


def test_an_engine_of_batches_finishes_a_chunk_before_the_next():
    texts = [f"text {n}." for n in range(20)]
    with scored(engine(window=16), texts) as run:
        assert [run.n_taken for _ in run.score()] == list(range(1, 11))


def test_no_engine_is_asked_where_nothing_is_to_be_asked():
    used = engine()
    with scored(used, ["", " ", "", ""]) as run:
        chunks = list(run.score())
    assert [len(each.answers[0].scores) for each in chunks] == [0, 0]
    assert used.n_requests == 0


@pytest.mark.parametrize("asynchronous", [False, True])
def test_what_an_engine_answered_before_it_failed_is_kept(asynchronous):
    texts = [f"text {n}." for n in range(12)]
    with ScoreStore.temporary() as store:
        used = dying_engine("text 9.", window=1)
        if asynchronous:
            used = ScatteredEngine(used, 3, window=2)
        run = Run(used, texts, store, n_rows=6)
        with pytest.raises(EngineError, match=r"^The engine died\.$"):
            list(run.score())
        second = engine(window=1)
        chunks = list(Run(second, texts, store, n_rows=6).score())
    values = np.concatenate([each.answers[0].scores.values for each in chunks])
    assert np.array_equal(values, expected(texts))
    # In flight with the text that failed is at most one other.
    assert run.n_rows >= 8
    assert len(asked(second)) == len(texts) - run.n_rows


@pytest.mark.parametrize("n_times", range(0, 40, 3))
def test_what_is_in_flight_at_a_stop_is_kept(n_times):
    texts = [f"text {n}." for n in range(30)]
    rng = random.Random(n_times)
    with ScoreStore.temporary() as store:
        first = engine()
        used = ScatteredEngine(first, rng.randrange(99), window=5)
        run = Run(used, texts, store, n_rows=4, stopping=Countdown(n_times))
        n_done = sum(len(each.chunk) for each in run.score())
        second = engine()
        chunks = list(Run(second, texts, store, n_rows=4).score())
    assert n_done <= len(asked(first)) <= n_times
    assert sorted([*asked(first), *asked(second)]) == sorted(texts)
    values = np.concatenate([each.answers[0].scores.values for each in chunks])
    assert np.array_equal(values, expected(texts))


class StopsAtFirstRead(Run):
    """Asks to stop as soon as the model has read something; sees what is begun."""

    def __init__(self, *arguments, **options):
        self.n_begun = None
        super().__init__(*arguments, stopping=lambda: self.n_begun, **options)

    def reading(self, n_texts):
        self.n_begun = self.n_begun or n_texts


def test_after_a_stop_only_what_was_begun_is_finished():
    # Batches of four, of texts that take a second read: 20 are in flight. Their prompts
    # begin so much alike that one pass could read all of them as branches.
    texts = [f"{n}: the parcel number {n} is late" for n in range(20)]
    labels = ["billing", "shipping", "account access"]
    options = {"engine": "transformers", "device": "cpu", "batch_size": 4}
    scorer = ZeroShotClassifier(labels, tolerance=1e-6, **options).scorer()
    assert scorer.model.load_engine().window >= 20
    with ScoreStore.temporary() as store:
        run = StopsAtFirstRead(None, texts, store, n_rows=20, scorer=scorer)
        assert list(run.score()) == []
        assert 0 < run.n_begun < 20
        # Told how many are left, from all that were begun down.
        assert run.n_to_finish[0] == run.n_begun
        assert run.n_to_finish == sorted(run.n_to_finish, reverse=True)
        # What had landed before the first was begun counts too.
        assert run.n_begun <= run.n_rows < 20
        again = Run(None, texts, store, n_rows=20, scorer=scorer)
        [chunk] = again.score()
    rows = [{"text": text} for text in texts]
    prompts = scorer.encode(rows, None)
    n_tokens = sum(len(prompt.token_ids) for prompt in prompts)
    assert run.n_tokens + again.n_tokens == n_tokens
    alone = scorer.score(rows).scores.values
    np.testing.assert_allclose(chunk.answers[0].scores.values, alone, atol=1e-4)


def test_a_consumer_that_fails_loses_nothing_that_landed():
    texts = [f"text {n}." for n in range(16)]
    with ScoreStore.temporary() as store:
        first = engine()
        used = ScatteredEngine(first, 1, window=16, held="text 0.")
        run = Run(used, texts, store)
        chunks = run.score()
        next(chunks)
        chunks.close()
        second = engine()
        list(Run(second, texts, store).score())
    # All of the first chunk had landed, and of those that waited behind it.
    assert run.n_rows > 2
    assert len(asked(second)) == len(texts) - run.n_rows


def test_damaged_scores_are_computed_again():
    texts = ["a", "b", "c", "d"]
    with ScoreStore.temporary() as store:
        first = engine()
        scorer = make(engine=first).scorer()
        chunk = next(open_table(pd.DataFrame({"text": texts})).chunks(4))
        keys = ChunkTexts.of(chunk, scorer, RowColumns(), score_digest(scorer)).keys
        # One is cut off, one has as many bytes but is of other labels.
        store.put_many([(keys[0], b"short"), (keys[2], bytes(72))])
        [found] = Run(first, texts, store, n_rows=4).score()
    assert np.array_equal(found.answers[0].scores.values, expected(texts))
    assert asked(first) == texts


def test_a_model_that_would_say_something_else_is_told_of_once(caplog):
    def elsewhere(token_ids):
        logits = np.zeros(len(byte_level()))
        logits[0] = 20.0
        return logits - np.logaddexp.reduce(logits)

    used = FakeEngine.from_function(elsewhere, len(byte_level()))
    with scored(used, ["a", "b", "c", "d"]) as run:
        list(run.score())
    said = [each.getMessage() for each in caplog.records]
    assert len(said) == 1
    assert said[0].startswith("The mean label mass is ")


def test_a_text_that_does_not_fit_is_an_error_in_each_of_its_rows():
    long = "long " * 40
    template = PromptTemplate("{text}\nTopic:", chat=False, too_long="error")
    with ScoreStore.temporary() as store:
        used = ScatteredEngine(engine(context_length=60), 0)
        run = Run(used, [long, "a", "b", long, long], store, prompt=template)
        chunks = list(run.score())
    assert [list(each.answers[0].errors) for each in chunks] == [[0], [1], [0]]
    [reason] = {each for chunk in chunks for each in reasons(chunk.answers[0]).values()}
    assert reason.endswith("or allow it to be cut (too_long: truncate).")
    assert (run.n_rows, asked(used)) == (5, ["a", "b"])


def test_what_came_before_a_chunk_does_not_move_a_digit():
    # Numbers of two digits begin alike in other ways than those of three.
    tickets = pd.read_csv(tickets_csv())["text"].str[:60].tolist()
    texts = [f"{n}: {tickets[n % len(tickets)]}" for n in range(64, 192)]
    labels = ["billing", "shipping", "refund"]
    scorer = ZeroShotClassifier(labels, device="cpu").scorer()
    digest = score_digest(scorer)
    chunks = list(open_table(pd.DataFrame({"text": texts})).chunks(64))

    def values(some):
        # As in a process of its own.
        scorer.model.load_engine().free_memory()
        with ScoreStore.temporary() as store:
            run = Scheduler(
                [scorer],
                RowColumns(),
                digests=[digest],
                store=store,
                pool=LocalPool([scorer]),
            )
            return [
                each.answers[0].scores.values.tolist()
                for each in run.score(enumerate(some))
            ]

    assert values(chunks)[1] == values(chunks[1:])[0]
