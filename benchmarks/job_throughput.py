"""What the job layer itself takes: rows a second on one core, and memory.

    python benchmarks/job_throughput.py
    python benchmarks/job_throughput.py speed --profile

Speed: a CSV of 100-character texts, all different, is classified among 5 labels with
the scores of all texts in the cache, so that no model is asked: reading, keys, look-up,
results, parts, journal, and the output put together. Memory: the peak of a process that
classifies a small table, and of one that classifies a large one, through the fake
engine. 99 of 100 texts are among 1,000; the others are all different.
"""

import argparse
import cProfile
import gc
import json
import logging
import os
import pstats
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LABELS = ["billing", "shipping", "technical problem", "account access", "refund"]
WORDS = ("the", "parcel", "invoice", "account", "my", "paid", "not", "where", "to")
TEXT_CHARACTERS = 100
N_COMMON_TEXTS = 1_000

# Rows a second on one core; MB between the peaks.
REACH_SPEED, REACH_MEMORY = 50_000, 50


def main() -> None:
    """Print a row for each figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "what", nargs="?", choices=["speed", "memory", "both"], default="both"
    )
    parser.add_argument("--rows", type=int, default=200_000, help="for speed")
    parser.add_argument("--small", type=int, default=50_000, help="for memory")
    parser.add_argument("--large", type=int, default=5_000_000, help="for memory")
    parser.add_argument("--folder", type=Path, help="where files go; temporary if not")
    parser.add_argument("--profile", action="store_true", help="where the time goes")
    parser.add_argument("--measure", choices=["speed", "memory"], help="of one process")
    options = parser.parse_args()
    if options.measure == "speed":
        print(json.dumps(measure_speed(options.folder, profile=options.profile)))
    elif options.measure == "memory":
        print(json.dumps(measure_memory(options.folder)))
    else:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            report(options, Path(folder))


def report(options: argparse.Namespace, folder: Path) -> None:
    """Measure, each figure in a process of its own."""
    print(
        f"{'':34}{'rows':>12}{'seconds':>10}{'of CPU':>10}{'rows/s':>10}{'peak MB':>10}"
    )
    if options.what in ("speed", "both"):
        write_csv(folder / "in.csv", options.rows, share_common=0.0)
        found = measured(folder, "speed", profile=options.profile)
        line(f"{len(LABELS)} labels, warm cache, one core", options.rows, found)
        verdict(f"{options.rows / found['seconds']:,.0f} rows/s", REACH_SPEED, "rows/s")
    if options.what in ("memory", "both"):
        peaks = []
        for n_rows in (options.small, options.large):
            write_csv(folder / "in.csv", n_rows, share_common=0.99)
            found = measured(folder, "memory", profile=False)
            line("fake engine", n_rows, found)
            peaks.append(found["peak_mb"])
        verdict(f"{peaks[1] - peaks[0]:+.1f} MB", REACH_MEMORY, "MB at most")


def line(name: str, n_rows: int, found: dict[str, float]) -> None:
    """Print the figures of a process."""
    seconds = found["seconds"]
    print(
        f"{name:34}{n_rows:12,}{seconds:10.1f}{found['cpu_seconds']:10.1f}"
        f"{n_rows / seconds:10,.0f}{found['peak_mb']:10.1f}",
        flush=True,
    )


def verdict(figure: str, reach: float, unit: str) -> None:
    """Print a figure beside what is to be reached."""
    print(f"{'':34}{figure} (to reach: {reach:,} {unit})", flush=True)


def measured(folder: Path, what: str, *, profile: bool) -> dict[str, float]:
    """Return the figures of a fresh process."""
    command = [sys.executable, __file__, "--measure", what, "--folder", str(folder)]
    done = subprocess.run(
        command + ["--profile"] * profile,
        check=True,
        stdout=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )
    return json.loads(done.stdout)


def write_csv(path: Path, n_rows: int, *, share_common: float) -> None:
    """Write rows with an id, a text and a date; nothing is kept in memory."""
    rng = random.Random(0)
    common = [text_of(rng, f"common {n}") for n in range(N_COMMON_TEXTS)]
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write("id,text,date\n")
        for n in range(n_rows):
            is_common = rng.random() < share_common
            text = rng.choice(common) if is_common else text_of(rng, f"ticket {n}")
            file.write(f"{n},{text},2026-11-{n % 30 + 1:02}\n")


def text_of(rng: random.Random, start: str) -> str:
    """Return a text of about 100 characters."""
    words = rng.choices(WORDS, k=TEXT_CHARACTERS // 4)
    return f"{start} {' '.join(words)}"[:TEXT_CHARACTERS]


def measure_speed(folder: Path, *, profile: bool) -> dict[str, float]:
    """Return the time of a job whose scores are all known, on one core."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    from classify.jobs import JobRun, open_table, run_job

    job = job_of_benchmark()
    job.check(open_table(folder / "in.csv"))
    fill_cache(job, folder)
    run = JobRun(cache=folder / "cache")
    collect_as_the_command_line_does()
    profiler = cProfile.Profile()
    if profile:
        profiler.enable()
    clock = Clock()
    run_job(job, open_table(folder / "in.csv"), folder / "out.csv", run=run)
    figures = clock.figures()
    if profile:
        profiler.disable()
        pstats.Stats(profiler, stream=sys.stderr).sort_stats("tottime").print_stats(25)
    engine = job.questions[0].classifier.load_engine()
    assert not engine.n_requests, "the cache knows all texts"
    return figures


