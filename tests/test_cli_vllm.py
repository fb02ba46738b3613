"""The commands with vLLM on a CPU, in processes of their own."""

import csv
import importlib.util
import re
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
SMALL = ("--engine-option", "max_model_len=512", "--engine-option", "max_num_seqs=64")


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_file_with_labels_drafted(tmp_path, vllm_forks):
    source, output = tmp_path / "in.csv", tmp_path / "out.csv"
    texts = {
        "Where is my parcel?": "shipping",
        "I was charged twice on my credit card.": "billing",
        "I forgot my password and cannot log in.": "account access",
    }
    source.write_text("text\n" + "".join(f"{text}\n" for text in texts))
    options = ("--task", ROOT / "configs" / "support_tickets_vllm.yaml", *SMALL)
    options += ("--output", output, "--engine-option", "gpu_memory_utilization=0.1")
    said, printed = tmp_path / "said", tmp_path / "printed"
    # The processes of vLLM are new ones, as users have them.
    command = vllm_forks.start(
        "classify", ["predict", source, *options], said, printed=printed, spawn=True
    )
    assert command.wait() == 0, said.read_text()
    told = said.read_text()
    assert printed.read_text() == ""
    assert "leaked" not in told
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


def test_the_doctor_finds_nothing_wrong(tmp_path, vllm_forks):
    # With vLLM's engine in the process of the command, which starts in half the time.
    options = ("--engine", "vllm", "--speculation", "ngram", *SMALL)
    said, printed = tmp_path / "said", tmp_path / "printed"
    doctor = vllm_forks.start(
        *("classify", ["doctor", *options], said),
        printed=printed,
        VLLM_ENABLE_V1_MULTIPROCESSING="0",
    )
    assert doctor.wait() == 0, said.read_text()
    shown = printed.read_text()
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
