"""A CSV through `classify predict` with a worker per GPU: differences, and speed.

    python benchmarks/vllm_gpu/shapes.py 1b FOLDER
    python benchmarks/vllm_gpu/workers.py --model FOLDER

Runs the command without Ray on one GPU; with ``--ray local`` and 1 and 2 workers; with
2 of which one is killed on the way; and by shards, a command per GPU. `killed1` kills
the only worker, whose replacement needs the same GPU. "Rows/s" are those between lines
of progress, once all workers surely compute; the time to start is in the seconds.
"""

import argparse
import contextlib
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
from job_overhead import LABELS, write_csv

DONE = re.compile(r"([\d,]+) of [\d,]+ rows")
# Rows after which all workers surely compute.
WARM = 0.2
WAYS = ("ray1", "ray2", "shards", "killed2", "one", "killed1")


@dataclass
class Command:
    """`classify predict`, as it runs, and what it says."""

    process: subprocess.Popen[str]
    output: Path
    begun: float = field(default_factory=time.monotonic)
    seconds: float = 0.0
    samples: list[tuple[float, int]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def follow(self) -> None:
        """Note what it says until it ends."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line)
            found = DONE.search(line)
            if found:
                n_done = int(found[1].replace(",", ""))
                self.samples.append((time.monotonic(), n_done))
        self.process.wait()
        self.seconds = time.monotonic() - self.begun

    def rate(self, n_rows: int) -> float:
        """Return rows a second once it is warm."""
        warm = [one for one in self.samples if one[1] >= WARM * n_rows]
        if len(warm) < 2:
            return float("nan")
        (begin, first), (end, last) = warm[0], warm[-1]
        return (last - first) / (end - begin)


class Runs:
    """Runs commands over one table, and compares their outputs with the first one's."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self._options, self._folder = options, folder
        write_csv(folder / "in.csv", options.rows, options.words)
        self._whole: pd.DataFrame | None = None

    def start(self, name: str, *arguments: str, gpus: str | None = None) -> Command:
        """Start a command that sees some GPUs: all, unless they are named."""
        options, output = self._options, self._folder / f"{name}.csv"
        environment = {**os.environ, "COLUMNS": "200"}
        if gpus is not None:
            environment["CUDA_VISIBLE_DEVICES"] = gpus
        chosen = [f"--engine-option={each}" for each in options.engine_option]
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "classify", "predict"),
                *(str(self._folder / "in.csv"), "--labels", ",".join(LABELS)),
                *("--model", options.model, "--engine", options.engine, *chosen),
                *("--dtype", options.dtype, "--probabilities", "-o", str(output)),
                *arguments,
            ],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        return Command(process, output)

    def report(self, name: str, commands: list[Command]) -> None:
        """Follow commands to their ends; print figures and differences."""
        threads = [threading.Thread(target=each.follow) for each in commands]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if any(each.process.returncode for each in commands):
            sys.exit("".join(line for each in commands for line in each.said))
        output = pd.concat(pd.read_csv(each.output) for each in commands)
        n_rows = len(output) / len(commands)
        rate = sum(each.rate(n_rows) for each in commands)
        seconds = max(each.seconds for each in commands)
        if self._whole is None:
            self._whole = output
        print(
            f"{name:26} {seconds:6.1f} s {rate:8.1f} rows/s; {self._compared(output)}",
            flush=True,
        )
        if self._options.verbose:
            print("".join(line for each in commands for line in each.said))

    def _compared(self, output: pd.DataFrame) -> str:
        assert self._whole is not None
        same_rows = list(output["id"]) == list(self._whole["id"])
        if not same_rows or output["error"].notna().any():
            return "OTHER ROWS, or some with errors"
        columns = [f"p({label})" for label in LABELS]
        ours, theirs = (each[columns].to_numpy() for each in (output, self._whole))
        same = (output["label"].to_numpy() == self._whole["label"].to_numpy()).mean()
        control = np.median(np.abs(ours - np.roll(ours, 1, axis=0)).max(axis=1))
        return (
            f"labels equal {same:.2%}, p differs by at most "
            f"{np.abs(ours - theirs).max():.2g} (two rows: median {control:.2g})"
        )


def kill_a_worker(command: Command, n_rows: int) -> list[int]:
    """Kill one of the workers of Ray on the way; return what its processes were.

    Runs beside `Command.follow`.
    """
    while not any(n_done >= WARM * n_rows for _, n_done in command.samples):
        if command.process.poll() is not None:
            sys.exit("It ended before a worker was killed: take more rows.")
        time.sleep(0.1)
    worker = workers_of(command)[0]
    below = [each.pid for each in worker.children(recursive=True)]
    worker.kill()
    return [worker.pid, *below]


def workers_of(command: Command) -> list[psutil.Process]:
    """Return the processes of Ray's workers that score texts just now."""
    found = []
    for each in psutil.Process(command.process.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if each.cmdline()[0].startswith("ray::TextWorker.score"):
                found.append(each)
    return found


def ray(n_workers: str) -> tuple[str, ...]:
    """Return the options for workers of Ray."""
    return ("--ray", "local", "--workers", n_workers)


def with_a_killed_worker(runs: Runs, n_rows: int, n_workers: str) -> None:
    """Run a command of which a worker is killed; print who took its place."""
    command = runs.start(f"killed{n_workers}", *ray(n_workers))
    killed: list[int] = []
    seen: set[int] = set()

    def watch() -> None:
        killed.extend(kill_a_worker(command, n_rows))
        while command.process.poll() is None:
            with contextlib.suppress(psutil.Error):
                seen.update(each.pid for each in workers_of(command))
            time.sleep(1)

    watcher = threading.Thread(target=watch)
    watcher.start()
    runs.report(f"--workers {n_workers}, one killed", [command])
    watcher.join()
    left = [pid for pid in killed if is_alive(pid)]
    print(
        f"    {len(seen - set(killed))} workers scored texts after the kill; of "
        f"{len(killed)} processes of the one that was killed, {len(left)} are left"
    )
    for line in command.said:
        if "Warning" in line:
            print("    ", line.strip())


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has waited for does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def main() -> None:
    """Print a line for each way."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="from shapes.py")
    parser.add_argument("--engine", default="vllm")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--engine-option", action="append", default=[])
    parser.add_argument("--rows", type=int, default=49_152)
    parser.add_argument("--words", type=int, default=150)
    parser.add_argument("ways", nargs="*", default=WAYS[:-1], choices=WAYS)
    parser.add_argument("--verbose", action="store_true", help="what commands say")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="classify-workers-") as folder:
        runs = Runs(options, Path(folder))
        for way in options.ways:
            if way == "one":
                runs.report("without Ray, one GPU", [runs.start("one", gpus="0")])
            elif way == "shards":
                shards = [
                    runs.start(f"shard{at}", "--shard", f"{at + 1}/2", gpus=str(at))
                    for at in (0, 1)
                ]
                runs.report("--shard 1/2 and 2/2", shards)
            elif way.startswith("killed"):
                with_a_killed_worker(runs, options.rows, way[-1])
            else:
                runs.report(f"--workers {way[-1]}", [runs.start(way, *ray(way[-1]))])


if __name__ == "__main__":
    main()
