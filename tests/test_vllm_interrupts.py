"""Ctrl-C while vLLM works: for the command that a terminal shows, and nobody else."""

import contextlib
import csv
import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from classify.engines.vllm.processes import children_without_interrupts
from tests.interrupting import not_for_ever
from tests.job_states import n_parts, sql

ROOT = Path(__file__).parents[1]
NEEDS_VLLM = pytest.mark.skipif(
    importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"
)
LABELS = ["billing", "shipping", "refund"]
# Two parts with few texts, soon finished, and others that take a while.
N_ROWS, N_EASY, N_EASY_TEXTS = 5200, 4096, 100
TEXTS = [f"Parcel {n % N_EASY_TEXTS if n < N_EASY else n}?" for n in range(N_ROWS)]


# -------------------------------------------------------------------- without any model


@pytest.mark.parametrize("way", ["exec", "fork", "spawn"])
def test_children_get_no_sigint_and_sigterm_as_ever(way):
    # In a fresh process: the first child starts the tracker of resources too.
    code = f"""
import multiprocessing, os, signal, subprocess
from classify.engines.vllm.processes import children_without_interrupts
from tests.echoing import ECHO, echo_with_a_lock

with children_without_interrupts():
    if {way!r} == "exec":
        pipe = subprocess.PIPE
        child = subprocess.Popen(ECHO, stdin=pipe, stdout=pipe, text=True)
        child.stdout.readline()
    else:
        context = multiprocessing.get_context({way!r})
        ours, theirs = context.Pipe()
        child = context.Process(target=echo_with_a_lock, args=(theirs,))
        child.start()
        theirs.close()
        ours.recv()
os.kill(child.pid, signal.SIGINT)
if {way!r} == "exec":
    print("still here", file=child.stdin, flush=True)
    print(child.stdout.readline().rstrip())
else:
    ours.send("still here")
    print(ours.recv())
child.terminate()
print(child.wait() if {way!r} == "exec" else child.join() or child.exitcode)
try:
    os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    lines = ["still here", f"{-signal.SIGTERM}", "interrupted"]
    assert done.stdout.splitlines() == lines, done.stderr


def test_an_interrupt_while_children_are_started_comes_through():
    with pytest.raises(KeyboardInterrupt), children_without_interrupts():
        interrupt_and_wait()
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def interrupt_and_wait():
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(6000):
        time.sleep(0.01)
    pytest.fail("No interrupt came, or only at the end.")


# ---------------------------------------------------------------------------- with vLLM


def arguments_of(source, output):
    return [
        *("predict", str(source), "--probabilities", "--labels", ",".join(LABELS)),
        *("--engine", "vllm", "--output", str(output)),
        *("--engine-option", "max_model_len=256", "--engine-option", "max_num_seqs=32"),
    ]


class Command:
    """`classify predict` with vLLM, as a terminal starts it: in a group of its own."""

    def __init__(self, forks, arguments, told, **options):
        self.told = told
        told.write_text("")
        self.forked = forks.start("classify", arguments, told, **options)
        self.pid = self.forked.pid

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for pid in self.processes():  # there are some if the test failed
            os.kill(pid, signal.SIGKILL)
        self.wait()

    def wait(self):
        """Wait for the end; return the exit code."""
        with not_for_ever(600):
            return self.forked.wait()

    def processes(self):
        """Return its processes that are alive, by what they are called."""
        import psutil

        found = {}
        for each in psutil.process_iter(["name", "status"]):
            with contextlib.suppress(ProcessLookupError):
                if os.getpgid(each.pid) == self.pid:
                    found[each.pid] = each
        return {
            pid: each.info["name"]
            for pid, each in found.items()
            if each.info["status"] != psutil.STATUS_ZOMBIE
        }

    def of_vllm(self):
        """Return the engine's process and the worker's."""
        names = ("EngineC", "Worker")
        found = [
            [pid for pid, called in self.processes().items() if name in called]
            for name in names
        ]
        [[engine], [worker]] = found
        return engine, worker

    def wait_until(self, condition):
        while not condition():
            assert self.forked.poll() is None, self.told.read_text()
            time.sleep(0.01)

    def wait_until_it_reads(self):
        """Wait until its worker has computed for a while, whatever else runs here."""
        import psutil

        self.wait_until(lambda: "Resuming: " in self.told.read_text())
        worker = psutil.Process(self.of_vllm()[1])
        before = sum(worker.cpu_times()[:2])
        self.wait_until(lambda: sum(worker.cpu_times()[:2]) > before + 0.7)

    def signal(self, number):
        """Send a signal as Ctrl-C does: to the whole group."""
        os.killpg(self.pid, number)

    def ended(self, code, *, killed=False):
        """Wait for the end of all its processes; return what was said.

        Where one of vLLM's was killed, Python's tracker of resources, which ends last,
        says that it frees what that one shared. Else there is nothing left to free.
        """
        ended = self.wait()
        for _ in range(6000):
            if not self.processes():
                break
            time.sleep(0.01)
        assert self.processes() == {}
        told = self.told.read_text()
        assert ended == code, told
        assert "Traceback" not in told
        assert ("leaked" in told) <= killed, told
        return told


def shared_memory_of(pid):
    """Return the blocks of memory that a process of vLLM shares with the others."""
    maps = Path(f"/proc/{pid}/maps").read_text()
    names = set(re.findall(r"/dev/shm/psm_\w+", maps))
    assert names
    return [Path(name) for name in names]


def probabilities(path):
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["text"] for row in rows] == TEXTS
    values = [[float(row[f"p({label})"]) for label in LABELS] for row in rows]
    return np.array(values), [row["label"] for row in rows]


def n_scores(folder):
    """Return how many texts a job has saved the answers of."""
    [[n_rows]] = sql(folder, "SELECT COUNT(*) FROM scores")
    return n_rows


@pytest.mark.slow
@NEEDS_VLLM
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux")
def test_a_killed_engine_and_ctrl_c_lose_nothing_that_was_finished(
    tmp_path, vllm_forks
):
    """One job, broken off again and again, and in the end as if it had not been."""
    source, output = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text("text\n" + "".join(f"{text}\n" for text in TEXTS))
    folder = tmp_path / "out.csv.job"
    arguments, n_texts = arguments_of(source, output), N_EASY_TEXTS + N_ROWS - N_EASY

    with Command(vllm_forks, arguments, tmp_path / "told") as command:
        command.wait_until(lambda: n_parts(folder))
        engine, _ = command.of_vllm()
        shared = shared_memory_of(engine)
        os.kill(engine, signal.SIGKILL)
        told = command.ended(1, killed=True)
    assert [path for path in shared if path.exists()] == []
    check_killed(told, folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("in.csv", "out.csv.job", "told")
    ]

    # Ctrl-C once: what is in flight is finished and saved. The processes of vLLM are
    # new ones, as users have them.
    n_before = n_scores(folder)
    with Command(vllm_forks, arguments, tmp_path / "told", spawn=True) as command:
        command.wait_until_it_reads()
        command.signal(signal.SIGINT)
        told = command.ended(130)
    assert re.search(
        r"Warning: Stopped: (2,048|4,096) of 5,200 rows are finished and kept "
        rf"in {folder}\. Run the same command again to resume\.\n",
        told,
    ), told
    n_saved = n_scores(folder)
    assert max(n_before, N_EASY_TEXTS) < n_saved < n_texts

    # Twice: at once, and what was answered is saved all the same.
    with Command(vllm_forks, arguments, tmp_path / "told") as command:
        command.wait_until_it_reads()
        of_vllm = command.of_vllm()
        for pid in of_vllm:  # so that what is in flight is not finished before
            os.kill(pid, signal.SIGSTOP)
        command.signal(signal.SIGINT)
        command.wait_until(lambda: "Stopping: " in command.told.read_text())
        command.signal(signal.SIGINT)
        for pid in of_vllm:
            os.kill(pid, signal.SIGCONT)
        told = command.ended(130)
    assert (
        f"Interrupted. Finished rows are kept in '{folder}': run the same command "
        "again to resume.\n"
    ) in told
    assert n_saved < n_scores(folder) < n_texts

    # And on to the end, which is that of a run that nobody disturbed. In one process,
    # it starts in half the time.
    alone = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
    for path, where in ((output, {}), (tmp_path / "whole.csv", alone)):
        arguments = arguments_of(source, path)
        with Command(vllm_forks, arguments, tmp_path / "told", **where) as command:
            command.ended(0)
    ours, labels = probabilities(output)
    expected, expected_labels = probabilities(tmp_path / "whole.csv")
    assert labels == expected_labels
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-6)


def check_killed(told, folder):
    """Hold a job whose engine was killed to what it says is kept of it."""
    pieces = "SELECT data FROM pieces WHERE kind = 'rows' ORDER BY place, number"
    rows = b"".join([data for (data,) in sql(folder, pieces)]).decode().splitlines()
    assert [line.partition(",")[0] for line in rows] == TEXTS[: len(rows)]
    [sentence] = [line for line in told.splitlines() if line.startswith("Error: ")]
    assert sentence.startswith("Error: vLLM died with ")
    assert sentence.endswith(
        f" {len(rows):,} rows are finished and kept in '{folder}': run the same "
        "command again to resume."
    )
