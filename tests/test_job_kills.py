"""Jobs killed at any moment, and begun again: the same bytes as if nothing had been."""

import contextlib
import csv
import os
import random
import re
import signal
import time
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from classify.demo import tickets_csv
from tests.job_states import n_parts
from tests.killed_jobs import (
    DEMO_PART_ROWS,
    PART_ROWS,
    run_command,
    run_demo,
    run_fake,
    run_slowly,
    write_rows,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
]

N_ROWS = 4000
N_KILLS = 20
# Of the jobs in turn; the assembly of a compressed one takes a while.
OUTPUTS = ("out.csv", "out.jsonl.gz", "out.tsv", "out.parquet", "out.csv.gz")


class Job:
    """A job that a process runs; each `start` is the same command again."""

    def __init__(self, forks, folder, name, run):
        self.forks, self.folder, self.name, self.run = forks, folder, name, run
        self.output, self.job = folder / name, folder / f"{name}.job"
        self.errors = folder / f"{name}.errors.csv"

    def start(self, name=None):
        self.child = self.forks.start(self.run, self.folder, name or self.name)

    def ended(self):
        """Wait for the end; return the exit code."""
        return self.forks.ended()

    def kill(self):
        """Kill it; return whether it was still there to be killed."""
        with contextlib.suppress(ProcessLookupError):  # it has just finished
            os.kill(self.child, signal.SIGKILL)
        return self.ended() == -signal.SIGKILL

    def n_parts(self):
        return n_parts(self.job)

    def n_asked(self):
        return Path(f"{self.output}.asked").stat().st_size

    def wait_for_parts(self, n_parts):
        deadline = time.monotonic() + 600
        while self.n_parts() < n_parts and not self.output_is_new():
            assert time.monotonic() < deadline
            time.sleep(0.003)

    def output_is_new(self):
        return self.output.read_bytes() != b"old"


def wait_for_a_moment(job, moment, rng, n_parts):
    """Wait until the job is where it is to be killed."""
    if moment == "start":
        time.sleep(rng.uniform(0, 0.3))
    elif moment == "parts":
        job.wait_for_parts(min(job.n_parts() + rng.randint(1, 6), n_parts - 1))
        time.sleep(rng.uniform(0, 0.1))
    else:
        job.wait_for_parts(n_parts)
        # Parts are put together, the output takes its place, the folder goes.
        time.sleep(rng.uniform(0, 0.25 if job.output.suffix == ".gz" else 0.02))


def test_killed_at_twenty_moments_a_job_is_as_if_it_had_not_been(tmp_path, killed_jobs):
    rng = random.Random(4)
    n_texts = write_rows(tmp_path / "in.csv", N_ROWS, seed=1)
    n_parts = -(-N_ROWS // PART_ROWS)
    seen, n_jobs = Counter(), 0
    while seen.total() < N_KILLS or not seen["end"]:
        assert n_jobs < 50, seen
        name = OUTPUTS[n_jobs % len(OUTPUTS)]
        n_jobs += 1
        folder = tmp_path / str(n_jobs)
        folder.mkdir()
        job = Job(killed_jobs, folder, name, run_slowly)
        seen += killed_job(job, rng, n_texts, n_parts)
    assert min(seen["start"], seen["parts"]) >= 4, seen


def killed_job(job, rng, n_texts, n_parts):
    """Kill a job four times, finish it, and return when it was killed."""
    folder, name = job.folder, job.name
    (folder / "in.csv").symlink_to(folder.parent / "in.csv")
    run_fake(folder, f"whole-{name}", cache=folder.parent / "cache")
    whole = (folder / f"whole-{name}").read_bytes()
    job.output.write_bytes(b"old")
    job.errors.write_bytes(b"old")
    killed = Counter()
    for moment in ("start", "parts", "parts", "end"):
        job.start()
        wait_for_a_moment(job, moment, rng, n_parts)
        if not job.kill():
            break  # it was done: what follows would be another job
        killed[moment] += 1
        assert job.output.read_bytes() in (b"old", whole)
    else:
        job.start()
        assert job.ended() == 0
    assert job.output.read_bytes() == whole
    expected_errors = (folder / f"whole-{name}.errors.csv").read_bytes()
    assert job.errors.read_bytes() == expected_errors
    assert not job.job.exists()
    if not killed["end"]:
        # Nothing but the texts of unfinished parts was asked again.
        assert job.n_asked() <= n_texts + PART_ROWS * killed.total()
    left = {each.name for each in folder.iterdir()} - {"in.csv"}
    names = {name, f"whole-{name}"}
    assert left == {
        f"{each}{suffix}" for each in names for suffix in ("", ".errors.csv", ".asked")
    }
    return killed


def write_tickets(path, n_common, n_own):
    """Write rows with few different texts, and then rows that all differ."""
    with tickets_csv().open(encoding="utf-8", newline="") as file:
        tickets = [row["text"][:60] for row in csv.DictReader(file)]
    texts = [tickets[n % len(tickets)] for n in range(n_common)]
    texts += [f"{n}: {tickets[n % len(tickets)]}" for n in range(n_own)]
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("id", "text"), *enumerate(texts)])


