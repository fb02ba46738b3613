"""Time a CSV without Ray and with 1, 2 and 4 workers, and compare the bytes.

    python benchmarks/ray_workers.py --rows 3000

Workers compute on CPUs, each with one thread: so all can give the same bytes. "Rows/s"
counts from the first rows that are scored, after workers have loaded the model; how
long these took stands beside.
"""

import argparse
import csv
import os
import random
import tempfile
import time
from pathlib import Path

from classify import ZeroShotClassifier
from classify.jobs import Classification, JobRun, JobWatcher, open_table, run_job
from classify.jobs.ray import ray_pool
from classify.jobs.ray.cluster import joined_cluster

# Before torch is imported; workers take it over.
os.environ.setdefault("OMP_NUM_THREADS", "1")

WORDS = "parcel invoice refund password account late paid twice my where is the a"
LABELS = ["account access", "billing", "refund", "shipping"]
PART_ROWS = 250


class Stopwatch(JobWatcher):
    """Notes when the first texts are there."""

    def __init__(self):
        self.begun = time.monotonic()
        self.first = None
        self.n_first = 0

    def progressed(self, n_rows, n_tokens):
        if self.first is None and n_tokens:
            self.first, self.n_first = time.monotonic(), n_rows


def write_table(path, n_rows):
    rng = random.Random(0)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text"])
        for n in range(n_rows):
            text = " ".join(rng.choices(WORDS.split(), k=rng.randint(5, 40)))
            writer.writerow([n, text])


def timed(source, output, pool):
    """Run a job; return when it began, and when it had its first rows."""
    classifier = ZeroShotClassifier(LABELS, engine="transformers", device="cpu")
    if pool is None:
        classifier.load_engine()
    watch = Stopwatch()
    run_job(
        Classification(classifier=classifier, probabilities=True),
        open_table([str(source)]),
        output,
        run=JobRun(watcher=watch) if pool is None else JobRun(watcher=watch, pool=pool),
        part_rows=PART_ROWS,
    )
    return watch


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=3000)
    n_rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as folder, joined_cluster(None):
        source, whole = Path(folder, "in.csv"), Path(folder, "whole.csv")
        write_table(source, n_rows)
        print(f"{'workers':<10}{'first rows':>12}{'rows/s':>10}   same bytes")
        for n_workers in (None, 1, 2, 4):
            output = whole if n_workers is None else Path(folder, f"{n_workers}.csv")
            pool = None if n_workers is None else ray_pool(n_workers=n_workers)
            watch = timed(source, output, pool)
            seconds = time.monotonic() - watch.first
            same = output.read_bytes() == whole.read_bytes()
            print(
                f"{n_workers or 'no Ray':<10}{watch.first - watch.begun:>10.1f} s"
                f"{(n_rows - watch.n_first) / seconds:>10.0f}   "
                f"{'yes' if same else 'NO'}",
                flush=True,
            )


if __name__ == "__main__":
    main()
