"""Jobs in processes of their own, to be killed; each run is the same command again.

``python -m tests.killed_jobs`` reads lines of JSON, each with a function of `RUNS` and
its arguments. For each it forks, so that nothing is imported twice, and prints the
child's process id, and its exit code when it has ended.
"""

import csv
import importlib
import json
import os
import random
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np

from classify import ZeroShotClassifier
from classify.engines import FakeEngine, clear_engines
from classify.jobs import JobRun, open_table, run_job
from tests.tiny_tokenizers import byte_level
from tests.toy_jobs import job_of, make

__all__ = ["DEMO_PART_ROWS", "PART_ROWS", "Forks", "run_fake", "write_rows"]

ROOT = Path(__file__).parents[1]
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
PART_ROWS, DEMO_PART_ROWS = 200, 64
LABELS = ("billing", "shipping", "refund")


def write_rows(path, n_rows, seed):
    """Write rows of every kind; return how many different texts there are."""
    rng = random.Random(seed)
    texts = set()
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "text", "n"])
        for n in range(n_rows):
            kind = rng.random()
            if kind < 0.02:
                file.write(rng.choice(["short,row\n", '7,"a"b,1\n', "a,b,c,d\n"]))
                continue
            text = f"ticket {n if kind < 0.7 else rng.randrange(300)}"
            if kind > 0.9:
                text += ',\n"quoted"\r\nand broken'
            elif kind < 0.04:
                text = rng.choice(["", "  ", "\n"])
            writer.writerow([n, text, rng.random()])
            texts.add(text)
    return len(texts)


class SlowEngine:
    """Lets a little time pass at each poll, and notes in a file what it is asked."""

    name = "fake"

    def __init__(self, *, seconds, noted):
        vocab_size = len(byte_level())
        logits = 2.0 * np.random.default_rng(0).standard_normal((251, vocab_size))
        tables = logits - np.logaddexp.reduce(logits, axis=1)[:, None]

        def next_logprobs(token_ids):
            return tables[zlib.crc32(np.array(token_ids).tobytes()) % len(tables)]

        self._engine = FakeEngine.from_function(next_logprobs, vocab_size, window=64)
        self._seconds = seconds
        self._noted = os.open(noted, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.vocab_size, self.window = vocab_size, self._engine.window
        self.context_length = self._engine.context_length

    def submit(self, request):
        if 0 in request.nodes:
            os.write(self._noted, b".")
        return self._engine.submit(request)

    def poll(self):
        time.sleep(self._seconds)
        return self._engine.poll()

    def close(self):
        os.close(self._noted)


def run_fake(folder, name, *, seconds=0.0, cache=None):
    """Run the job, or go on with it."""
    engine = SlowEngine(seconds=seconds, noted=folder / f"{name}.asked")
    _run(make(LABELS, engine=engine), folder, name, PART_ROWS, cache=cache)


def _run(classifier, folder, name, part_rows, *, cache=None):
    job = job_of(classifier, probabilities=True)
    table, settings = open_table(folder / "in.csv"), JobRun(cache=cache)
    run_job(job, table, folder / name, run=settings, part_rows=part_rows)


def run_slowly(folder, name):
    """Run the job of `run_fake`, so that it can be killed in the middle."""
    run_fake(Path(folder), name, seconds=0.005)
    os._exit(0)


def run_demo(folder, name):
    """Do the same with the demo model."""
    classifier = ZeroShotClassifier(LABELS, device="cpu")
    _run(classifier, Path(folder), name, DEMO_PART_ROWS)
    os._exit(0)


def run_over_server(source, output, url):
    """Run a job over the server of a test."""
    from tests.test_job_server import run

    run(source, output, url)
    os._exit(0)


def run_command(stderr, *arguments):
    """Run `classify`, which writes what it says into a pipe with a name."""
    from classify.cli import main

    os.dup2(os.open(stderr, os.O_WRONLY), 2)
    sys.argv = ["classify", *arguments]
    main()


RUNS = {
    run.__name__: run for run in (run_slowly, run_demo, run_over_server, run_command)
}


class Forks:
    """The process that runs jobs in forks of its own; a context."""

    def __enter__(self):
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.killed_jobs"],
            cwd=ROOT,
            env=os.environ | ONE_THREAD,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        return self

    def __exit__(self, *exception):
        self._process.stdin.close()
        self._process.stdout.close()
        assert self._process.wait() == 0

    def start(self, run, *arguments):
        """Start one of `RUNS`, and return its process id."""
        line = json.dumps([run.__name__, *map(str, arguments)])
        print(line, file=self._process.stdin, flush=True)
        return int(self._process.stdout.readline())

    def ended(self):
        """Wait for the end of what was started, and return its exit code."""
        return int(self._process.stdout.readline())


def _serve():
    # To import torch takes five seconds of each child otherwise.
    ZeroShotClassifier(LABELS, device="cpu").load_engine()
    clear_engines()
    for name in ("httpx", "classify.engines.server.engine", "tests.test_job_server"):
        importlib.import_module(name)
    for line in sys.stdin:
        child = os.fork()
        if not child:
            name, *arguments = json.loads(line)
            RUNS[name](*arguments)
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    _serve()
