"""`classify calibrate`, and `classify predict` with what it wrote."""

import csv
import io
import json
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from classify import LabelCalibrator, ZeroShotClassifier
from classify.cli import app
from classify.cli.fitting import parse_prior
from classify.errors import DataError
from classify.estimators.artefact import Artefact
from classify.jobs import CalibrationWishes, ScoredTexts, fit_artefact
from tests.labelled_tickets import LABELS, draw, write

NAMES = LABELS.split(",")
WITH_LABELS = ("--labels", LABELS)
ROWS = draw(120, seed=3)


def run(*arguments, code=0):
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == code, result.output
    return result


def refused(*arguments):
    """Run a command that fails before any model; return its one line on stderr."""
    result = run(*arguments, code=2)
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1, result.stderr
    return result.stderr.removesuffix("\n").removeprefix("Error: ")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("calibrate")


@pytest.fixture(scope="module")
def labelled(folder):
    rows = [*ROWS, ("No label here.", ""), ("Nor here.", "NaN"), ("  ", "refund")]
    return write(folder / "labelled.csv", rows)


@pytest.fixture(scope="module")
def fitted(folder, labelled):
    """What was printed by a calibration with all there is, and its file."""
    path = folder / "calibration.json"
    decisions = ("--target-risk", 0.1, "--sets", 0.8, "--min-label-mass", 0.01)
    options = (*WITH_LABELS, "--label-column", "label", *decisions, "-o", path)
    return run("calibrate", labelled, *options), path


def squeezed(text):
    return " ".join(text.split())


def test_what_is_printed(fitted):
    result, path = fitted
    assert max(len(line) for line in result.stdout.splitlines()) <= 80
    out = squeezed(result.stdout)
    assert out.startswith(
        "Fitted on 60 labelled rows of labelled.csv; 60 others, drawn at random (seed "
        "0), are held out for threshold and sets, which need rows that no calibration "
        "has seen"
    )
    artefact = Artefact.load(path)
    assert squeezed(artefact.calibrator.explanation_) in out
    metrics = artefact.calibrator.metrics_
    for title, key in (("Log loss (nats)", "log_loss"), ("Accuracy", "accuracy")):
        figures = f"{metrics['before'][key]:.3f} {metrics['after'][key]:.3f}"
        assert f"{title} {figures}" in out
    assert f"{artefact.selective.coverage_:.1%} of the 60 held-out rows" in out
    assert "Guarantee: at most 10% of the answers are wrong, at confidence" in out
    assert "true label with a probability of at least 0.8." in out
    lines = result.stderr.splitlines()
    assert "Warning: 2 rows set aside: there is no label: its cell is empty." in lines
    assert (
        "Warning: 1 row set aside: there is no text: it is empty or missing." in lines
    )
    assert lines[-1] == f"Written to {path}."


def test_decisions_see_no_row_of_the_calibration(fitted):
    artefact = Artefact.load(fitted[1])
    assert artefact.calibrator.n_labels_ == 60
    assert artefact.selective.n_labels_ == 60
    assert artefact.selective.min_label_mass == 0.01
    assert artefact.sets.n_texts_ == {None: 60}
    # By hand: the calibrator of the first half, the threshold of the second.
    clf = ZeroShotClassifier(NAMES)
    scores = clf.label_logprobs([text for text, _ in ROWS])
    true = np.array([label for _, label in ROWS])
    order = np.random.default_rng(0).permutation(120)
    first, second = np.sort(order[:60]), np.sort(order[60:])
    by_hand = LabelCalibrator().fit(scores[first], true[first])
    np.testing.assert_allclose(
        artefact.calibrator.transform(scores), by_hand.transform(scores), atol=1e-5
    )
    log_proba = by_hand.transform(scores[second])
    codes = [scores.classes.tolist().index(name) for name in true[second]]
    own = -log_proba[np.arange(60), codes]
    rank = int(np.ceil(61 * 0.8))
    assert artefact.sets.thresholds_[None] == pytest.approx(
        np.sort(own)[rank - 1], rel=1e-3
    )


def test_without_decisions_all_rows_are_calibrated_on(folder, labelled):
    path = folder / "temperature.json"
    options = (*WITH_LABELS, "--label-column", "label", "--method", "temperature")
    result = run("calibrate", labelled, *options, "-o", path, "--quiet")
    assert squeezed(result.stdout).startswith(
        "Fitted on 120 labelled rows of labelled.csv Calibration temperature was "
        "fitted to 120 labels. before after"
    )
    artefact = Artefact.load(path)
    assert (artefact.selective, artefact.sets) == (None, None)


