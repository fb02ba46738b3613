"""`classify predict --review`, and its answers in evaluate and calibrate."""

import contextlib
import json

import pandas as pd
import pytest
from typer.testing import CliRunner

from classify.cli import app
from classify.demo import TICKET_LABELS, fresh_csv

TASK = ("--labels", ",".join(TICKET_LABELS), "--engine", "transformers")
HOW = "Give another name, or --overwrite to replace it."


def run(*arguments, code=0):
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    assert result.exit_code == code, result.output
    return result


@pytest.fixture(autouse=True)
def folder(tmp_path):
    pd.read_csv(fresh_csv())[:40].drop(columns="label").to_csv(
        tmp_path / "in.csv", index=False
    )
    with contextlib.chdir(tmp_path):
        yield tmp_path


def test_from_rows_to_review_to_figures(folder):
    command = ("predict", "in.csv", *TASK, "-o", "out.csv", "--review", "r.csv")
    options = ("--review-rows", 20, "--review-random", 0.5)
    said = run(*command, *options).stderr
    assert "20 rows to review, 10 of them drawn at random: r.csv.\n" in said
    assert (
        "Fill in the column 'label' for as many rows as you like: the most useful rows "
        "come first. classify evaluate and calibrate read the file.\n"
    ) in said
    run(*command, *options)  # nobody has filled anything in
    true = dict(pd.read_csv(fresh_csv())[["text", "label"]].itertuples(index=False))
    frame = pd.read_csv("r.csv")
    frame["label"] = frame["text"].map(true)
    frame.to_csv("r.csv", index=False)
    refused = run(*command, *options, code=2).stderr
    assert refused == (
        f"Error: 'r.csv' exists and contains answers that were filled in. {HOW}\n"
    )
    found = run("evaluate", "r.csv", *TASK)
    assert "10 texts; in brackets 95 % intervals." in found.stdout
    note = " ".join(found.stderr.split())
    assert (
        "Only the rows of r.csv that were drawn at random are used. The 10 others "
        "were chosen because the model is unsure about them, so they are harder than "
        "most: --reviewed all uses them too."
    ) in note
    method = ("--method", "temperature", "--force")  # of 20 texts
    found = run("calibrate", "r.csv", *TASK, *method, "--reviewed", "all")
    assert "20 labelled rows of r.csv" in " ".join(found.stdout.split())
    assert "10 rows of r.csv were chosen because the model is unsure" in " ".join(
        found.stderr.split()
    )


def test_tasks_for_label_studio(folder):
    command = ("predict", "in.csv", *TASK, "--limit", 5, "--review", "r.json")
    said = run(*command).stderr
    assert "5 rows to review: r.json.\n" in said
    assert "labeling interface of r.xml" in " ".join(said.split())
    assert "draw some at random with --review-random" in " ".join(said.split())
    run(*command)
    tasks = json.loads((folder / "r.json").read_text())
    assert len(tasks) == 5
    (folder / "r.json").write_text(json.dumps([{**tasks[0], "annotations": []}]))
    assert run(*command, code=2).stderr == (
        f"Error: 'r.json' exists and does not contain tasks to label. {HOW}\n"
    )
    run(*command, "--overwrite")
    (folder / "r.xml").write_text("<View/>")
    assert run(*command, code=2).stderr == (
        f"Error: 'r.xml' exists and was not written by classify predict. {HOW}\n"
    )


@pytest.mark.parametrize("option", [("--review-rows", 3), ("--review-random", 0.1)])
def test_settings_of_a_review_need_one(option):
    said = run("predict", "in.csv", *TASK, *option, code=2).stderr
    assert said == (
        f"Error: {option[0]} is for --review: give it, or drop {option[0]}.\n"
    )
