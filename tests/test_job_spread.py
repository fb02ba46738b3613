"""Texts spread over workers: whoever answers, and when, the output is that of one."""

import random
import subprocess
import sys
import zlib
from collections import deque
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classify import PromptTemplate
from classify.errors import ConfigError, EngineError
from classify.jobs import JobWatcher
from classify.jobs.pool import Answer, LocalPool, score_texts
from classify.jobs.ray import ray_pool
from classify.jobs.ray.cluster import WorkerShape, joined_cluster
from classify.tracking import Completed
from tests.tiny_tokenizers import byte_level
from tests.toy_jobs import Countdown, csv_of, job_of, make, raises, run
from tests.toy_model import hashed_engine


class NeighbourEngine:
    """Gives values whose last digits depend on what is computed beside."""

    name = "fake"

    def __init__(self):
        self._engine = hashed_engine(len(byte_level()), window=3)
        self._prompts = {}
        self.window, self.vocab_size = self._engine.window, self._engine.vocab_size
        self.context_length = 60

    def submit(self, request):
        ticket = self._engine.submit(request)
        self._prompts[ticket] = bytes(str(request.prompt_token_ids), "ascii")
        return ticket

    def poll(self):
        answers = self._engine.poll()
        beside = b"".join(self._prompts[each.ticket] for each in answers)
        noise = 1e-9 * (zlib.crc32(beside) % 1000)
        return [Completed(ticket, edges - noise) for ticket, edges in answers]

    def close(self):
        self._engine.close()


class ShuffledPool:
    """Answers as workers would: in any order, and perhaps not for ever."""

    def __init__(self, scorer, rng, *, n_calls, dies_after=None):
        self._scorer, self._rng, self._n_calls = scorer, rng, n_calls
        self._calls, self._left = deque(), dies_after
        self.max_chunks = 2 * n_calls
        self.scored = []

    @property
    def has_room(self):
        return len(self._calls) < self._n_calls

    def __bool__(self):
        return bool(self._calls)

    @property
    def n_texts(self):
        return sum(len(texts.keys) for texts in self._calls)

    def ask(self, texts):
        self._calls.append(texts)

    def stop(self):
        while len(self._calls) > 1:
            self._calls.pop()

    def answers(self):
        if self._rng.random() < 0.2:
            return Answer({})
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                raise EngineError("The cluster is gone.")
        self._calls.rotate(self._rng.randrange(len(self._calls)))
        answer = score_texts(self._scorer, self._calls.popleft())
        found = answer.records.items()
        self.scored += [key for key, record in found if isinstance(record, bytes)]
        return answer


def shuffled(seed, *, n_calls=4, dies_after=None, seen=None):
    """Return the pool of a run; `seen` gets the keys of scored texts."""

    @contextmanager
    def open_pool(scorer, _):
        rng = random.Random(seed)
        pool = ShuffledPool(scorer, rng, n_calls=n_calls, dies_after=dies_after)
        try:
            yield pool
        finally:
            if seen is not None:
                seen.extend(pool.scored)

    return open_pool


def job(**options):
    classifier = make(engine=NeighbourEngine())
    prompt = PromptTemplate("{text}\nTopic:", chat=False, too_long="error")
    return job_of(classifier.set_params(prompt=prompt), probabilities=True, **options)


# Few texts, so that many chunks wait for one; an empty one, and one that is too long.
TOO_LONG = "long " * 50
TEXTS = st.sampled_from([*(f"text {n}" for n in range(12)), "", TOO_LONG])


def table(folder, texts):
    return csv_of(folder / "in.csv", list(enumerate(texts)), ("id", "text"))


def outputs(path):
    errors = path.with_name(f"{path.name}.errors.csv")
    return path.read_bytes(), errors.read_bytes() if errors.exists() else None


@settings(max_examples=30)
@given(
    texts=st.lists(TEXTS, max_size=40),
    part_rows=st.integers(1, 6),
    seed=st.integers(0, 1000),
    n_calls=st.integers(1, 5),
)
def test_any_order_of_answers_gives_the_output_of_one_process(
    tmp_path_factory, texts, part_rows, seed, n_calls
):
    folder = tmp_path_factory.mktemp("job")
    source = table(folder, texts)
    one, many, seen = folder / "one.csv", folder / "many.csv", []
    run(source, one, job(), part_rows=part_rows)
    pool = shuffled(seed, n_calls=n_calls, seen=seen)
    outcome = run(source, many, job(), part_rows=part_rows, pool=pool)
    assert outputs(many) == outputs(one)
    assert outcome.summary.n_rows == len(texts)
    # Each different text was scored by one worker, once.
    assert len(seen) == len(set(seen)) == len(set(texts) - {"", TOO_LONG})


