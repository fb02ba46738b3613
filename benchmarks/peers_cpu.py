"""Texts a second and log p(label | prompt), ours and the peers', on a CPU in one run.

    python benchmarks/peers_cpu.py --model ../shared/models/eval-lm

CAPPr, skorch and lm-evaluation-harness each run in an environment of their own, which
is made on first use (``--envs``). Everybody gets the same model in float32, the same
number of threads, the same prompts and labels. A contestant first tries the settings
worth trying (batch sizes) and keeps its fastest; then the rounds are interleaved, every
contestant once a round, so that a change of the machine's speed meets all of them.
Loading is not timed. Slow contestants take fewer texts: the first ones.

Two more stand beside them: a slow reference that nobody's numbers may differ from (one
uncached forward pass a text and label; not timed), and a bare forward pass over the
prompts, which scores nothing: no method can be much faster than that.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import platform
import shlex
import statistics
import sys
import tempfile
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from peers.cases import LENGTHS, SOURCES, count_tokens, make_case
from peers.environments import Process, environment
from peers.runner import Case, Logprobs

ROOT = Path(__file__).resolve().parent.parent
PEERS = ("cappr", "skorch", "lm_eval")
OURS = {"ours, exact": 0.0, "ours, 1e-3": 1e-3}
BARE, REFERENCE = "bare forward", "reference"


@dataclass
class Result:
    """What one contestant did in one case."""

    setting: dict[str, Any]
    n_texts: int
    seconds: list[float] = field(default_factory=list)
    cores: list[float] = field(default_factory=list)
    logprobs: Logprobs | None = None

    @property
    def pace(self) -> float:
        """Seconds a text: the median over the rounds."""
        return statistics.median(self.seconds) / self.n_texts


def main() -> None:
    """Run the cases and print their tables."""
    options = _arguments()
    contestants = _start(options)
    report = _header(options, {n: c[1] for n, c in contestants.items()})
    processes = {name: process for name, (process, _) in contestants.items()}
    print(_header_text(report))
    try:
        for name in options.labels:
            for length in options.lengths:
                entry = _run_case(options, processes, name, length)
                report["cases"].append(entry)
                print(_table(entry), flush=True)
    finally:
        for process in processes.values():
            process.close()
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--model", type=Path, default=ROOT / "../shared/models/eval-lm")
    add("--data", type=Path, default=ROOT / "../shared/data")
    add("--envs", type=Path, default=ROOT / ".bench-envs", help="peers' environments")
    add("--labels", nargs="+", choices=SOURCES, default=list(SOURCES), metavar="NAME")
    add("--lengths", nargs="+", choices=LENGTHS, default=list(LENGTHS))
    everybody = [BARE, *PEERS, *OURS]
    add("--only", nargs="+", choices=everybody, default=everybody, metavar="NAME")
    add("--rounds", type=int, default=5)
    add("--seconds", type=float, default=8.0, help="about so long a round, each")
    add("--texts", type=int, default=256, help="at most so many texts a round")
    add("--reference-texts", type=int, default=3)
    add("--threads", type=int, default=2)
    clock_help = "cpu: seconds of one thread (with --threads 1), on a busy machine"
    add("--clock", choices=("wall", "cpu"), default="wall", help=clock_help)
    add("--json", type=Path, metavar="FILE", help="write all numbers")
    options = parser.parse_args()
    if options.clock == "cpu" and options.threads != 1:
        parser.error("--clock cpu needs --threads 1: it counts one thread's seconds")
    options.model = options.model.resolve()
    if not (options.model / "config.json").exists():
        parser.error(f"--model must be a model's folder; {options.model} is none")
    return options


def _start(options: argparse.Namespace) -> dict[str, tuple[Process, dict[str, str]]]:
    """Start and load everybody: name -> process and versions."""
    logs = Path(tempfile.mkdtemp(prefix="peers_cpu_"))
    here = Path(sys.executable)
    plan: dict[str, tuple[Path, str, dict[str, Any]]] = {}
    for name in (BARE, REFERENCE):
        plan[name] = (here, f"{name.split()[0]}_runner.py", {})
    for name in PEERS:
        if name in options.only:
            plan[name] = (environment(options.envs, name), f"{name}_runner.py", {})
    for name, tolerance in OURS.items():
        plan[name] = (here, "ours_runner.py", {"tolerance": tolerance})
    started = {}
    for name, (python, script, arguments) in plan.items():
        if name not in options.only and name != REFERENCE:
            continue
        log = logs / f"{name.replace(' ', '_').replace(',', '')}.log"
        process = Process(python, script, log, options.threads, options.clock)
        started[name] = (process, process.load(options.model, arguments))
    return started


def _run_case(
    options: argparse.Namespace,
    processes: dict[str, Process],
    name: str,
    length: str,
) -> dict[str, Any]:
    """Tune everybody, then the rounds, then the reference."""
    case = make_case(options.data, options.model, name, length, options.texts)
    timed = {n: p for n, p in processes.items() if n != REFERENCE}
    results = {}
    for name, process in timed.items():
        print(f"{case.name}: settings of {name}", file=sys.stderr)
        results[name] = _tune(process, case, options.seconds)
    load = os.getloadavg()[0]
    for turn in range(options.rounds):
        print(f"{case.name}: round {turn + 1}", file=sys.stderr)
        for name, process in timed.items():
            result = results[name]
            answer = _run(process, _first(case, result.n_texts), result.setting)
            result.seconds.append(answer["seconds"])
            result.cores.append(answer["cores"])
            result.logprobs = answer["logprobs"]
    few = _first(case, options.reference_texts)
    reference = _run(processes[REFERENCE], few, {})["logprobs"]
    return {
        "case": case.name,
        "template": case.template,
        "n_labels": len(case.labels),
        "length": length,
        "tokens": count_tokens(case, options.model),
        "load_average": load,
        "contestants": _figures(results, reference),
    }


def _tune(process: Process, case: Case, seconds: float) -> Result:
    """Keep the fastest setting, and as many texts as it does in `seconds`."""
    settings = process.ask({"settings": asdict(case)})["settings"]
    # The first call of a case warms up; it is timed only to be thrown away.
    _run(process, _first(case, min(2, settings[0]["tune_texts"])), settings[0])
    best, pace = settings[0], math.inf
    for setting in settings:
        few = _first(case, setting["tune_texts"])
        tried = _run(process, few, setting)["seconds"] / len(few.texts)
        if pace < tried < 1.2 * pace:
            tried = min(tried, _run(process, few, setting)["seconds"] / len(few.texts))
        if tried < pace:
            best, pace = setting, tried
    affordable = max(best["tune_texts"], round(seconds / pace))
    return Result(best, min(affordable, len(case.texts)))


def _run(process: Process, case: Case, setting: dict[str, Any]) -> dict[str, Any]:
    return process.ask({"run": {"case": asdict(case), "setting": setting}})


def _first(case: Case, n_texts: int) -> Case:
    return replace(case, texts=case.texts[:n_texts], prompts=case.prompts[:n_texts])


def _figures(
    results: dict[str, Result], reference: Logprobs
) -> dict[str, dict[str, Any]]:
    """Everything that the table shows, and the rounds behind it."""
    peers = [n for n in PEERS if n in results]
    fastest = min(peers, key=lambda n: results[n].pace) if peers else None
    exact = results["ours, exact"].logprobs if "ours, exact" in results else None
    figures = {}
    for name, result in results.items():
        approximate = OURS.get(name, 0.0) > 0
        compare = _probability_difference if approximate else _difference
        figures[name] = {
            "texts_per_second": 1 / result.pace,
            "times_fastest_peer": _speedup(results, name, fastest),
            "time_of_bare_forward": _time_ratio(results, name, BARE),
            "difference_to_ours": compare(result.logprobs, exact),
            "difference_to_reference": compare(result.logprobs, reference),
            "difference_is_of": "probability" if approximate else "log-probability",
            "underflows": sum(
                math.isinf(x) for row in result.logprobs or [] for x in row
            ),
            "n_texts": result.n_texts,
            "setting": {k: v for k, v in result.setting.items() if k != "tune_texts"},
            "seconds": result.seconds,
            "cores": statistics.median(result.cores),
        }
    return figures


def _time_ratio(results: dict[str, Result], name: str, to: str) -> float | None:
    """Time a text of `name` over that of `to`: median of the rounds' ratios."""
    if to not in results:
        return None
    one, other = results[name], results[to]
    return statistics.median(
        (a / one.n_texts) / (b / other.n_texts)
        for a, b in zip(one.seconds, other.seconds, strict=True)
    )


