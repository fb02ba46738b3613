import csv
import json
import subprocess
import sys

import numpy as np
import pytest

from classify.decision import SelectiveClassifier, SplitConformalSets
from classify.errors import DataError
from classify.report import Evaluation, write_report
from tests.posteriors import posteriors, scores_of

NAMES = ("report.html", "report.json", "predictions.csv")
TEXTS = ['say "hi", please', "two\nlines", "carriage\rreturn", "أين طردي؟", "🦄", ""]


@pytest.fixture(scope="module")
def evaluation():
    drawn = posteriors(240, 3)
    scores = scores_of(drawn.log_proba - 0.1, ["a|b", "c,d", 'e"'])
    y = scores.classes[drawn.codes]
    calibrated = np.log((np.exp(drawn.log_proba) + 0.2) / 1.6)
    chosen = SelectiveClassifier(0.25).fit(scores_of(calibrated, scores.classes), y)
    return Evaluation.of(
        TEXTS * 40,
        y,
        scores,
        calibrated=calibrated,
        selective=chosen,
        sets=SplitConformalSets(0.8).conformalize(scores, y).predict_set(scores),
        title="Tickets",
        facts={"Model": "demo"},
    )


@pytest.fixture(scope="module")
def folder(evaluation, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reports") / "new"
    assert write_report(evaluation, folder) == folder / "report.html"
    return folder


def read_json(path):
    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(path.read_text("utf-8"), parse_constant=refuse)


def test_there_are_three_files_and_nothing_else(folder):
    assert sorted(path.name for path in folder.iterdir()) == sorted(NAMES)


def test_json_holds_the_numbers(evaluation, folder):
    found = read_json(folder / "report.json")
    assert found["format"] == "classify-report/1"
    assert found["title"] == "Tickets"
    assert found["facts"] == {"Model": "demo"}
    assert found["n_texts"] == 240
    assert found["classes"] == ["a|b", "c,d", 'e"']
    assert found["intervals"] == {
        "confidence_level": 0.95,
        "shares": "Wilson",
        "others": "percentile bootstrap over texts, 1000 resamples",
    }
    for when, assessed in evaluation.assessments.items():
        for name, measure in assessed.quality._asdict().items():
            if name != "n_infinite":
                assert found[when][name] == measure._asdict()
        assert found[when]["n_infinite"] == 0
        assert found[when]["aurc"] == assessed.aurc
        assert sum(each["n_texts"] for each in found[when]["reliability"]) == 240
    assert found["confusion"] == evaluation.confusion.tolist()
    assert [each["n_texts"] for each in found["by_class"]] == [
        sum(row) for row in found["confusion"]
    ]
    mass = found["label_mass"]
    assert (sum(mass["n_texts"]), len(mass["edges"])) == (240, 21)
    assert mass["mean"] == pytest.approx(np.exp(-0.1))
    assert found["selection"]["threshold"] == evaluation.selection.threshold
    assert found["sets"]["mean_size"] == evaluation.sets.mean_size
    assert [each["text"] for each in found["mistakes"]] == [
        mistake.text for mistake in evaluation.mistakes
    ]


def test_json_has_no_infinity_and_no_nan(tmp_path, caplog):
    scores = scores_of(np.array([[0.0, -np.inf], [np.log(0.5)] * 2]), ["a", "b"])
    never = SelectiveClassifier(0.01).fit(scores, ["b", "b"])
    assert caplog.text
    write_report(
        Evaluation.of(["x", "y"], ["b", "b"], scores, selective=never), tmp_path
    )
    found = read_json(tmp_path / "report.json")
    assert found["after"] is found["sets"] is None
    assert found["before"]["log_loss"] == {
        "value": None,
        "low": None,
        "high": None,
        "reason": "the true label of 1 of 2 texts has probability 0",
    }
    assert found["before"]["n_infinite"] == 1
    assert found["selection"]["threshold"] is None
    assert found["selection"]["risk"]["reason"] == "no text is answered"
    assert found["by_class"][0]["recall"] is None


def test_predictions_come_back_as_they_were(evaluation, folder):
    with (folder / "predictions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["text"] for row in rows] == TEXTS * 40
    proba = evaluation.final.proba
    assert list(rows[0]) == [
        "text",
        "true_label",
        "label",
        "probability",
        "lower",
        "upper",
        "certain",
        "raw_label",
        "raw_probability",
        "label_mass",
        "unresolved",
        "truncated",
        "answered",
        "reason",
        "confidence",
        "prediction_set",
        "p(a|b)",
        "p(c,d)",
        'p(e")',
    ]
    for row, p, code, held in zip(
        rows, proba, evaluation.codes, evaluation.sets.member, strict=True
    ):
        assert row["true_label"] == evaluation.classes[code]
        assert row["label"] == evaluation.classes[p.argmax()]
        assert float(row["probability"]) == p.max()
        assert [float(row[f"p({name})"]) for name in evaluation.classes] == p.tolist()
        assert json.loads(row["prediction_set"]) == [
            name for name, is_in in zip(evaluation.classes, held, strict=True) if is_in
        ]
        assert row["truncated"] == "False"
        assert (row["answered"] == "True") is (row["reason"] == "")
    assert {row["reason"] for row in rows} == {"", "low probability"}


def test_the_same_evaluation_gives_the_same_files(evaluation, folder, tmp_path):
    write_report(evaluation, tmp_path)
    for name in NAMES:
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_files_are_replaced(evaluation, tmp_path):
    for name in NAMES:
        (tmp_path / name).write_text("old")
    write_report(evaluation, tmp_path)
    assert all((tmp_path / name).stat().st_size > 100 for name in NAMES)


def test_nothing_is_replaced_if_a_file_cannot_be_written(tmp_path):
    for name in NAMES:
        (tmp_path / name).write_text("old")
    # The page is larger than a file may be here, the others are not.
    code = """
import resource, sys
import numpy as np
from classify.errors import DataError
from classify.report import Evaluation, write_report
from tests.posteriors import scores_of
scores = scores_of(np.log([[0.6, 0.4], [0.2, 0.8]]), ["a", "b"])
evaluation = Evaluation.of(["x", "y"], ["a", "b"], scores)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    write_report(evaluation, sys.argv[1])
except DataError as error:
    print(error)
"""
    process = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert process.stdout.strip() == (
        f"The report cannot be written to {str(tmp_path)!r}: File too large. Name a "
        "folder that can be written to, in a folder that exists."
    )
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == (
        dict.fromkeys(NAMES, "old")
    )


def test_a_file_is_no_folder(evaluation, tmp_path):
    path = tmp_path / "report"
    path.write_text("mine")
    with pytest.raises(DataError) as caught:
        write_report(evaluation, path)
    assert str(caught.value) == (
        f"The report needs a folder, but {str(path)!r} is a file: give it another name."
    )
    assert path.read_text() == "mine"


def test_the_folder_above_must_exist(evaluation, tmp_path):
    path = tmp_path / "missing" / "report"
    with pytest.raises(DataError) as caught:
        write_report(evaluation, path)
    assert str(caught.value) == (
        f"The report cannot be written to {str(path)!r}: No such file or directory. "
        "Name a folder that can be written to, in a folder that exists."
    )
