"""The commands of README's section on calibration, as they stand."""

import contextlib
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from classify.cli import app

README = Path(__file__).parents[1] / "README.md"


def section() -> str:
    text = README.read_text("utf-8")
    return text.partition("## Calibrate and threshold\n")[2].partition("\n## ")[0]


def without_numbers(text: str) -> list[str]:
    """Return words, numbers as N: figures differ a little between machines."""
    return re.sub(r"\d+(\.\d+)?", "N", text).split()


@pytest.mark.slow
def test_the_commands_run_and_print_what_is_shown(tmp_path):
    text = section()
    [code] = re.findall(r"```python in-a-clone\n(.*?)```", text, re.DOTALL)
    [shown] = re.findall(r"```text\n(.*?)```", text, re.DOTALL)
    blocks = re.findall(r"```console\n(.*?)```", text, re.DOTALL)
    joined = "".join(blocks).replace("\\\n", " ")
    commands = [shlex.split(line)[2:] for line in joined.splitlines()]
    assert [command[0] for command in commands] == ["calibrate", "evaluate", "predict"]
    with contextlib.chdir(tmp_path):
        exec(compile(code, "README.md", "exec"), {})
        results = [CliRunner().invoke(app, command) for command in commands]
    assert [result.exit_code for result in results] == [0, 0, 0], results
    start = without_numbers(shown)[:20]
    assert without_numbers(results[0].stdout)[:20] == start
    for name in ("Log loss", "Accuracy", "Threshold", "Sets"):
        assert name in shown
        assert name in results[0].stdout
    written = {path.name for path in tmp_path.rglob("*.*")}
    assert written >= {"calibration.json", "report.html", "report.json", "out.csv"}
