"""Full disks and killed processes: what was finished is there, nothing else counts."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.job_directories import add, begin, content, names, raises

ROOT = Path(__file__).parents[1]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "out.csv.job"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk(folder):
    with begin(folder) as job:
        add(job, 0)
        # The one file that is full for everybody.
        (folder / "part-0000001.csv").symlink_to("/dev/full")
        with raises(
            f"The disk is full. What is finished is kept in {str(folder)!r}: free some "
            "space and run the same command again."
        ):
            job.add_part(1, b"rows", b"", {})
        assert list(job.finished) == [0]
        (folder / "part-0000001.csv").unlink()
        add(job, 1)
    with begin(folder) as job:
        assert list(job.finished) == [0, 1]


LIMITED = """
import resource, sys
from pathlib import Path
from classify.errors import DataError
from tests.job_directories import RECORD, begin

def limit(n_bytes):
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, resource.RLIM_INFINITY))

with begin(sys.argv[1]) as job:
    n_bytes = int(sys.argv[2])
    for index in range(100):
        limit(1000)
        try:
            job.add_part(index, b"x" * (n_bytes * index), b"", RECORD)
        except DataError as error:
            message = str(error)
            break
    limit(resource.RLIM_INFINITY)
    print(index, Path(sys.argv[1], "journal.jsonl").stat().st_size, message)
    job.add_part(index + 1, b"after", b"", RECORD)
"""


@pytest.mark.parametrize("n_bytes", [300, 1], ids=["in a part", "in the journal"])
def test_a_write_that_fails_in_the_middle(folder, n_bytes):
    pytest.importorskip("resource")
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(folder), str(n_bytes)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    failed, n_journal_bytes, message = done.stdout.strip().split(" ", 2)
    assert message == (
        f"The job directory {str(folder)!r} cannot be used: File too large. What is "
        "finished is kept in it: mend that and run the same command again."
    )
    # What failed is what was meant to.
    assert (int(failed) * n_bytes > 1000) == (n_bytes == 300)
    assert (int(n_journal_bytes) > 800) == (n_bytes == 1)
    with begin(folder) as job:
        assert list(job.finished) == [*range(int(failed)), int(failed) + 1]
        assert [path.stat().st_size for path in job.part_paths(int(failed))] == [
            n_bytes * index for index in range(int(failed))
        ]
        assert not [name for name in names(folder) if name.endswith(".part")]


def test_a_folder_that_cannot_be_made(tmp_path):
    folder = tmp_path / "nowhere" / "out.csv.job"
    with raises(
        f"The job directory {str(folder)!r} cannot be used: No such file or directory. "
        "What is finished is kept in it: mend that and run the same command again."
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
            "What is finished is kept in it: mend that and run the same command again."
        ):
            add(job, 0)
        folder.chmod(0o700)


WORKER = """
import os, sys
from tests.job_directories import add, begin

folder, told = sys.argv[1:]
# A fork for each kill: to import all anew would take a minute.
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
            parts = [path.read_bytes() for path in job.part_paths(n_parts)]
            assert parts == [data for data, _ in expected]
            errors = [path.read_bytes() for path in job.error_paths(n_parts)]
            assert errors == [errors for _, errors in expected if errors]
            assert not [name for name in names(folder) if name.endswith(".part")]
    assert n_parts >= 10
    with begin(folder) as job:
        job.remove()
    assert not folder.exists()


def test_two_processes_do_not_share_a_job(folder, worker):
    worker.start()
    worker.wait_for_a_part()
    message = f"Another process works on {str(folder)!r}: wait for it, or stop it."
    for restart in (False, True):
        with raises(message):
            begin(folder, restart=restart)
    worker.kill()
    with begin(folder) as job:
        assert set(worker.indices()) <= set(job.finished)
        with raises(message):
            begin(folder)
