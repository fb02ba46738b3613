"""Jobs in processes of their own, to be killed; each run is the same command again.

``python -m tests.killed_jobs FOLDER ENGINE`` waits for names on stdin. For each it
forks, so that nothing is imported twice, and the child runs a job from
``FOLDER/in.csv`` into ``FOLDER/NAME`` with an engine ("fake" or "demo"). It prints the
child's process id, and its exit status when it is dead.
"""

import csv
import os
import random
import sys
import time
import zlib
from pathlib import Path

import numpy as np

from classify import ZeroShotClassifier
from classify.engines import FakeEngine
from classify.jobs import JobRun, open_table, run_job
from tests.tiny_tokenizers import byte_level
from tests.toy_jobs import job_of, make

__all__ = ["DEMO_PART_ROWS", "PART_ROWS", "run_fake", "write_rows"]

PART_ROWS, DEMO_PART_ROWS = 512, 64
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


def run_demo(folder, name):
    """Do the same with the demo model."""
    classifier = ZeroShotClassifier(LABELS, device="cpu")
    _run(classifier, folder, name, DEMO_PART_ROWS)


def _run(classifier, folder, name, part_rows, *, cache=None):
    job = job_of(classifier, probabilities=True)
    table, settings = open_table(folder / "in.csv"), JobRun(cache=cache)
    run_job(job, table, folder / name, run=settings, part_rows=part_rows)


def _serve(folder, engine):
    for line in sys.stdin:
        child = os.fork()
        if not child:
            name = line.rstrip("\n")
            if engine == "demo":
                run_demo(folder, name)
            else:
                run_fake(folder, name, seconds=0.002)
            os._exit(0)
        print(child, flush=True)
        print(os.waitpid(child, 0)[1], flush=True)


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), sys.argv[2])
