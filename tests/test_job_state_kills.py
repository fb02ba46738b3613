"""Full disks and killed processes: what was finished is there, nothing else counts."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.job_states import add, begin, content, names, raises

ROOT = Path(__file__).parents[1]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "out.csv.job"


def full(folder):
    return (
        f"The disk is full. Finished rows are kept in {str(folder)!r}: free some "
        "space and run the same command again."
    )


def test_a_full_disk(folder):
    with begin(folder) as job:
        add(job, 0)
        job.scores.put_many([(b"a", b"scores")])
        # SQLite's own word for it: no page more than it has.
        execute = job.scores._database.connection.execute
        execute(f"PRAGMA max_page_count = {execute('PRAGMA page_count').fetchone()[0]}")
        for index in (1, 2):
            with raises(full(folder)):
                job.add_part(index, b"x" * 100_000, b"", {})
        with raises(full(folder)):
            job.scores.put_many([(b"b", b"x" * 100_000)])
        assert list(job.finished) == [0]
        execute("PRAGMA max_page_count = 1000000")
        add(job, 1)
        assert job.scores.get_many([b"a", b"b"]) == {b"a": b"scores"}
    with begin(folder) as job:
        assert list(job.finished) == [0, 1]
        assert list(job.parts(2)) == [content(0)[0], content(1)[0]]


LIMITED = """
import resource, sys
from classify.errors import DataError
from tests.job_states import RECORD, begin

def limit(n_bytes):
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, resource.RLIM_INFINITY))

with begin(sys.argv[1]) as job:
    for index in range(100):
        limit(1_000_000)
        try:
            job.add_part(index, b"x" * 100_000, b"", RECORD)
        except DataError as error:
            message = str(error)
            break
    limit(resource.RLIM_INFINITY)
    print(index, message)
    job.add_part(index + 1, b"after", b"", RECORD)
"""


def test_a_write_that_fails_in_the_middle(folder):
    pytest.importorskip("resource")
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    failed, message = done.stdout.strip().split(" ", 1)
    assert message in (
        (
            f"The job directory {str(folder)!r} cannot be used: disk I/O error. "
            "Finished rows are kept in it: fix that and run the same command again."
        ),
        full(folder),
    )
    assert int(failed) > 1
    with begin(folder) as job:
        assert list(job.finished) == [*range(int(failed)), int(failed) + 1]
        assert list(job.parts(int(failed))) == [b"x" * 100_000] * int(failed)


def test_a_folder_that_cannot_be_made(tmp_path):
    folder = tmp_path / "nowhere" / "out.csv.job"
    with raises(
        f"The job directory {str(folder)!r} cannot be used: No such file or directory. "
        "Finished rows are kept in it: fix that and run the same command again."
    ):
        begin(folder)


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere"
)
def test_a_folder_that_cannot_be_written(folder):
    with begin(folder) as job:
        folder.chmod(0o500)
        with raises(
            f"The job directory {str(folder)!r} cannot be used: Permission denied. "
            "Finished rows are kept in it: fix that and run the same command again."
        ):
            add(job, 0)
        folder.chmod(0o700)


WORKER = """
import os, sys
from tests.job_states import add, begin

folder, told = sys.argv[1:]
# A fork for each kill: importing everything each time would take a minute.
for _ in sys.stdin:
    if child := os.fork():
        print(child, flush=True)
        os.waitpid(child, 0)
        print("dead", flush=True)
        continue
    with begin(folder) as job, open(told, "ab", buffering=0) as file:
        index = 0
        while True:
            if index not in job.finished:
                add(job, index)
                file.write(b"%d\\n" % index)
            index += 1
"""


class Worker:
    """A process that adds parts until it is killed, and tells of each."""

    def __init__(self, folder, told):
        self.told = told
        told.touch()
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(folder), str(told)],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self):
        print("go", file=self.process.stdin, flush=True)
        self.child = int(self.process.stdout.readline())

    def wait_for_a_part(self):
        before, deadline = self.indices(), time.monotonic() + 600
        while self.indices() == before:
            assert time.monotonic() < deadline
            time.sleep(0.001)

    def kill(self):
        os.kill(self.child, signal.SIGKILL)
        assert self.process.stdout.readline() == "dead\n"

    def indices(self):
        return [int(line) for line in self.told.read_text().split()]


@pytest.fixture
def worker(folder, tmp_path):
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    worker = Worker(folder, tmp_path / "told")
    with worker.process:
        yield worker
        worker.process.stdin.close()


def test_killed_at_any_moment_nothing_finished_is_lost(folder, worker):
    rng = random.Random(5)
    for kill in range(20):
        worker.start()
        # Every other time, the kill may come before the directory is open.
        if kill % 2:
            worker.wait_for_a_part()
        time.sleep(rng.uniform(0, 0.03))
        worker.kill()
        with begin(folder) as job:
            n_parts = len(job.finished)
            # One may be finished without a word; none is told of that is not.
            told = worker.indices()
            assert told == sorted(set(told))
            assert set(told) <= set(job.finished)
            assert job.finished == {index: {"index": index} for index in range(n_parts)}
            expected = [content(index) for index in range(n_parts)]
            assert list(job.parts(n_parts)) == [data for data, _ in expected]
            errors = [errors for _, errors in expected if errors]
            assert list(job.errors(n_parts)) == errors
        assert names(folder) == ["job.sqlite", "lock"]
    assert n_parts >= 10
    with begin(folder) as job:
        job.remove()
    assert not folder.exists()


def test_two_processes_do_not_share_a_job(folder, worker):
    worker.start()
    worker.wait_for_a_part()
    message = f"Another process is working on {str(folder)!r}: wait for it, or stop it."
    for restart in (False, True):
        with raises(message):
            begin(folder, restart=restart)
    worker.kill()
    with begin(folder) as job:
        assert set(worker.indices()) <= set(job.finished)
        with raises(message):
            begin(folder)