def test_killed_with_a_real_model_a_job_is_as_if_it_had_not_been(tmp_path, killed_jobs):
    rng, n_own = random.Random(2), 6 * DEMO_PART_ROWS - 9
    write_tickets(tmp_path / "in.csv", 0, n_own)
    job = Job(killed_jobs, tmp_path, "out.csv", run_demo)
    job.output.write_bytes(b"old")
    job.start("whole.csv")
    assert job.ended() == 0
    whole = (tmp_path / "whole.csv").read_bytes()
    n_kills = 0
    while n_kills < 4:
        job.start()
        job.wait_for_parts(job.n_parts() + rng.randint(0, 1))
        # A part of 64 texts takes about half a second.
        time.sleep(rng.uniform(0, 0.5))
        if job.kill():
            n_kills += 1
            assert job.output.read_bytes() == b"old", n_kills
        else:  # it was done: what follows is another job
            assert job.output.read_bytes() == whole
            job.output.write_bytes(b"old")
    job.start()
    assert job.ended() == 0
    assert job.output.read_bytes() == whole
    assert {each.name for each in tmp_path.iterdir()} == {
        *("in.csv", "out.csv", "whole.csv")
    }


# ------------------------------------------------------------------ the command line


class Command:
    """`classify predict` as people run it."""

    def __init__(self, forks, folder):
        self.forks, self.output = forks, folder / "out.csv"
        self.pipe = folder.with_name(f"{folder.name}.stderr")
        os.mkfifo(self.pipe)
        self.arguments = [
            *("predict", folder / "in.csv", "--labels", "billing,shipping,refund"),
            *("--batch-size", "16", "--output", self.output),
        ]

    def start(self):
        self.pid = self.forks.start(run_command, self.pipe, *self.arguments)
        self.stderr = self.pipe.open()

    def signal(self, *numbers):
        for number in numbers:
            os.kill(self.pid, number)

    def wait_for_a_part(self):
        while not n_parts(Path(f"{self.output}.job")):
            assert Path(f"/proc/{self.pid}").exists(), self.stderr.read()
            time.sleep(0.01)

    def wait_for(self, words):
        """Read what it says until it says these words; return all that."""
        said = ""
        for line in self.stderr:
            said += line
            if words in line:
                return said
        raise AssertionError(said)

    def ended(self):
        """Wait for the end; return the exit code, and what was said."""
        with self.stderr:
            said = self.stderr.read()
        # How many depends on the moment.
        said = re.sub(r"Texts in progress: [\d,]+\.\n", "", said)
        return self.forks.ended(), said


def same_but_rounding(output, whole):
    """Compare outputs whose texts may have been read in other company."""
    one, other = (pd.read_csv(path, keep_default_na=False) for path in (output, whole))
    pd.testing.assert_frame_equal(one, other, check_exact=False, rtol=1e-5, atol=1e-7)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux")
def test_a_command_that_is_interrupted_goes_on(tmp_path, killed_jobs):
    # A part of few texts, and one that takes its time.
    write_tickets(tmp_path / "in.csv", 2048, 500)
    command = Command(killed_jobs, tmp_path)
    job, whole = tmp_path / "out.csv.job", tmp_path / "whole.csv"
    command.start()
    assert command.ended()[0] == 0
    command.output.rename(whole)
    stopped = (
        f"Warning: Stopped: 2,048 of 2,548 rows are finished and kept in {job}. Run "
        "the same command again to resume.\n"
    )
    stopping = (
        "Warning: Stopping: texts in progress are finished and saved first. Press "
        "Ctrl-C again to stop immediately.\n"
    )
    went_on = "Resuming: 2,048 of 2,548 rows were finished by an earlier run.\n"

    # The first part is finished; nothing of it is lost by what follows. Of two signals,
    # the first has no effect before the second. The job was not there at the start.
    assert not job.exists()
    command.start()
    command.wait_for_a_part()
    command.signal(signal.SIGSTOP, signal.SIGINT, signal.SIGTERM, signal.SIGCONT)
    code, said = command.ended()
    assert code == 130
    assert said.endswith(
        f"{stopping}Interrupted. Finished rows are kept in '{job}': run the same "
        "command again to resume.\n"
    )
    assert not command.output.exists()

    command.start()
    said = command.wait_for("Resuming")
    assert said.endswith(went_on)
    command.signal(signal.SIGTERM)
    code, said = command.ended()
    assert (code, said) == (143, stopping + stopped)

    command.start()
    command.wait_for("Resuming")
    command.signal(signal.SIGINT)
    assert command.ended() == (130, stopping + stopped)

    command.start()
    command.wait_for("Resuming")
    command.signal(signal.SIGKILL)
    assert command.ended()[0] == -signal.SIGKILL
    assert not command.output.exists()

    command.start()
    code, said = command.ended()
    assert code == 0
    assert went_on in said
    assert "2,048 of them by an earlier run" in said
    same_but_rounding(command.output, whole)
    lines = [path.read_bytes().splitlines()[:2049] for path in (command.output, whole)]
    assert lines[0] == lines[1]
    assert {each.name for each in tmp_path.iterdir()} == {
        *("in.csv", "out.csv", "whole.csv")
    }
