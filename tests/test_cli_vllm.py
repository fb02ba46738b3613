"""The commands with vLLM on a CPU, in processes of their own: a minute each."""

import csv
import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"
    ),
    pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux"),
]

ROOT = Path(__file__).parents[1]
COMMAND = [sys.executable, "-c", "from classify.cli import main; main()"]
ENVIRONMENT = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "COLUMNS": "80"}
SMALL = ("--engine-option", "max_model_len=512", "--engine-option", "max_num_seqs=64")


def start(*arguments):
    return subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        cwd=ROOT,
        start_new_session=True,
    )


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def children_of(pid):
    """Return the processes below one, as Linux lists them."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += [int(child), *children_of(int(child))]
    return found


def test_a_file_with_labels_drafted(tmp_path):
    source, output = tmp_path / "in.csv", tmp_path / "out.csv"
    texts = {
        "Where is my parcel?": "shipping",
        "I was charged twice on my credit card.": "billing",
        "I forgot my password and cannot log in.": "account access",
    }
    source.write_text("text\n" + "".join(f"{text}\n" for text in texts))
    process = start(
        *("predict", source, "--task", ROOT / "configs" / "support_tickets_vllm.yaml"),
        *("--output", output, *SMALL, "--engine-option", "gpu_memory_utilization=0.1"),
    )
    shown, told = process.communicate(timeout=300)
    assert process.returncode == 0, told
    assert shown == ""
    assert [row["label"] for row in rows_of(output)] == list(texts.values())
    assert "Engine vllm, context of 511 tokens.\n" in told
    figures = re.search(
        r"Speculation: (\d+) drafts, (\d+) of (\d+) drafted tokens accepted, "
        r"([\d.]+) tokens a pass\.\n",
        told,
    )
    assert int(figures[1]) > 0
    assert int(figures[2]) == int(figures[3])
    assert float(figures[4]) > 2


def test_the_doctor_finds_nothing_wrong():
    process = start("doctor", "--engine", "vllm", "--speculation", "ngram", *SMALL)
    shown, told = process.communicate(timeout=300)
    assert process.returncode == 0, told
    lines = [line.rstrip() for line in shown.splitlines()]
    assert max(map(len, lines)) <= 80
    for line in (
        r"Engine           vllm, loaded in [\d.]+ s",
        r"Weights          float32 on cpu",
        r"Runner           vLLM's V[12]",
        r"Context          511 tokens",
        r"Keys and values  room for [\d,]+ tokens",
        r"Speculation      ngram, 5 tokens a draft",
        r"In flight        \d+ texts, 64 requests at once",
        r"ok +tracked values, alone: off by at most \d\.\de-0[5-9] nats",
    ):
        assert any(re.fullmatch(line, each) for each in lines), (line, shown)
    assert "WRONG" not in shown


def test_an_engine_that_is_killed_keeps_what_was_finished(tmp_path):
    source, output = tmp_path / "in.csv", tmp_path / "out.csv"
    folder = tmp_path / "out.csv.job"
    source.write_text("text\n" + "".join(f"Parcel {n}?\n" for n in range(50_000)))
    process = start(
        *("predict", source, "--labels", "billing,shipping", "--output", output),
        *("--engine", "vllm", *SMALL),
    )
    try:
        while not list(folder.glob("part-*")):
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.1)
        [engine_core] = [
            child
            for child in children_of(process.pid)
            # Linux cuts names to 15 characters.
            if "EngineCor" in Path(f"/proc/{child}/comm").read_text()
        ]
        os.kill(engine_core, signal.SIGKILL)
        _, told = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 1
    parts = sorted(folder.glob("part-*"))
    rows = [line for part in parts for line in part.read_text().splitlines()]
    texts = [line.partition(",")[0] for line in rows]
    assert texts == [f"Parcel {n}?" for n in range(len(rows))]
    [sentence] = [line for line in told.splitlines() if line.startswith("Error: ")]
    assert sentence.startswith("Error: vLLM died with ")
    assert sentence.endswith(
        f" {len(rows):,} rows are finished and kept in '{folder}': run the same "
        "command again to go on."
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "in.csv",
        "out.csv.job",
    ]