def test_without_labels(folder, labelled):
    path = folder / "shift.json"
    more = write(folder / "more.csv", draw(30, seed=4))
    options = ("--no-label-column", "--unlabeled", more, "-o", path)
    result = run("calibrate", labelled, *WITH_LABELS, *options)
    assert squeezed(result.stdout) == (
        "Fitted on 122 rows, without any labels, of labelled.csv Calibration "
        "prior_matching shifts by what it found on 152 texts, without labels."
    )
    assert Artefact.load(path).calibrator.n_unlabeled_ == 152


def test_the_column_label_is_used_and_said(folder, labelled):
    options = (*WITH_LABELS, "-o", folder / "by_name.json")
    result = run("calibrate", labelled, *options)
    assert squeezed(result.stdout).startswith("Fitted on 120 labelled rows of")
    assert (
        "True labels are read from the column 'label'; to ignore them, use "
        "--no-label-column."
    ) in result.stderr.splitlines()


def test_a_file_without_labels_is_enough(folder):
    path = folder / "texts.csv"
    table = pd.DataFrame({"text": [text for text, _ in ROWS[:30]]})
    table.to_csv(path, index=False)
    options = (*WITH_LABELS, "-o", folder / "texts.json")
    result = run("calibrate", path, *options)
    assert squeezed(result.stdout).startswith("Fitted on 30 rows, without any labels,")
    assert (
        "There is no column 'label', so only the texts are used. If there are true "
        "labels, name their column with --label-column."
    ) in result.stderr.splitlines()
    for wish in (
        ("--target-risk", "0.1"),
        ("--sets", "0.9"),
        ("--prior", "labels"),
        ("--method", "affine"),
    ):
        shown = wish[0] if wish[0] in ("--target-risk", "--sets") else " ".join(wish)
        assert refused("calibrate", path, *options, *wish) == (
            f"{shown} needs true labels, and there is no column 'label': name their "
            "column with --label-column."
        )


def test_a_calibration_that_does_harm_is_not_written(folder):
    source, path = write(folder / "harm.csv", ROWS[:4]), folder / "harm.json"
    options = (*WITH_LABELS, "-o", path)
    result = run("calibrate", source, *options, code=1)
    [before, after] = re.search(
        r"Log loss \(nats\) +([\d.]+) +([\d.]+)", result.stdout
    ).groups()
    assert result.stderr.splitlines()[-1] == (
        "Error: The calibration does harm: its log loss on rows that it has not seen "
        f"is {after}, and {before} without it. Nothing was written: label more texts, "
        "or write the calibration anyway with --force."
    )
    assert not path.exists()
    result = run("calibrate", source, *options, "--force")
    assert "Warning: The calibration does harm: its log loss" in result.stderr
    assert path.exists()


def test_few_labels_are_forced_into_isotonic(folder, labelled):
    options = (*WITH_LABELS, "--method", "isotonic", "-o", folder / "isotonic.json")
    result = run("calibrate", labelled, *options, code=2)
    assert result.stderr.splitlines()[-1] == (
        "Error: --method isotonic needs at least 1,000 labels: with fewer its log loss "
        "explodes. Got 120: use --method auto, or --force to fit it anyway."
    )
    run("calibrate", labelled, *options, "--force")
    assert Artefact.load(folder / "isotonic.json").calibrator.method_ == "isotonic"


def test_a_risk_that_cannot_be_kept_is_said(folder):
    wrong = dict(zip(NAMES, [*NAMES[1:], NAMES[0]], strict=True))
    rows = [
        (text, wrong[label] if at % 2 else label)
        for at, (text, label) in enumerate(ROWS[:60])
    ]
    source, path = write(folder / "mixed.csv", rows), folder / "mixed.json"
    options = (*WITH_LABELS, "--target-risk", "0.01", "-o", path)
    result = run("calibrate", source, *options, code=1)
    error = float(re.search(r"Without it ([\d.]+)%", squeezed(result.stdout))[1]) / 100
    refused_share = (error - 0.01) / (1 - 0.01)
    assert (
        f"labelled wrong. To get down to 1%, at least {refused_share:.1%} of them "
        "must stay without a label, whatever the threshold."
    ) in squeezed(result.stdout)
    assert result.stderr.splitlines()[-1] == (
        "Error: No threshold keeps the share of wrong answers at 0.01: no row would "
        "get a label. Nothing was written: label more texts, or write the calibration "
        "anyway with --force."
    )
    assert not path.exists()