def _speedup(
    results: dict[str, Result], name: str, fastest: str | None
) -> float | None:
    ratio = _time_ratio(results, name, fastest) if fastest else None
    return None if ratio is None else 1 / ratio


def _difference(found: Logprobs | None, wanted: Logprobs | None) -> float | None:
    """Greatest |difference| of log p where both are finite, over the common texts."""
    if found is None or wanted is None:
        return None
    common = zip(found, wanted, strict=False)
    pairs = [pair for rows in common for pair in zip(*rows, strict=True)]
    return max(abs(a - b) for a, b in pairs if math.isfinite(a) and math.isfinite(b))


def _probability_difference(
    found: Logprobs | None, wanted: Logprobs | None
) -> float | None:
    """Greatest |difference| of p(label | prompt) over the text's exact label mass."""
    if found is None or wanted is None:
        return None
    return max(
        abs(math.exp(a) - math.exp(b)) / sum(map(math.exp, right))
        for left, right in zip(found, wanted, strict=False)
        for a, b in zip(left, right, strict=True)
    )


def _header(
    options: argparse.Namespace, versions: dict[str, dict[str, str]]
) -> dict[str, Any]:
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": "python " + shlex.join(sys.argv),
        "hardware": f"{_processor()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "model": options.model.name,
        "threads": options.threads,
        "clock": options.clock,
        "dtype": "float32",
        "rounds": options.rounds,
        "versions": versions,
        "cases": [],
    }


