"""An engine ends when the process that started it was killed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.interrupting import not_for_ever

pytestmark = pytest.mark.skipif(
    not Path("/proc/self").exists(), reason="needs Linux to tell of parents"
)

# Each prints its process id, and stays until its stdin ends.
WORKER = """
from classify.engines.vllm.liveness import end_with_starter
end_with_starter()
print("ready", flush=True)
input()
"""
# As vLLM's process of an engine: its workers end with it.
CORE = f"""
import os, subprocess, sys
print(os.getpid(), flush=True)
if sys.argv[1] == "late":
    input()
worker = subprocess.Popen([sys.executable, "-c", {WORKER!r}], stdin=subprocess.PIPE)
print("worker:", worker.wait(), file=sys.stderr)
"""
STARTER = f"""
import subprocess, sys
from classify.engines.vllm.liveness import starting_here
with starting_here():
    core = subprocess.Popen([sys.executable, "-c", {CORE!r}, *sys.argv[1:]])
core.wait()
"""


def started(how):
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-c", STARTER, how],
        cwd=Path(__file__).parents[1],
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        text=True,
    )


def test_an_engine_ends_with_the_process_that_started_it():
    with started("soon") as starter, not_for_ever():
        core = int(starter.stdout.readline())
        assert starter.stdout.readline() == "ready\n"
        os.kill(core, 0)
        starter.kill()
        # Both have it open as long as they live.
        assert starter.stdout.read() == ""


def test_a_worker_does_not_begin_where_that_process_has_ended():
    with started("late") as starter, not_for_ever():
        starter.stdout.readline()
        starter.kill()
        starter.wait()
        starter.stdin.write("\n")
        starter.stdin.flush()
        said = starter.stderr.read()
        assert said == "The process that started vLLM has ended.\nworker: 1\n"


def test_a_worker_in_the_process_that_started_vllm_stays():
    code = f"""
from classify.engines.vllm.liveness import starting_here
with starting_here():
    {WORKER.replace(chr(10), chr(10) + "    ")}
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[1],
        input="\n",
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "ready\n"
