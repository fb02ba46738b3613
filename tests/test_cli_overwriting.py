"""What is already where a command writes: replaced if it is of ours, else it stays."""

import contextlib
import json

import pandas as pd
import pytest
from typer.testing import CliRunner

from classify.cli import app
from classify.demo import TICKET_LABELS, fresh_csv, labelled_csv

TASK = ("--labels", ",".join(TICKET_LABELS), "--engine", "transformers")
HOW = "Give another name, or --overwrite to replace it."


def run(*arguments, code=0):
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    assert result.exit_code == code, result.output
    return result.stderr


def refused(*arguments):
    """Run a command that is refused before a model is loaded; return its sentence."""
    stderr = run(*arguments, code=2)
    assert "Engine" not in stderr
    return stderr.splitlines()[-1].removeprefix("Error: ")


@pytest.fixture(autouse=True)
def folder(tmp_path):
    pd.read_csv(fresh_csv())[:40].to_csv(tmp_path / "in.csv", index=False)
    with contextlib.chdir(tmp_path):
        yield tmp_path


# ---------------------------------------------------------------------------- predict

FORMATS = ["out.csv", "out.tsv", "out.jsonl", "out.csv.gz", "out.parquet"]


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_command_may_be_run_again(folder, name):
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    command = ("predict", "in.csv", *TASK, "--limit", 3, "-o", name)
    first = run(*command)
    assert f"Written to {name}.\n" in first
    content = (folder / name).read_bytes()
    again = run(*command)
    assert f"Written to {name}, in place of an earlier output.\n" in again
    assert (folder / name).read_bytes() == content
    # Other labels, or rows, give an output of the same shape.
    run("predict", "in.csv", "--labels", "a,b", "--limit", 2, "-o", name)


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        (
            "out.csv",
            "id,text\n1,mine\n",
            "has other columns (id, text) than this command writes",
        ),
        (
            "out.csv",
            "one line\n",
            "has other columns (one line) than this command writes",
        ),
        ("out.jsonl", "text\n", "cannot be read as jsonl"),
    ],
    ids=["table", "text", "other"],
)
def test_another_file_stays(folder, name, content, why):
    path = folder / name
    path.write_text(content)
    command = ("predict", "in.csv", *TASK, "--limit", 2, "-o", name)
    assert refused(*command) == f"'{name}' exists and {why}. {HOW}"
    assert path.read_text() == content
    run(*command, "--overwrite")
    assert "label_mass" in path.read_text()


def test_an_output_with_other_columns_stays(folder):
    command = ("predict", "in.csv", *TASK, "--limit", 2, "-o", "out.csv")
    run(*command)
    before = (folder / "out.csv").read_bytes()
    assert refused(*command, "--probabilities").startswith(
        "'out.csv' exists and has other columns (text, label, predicted_label, "
    )
    assert (folder / "out.csv").read_bytes() == before


def test_an_empty_file_is_replaced(folder):
    (folder / "out.csv").touch()  # as mktemp does
    said = run("predict", "in.csv", *TASK, "--limit", 2, "-o", "out.csv")
    assert "Written to out.csv.\n" in said


def test_a_list_of_bad_rows_takes_nothings_place(folder):
    mine = folder / "out.csv.errors.csv"
    mine.write_text("my,own,errors\n")
    command = ("predict", "in.csv", *TASK, "--limit", 2, "-o", "out.csv")
    assert refused(*command) == (
        "'out.csv.errors.csv' would be replaced by a list of rows, but is something "
        f"else. {HOW}"
    )
    assert mine.read_text() == "my,own,errors\n"