def _processor() -> str:
    """Name the processor, and AVX-512 where Linux says that it has it."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return platform.processor() or platform.machine()
    lines = [line.partition(":") for line in info.read_text().splitlines()]
    facts = {key.strip(): value.strip() for key, _, value in lines}
    avx512 = ", AVX-512" if "avx512f" in facts.get("flags", "").split() else ""
    return facts.get("model name", platform.machine()) + avx512


def _header_text(report: dict[str, Any]) -> str:
    lines = [
        f"{report['date']}   {report['command']}",
        (
            f"{report['hardware']}; {report['threads']} threads, "
            f"{report['clock']} clock, {report['dtype']}, model {report['model']}, "
            f"{report['rounds']} rounds"
        ),
    ]
    for name, versions in report["versions"].items():
        packages = ", ".join(f"{k} {v}" for k, v in versions.items())
        lines.append(f"  {name:<13} {packages}")
    return "\n".join(lines)


def _table(entry: dict[str, Any]) -> str:
    """One case, at most 100 columns wide."""
    tokens = entry["tokens"]
    lines = [
        "",
        (
            f"{entry['case']}: prompts of {tokens['prompt']:.0f} tokens, "
            f"{tokens['shared']} of them shared; {tokens['inner_nodes']} inner nodes "
            f"(load {entry['load_average']:.1f})"
        ),
        (
            f"{'':<13}{'texts':>6}{'texts/s':>9}{'x fastest':>11}{'time /':>9}"
            f"{'max |diff|':>12}{'max |diff|':>12}  setting"
        ),
        f"{'':<13}{'':>6}{'':>9}{'peer':>11}{'bare':>9}{'to ours':>12}{'to exact':>12}",
    ]
    for name, row in entry["contestants"].items():
        setting = ", ".join(
            f"{_SHORT.get(k, k)} {v}" for k, v in row["setting"].items() if v
        )
        underflows = row["underflows"]
        if underflows:
            setting = f"{setting} ({underflows} underflows)".strip()
        lines.append(
            f"{name:<13}{row['n_texts']:>6}{row['texts_per_second']:>9.2f}"
            f"{_number(row['times_fastest_peer'], '.2f'):>11}"
            f"{_number(row['time_of_bare_forward'], '.2f'):>9}"
            f"{_difference_text(row, 'difference_to_ours'):>12}"
            f"{_difference_text(row, 'difference_to_reference'):>12}  {setting}"
        )
    return "\n".join(line.rstrip() for line in lines)


_SHORT = {"batch_size": "batch", "batch_size_completions": "labels"}


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _difference_text(row: dict[str, Any], key: str) -> str:
    """Mark a difference of probabilities, not of log-probabilities, with ``p``."""
    mark = "p " if row["difference_is_of"] == "probability" else ""
    return "-" if row[key] is None else f"{mark}{row[key]:.1e}"


if __name__ == "__main__":
    main()
