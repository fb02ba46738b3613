"""Which of several labels are given where not everything is known."""

import csv
import json
import logging
from collections import Counter
from itertools import chain

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from classify import PromptTemplate, TaskClassifier
from classify.calibration import CalibrationWarning, LabelCalibrator
from classify.cells import split_names
from classify.cli import app
from classify.cli.console import Notes
from classify.cli.report import report_summary
from classify.cli.tables import Shown
from classify.decision import fit_thresholds
from classify.decision.posteriors import LabelPosteriors
from classify.errors import InputError
from classify.estimators.asked import AskedLabels
from classify.estimators.multi_label import ZeroShotMultiLabelClassifier
from classify.jobs import (
    CalibrationWishes,
    Classification,
    Outcome,
    Summary,
    evaluate_labels,
    fit_labels_artefact,
    open_table,
    read_labelled,
    score_labelled,
)
from classify.labels import LabelSet
from classify.questions.decision_rules import Target
from classify.report import LabelsEvaluation, write_report
from classify.scoring import LabelLogprobs
from tests.tiny_tokenizers import byte_level
from tests.toy_jobs import csv_of, raises, run
from tests.toy_model import hashed_engine

NAMES = ["billing", "refund", "shipping"]
TEXTS = [f"Where is parcel {n}?" for n in range(12)]
SHARES = st.floats(1e-6, 1.0)
WARNED = (
    "12 of 12 texts may have more labels than they are given: the engine, the strategy "
    "or the tolerance leaves unknown whether these labels reach their thresholds. "
    "classify_frame(bounds=True) lists them in the column uncertain."
)


def multi(n_listed=None, **options):
    return ZeroShotMultiLabelClassifier(
        NAMES,
        engine=hashed_engine(len(byte_level()), sharpness=3.0, n_listed=n_listed),
        tokenizer=byte_level(),
        prompt=PromptTemplate("{text}\nTopic: {label}?", chat=False),
        # Short words, some of whose tokens a list is likely to show.
        yes_words=list("acegikmo"),
        no_words=list("bdfhjlnp"),
        **options,
    )


def doubts(caplog):
    said = [each.getMessage() for each in caplog.records]
    return [each for each in said if " may have " in each]


# ------------------------------------------------------------------- probabilities


def answers(lower, upper):
    """Return scores of the answers no and yes, from probabilities."""
    with np.errstate(divide="ignore"):
        logs = [np.log(each) for each in ((lower + upper) / 2, lower, upper)]
    return LabelLogprobs(
        logs[0],
        np.array(["no", "yes"]),
        *logs[1:],
        (upper - lower).sum(axis=1),
        np.zeros(len(lower), dtype=np.bool_),
        np.ones(len(lower), dtype=np.int64),
    )


@st.composite
def known_in_part(draw):
    """The true probabilities of no and yes about labels, of which a list shows some."""
    n_labels = draw(st.integers(1, 3))
    truth = np.array([[draw(SHARES) for _ in range(3)] for _ in range(2 * n_labels)])
    truth = (truth / truth.sum(axis=1, keepdims=True))[:, :2]
    floor = draw(SHARES)
    left = 1.0 - np.where(truth > floor, truth, 0.0).sum(axis=1, keepdims=True)
    lower = np.where(truth > floor, truth, 0.0)
    upper = np.where(truth > floor, truth, np.minimum(floor, left))
    return n_labels, truth, answers(lower, upper)


@pytest.fixture(scope="module")
def calibrators():
    rng = np.random.default_rng(0)
    yes = rng.beta(0.7, 1.0, size=1_000)
    log_proba = np.log(np.column_stack([1 - yes, yes]))
    true = np.where(rng.random(1_000) < yes**2, "yes", "no")
    return [
        LabelCalibrator(method, classes=["no", "yes"]).fit(log_proba, true)
        for method in ("affine", "vector", "temperature", "isotonic")
    ]


@settings(max_examples=25)
@given(known_in_part(), st.floats(0.0, 1.0))
def test_the_exact_answer_lies_within_the_bounds(calibrators, known, threshold):
    n_labels, truth, scores = known
    labels = NAMES[:n_labels]
    exact = np.log(truth / truth.sum(axis=1, keepdims=True))
    for used in (None, *calibrators):
        each = None if used is None else dict.fromkeys(labels, used)
        found = LabelPosteriors.of(scores, labels, each)
        of_all = exact if used is None else used.transform(exact)
        true = np.exp(of_all[:, 1]).reshape(2, n_labels)
        assert (found.lower <= true + 1e-9).all()
        assert (true <= found.upper + 1e-9).all()
        assert (found.lower <= found.proba).all()
        assert (found.proba <= found.upper).all()
        limits = np.full(n_labels, threshold)
        is_given, uncertain = found.given(limits), found.uncertain(limits)
        assert (true[is_given] >= threshold - 1e-9).all()
        assert (true[~(is_given | uncertain)] < threshold + 1e-9).all()
        assert not (is_given & uncertain).any()