def test_probes_are_scored_like_texts(folder, labelled):
    path = folder / "probes.json"
    run("calibrate", labelled, *WITH_LABELS, "--method", "content_free", "-o", path)
    clf = ZeroShotClassifier(NAMES, calibrator="content_free").fit(["a", "b"])
    np.testing.assert_allclose(
        Artefact.load(path).calibrator.bias_, clf.calibrator_.bias_, atol=1e-5
    )


# ------------------------------------------------------------------ what is refused


def test_an_unknown_label_names_its_row(folder):
    path = write(folder / "typo.csv", [ROWS[0], ("Where is it?", "shiping")])
    assert refused("calibrate", path, *WITH_LABELS, "--label-column", "label") == (
        f"Column 'label' of {str(path)!r} holds a value that is not a label. "
        "'shiping': row 2. Did you mean 'shipping'? The labels are 'billing', "
        "'shipping', 'technical problem', 'account access', 'refund'. Correct these "
        "cells, or empty them to leave their rows out."
    )


def test_what_becomes_of_long_texts_is_no_other_prompt(fitted, fresh):
    options = (fresh, *WITH_LABELS, "--calibration", fitted[1], "--limit", 2)
    cut = run("predict", *options, "--too-long", "truncate")
    assert run("predict", *options, "--too-long", "error").stdout == cut.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ("--target-risk", 0.1, "--no-label-column"),
            (
                "--target-risk needs true labels, and --no-label-column ignores them: "
                "use only one of the two."
            ),
        ),
        (
            ("--label-column", "label", "--no-label-column"),
            "Give --label-column or --no-label-column, not both.",
        ),
        (
            ("--prior", "billing=0.5,shipping=0.5"),
            (
                "--prior names 'billing', 'shipping', but the classes are 'billing', "
                "'shipping', 'technical problem', 'account access', 'refund'. Give a "
                "share for each of them."
            ),
        ),
        (
            ("--prior", "lables"),
            (
                "--prior must be uniform, labels, or a share for each label, such as "
                "billing=0.7,shipping=0.3. Got 'lables' instead. Did you mean 'labels'?"
            ),
        ),
        (
            ("--prior", "labels", "--method", "temperature"),
            (
                "--prior is for methods that shift towards a prior, and --method "
                "temperature does not: drop one of them."
            ),
        ),
        (
            ("--unlabeled", "x.csv", "--method", "pmi"),
            (
                "--unlabeled is for methods that learn from texts alone, and --method "
                "pmi does not: drop one of them."
            ),
        ),
        (
            ("--label-column", "label", "--min-label-mass", 0.1),
            (
                "--min-label-mass is for --target-risk: give it, or drop "
                "--min-label-mass."
            ),
        ),
        (
            ("--label-column", "label", "--target-risk", 1),
            "--target-risk must be a number above 0 and below 1. Got 1 instead.",
        ),
        (
            ("--label-column", "label", "--target-risk", 0.1, "--min-label-mass", 2),
            "--min-label-mass must be a number above 0 and at most 1. Got 2 instead.",
        ),
        (
            ("--prior", "billing=much"),
            (
                "--prior 'billing=much' must be uniform, labels, or LABEL=SHARE,"
                "LABEL=SHARE with numbers. Got 'much' for 'billing'."
            ),
        ),
    ],
)
def test_options_that_cannot_be(labelled, arguments, sentence):
    assert refused("calibrate", labelled, *WITH_LABELS, *arguments) == sentence


def test_files_and_columns_that_cannot_be(labelled, folder):
    assert refused("calibrate", labelled, *WITH_LABELS, "--label-column", "lable") == (
        f"There is no column 'lable' with the true labels in {str(labelled)!r}. "
        "Columns: 'text', 'label'. Did you mean 'label'? Then give --label-column "
        "label."
    )
    assert refused("calibrate", labelled) == (
        "There are no labels: give --labels, --labels-file, or a --task that has them."
    )
    assert refused("calibrate", labelled, *WITH_LABELS, "-o", labelled) == (
        f"The output {str(labelled)!r} is the input: give it another name."
    )
    assert refused("calibrate", labelled, *WITH_LABELS, "-o", folder) == (
        f"The output {str(folder)!r} is a folder: name a file in it."
    )
    assert refused("calibrate", labelled, *WITH_LABELS, "-o", folder / "no" / "c") == (
        f"There is no folder {str(folder / 'no')!r} for the output: create it first."
    )
    empty = write(folder / "empty.csv", [("a", ""), ("b", " ")])
    assert refused("calibrate", empty, *WITH_LABELS, "--label-column", "label") == (
        f"There are no labels in column 'label' of {str(empty)!r}: fill in those of "
        "some rows."
    )
    options = ("--labels-column", "label", "--method", "affine")
    assert refused("calibrate", labelled, *options) == (
        "--method affine needs to know all labels in advance: give --labels as well as "
        "--labels-column, or leave it out."
    )
    assert refused("calibrate", labelled, "--labels-column", "which") == (
        f"There is no column 'which' with the candidate labels in {str(labelled)!r}. "
        "Columns: 'text', 'label'. Choose one with --labels-column."
    )