@settings(max_examples=30)
@given(
    texts=st.lists(TEXTS, min_size=1, max_size=40),
    seed=st.integers(0, 1000),
    deaths=st.lists(st.integers(0, 8), max_size=4),
    stop=st.integers(0, 30),
)
def test_a_job_that_ends_early_goes_on_to_the_same_output(
    tmp_path_factory, texts, seed, deaths, stop
):
    folder = tmp_path_factory.mktemp("job")
    source = table(folder, texts)
    one, many = folder / "one.csv", folder / "many.csv"
    run(source, one, job(), part_rows=3)
    run(
        source,
        many,
        job(),
        part_rows=3,
        pool=shuffled(seed),
        stopping=Countdown(stop),
    )
    for n_answers in deaths:
        pool = shuffled(seed, dies_after=n_answers)
        with suppress(EngineError):
            run(source, many, job(), pool=pool, part_rows=3)
    run(source, many, job(), part_rows=3)
    assert outputs(many) == outputs(one)


def test_rows_with_labels_of_their_own(tmp_path):
    rows = [[f"text {n % 7}", ["a|b", "c|b|a", "", "x"][n % 4]] for n in range(30)]
    source = csv_of(tmp_path / "in.csv", rows, ("text", "options"))
    one, many = tmp_path / "one.csv", tmp_path / "many.csv"
    for output, pool in ((one, LocalPool), (many, shuffled(1))):
        chosen = make(labels=None, engine=NeighbourEngine())
        run(source, output, job_of(chosen, labels="options"), pool=pool)
    assert outputs(many) == outputs(one)


def test_the_watcher_hears_of_every_row_and_token(tmp_path):
    counts = []

    class Watcher(JobWatcher):
        def progressed(self, n_rows, n_tokens):
            counts.append((n_rows, n_tokens))

    source = table(tmp_path, [f"text {n % 9}" for n in range(40)])
    for name, pool in (("one.csv", LocalPool), ("many.csv", shuffled(0))):
        counts.clear()
        watched = {"part_rows": 5, "pool": pool, "watcher": Watcher()}
        run(source, tmp_path / name, job(), **watched)
        totals = tuple(map(sum, zip(*counts, strict=True)))
        assert totals[0] == 40
        if pool is LocalPool:
            expected = totals
    assert totals == expected


# ------------------------------------------------------------- before Ray is begun


def test_engines_need_names(tmp_path):
    source = table(tmp_path, ["a"])
    engine = hashed_engine(len(byte_level()))
    with raises(
        "Workers load engines by name: engine must be one of 'auto', 'transformers', "
        f"'vllm', 'server' and 'llamacpp'. Got {engine!r} instead.",
        ConfigError,
    ):
        run(
            source,
            tmp_path / "out.csv",
            job_of(make(engine=engine)),
            pool=ray_pool(),
        )


def test_numbers_of_workers():
    with raises("n_workers must be 1 or more. Got 0 instead.", ConfigError):
        ray_pool(n_workers=0)
    with raises("gpus_per_worker must be 0 or more. Got -1 instead.", ConfigError):
        ray_pool(gpus_per_worker=-1)


def test_without_ray():
    program = (
        "import sys; sys.modules['ray'] = None\n"
        "from classify.jobs.ray import ray_pool\n"
        "ray_pool()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.stderr.splitlines()[-1] == (
        "classify.errors.MissingDependencyError: Jobs on many machines need Ray, which "
        "is not installed. Install it with: pip install 'classify-lm[ray]'"
    )


def a_cluster_runs():
    """Whether a cluster of Ray runs on this machine, as far as Linux tells."""
    for path in Path("/proc").glob("[0-9]*/comm"):
        with suppress(OSError):  # the process has just ended
            if path.read_text() == "gcs_server\n":
                return True
    return False


@pytest.mark.parametrize("address", ["auto", "127.0.0.1:1", "ray://[::1]:1", "x"])
def test_no_cluster_answers(address):
    pytest.importorskip("ray")
    if address == "auto" and a_cluster_runs():
        pytest.skip("another cluster of Ray runs on this machine")
    with (
        raises(
            f"No Ray cluster answers at '{address}': start one with `ray start "
            "--head`, which prints its address, or use this machine alone with "
            "address='local'.",
            ConfigError,
        ),
        joined_cluster(address),
    ):
        pass


def test_workers_on_cpus_do_not_crowd_each_other(monkeypatch):
    def threads(cpus):
        options = WorkerShape(3, cpus, 0).actor_options()
        return options["runtime_env"]["env_vars"]["OMP_NUM_THREADS"]

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert [threads(cpus) for cpus in (5.0, 1.0, 0.25)] == ["5", "1", "1"]
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert threads(5.0) == "2"
    assert WorkerShape(2, 0, 1).actor_options() == {"num_cpus": 0, "num_gpus": 1}