def test_what_is_known_in_full_is_given_by_its_probability():
    truth = np.array([[0.3, 0.3], [0.2, 0.1], [0.0, 0.5], [0.5, 0.0]])
    found = LabelPosteriors.of(answers(truth, truth), ["x", "y"])
    np.testing.assert_allclose(found.proba, [[0.5, 1 / 3], [1.0, 0.0]])
    for each in found:
        np.testing.assert_array_equal(each, found.proba)
    thresholds = np.array([found.proba[0, 0], np.inf])
    assert found.given(thresholds).tolist() == [[True, False], [True, False]]
    assert not found.uncertain(thresholds).any()


# --------------------------------------------------------------------- the estimator


@pytest.mark.parametrize("n_listed", [2, 20, 100])
def test_a_label_is_given_or_left_out_only_for_certain(n_listed, caplog):
    thresholds = {"billing": 0.5, "refund": 0.4, "shipping": 0.6}
    exact = multi(tolerance=0.0, thresholds=thresholds)
    truth, right = exact.predict_proba(TEXTS), exact.predict(TEXTS).astype(bool)
    assert not doubts(caplog)
    clf = multi(n_listed, thresholds=thresholds)
    frame = pd.DataFrame({"text": TEXTS})
    found = clf.classify_frame(frame, probabilities=True)
    assert found.columns.tolist() == [
        *("text", "labels", "uncertain"),
        *(f"{of}({name})" for name in NAMES for of in ("p", "lower", "upper")),
        *("label_mass", "unresolved", "truncated"),
    ]
    is_given, uncertain = (
        np.array([[name in split_names(cell) for name in NAMES] for cell in cells])
        for cells in (found["labels"], found["uncertain"])
    )
    assert right[is_given].all()
    assert not right[~(is_given | uncertain)].any()
    lower, upper = (
        found[[f"{of}({name})" for name in NAMES]].to_numpy()
        for of in ("lower", "upper")
    )
    assert (lower <= truth + 1e-9).all()
    assert (truth <= upper + 1e-9).all()
    assert uncertain.any()
    assert n_listed == 2 or not uncertain.all()
    np.testing.assert_array_equal(clf.predict(TEXTS), is_given)
    n_texts = uncertain.any(axis=1).sum()
    with caplog.at_level(logging.WARNING, "classify.scoring.doubts"):
        clf.predict_proba(TEXTS)
    assert doubts(caplog) == [WARNED.replace("12 of 12", f"{n_texts} of 12")] * 2


def test_an_engine_that_shows_every_token_has_bounds_where_they_are_asked_for():
    frame = pd.DataFrame({"text": TEXTS})
    assert "uncertain" not in multi().classify_frame(frame)
    found = multi().classify_frame(frame, bounds=True)
    assert "lower(refund)" not in found
    assert found["uncertain"].tolist() == ["[]"] * 12
    assert "uncertain" in multi(strategy="generate").classify_frame(frame)


def test_thresholds_are_fitted_to_what_they_are_compared_with():
    Y = (np.random.default_rng(0).random((12, 3)) < 0.5).astype(int)
    clf = multi(20)
    frame = clf.classify_frame(pd.DataFrame({"text": TEXTS}), probabilities=True)
    lower = frame[[f"lower({name})" for name in NAMES]].to_numpy()
    assert clf.fit_thresholds(TEXTS, Y).thresholds == (
        fit_thresholds(lower, Y, NAMES).thresholds
    )


# ------------------------------------------------------------------------------ jobs