def test_one_class_only_is_told(folder):
    rows = [row for row in ROWS if row[1] == "billing"][:12]
    path = write(folder / "one.csv", rows)
    result = run(
        "calibrate",
        path,
        *WITH_LABELS,
        *("--label-column", "label", "-o", folder / "one.json"),
    )
    assert (
        "Warning: All 12 labels are 'billing', which say nothing about the "
        "other 4: 'auto' falls back to log-probabilities that are only normalised. "
        "Label texts of other classes too, or give unlabelled ones: --unlabeled."
    ) in result.stderr.splitlines()


def test_fewer_rows_than_folds_are_told(folder):
    path = write(folder / "few.csv", ROWS[:4])
    options = ("--label-column", "label", "-o", folder / "few.json", "--force")
    result = run("calibrate", path, *WITH_LABELS, *options)
    assert "Warning: There are only 4 labels: below 10 a calibration" in result.stderr


def test_one_row_cannot_be_divided():
    scores = ZeroShotClassifier(NAMES).label_logprobs([ROWS[0][0]])
    texts = ScoredTexts([{"text": "a"}], np.array(["refund"]), scores, {})
    with pytest.raises(DataError) as caught:
        fit_artefact(texts, CalibrationWishes(sets=0.9), fingerprint={})
    assert str(caught.value) == (
        "There is 1 labelled row, but a calibration and a threshold or sets need "
        "different ones: label more, 200 if possible."
    )


@pytest.mark.parametrize(
    ("text", "prior"),
    [
        ("labels", "labels"),
        ('"a, b=0.5",c=0.5', {"a, b": 0.5, "c": 0.5}),
        ("a=b=1", {"a=b": 1.0}),
    ],
)
def test_priors_in_a_shell(text, prior):
    assert parse_prior(text) == prior


