"""Ctrl-C while vLLM works: for the command that a terminal shows, and nobody else."""

import csv
import importlib.util
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from classify.engines.vllm.interrupts import children_without_interrupts

ROOT = Path(__file__).parents[1]
NEEDS_VLLM = pytest.mark.skipif(
    importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"
)
LABELS = ["billing", "shipping", "refund"]
# Two parts with few texts, soon finished, and one that takes a while.
N_ROWS, N_EASY, N_EASY_TEXTS = 8000, 4096, 100
TEXTS = [f"Parcel {n % N_EASY_TEXTS if n < N_EASY else n}?" for n in range(N_ROWS)]
SLEEPER = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]


# -------------------------------------------------------------------- without any model


@pytest.mark.parametrize("way", ["exec", "fork", "spawn"])
def test_children_get_no_sigint_and_sigterm_as_ever(way):
    # In a fresh process: the first child starts the tracker of resources too.
    code = f"""
import multiprocessing, os, signal, subprocess, sys
from classify.engines.vllm.interrupts import children_without_interrupts
from tests.test_vllm_interrupts import SLEEPER, sleep_with_a_lock

with children_without_interrupts():
    if {way!r} == "exec":
        child = subprocess.Popen(SLEEPER, stdout=subprocess.PIPE)
        child.stdout.readline()
    else:
        context = multiprocessing.get_context({way!r})
        ready, told = context.Pipe()
        child = context.Process(target=sleep_with_a_lock, args=(told,))
        child.start()
        ready.recv()
for number in (signal.SIGINT, signal.SIGTERM):
    os.kill(child.pid, number)
    try:
        (child.wait if {way!r} == "exec" else child.join)(0.5)
    except subprocess.TimeoutExpired:
        pass
    code = child.poll() if {way!r} == "exec" else child.exitcode
    print(signal.Signals(number).name, code)
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
        timeout=60,
        check=False,
    )
    lines = ["SIGINT None", f"SIGTERM {-signal.SIGTERM}", "interrupted"]
    assert done.stdout.splitlines() == lines, done.stderr


def sleep_with_a_lock(told):
    """As vLLM's engine process does: with a handler, and a lock of its own."""
    import multiprocessing

    signal.signal(signal.SIGINT, lambda *_: os._exit(3))
    multiprocessing.get_context("spawn").Lock()
    told.send("up")
    time.sleep(60)


def test_an_interrupt_while_children_are_started_comes_through():
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        start_for_ten_seconds()
    assert time.monotonic() - started < 5
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def start_for_ten_seconds():
    started = time.monotonic()
    with children_without_interrupts():
        while time.monotonic() - started < 10:
            time.sleep(0.05)


# ---------------------------------------------------------------------------- with vLLM


def start(source, output, log):
    command = [sys.executable, "-c", "from classify.cli import main; main()", "predict"]
    options = {
        "--labels": ",".join(LABELS),
        "--engine": "vllm",
        "--output": output,
        "--log-json": log,
    }
    command += [
        str(each)
        for pair in [(source, "--probabilities"), *options.items()]
        for each in pair
    ]
    command += ["--engine-option", "max_model_len=256"]
    command += ["--engine-option", "max_num_seqs=32"]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "80"},
        # As a terminal does it: a group of its own, which the signal is sent to.
        start_new_session=True,
    )


def wait_for(process, path):
    """Wait for a file that a command writes while it works, and a little longer."""
    until = time.monotonic() + 240
    while not (path.exists() and path.stat().st_size):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < until
        time.sleep(0.05)
    time.sleep(1.5)


def processes_of(group):
    """Return the processes of a group that are alive, by what they are called."""
    import psutil

    return {
        each.pid: each.info["name"]
        for each in psutil.process_iter(["name", "status"])
        if each.info["status"] != psutil.STATUS_ZOMBIE and os.getpgid(each.pid) == group
    }


def probabilities(path):
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["text"] for row in rows] == TEXTS
    values = [[float(row[f"p({label})"]) for label in LABELS] for row in rows]
    return np.array(values), [row["label"] for row in rows]


@pytest.mark.slow
@NEEDS_VLLM
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux")
def test_ctrl_c_is_for_the_command_alone(tmp_path):
    source, output = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text("text\n" + "".join(f"{text}\n" for text in TEXTS))
    folder = tmp_path / "out.csv.job"

    # Once: what is in flight is finished and saved.
    process = start(source, output, tmp_path / "log")
    wait_for(process, folder / "part-0000000.csv")
    assert any("EngineC" in name for name in processes_of(process.pid).values())
    os.killpg(process.pid, signal.SIGINT)
    told = check_stopped(process)
    assert re.search(
        r"Warning: Stopped: (2,048|4,096|6,144) of 8,000 rows are finished and kept "
        rf"in {folder}\. Run the same command again to go on\.\n",
        told,
    ), told
    n_saved = n_scores(folder)
    assert N_EASY_TEXTS < n_saved < N_EASY_TEXTS + N_ROWS - N_EASY

    # Twice: at once, and what was answered is saved all the same.
    process = start(source, output, tmp_path / "second.log")
    wait_for(process, tmp_path / "second.log")
    os.killpg(process.pid, signal.SIGINT)
    time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    assert (
        f"Interrupted. What is finished is kept in '{folder}': run the same command "
        "again to go on.\n"
    ) in check_stopped(process)
    assert n_saved < n_scores(folder) < N_EASY_TEXTS + N_ROWS - N_EASY

    # And on to the end, which is that of a run that nobody disturbed.
    for path in (output, tmp_path / "whole.csv"):
        _, told = start(source, path, tmp_path / "log").communicate(timeout=300)
        assert "leaked" not in told
    ours, labels = probabilities(output)
    expected, expected_labels = probabilities(tmp_path / "whole.csv")
    assert labels == expected_labels
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-6)


def check_stopped(process):
    since = time.monotonic()
    _, told = process.communicate(timeout=60)
    # Of which vLLM's processes take 5 to end, and more on a busy machine.
    assert time.monotonic() - since < 30, told
    assert process.returncode == 130, told
    # Nor what vLLM's processes shared, which would stay in memory.
    for word in ("Traceback", "leaked"):
        assert word not in told
    # Python's tracker of resources ends when it sees that its parent has.
    until = time.monotonic() + 10
    while left := processes_of(process.pid):
        assert time.monotonic() < until, left
        time.sleep(0.05)
    return told


def n_scores(folder):
    with closing(sqlite3.connect(next(folder.rglob("*.sqlite")))) as database:
        [[n_rows]] = database.execute("SELECT COUNT(*) FROM scores")
    return n_rows