def test_a_job_lists_and_counts_labels_that_are_not_certain(tmp_path):
    source = csv_of(tmp_path / "in.csv", [[text] for text in TEXTS])
    asked = AskedLabels(name="about", classifier=multi(20))
    job = Classification(questions=(asked,), probabilities=True)
    summary = run(source, tmp_path / "out.csv", job).summary.questions["about"]
    found = pd.read_csv(tmp_path / "out.csv", keep_default_na=False)
    assert found.columns.tolist()[:6] == [
        *("text", "about", "about.uncertain"),
        *("about.p(billing)", "about.lower(billing)", "about.upper(billing)"),
    ]
    listed = [split_names(cell) for cell in found["about.uncertain"]]
    assert summary.uncertain_labels == Counter(chain(*listed))
    assert summary.n_uncertain == sum(map(bool, listed)) > 0
    widths = [
        found[f"about.upper({name})"] - found[f"about.lower({name})"] for name in NAMES
    ]
    assert summary.n_inexact == (np.max(widths, axis=0) > 1e-3).sum() > 0
    assert Summary.of_json(json.loads(json.dumps(summary.as_json()))) == summary


def test_bounds_are_added_where_they_are_asked_for(tmp_path):
    source = csv_of(tmp_path / "in.csv", [[text] for text in TEXTS])
    job = Classification(classifier=multi(), bounds=True)
    outcome = run(source, tmp_path / "out.jsonl", job)
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["uncertain"] for row in rows] == [[]] * 12
    assert outcome.summary.n_uncertain == outcome.summary.n_inexact == 0


def test_the_summary_says_which_labels_are_not_certain(capsys):
    counts = Summary(
        n_rows=5, n_uncertain=3, uncertain_labels=Counter(refund=3, billing=1)
    )
    report_summary(
        Outcome(
            summary=Summary(n_rows=5, questions={"about": counts}),
            seconds=1.0,
            is_complete=True,
        ),
        Notes(),
        strategy="exact",
        lists_only=True,
        shortlisted=False,
        renamed={},
        speculation=None,
    )
    said = " ".join(capsys.readouterr().err.split())
    assert said.endswith(
        "For 3 rows, some labels of about may apply but are not assigned, since it is "
        "not certain: refund 3, billing 1; --bounds lists them in the column uncertain."
    )
    shown = Shown("(none)", None, 0.9, 0.0, False, "", "", ["refund", "billing"])
    assert shown.remark == "2 uncertain"


@pytest.mark.parametrize(
    ("cause", "remedy"),
    [
        ({}, "lower the --tolerance for exact figures"),
        ({"strategy": "generate"}, "use --strategy exact for exact figures"),
        (
            {"lists_only": True},
            "the server lists only the most likely tokens, which gives bounds",
        ),
        (
            {"shortlisted": True},
            "a shortlist gives bounds; without it, figures are exact",
        ),
    ],
)
def test_the_summary_says_what_makes_labels_certain(capsys, cause, remedy):
    how = {"strategy": "exact", "lists_only": False, "shortlisted": False}
    report_summary(
        Outcome(summary=Summary(n_uncertain=2), seconds=1.0, is_complete=True),
        Notes(),
        **how | cause,
        renamed={},
        speculation=None,
    )
    said = " ".join(capsys.readouterr().err.split())
    assert said.endswith(
        "For 2 rows, another label could be more probable, since part of the label "
        f"mass is unresolved: {remedy}. --bounds marks them in the column certain."
    )


# ------------------------------------------------------- calibration and evaluation


def labelled():
    texts = [f"text {at}" for at in range(40)]
    true = multi(tolerance=0.0).predict(texts).astype(bool)
    cells = [np.array(NAMES)[row].tolist() for row in true]
    return read_labelled(
        open_table(pd.DataFrame({"text": texts, "label": cells})),
        LabelSet.parse(NAMES),
        fields=("text",),
        text_column="text",
        label_column="label",
        any_number=True,
    )


def test_a_calibration_goes_by_bounds_and_an_evaluation_counts_them():
    clf, rows = multi(20), labelled()
    texts = score_labelled(clf, rows)
    wishes = CalibrationWishes(method="affine", target=Target("f1"))
    with pytest.warns(CalibrationWarning, match="^Label '.*': The calibration is fit"):
        fit = fit_labels_artefact(clf, texts, wishes)
    calibration, thresholds = fit.artefact.calibration, fit.artefact.thresholds
    known = LabelPosteriors.of(texts.scores, NAMES, calibration.calibrators)
    kept_back = np.sort(np.random.default_rng(0).permutation(40)[20:])
    expected = fit_thresholds(known.lower[kept_back], rows.labels[kept_back], NAMES)
    assert thresholds.thresholds == expected.thresholds

    clf.set_params(calibrator=calibration, thresholds=thresholds)
    found = evaluate_labels(clf, texts, title="Title", facts={})
    limits = np.array([thresholds.thresholds[name] for name in NAMES])
    np.testing.assert_array_equal(found.given, known.lower >= limits)
    np.testing.assert_array_equal(
        found.uncertain, (known.upper >= limits) & (known.lower < limits)
    )
    assert found.n_uncertain == found.uncertain.any(axis=1).sum() > 0
    raw = LabelPosteriors.of(texts.scores, NAMES)
    right = ((raw.lower >= 0.5) == found.true).all(axis=1)
    assert found.before.exact.value == right.mean()


