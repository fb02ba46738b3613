"""Reports on labels any number of which apply: figures, files, command."""

import csv
import json

import numpy as np
import pytest
from sklearn.metrics import f1_score, precision_score, recall_score
from typer.testing import CliRunner

from classify.cli import app
from classify.errors import InputError
from classify.report import LabelsEvaluation, write_report
from tests.html_pages import Page

LABELS = ("billing", "C|C++", "<b>never</b>")
RNG = np.random.default_rng(3)
TRUE = RNG.random((40, 3)) < [0.5, 0.2, 0.1]
RAW = np.clip(0.5 * TRUE + 0.6 * RNG.random((40, 3)), 0.01, 0.99)
FINAL = np.clip(0.4 * TRUE + 0.5 * RNG.random((40, 3)), 0.01, 0.99)
THRESHOLDS = np.array([0.6, 0.4, np.inf])


def evaluated(**options):
    texts = [f"text {at} <&>" for at in range(40)]
    known = {"calibrated": FINAL, "thresholds": THRESHOLDS, **options}
    return LabelsEvaluation.of(texts, TRUE, LABELS, RAW, **known)


def test_figures_are_those_of_scikit_learn():
    evaluation = evaluated()
    given = THRESHOLDS <= FINAL
    np.testing.assert_array_equal(evaluation.given, given)
    after, before = evaluation.after, evaluation.before
    assert after.micro_f1.value == pytest.approx(f1_score(TRUE, given, average="micro"))
    expected = f1_score(TRUE, given, average="macro", zero_division=0.0)
    assert after.macro_f1.value == pytest.approx(expected)
    assert after.exact.value == (given == TRUE).all(axis=1).mean()
    # Thresholds belong to calibrated probabilities; raw ones meet 0.5.
    expected = f1_score(TRUE, RAW >= 0.5, average="micro")
    assert before.micro_f1.value == pytest.approx(expected)
    loss = -np.log(np.where(TRUE, FINAL, 1 - FINAL)).mean()
    assert after.log_loss.value == pytest.approx(loss)
    assert after.brier.value == pytest.approx(((FINAL - TRUE) ** 2).mean())
    for measure in (after.micro_f1, after.log_loss, after.exact):
        assert measure.low < measure.value < measure.high
    for at, each in enumerate(evaluation.by_label[:2]):
        assert each.n_texts == TRUE[:, at].sum()
        for name, score in (("precision", precision_score), ("recall", recall_score)):
            expected = score(TRUE[:, at], given[:, at])
            assert getattr(each, name).value == pytest.approx(expected)
    never = evaluation.by_label[2]
    assert (never.n_given, never.precision.reason) == (
        0,
        "no text is given the label",
    )


def test_files_hold_the_same(tmp_path):
    evaluation = evaluated(title="<i>Title</i>")
    page = write_report(evaluation, tmp_path / "report").read_text()
    parsed = Page(page)
    assert not {"script", "img", "link", "b"} & parsed.tags()
    assert "&lt;b&gt;never&lt;/b&gt;" in page
    assert "<i>Title" not in page
    found = json.loads((tmp_path / "report" / "report.json").read_text())
    assert found["after"]["exact"]["value"] == evaluation.after.exact.value
    assert [each["threshold"] for each in found["by_label"]] == [0.6, 0.4, None]
    with (tmp_path / "report" / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    given = [[LABELS[at] for at in np.flatnonzero(row)] for row in evaluation.given]
    assert [json.loads(row["labels"]) for row in rows] == given
    assert [float(row["p(C|C++)"]) for row in rows] == FINAL[:, 1].tolist()


def test_missing_values_and_intervals_have_their_reason():
    nothing = LabelsEvaluation.of(["a", "b"], [[0], [0]], ["x"], [[0.1], [0.2]])
    assert (
        "Micro-F1, Macro-F1: not defined, since no text has a label, or is given one."
        in Page(nothing._repr_html_()).text
    )


def test_a_probability_of_the_wrong_shape_is_refused():
    with pytest.raises(InputError, match=r"must have the shape of Y, \(40, 3\)"):
        evaluated(calibrated=FINAL[:, :2])


def test_each_question_is_evaluated_and_reported(tmp_path):
    task = {
        "questions": {
            "topic": {"labels": ["billing", "shipping"]},
            "about": {
                "labels": ["billing", "shipping"],
                "kind": "multi",
                "threshold": {"billing": 0.1},
            },
        }
    }
    (tmp_path / "task.yaml").write_text(json.dumps(task))
    (tmp_path / "rows.csv").write_text(
        "text,topic,about\n"
        "I was charged twice.,billing,billing\n"
        "My parcel is late and I want my money back.,shipping,billing|shipping\n"
        "Hello.,billing,[]\n"
    )
    command = ["evaluate", tmp_path / "rows.csv", "--task", tmp_path / "task.yaml"]
    command = [str(each) for each in (*command, "--report", tmp_path / "report")]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.stderr
    assert "All right" in result.stdout
    reports = {
        name: json.loads((tmp_path / "report" / name / "report.json").read_text())
        for name in ("topic", "about")
    }
    assert reports["topic"]["n_texts"] == reports["about"]["n_texts"] == 3
    assert [each["n_texts"] for each in reports["about"]["by_label"]] == [2, 1]
    result = CliRunner().invoke(app, [*command, "--label-column", "topic"])
    assert result.exit_code == 2
    assert result.stderr.endswith(
        "Error: --label-column names one column, and the task has several questions, "
        "each with a column of the same name: drop it, or name the "
        "question with --question.\n"
    )
