"""Jobs on a cluster of two nodes, on one machine: the output of a job without it."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pandas as pd
import pytest
import torch

from classify import PromptTemplate, ZeroShotClassifier
from classify.demo import located
from classify.errors import EngineError, ModelLoadError
from classify.estimators.asked import AskedQuestion
from classify.jobs import Classification, JobWatcher, open_table
from classify.jobs.ray import classify_dataset, ray_pool
from classify.jobs.ray.cluster import joined_cluster, ray_module
from tests.interrupting import not_for_ever
from tests.toy_jobs import csv_of, job_of, run

pytest.importorskip("ray")

pytestmark = [
    pytest.mark.slow,
    # Ray leaves pipes and sockets of its processes to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning"),
    # Ray Data sets options of its own that it no longer likes.
    pytest.mark.filterwarnings("ignore:`.*` is deprecated::ray.data.context"),
]

PART_ROWS, N_ROWS = 5, 79
WORKER = b"ray::TextWorker"


def classifier(**options):
    labels = ["billing", "shipping", "account access"]
    options = {"engine": "transformers", "device": "cpu"} | options
    return ZeroShotClassifier(labels, **options)


def job(**options):
    return job_of(classifier(**options), probabilities=True)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Compute as workers with one CPU do: threads can change the last digits."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Rows of which some come again much later, some are blank, one cannot be read."""
    rng = random.Random(7)
    words = "parcel invoice refund password account late paid twice my where"
    words = words.split()
    texts = [" ".join(rng.choices(words, k=rng.randint(1, 25))) for _ in range(60)]
    texts += [rng.choice(texts) for _ in range(15)] + ["", "new text", " "]
    path = csv_of(
        tmp_path_factory.mktemp("job") / "in.csv",
        list(enumerate(texts)),
        ("id", "text"),
    )
    lines = path.read_text().splitlines()
    lines.insert(40, "1,2,3")
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def whole(source):
    """The output, and the errors, of a job without Ray."""
    output = source.with_name("whole.csv")
    run(source, output, job(), part_rows=PART_ROWS)
    return contents(output)


@pytest.fixture(scope="module")
def cluster():
    ray_module()  # sets what a cluster that is started here inherits
    from ray.cluster_utils import Cluster

    # Each process that is not started saves seconds.
    lean = {"num_cpus": 1, "no_monitor": True, "include_log_monitor": False}
    cluster = Cluster(
        initialize_head=True, head_node_args={**lean, "include_dashboard": False}
    )
    cluster.add_node(**lean)
    yield cluster
    cluster.shutdown()


def contents(output):
    errors = output.with_name(f"{output.name}.errors.csv")
    return output.read_bytes(), errors.read_bytes()


def processes_of(cluster):
    """Return the ids of the workers' processes, each with that of its node."""
    nodes = {
        node.all_processes["raylet"][0].process.pid for node in cluster.list_all_nodes()
    }
    workers = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            title = (path / "cmdline").read_bytes()
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        if title.startswith(WORKER) and parent in nodes:
            workers[int(path.name)] = parent
    return workers


class Watcher(JobWatcher):
    """Does something each time that texts are scored."""

    def __init__(self, does):
        self._does = does

    def progressed(self, n_rows, n_tokens):
        if n_tokens:
            self._does()


# A worker takes many seconds to import what it needs: there are few below.
def test_the_output_is_that_of_a_job_without_ray(cluster, source, whole, tmp_path):
    workers = {}

    def look():
        workers.update(processes_of(cluster))
        while len(workers) < 2:  # the slower one may still be about to begin
            time.sleep(0.1)
            workers.update(processes_of(cluster))

    with not_for_ever(600):
        outcome = run(
            source,
            tmp_path / "out.csv",
            job(),
            part_rows=PART_ROWS,
            pool=ray_pool(address=cluster.address, n_workers=2),
            watcher=Watcher(look),
        )
    assert contents(tmp_path / "out.csv") == whole
    assert outcome.is_complete
    assert outcome.summary.n_rows == N_ROWS
    assert len(workers) == len(set(workers.values())) == 2