def test_a_report_tells_labels_that_are_not_certain(tmp_path):
    lower, upper = (
        np.array([[0.6, 0.1], [0.3, 0.2]]),
        np.array([[0.6, 0.1], [0.7, 0.4]]),
    )
    known = LabelPosteriors((lower + upper) / 2, lower, upper, lower, upper)
    found = LabelsEvaluation.of(["x", "y"], [[1, 0], [1, 0]], ["a", "b"], known)
    assert found.facts == {
        "Not certain": "1 of 2 texts may have more labels than they are given, since "
        "part of their label mass is unknown: log loss and Brier score are estimates"
    }
    assert [each.n_given for each in found.by_label] == [1, 0]
    np.testing.assert_array_equal(found.before.proba, known.proba)
    write_report(found, tmp_path / "report")
    stored = json.loads((tmp_path / "report" / "report.json").read_text())
    assert stored["n_uncertain"] == 1
    assert "posteriors" not in stored["before"]
    with (tmp_path / "report" / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["uncertain"] for row in rows] == ["[]", '["a"]']
    assert [float(row["lower(a)"]) for row in rows] == [0.6, 0.3]
    assert [float(row["upper(a)"]) for row in rows] == [0.6, 0.7]
    with raises(
        "Probabilities must have the shape of Y, (2, 1): a row for each text and a "
        "column for each label. Their shape is (2, 2).",
        InputError,
    ):
        LabelsEvaluation.of(["x", "y"], [[1], [0]], ["a"], known)


# ----------------------------------------------------------------- commands and tasks


def test_commands_say_what_is_not_certain(tmp_path):
    common = ["--kind", "multi", "--labels", "billing,shipping"]
    common += ["--strategy", "generate"]
    # One of them is generated, and what begins otherwise is not read to the end.
    common += ["--yes-words", "a1,b1", "--no-words", "a2,b2"]
    result = CliRunner().invoke(app, ["predict", "--text", "Hi.", *common])
    assert result.exit_code == 0, result.stderr
    answer = json.loads(result.stdout)
    assert answer["labels"] == []
    assert answer["uncertain"] == ["billing", "shipping"]
    for name in answer["uncertain"]:
        lower, upper = answer["lower"][name], answer["upper"][name]
        assert lower <= answer["probabilities"][name] <= upper
        assert lower < 0.5 <= upper
    source = csv_of(tmp_path / "in.csv", [["Hi.", "billing"]], ["text", "label"])
    result = CliRunner().invoke(app, ["evaluate", str(source), *common])
    assert result.exit_code == 0, result.stderr
    said = " ".join(result.stderr.split())
    assert said.endswith(
        "1 of 1 texts may have more labels than they are given, since part of their "
        "label mass is unknown: log loss and Brier score are estimates."
    )


def test_a_task_tells_of_each_question_what_is_not_certain(caplog):
    questions = {
        "topic": {"labels": ["New York", "Old town", "New Jersey", "Old village"]},
        "about": {
            "labels": ["billing", "shipping"],
            "kind": "multi",
            "yes_words": ["a1", "b1"],
            "no_words": ["a2", "b2"],
        },
    }
    # After a text that stands last, the model is less sure of its answer.
    settings = {"strategy": "generate", "prompt": {"text_position": "last"}}
    clf = TaskClassifier({**settings, "questions": questions})
    with caplog.at_level(logging.WARNING, "classify.scoring.doubts"):
        clf.predict(["Hi."])
    topic, about = doubts(caplog)
    assert topic.startswith("Question 'topic': 1 of 1 texts may have another label: ")
    assert about == "Question 'about': " + WARNED.replace("12 of 12", "1 of 1")
    frame = pd.DataFrame({"text": ["Hi."]})
    exact = TaskClassifier({"questions": questions})
    found = exact.classify_frame(frame, bounds=True)
    assert {"topic.certain", "about.uncertain"} <= {*found.columns}
    assert "about.uncertain" not in exact.classify_frame(frame)