def measure_memory(folder: Path) -> dict[str, float]:
    """Return the time and the peak of a job through the fake engine."""
    from classify.jobs import open_table, run_job

    job = job_of_benchmark()
    collect_as_the_command_line_does()
    clock = Clock()
    run_job(job, open_table(folder / "in.csv"), folder / "out.csv")
    return clock.figures()


def collect_as_the_command_line_does() -> None:
    """Set the garbage collector as `classify predict` does before a job."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)


class Clock:
    """Measures from when it is made."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def figures(self) -> dict[str, float]:
        """Return seconds since, seconds of CPU since, and the peak so far."""
        return {
            "seconds": time.perf_counter() - self._wall,
            "cpu_seconds": time.process_time() - self._cpu,
            "peak_mb": peak_mb(),
        }


def job_of_benchmark():
    """Return a job with the demo's tokenizer and an engine without a model."""
    from classify import PromptTemplate, ZeroShotClassifier
    from classify.jobs import Classification

    # All tokens are equally likely, which it would warn of.
    logging.getLogger("classify").setLevel(logging.ERROR)

    classifier = ZeroShotClassifier(
        LABELS,
        engine=forgetful_engine(),
        prompt=PromptTemplate("{text}\nTopic:", chat=False),
        tolerance=0.5,
    )
    return Classification(classifier=classifier)


def forgetful_engine():
    """Return a fake engine that does not keep the requests of the whole job."""
    from classify.demo import model_folder
    from classify.engines import FakeEngine

    class ForgetfulEngine(FakeEngine):
        def poll(self):
            self.requests.clear()
            return super().poll()

    config = json.loads((model_folder() / "config.json").read_text())
    return ForgetfulEngine.uniform(config["vocab_size"], window=64)


def fill_cache(job, folder: Path) -> None:
    """Put made-up scores of all texts into the cache."""
    import numpy as np

    from classify.jobs import open_table
    from classify.jobs.chunk_texts import ChunkTexts
    from classify.jobs.identity import score_digest
    from classify.jobs.score_records import pack_scores
    from classify.jobs.store import ScoreStore
    from classify.scoring import LabelLogprobs

    scorer = job.scorers()[0]
    digest, classes = score_digest(scorer), np.array(sorted(LABELS))
    rng = np.random.default_rng(0)
    with ScoreStore.at(folder / "cache", max_bytes=None) as store:
        for chunk in open_table(folder / "in.csv").chunks(20_000):
            keys = ChunkTexts.of(chunk, scorer, job.columns, digest).keys
            values = np.log(rng.dirichlet(np.ones(len(classes)), len(keys)))
            scores = LabelLogprobs(
                values,
                classes,
                values,
                values,
                unresolved=np.zeros(len(keys)),
                truncated=np.zeros(len(keys), dtype=bool),
                n_reads=np.ones(len(keys), dtype=np.int64),
            )
            packed = pack_scores(scores)
            store.put_many(list(zip(keys, packed, strict=True)))


def peak_mb() -> float:
    """Return the most memory that this process has had, in MB (Linux)."""
    # Not `resource.getrusage`: what it says of a process begins with its parent's peak.
    for each in Path("/proc/self/status").read_text().splitlines():
        if each.startswith("VmHWM:"):
            return int(each.split()[1]) * 1024 / 1e6
    raise OSError("/proc/self/status has no VmHWM")


if __name__ == "__main__":
    main()
