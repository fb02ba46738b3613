"""`classify demo`: the first result, and files to go on with."""

import contextlib
import csv
import random
import re
import shlex

import pytest
from typer.testing import CliRunner

from classify.cli import app
from classify.demo import TICKET_LABELS, fresh_csv, labelled_csv, tickets_csv
from demo_model.ontology import tasks
from demo_model.texts import write_text

NAMES = ("tickets.csv", "tickets.yaml", "labelled.csv", "fresh.csv")


def run(folder, *arguments):
    with contextlib.chdir(folder):
        return CliRunner().invoke(app, arguments)


def shown_commands(stderr):
    """The commands that a reader is told to go on with."""
    joined = stderr.replace("\\\n", " ")
    return [
        shlex.split(line)
        for line in re.findall(r"^  classify .*$", joined, re.MULTILINE)
    ]


def test_the_tickets_are_shown_with_their_labels_and_the_way_on(tmp_path):
    result = run(tmp_path, "demo")
    assert result.exit_code == 0
    with tickets_csv().open(encoding="utf-8", newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["row", "text", "label", "probability", "mass"]
    assert len(lines) == 2 + len(texts) == 26
    for number, (line, text) in enumerate(zip(lines[2:], texts, strict=True), start=1):
        assert line.split()[0] == str(number)
        assert text[:20] in line
        assert any(label in line for label in TICKET_LABELS)
    assert "To do the same with a file" in result.stderr
    files, predict = shown_commands(result.stderr)
    assert files == ["classify", "demo", "--files"]
    assert [*tmp_path.iterdir()] == []
    assert run(tmp_path, *files[1:]).exit_code == 0
    again = run(tmp_path, *predict[1:])
    assert again.exit_code == 0
    assert again.stdout == result.stdout


def test_files_are_written_once_and_lead_on(tmp_path):
    first = run(tmp_path, "demo", "--files")
    assert first.exit_code == 0
    assert first.stdout == ""
    assert {path.name for path in tmp_path.iterdir()} == set(NAMES)
    times = {name: (tmp_path / name).stat().st_mtime_ns for name in NAMES}
    second = run(tmp_path, "demo", "--files")
    assert (second.exit_code, second.stderr) == (0, first.stderr)
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in NAMES} == times
    predict, calibrate = shown_commands(first.stderr)
    assert predict[1:] == [
        *("predict", "tickets.csv", "--task", "tickets.yaml", "-o", "out.csv")
    ]
    assert calibrate[1:3] == ["calibrate", "labelled.csv"]
    result = run(tmp_path, *predict[1:], "--limit", "2")
    assert result.exit_code == 0, result.stderr


@pytest.mark.parametrize("make", ["write_text", "mkdir"])
def test_other_files_of_the_same_name_stay(tmp_path, make):
    path = tmp_path / "fresh.csv"
    path.write_text("mine", "utf-8") if make == "write_text" else path.mkdir()
    result = run(tmp_path, "demo", "--files")
    assert result.exit_code == 2
    assert result.stderr == (
        "Error: 'fresh.csv' is already in this folder and is not the demo's: move it "
        "away, or run the command in another folder.\n"
    )
    assert [*tmp_path.iterdir()] == [path]


def test_quiet(tmp_path):
    result = run(tmp_path, "demo", "--files", "--quiet")
    assert (result.exit_code, result.output) == (0, "")


def test_labelled_tickets_are_those_that_the_generator_draws():
    # As the figures in docs/calibration.md were made.
    rng, task = random.Random(3), tasks()["ticket"]
    drawn = rng.choices(task.classes[:5], k=800)
    assert [each.name for each in task.classes[:5]] == list(TICKET_LABELS)
    texts = [write_text(rng, task, each, split="held_out", hard=1.0) for each in drawn]
    expected = [(text, each.name) for text, each in zip(texts, drawn, strict=True)]
    rows = []
    for path in (labelled_csv(), fresh_csv()):
        with path.open(encoding="utf-8", newline="") as file:
            header, *found = csv.reader(file)
        assert header == ["text", "label"]
        rows += [tuple(row) for row in found]
        assert len(found) == 400
    assert rows == expected
