"""`classify evaluate`: figures on stdout, a report in a folder."""

import csv
import json
import os
import re

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, log_loss
from typer.testing import CliRunner

from classify import ZeroShotClassifier
from classify.cli import app
from classify.estimators.artefact import Artefact
from tests.labelled_tickets import LABELS, draw, write

NAMES = LABELS.split(",")
WITH_LABELS = ("--labels", LABELS)
ROWS = draw(60, seed=9)
TEXTS, TRUE = [text for text, _ in ROWS], [label for _, label in ROWS]


def run(*arguments, code=0):
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == code, result.output
    return result


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("evaluate")


@pytest.fixture(scope="module")
def labelled(folder):
    return write(folder / "fresh.csv", [*ROWS, ("No label.", "")])


@pytest.fixture(scope="module")
def calibration(folder):
    source = write(folder / "labelled.csv", draw(120, seed=3))
    path = folder / "calibration.json"
    decisions = ("--target-risk", 0.1, "--sets", 0.8)
    options = ("--label-column", "label", *decisions, "-o", path, "--quiet")
    run("calibrate", source, *WITH_LABELS, *options)
    return path


def figures(stdout, name):
    """Return the figures of a line, without their intervals."""
    [line] = [each for each in stdout.splitlines() if each.startswith(name)]
    return [float(found) for found in re.findall(r"(\d\.\d{3})(?: \[|$)", line)]


def test_raw_figures_are_those_of_scikit_learn(labelled):
    result = run("evaluate", labelled, *WITH_LABELS)
    assert max(map(len, result.stdout.splitlines())) <= 80
    clf = ZeroShotClassifier(NAMES)
    proba, best = clf.predict_proba(TEXTS), clf.predict(TEXTS)
    out = result.stdout
    expected = log_loss(TRUE, proba, labels=clf.classes_)
    assert figures(out, "Log loss") == [pytest.approx(expected, abs=6e-4)]
    assert figures(out, "Accuracy") == [
        pytest.approx(accuracy_score(TRUE, best), abs=6e-4)
    ]
    expected = f1_score(TRUE, best, average="macro")
    assert figures(out, "Macro-F1") == [pytest.approx(expected, abs=6e-4)]
    assert "60 texts; in brackets 95 % intervals." in out
    assert "Threshold" not in out
    assert "1 row set aside: there is no label: its cell is empty." in result.stderr


@pytest.fixture(scope="module")
def reported(folder, labelled, calibration):
    decisions = ("--target-risk", 0.1, "--sets", 0.8)
    options = ("--calibration", calibration, *decisions, "--report", folder / "report")
    return run("evaluate", labelled, *WITH_LABELS, *options)


def test_before_and_after(reported, calibration):
    out = reported.stdout
    assert max(map(len, out.splitlines())) <= 80
    artefact = Artefact.load(calibration)
    scores = ZeroShotClassifier(NAMES).label_logprobs(TEXTS)
    after = np.exp(artefact.calibrator.transform(scores))
    expected = [
        log_loss(TRUE, proba, labels=scores.classes) for proba in (scores.proba, after)
    ]
    assert figures(out, "Log loss") == pytest.approx(expected, abs=6e-4)
    sure = after.max(axis=1) >= artefact.selective.threshold_
    assert figures(out, "Answered") == [pytest.approx(sure.mean(), abs=6e-4)]
    wrong = scores.classes[after.argmax(axis=1)] != TRUE
    assert figures(out, "Wrong among these") == [
        pytest.approx(wrong[sure].mean(), abs=6e-4)
    ]
    assert "(guaranteed: at most 0.1)" in out
    assert "(guaranteed: 0.8)" in out


def test_the_report(reported, folder, labelled):
    report = folder / "report"
    assert sorted(each.name for each in report.iterdir()) == [
        "predictions.csv",
        "report.html",
        "report.json",
    ]
    assert reported.stderr.splitlines()[-1] == f"Written to {report / 'report.html'}."
    with (report / "predictions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["text"] for row in rows] == TEXTS
    assert [row["true_label"] for row in rows] == TRUE
    facts = json.loads((report / "report.json").read_text())["facts"]
    assert facts["Data"] == labelled.name
    assert facts["Calibration"].startswith("calibration.json, fitted ")
    assert (facts["Model"], facts["Scoring"]) == ("demo", "exact, tolerance 0.001")


def test_a_threshold_of_ones_own_guarantees_nothing(labelled):
    out = run("evaluate", labelled, *WITH_LABELS, "--threshold", 0.9).stdout
    clf = ZeroShotClassifier(NAMES)
    proba = clf.predict_proba(TEXTS)
    sure = proba.max(axis=1) >= 0.9
    assert figures(out, "Answered") == [pytest.approx(sure.mean(), abs=6e-4)]
    assert "guaranteed" not in out


def test_unknown_labels_are_listed_with_their_rows(folder):
    path = write(folder / "typo.csv", [ROWS[0], ("Where is it?", "shiping")])
    result = run("evaluate", path, *WITH_LABELS, code=2)
    assert result.stderr.startswith(
        f"Error: Column 'label' of {str(path)!r} holds a value that is not a label. "
        "'shiping': row 2. Did you mean 'shipping'? The labels are 'billing', "
    )


def test_places_that_cannot_be_written_to(folder, labelled):
    options = ("evaluate", labelled, *WITH_LABELS, "--report")
    file = folder / "file"
    file.write_text("")
    assert run(*options, file, code=2).stderr == (
        f"Error: The report needs a folder, but {str(file)!r} is a file: give it "
        "another name.\n"
    )
    assert run(*options, folder / "no" / "report", code=2).stderr == (
        f"Error: There is no folder {str(folder / 'no')!r} for the report: create it "
        "first.\n"
    )


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="as root")
def test_a_folder_without_permission(folder, labelled):
    closed = folder / "closed"
    closed.mkdir(mode=0o500)
    options = ("evaluate", labelled, *WITH_LABELS, "--report", closed)
    assert run(*options, code=2).stderr == (
        f"Error: The report cannot be written to {str(closed)!r}: permission denied. "
        "Name a folder that can be written to.\n"
    )


def test_another_model_is_refused(labelled, calibration):
    options = ("--calibration", calibration, "--options", "lines")
    result = run("evaluate", labelled, *WITH_LABELS, *options, code=2)
    assert "was fitted on something else. prompt.template: fitted with" in result.stderr
    assert result.stdout == ""
