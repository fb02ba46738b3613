"""Time of `import classify` and `classify --help`, against a bare interpreter.

Run it from the repository's environment: `make bench`. Every figure is the median of
fresh processes; the commands take turns, so that a busy moment falls on all of them.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

BARE = "python -c pass"

# Seconds to reach.
REACH = {"import classify": 0.3, "classify --help": 0.5}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=15, help="processes per command")
    runs = parser.parse_args().runs
    if runs < 1:
        parser.error(f"--runs must be at least 1. Got {runs} instead.")

    seconds = median_seconds(commands(), runs)
    print(f"median of {runs} fresh processes, Python {sys.version.split()[0]}\n")
    print(f"{'':18}{'seconds':>9}{'× bare':>9}{'reach':>9}")
    for name, value in seconds.items():
        print(
            f"{name:18}{value:9.3f}{value / seconds[BARE]:9.1f}{verdict(name, value)}"
        )


def commands() -> dict[str, list[str]]:
    """Return the command lines by name; the installed script is what people run."""
    script = shutil.which("classify", path=str(Path(sys.executable).parent))
    if script is None:
        sys.exit(f"No `classify` beside {sys.executable}: run `make setup` first.")
    return {
        BARE: [sys.executable, "-c", "pass"],
        "import classify": [sys.executable, "-c", "import classify"],
        "classify --help": [script, "--help"],
    }


def median_seconds(commands: dict[str, list[str]], runs: int) -> dict[str, float]:
    """Time each command `runs` times, after one run that fills the caches."""
    times: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(runs + 1):
        for name, command in commands.items():
            start = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            if turn:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def verdict(name: str, seconds: float) -> str:
    if name not in REACH:
        return ""
    return f"{REACH[name]:9.1f}  {'ok' if seconds <= REACH[name] else 'OVER'}"


if __name__ == "__main__":
    main()