def test_a_log_is_not_appended_to_anything(folder):
    log = folder / "log.jsonl"
    command = ("predict", "in.csv", *TASK, "--limit", 2, "-o", "out.csv")
    run(*command, "--log-json", log)
    run(*command, "--log-json", log)
    lines = log.read_text().splitlines()
    assert sum(json.loads(line)["event"] == "end" for line in lines) == 2
    for content in ("text\na\n", '{"id": 1}\n'):
        log.write_text(content)
        said = refused(*command, "--log-json", "log.jsonl")
        assert said == (
            "'log.jsonl' exists and is not a log: give the log another name."
        )
        assert log.read_text() == content


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("-o", "a.csv", "--log-json", "a.csv"), "'a.csv' is the output: give the log"),
        (
            ("-o", "a.csv", "--log-json", "./a.csv.errors.csv"),
            "'a.csv.errors.csv' is the output's list of invalid rows: give the log",
        ),
        (
            ("-o", "a.csv", "--cache", "a.csv.job"),
            "'a.csv.job' is the output's job folder: give the cache",
        ),
        (("-o", "a.csv", "--cache", "a.csv"), "'a.csv' is the output: give the cache"),
        (
            ("--review", "a.json", "--log-json", "a.xml"),
            "'a.xml' is the file with rows to review: give the log",
        ),
        (("--cache", "a", "--log-json", "a"), "'a' is the cache: give the log"),
        (("--log-json", "in.csv"), "'in.csv' is the input: give the log"),
    ],
)
def test_two_options_do_not_write_to_one_place(folder, options, said):
    before = sorted(folder.iterdir())
    assert refused("predict", "in.csv", *TASK, *options) == f"{said} another name."
    assert sorted(folder.iterdir()) == before


# ------------------------------------------------------------- calibrate and evaluate


def test_a_calibration_of_the_same_kind_is_replaced(folder):
    command = ("calibrate", labelled_csv(), *TASK, "--method", "temperature")
    assert "Written to calibration.json.\n" in run(*command, "--limit", 60)
    assert "Written to calibration.json, in place of an earlier calibration.\n" in run(
        *command, "--limit", 80
    )
    content = (folder / "calibration.json").read_bytes()
    had = (
        "'calibration.json' contains another calibration: method temperature, with "
        "labels"
    )
    for changed, now in (
        (("--method", "bias"), "method bias, with labels"),
        (
            ("--target-risk", 0.1),
            "method temperature, with labels, a threshold for a risk of 0.1",
        ),
        (("--sets", 0.8), "method temperature, with labels, sets at level 0.8"),
        (
            ("--no-label-column", "--method", "prior_matching"),
            "method prior_matching, without labels",
        ),
    ):
        assert refused(*command, *changed) == f"{had}. This one: {now}. {HOW}"
    others = ("--labels", "shipping,billing", "--no-label-column")
    assert refused("calibrate", labelled_csv(), *others) == (
        "'calibration.json' contains the calibration of other labels. " + HOW
    )
    assert (folder / "calibration.json").read_bytes() == content
    run(*command, "--limit", 80, "--sets", 0.8, "--overwrite")
    assert json.loads((folder / "calibration.json").read_text())["sets"]


@pytest.mark.parametrize("content", ["{}", "text,label\n", '{"format": "mine"}'])
def test_what_is_no_calibration_stays(folder, content):
    path = folder / "calibration.json"
    path.write_text(content)
    said = refused("calibrate", labelled_csv(), *TASK)
    assert said == f"'calibration.json' exists and is not a calibration. {HOW}"
    assert path.read_text() == content


def test_a_report_is_replaced_and_other_files_stay(folder):
    pytest.importorskip("matplotlib")
    command = ("evaluate", "in.csv", *TASK)
    assert "Written to rep/report.html.\n" in run(*command, "--report", "rep")
    again = run(*command, "--report", "rep")
    assert "Written to rep/report.html, in place of an earlier report.\n" in again
    mine = folder / "predictions.csv"
    mine.write_text("mine")
    assert refused(*command, "--report", ".") == (
        f"'predictions.csv' exists and is not part of a report by this command. {HOW}"
    )
    assert mine.read_text() == "mine"
    run(*command, "--report", ".", "--overwrite")
    assert mine.read_text() != "mine"