@pytest.mark.parametrize("command", ["calibrate", "evaluate"])
def test_help_loads_nothing_heavy(command):
    code = (
        "import sys; from classify.cli import main\n"
        f"sys.argv = ['classify', '{command}', '--help']\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    loaded = {name.partition(".")[0] for name in done.stderr.split()}
    assert "typer" in loaded
    assert loaded & {"pandas", "sklearn", "scipy", "torch", "matplotlib"} == set()


# ------------------------------------------------------------------ classify predict


def predicted(*arguments):
    result = run("predict", *arguments, *WITH_LABELS)
    return list(csv.DictReader(io.StringIO(result.stdout))), result.stderr


@pytest.fixture(scope="module")
def fresh(folder):
    return write(folder / "fresh.csv", draw(40, seed=9))


def test_predict_is_calibrated(fitted, fresh):
    rows, _ = predicted(fresh, "--calibration", fitted[1], "--probabilities")
    texts = [row["text"] for row in rows]
    clf = ZeroShotClassifier(NAMES, calibrator=fitted[1])
    proba = clf.predict_proba(texts)
    ours = [[float(row[f"p({name})"]) for name in clf.classes_] for row in rows]
    np.testing.assert_allclose(ours, proba, atol=1e-4)
    raw = ZeroShotClassifier(NAMES).predict_proba(texts)
    assert np.abs(raw - proba).max() > 0.05
    assert "abstained" not in rows[0]
    assert "label_set" not in rows[0]


def test_predict_abstains_below_a_threshold(fresh):
    rows, stderr = predicted(fresh, "--threshold", 0.9)
    low = [row for row in rows if float(row["probability"]) < 0.9]
    assert 0 < len(low) < len(rows)
    for row in rows:
        is_low = row in low
        assert row["abstained"] == ("low probability" if is_low else "")
        assert (row["predicted_label"] == "") == is_low
    assert f"{40 - len(low)} labelled, {len(low)} abstained, mean" in stderr
    assert f"Abstained: low probability {len(low)}.\n" in stderr


def test_predict_uses_what_was_fitted(fitted, fresh):
    options = ("--calibration", fitted[1], "--target-risk", 0.1, "--sets", 0.8)
    rows, _ = predicted(fresh, *options)
    artefact = Artefact.load(fitted[1])
    clf = ZeroShotClassifier(NAMES, calibrator=artefact.calibrator)
    scores = clf.label_logprobs([row["text"] for row in rows])
    log_proba = artefact.calibrator.transform(scores)
    member = artefact.sets.predict_set(log_proba)
    sure = np.exp(log_proba.max(axis=1)) >= artefact.selective.threshold_
    for at, row in enumerate(rows):
        assert row["label_set"] == "|".join(scores.classes[member[at]])
        assert row["abstained"] == ("" if sure[at] else "low probability")


def test_all_abstained_is_no_failure(fresh):
    rows, stderr = predicted(fresh, "--threshold", 1, "--limit", 5)
    assert [row["predicted_label"] for row in rows] == [""] * 5
    assert "0 labelled, 5 abstained" in stderr
    assert "Abstained: low probability 5." in stderr


def test_the_table_shows_who_abstains(fresh):
    result = run("predict", fresh, *WITH_LABELS, "--threshold", 0.9, "--table")
    assert "low probability" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_one_text(fitted):
    options = ("--calibration", fitted[1], "--sets", 0.8, "--threshold", 1, "--json")
    result = run("predict", "--text", "Hello there", *WITH_LABELS, *options)
    shown = json.loads(result.stdout)
    assert shown["label"] is None
    assert shown["abstained"] == "low probability"
    assert set(shown["label_set"]) <= set(NAMES)
    proba = ZeroShotClassifier(NAMES, calibrator=fitted[1]).predict_proba(
        ["Hello there"]
    )
    ours = [shown["probabilities"][name] for name in sorted(NAMES)]
    np.testing.assert_allclose(ours, proba[0], atol=1e-5)


def test_another_prompt_is_refused_and_can_be_forced(fitted, fresh):
    options = (fresh, *WITH_LABELS, "--calibration", fitted[1], "--limit", 2)
    result = run("predict", *options, "--options", "lines", code=2)
    assert re.search(
        r"Error: The calibration '.*calibration\.json' was fitted on something else\. "
        r"prompt\.template: fitted with .*, now .*; prompt\.options: "
        r"fitted with inline, now lines\. Fit it again, or use it anyway with "
        r"--force\.",
        result.stderr,
    )
    assert "Engine" not in result.stderr  # the model was not loaded
    run("predict", *options, "--options", "lines", "--force")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ("--target-risk", 0.1),
            (
                "--target-risk needs labelled texts: fit it with classify calibrate … "
                "--target-risk 0.1, and give the file as --calibration."
            ),
        ),
        (
            ("--sets", 0.9),
            (
                "--sets needs labelled texts: fit it with classify calibrate … --sets "
                "0.9, and give the file as --calibration."
            ),
        ),
        (
            ("--threshold", 0.5, "--target-risk", 0.1),
            "Give --threshold or --target-risk, not both.",
        ),
        (
            ("--threshold", 2),
            "--threshold must be a number from 0 to 1. Got 2 instead.",
        ),
        (("--force",), "--force is for --calibration: give it, or drop --force."),
    ],
)
def test_decisions_that_cannot_be(fresh, arguments, sentence):
    assert refused("predict", fresh, *WITH_LABELS, *arguments) == sentence


def test_decisions_that_were_not_fitted(fitted, fresh):
    options = (fresh, *WITH_LABELS, "--calibration", fitted[1], "--target-risk", 0.2)
    assert refused("predict", *options) == (
        "There is no threshold for a risk of 0.2: the calibration holds a threshold "
        "for a risk of 0.1. Fit one: classify calibrate … --target-risk 0.2."
    )


def test_a_calibration_needs_labels(fitted, fresh):
    options = (fresh, "--labels-column", "label", "--calibration", fitted[1])
    assert refused("predict", *options) == (
        "A calibration belongs to labels: give --labels, --labels-file, or a --task "
        "that has them."
    )


def test_a_task_file_names_its_calibration(fitted, fresh, tmp_path):
    task = tmp_path / "task.yaml"
    task.write_text(json.dumps({"labels": NAMES, "calibration": str(fitted[1])}))
    result = run("predict", fresh, "--task", task, "--limit", 3)
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    expected, _ = predicted(fresh, "--calibration", fitted[1], "--limit", 3)
    assert [row["probability"] for row in rows] == [
        row["probability"] for row in expected
    ]