def test_several_questions(cluster, source, tmp_path):
    """One about options in several orders, and one that the model thinks about."""
    some = tmp_path / "in.csv"
    some.write_text("".join(source.read_text().splitlines(keepends=True)[:40]))
    topic = classifier(prompt=PromptTemplate(answer="both", n_orders=2))
    tone = classifier(strategy="reason", n_chains=2, max_reasoning_tokens=4)
    asked = Classification(
        questions=(
            AskedQuestion(name="topic", classifier=topic),
            AskedQuestion(
                name="tone", classifier=tone.set_params(labels=["calm", "angry"])
            ),
        ),
        reasoning=True,
    )
    run(some, tmp_path / "whole.csv", asked, part_rows=PART_ROWS)
    workers = set()
    outcome = run(
        some,
        tmp_path / "out.csv",
        asked,
        part_rows=PART_ROWS,
        pool=ray_pool(address=cluster.address, n_workers=1),
        watcher=Watcher(lambda: workers.update(processes_of(cluster))),
    )
    assert outcome.is_complete
    assert outcome.summary.n_rows == 39
    assert len(workers) == 1
    whole, output = tmp_path / "whole.csv", tmp_path / "out.csv"
    assert output.read_bytes() == whole.read_bytes()
    columns = {"topic.agreement", "tone.reasoning", "tone.agreement"}
    assert columns <= set(pd.read_csv(output))


def test_a_worker_that_is_killed_changes_nothing(cluster, source, whole, tmp_path):
    killed = []

    def kill():
        if not killed:
            killed.append(next(iter(processes_of(cluster))))
            os.kill(killed[0], signal.SIGKILL)

    pool = ray_pool(address=cluster.address, n_workers=2)
    output = tmp_path / "out.csv"
    watched = {"watcher": Watcher(kill), "part_rows": PART_ROWS}
    outcome = run(source, output, job(), pool=pool, **watched)
    assert len(killed) == 1
    assert contents(output) == whole
    assert outcome.summary.n_rows == N_ROWS


def test_workers_that_die_again_and_again_end_the_job(cluster, source, tmp_path):
    ended = threading.Event()

    def kill_all():
        while not ended.wait(0.25):  # to look takes a while itself
            for worker in processes_of(cluster):
                with contextlib.suppress(ProcessLookupError):  # it has just ended
                    os.kill(worker, signal.SIGKILL)

    killer = threading.Thread(target=kill_all)
    killer.start()
    try:
        with pytest.raises(EngineError) as failed:
            run(
                source,
                tmp_path / "out.csv",
                job(),
                pool=ray_pool(address=cluster.address, n_workers=1),
            )
    finally:
        ended.set()
        killer.join()
    said = str(failed.value)
    assert said.startswith("3 workers died while they loaded the model, the last one")
    assert said.endswith(" Check whether their machines have enough memory for it.")


def test_a_model_that_cannot_be_loaded(cluster, source, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(located("demo"), model)
    (model / "model.safetensors").unlink()
    pool = ray_pool(address=cluster.address, n_workers=1)
    with pytest.raises(ModelLoadError) as local:
        run(source, tmp_path / "out.csv", job(model=str(model)))
    with pytest.raises(ModelLoadError) as remote:
        run(source, tmp_path / "out.csv", job(model=str(model)), pool=pool)
    assert str(remote.value) == str(local.value)


def test_a_dataset_of_ray(cluster, source, tmp_path):
    import ray

    def rows(path):
        return pd.read_parquet(path).set_index("id").sort_index()

    [chunk] = open_table(source).chunks(1000)
    frame = pd.DataFrame(chunk.dicts())
    run(source, tmp_path / "local.parquet", job())
    with joined_cluster(cluster.address):
        dataset = ray.data.from_pandas([frame[:40], frame[40:]])
        labelled = classify_dataset(job(), dataset, n_workers=2)
        labelled.write_parquet(str(tmp_path / "spread"))
    spread, local = rows(tmp_path / "spread"), rows(tmp_path / "local.parquet")
    pd.testing.assert_frame_equal(spread, local, rtol=1e-5)


# The first Ctrl-C on a terminal goes to all processes of the group.
INTERRUPTED = """
import os, signal, sys
from tests.test_job_ray import N_ROWS, PART_ROWS, Watcher, job, run
from classify.jobs.ray import ray_pool

if __name__ == "__main__":
    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append("SIGTERM"))
    signal.signal(signal.SIGINT, lambda *_: stopped.append("SIGINT"))
    sent = []

    def interrupt():
        if not sent:
            sent.append(True)
            os.killpg(0, signal.SIGINT)
            os.kill(os.getpid(), signal.SIGTERM)

    outcome = run(
        sys.argv[1],
        sys.argv[2],
        job(),
        part_rows=PART_ROWS,
        pool=ray_pool(n_workers=1),
        watcher=Watcher(interrupt),
        stopping=lambda: bool(stopped),
    )
    print(sorted(stopped), outcome.is_complete, 0 < outcome.summary.n_rows < N_ROWS)
"""


def test_a_job_that_is_interrupted_goes_on_without_ray(source, whole, tmp_path):
    output = tmp_path / "out.csv"
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, str(source), str(output)],
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.stdout == "['SIGINT', 'SIGTERM'] False True\n", done.stderr
    run(source, output, job(), part_rows=PART_ROWS)
    assert contents(output) == whole
