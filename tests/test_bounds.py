"""What is decided where probabilities are known within bounds only."""

import asyncio
import logging
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classify import ZeroShotClassifier
from classify.calibration import CalibrationWarning, LabelCalibrator, PriorShift
from classify.calibration.by_count import CountTemperature
from classify.calibration.matrix import Matrix
from classify.calibration.mixture import Mixture
from classify.calibration.rows import normalised
from classify.calibration.scaling import Affine, Isotonic
from classify.decision import SelectiveClassifier, SplitConformalSets
from classify.decision.posteriors import Posteriors
from classify.demo import model_folder
from classify.engines import FakeEngine
from classify.jobs import Classification, RowColumns, open_table, run_job
from classify.labels import LabelSet
from classify.labels.tree import LabelTree
from classify.questions.ordinal import Ordinal
from classify.questions.tree import Tree, node_log_proba
from classify.report import Evaluation
from classify.report.json_form import as_json
from classify.scoring import LabelLogprobs
from classify.scoring.bounds import is_open
from classify.tokenizer import load_tokenizer
from tests.toy_jobs import csv_of, rows_of
from tests.toy_model import hashed_logprobs

LABELS = ["account access", "billing", "refund", "shipping"]
TEXTS = [f"Where is parcel {n}?" for n in range(12)]
SHARES = st.floats(1e-6, 1.0)


def scores_of(lower, upper, values=None, unresolved=None):
    """Return scores of labels a, b, … from probabilities."""
    lower, upper = np.atleast_2d(lower), np.atleast_2d(upper)
    if values is None:
        values = (lower + upper) / 2
    if unresolved is None:
        unresolved = (upper - lower).sum(axis=1)
    with np.errstate(divide="ignore"):
        logs = [np.log(np.atleast_2d(each)) for each in (values, lower, upper)]
    n_texts, n_labels = lower.shape
    return LabelLogprobs(
        logs[0],
        np.array([chr(ord("a") + at) for at in range(n_labels)]),
        logs[1],
        logs[2],
        np.asarray(unresolved, dtype=np.float64),
        np.zeros(n_texts, dtype=np.bool_),
        np.ones(n_texts, dtype=np.int64),
    )


@st.composite
def known_in_part(draw):
    """The true probabilities of labels, of which a list shows those above a floor."""
    n_labels = draw(st.integers(2, 6))
    truth = np.array([draw(SHARES) for _ in range(n_labels + 1)])
    truth = (truth / truth.sum())[:n_labels]
    floor = draw(SHARES)
    is_shown = truth > floor
    left = 1.0 - truth[is_shown].sum()
    lower = np.where(is_shown, truth, 0.0)
    upper = np.where(is_shown, truth, min(floor, left))
    return truth, scores_of(lower, upper, unresolved=[left])


def maps(n_labels, seed):
    """Return a map of each kind, as a fit might leave them."""
    rng = np.random.default_rng(seed)
    bias = 2 * rng.normal(size=n_labels)
    scales = np.exp(rng.normal(size=n_labels))
    steps = [np.sort(3 * rng.normal(size=4) - 3) for _ in range(n_labels)]
    heights = [np.sort(rng.uniform(0.01, 0.99, size=4)) for _ in range(n_labels)]
    columns = np.arange(rng.integers(1, n_labels + 1))
    hot, cold = Affine(np.full(n_labels, 0.4), bias), Affine(np.full(n_labels, 3), bias)
    matrix = Matrix(
        columns,
        rng.normal(size=(len(columns), n_labels)),
        rng.normal(size=len(columns)),
        -30.0,
        hot,
    )
    return {
        "none": Affine.shift(np.zeros(n_labels)),
        "shift": Affine.shift(bias),
        "hot": hot,
        "cold": cold,
        "vector": Affine(scales, bias),
        "by count": CountTemperature(0.7, 0.5),
        "isotonic": Isotonic(tuple(steps), tuple(heights), -30.0),
        "matrix": matrix,
        "mixture": Mixture(np.log([0.2, 0.3, 0.5]), (hot, matrix, cold)),
    }


@settings(max_examples=25)
@given(known_in_part(), st.integers(0, 2**32 - 1))
def test_the_truth_lies_within_the_bounds_through_every_calibration(known, seed):
    truth, scores = known
    best = scores.values.argmax(axis=1)
    for name, each in maps(len(truth), seed).items():
        true = np.exp(each.transform(normalised(np.log(truth)[None])))
        found = each.bounds(scores.bounds)
        lower, upper = (np.exp(bound) for bound in found.log_proba())
        assert (lower <= true + 1e-9).all(), name
        assert (true <= upper + 1e-9).all(), name
        if found.is_certain(best)[0]:
            assert true[0, best[0]] >= true.max() - 1e-6, name


@settings(max_examples=25)
@given(st.lists(SHARES, min_size=2, max_size=6), st.integers(0, 2**32 - 1))
def test_what_is_known_in_full_has_bounds_of_no_width(shares, seed):
    truth = np.array(shares) / (1.0 + np.sum(shares))
    scores = scores_of(truth, truth)
    for each in maps(len(truth), seed).values():
        estimate = each.transform(scores.log_proba)
        found = each.bounds(scores.bounds).around(estimate)
        np.testing.assert_array_equal(found.lower, estimate)
        np.testing.assert_array_equal(found.upper, estimate)
        np.testing.assert_allclose(
            each.bounds(scores.bounds).log_proba().lower, estimate, atol=1e-9
        )


@settings(max_examples=25)
@given(known_in_part())
def test_nodes_of_a_tree_and_expected_values_lie_within_their_bounds(known):
    truth, scores = known
    names = scores.classes.tolist()
    true = np.log(truth)[None] - np.log(truth.sum())
    posteriors = Posteriors.of(scores)
    ordinal = Ordinal({name: float(at**2) for at, name in enumerate(names)})
    found = ordinal.results(posteriors)
    expected = (np.exp(true) @ np.arange(len(truth)) ** 2)[0]
    assert found["expected_lower"][0] <= expected + 1e-6
    assert expected <= found["expected_upper"][0] + 1e-6
    paths = [f"{'x' if at % 2 else 'y'}/{name}" for at, name in enumerate(names)]
    tree = LabelTree.of(LabelSet.parse([*paths, "y/more", "x/more"]))
    labels = [tree.names[leaf] for leaf in tree.leaves]
    padded = np.zeros((3, 1, len(labels)))
    for row, values in enumerate((truth, np.exp(scores.lower), np.exp(scores.upper))):
        padded[row, 0, : len(names)] = values
    wide = replace(
        scores_of(padded[1], padded[2], unresolved=scores.unresolved),
        classes=np.array(labels),
    )
    with np.errstate(divide="ignore"):
        nodes = node_log_proba(np.log(padded[0]) - np.log(truth.sum()), tree)
    for level in (0.3, 0.6, 0.9):
        node = Tree(tree, level).results(Posteriors.of(wide))["node"][0]
        if node is not None:
            assert nodes[0, tree.names.index(node)] >= np.log(level) - 1e-6


def test_sums_that_the_labels_cannot_have_together_narrow_the_bounds():
    # 50 labels may have 0.01 each, and 0.02 together.
    lower, upper = np.array([0.9, *[0.0] * 50]), np.array([0.9, *[0.01] * 50])
    scores = scores_of(lower, upper, unresolved=[0.02])
    assert np.exp(scores.bounds.log_proba().lower[0, 0]) == pytest.approx(0.9 / 0.92)
    assert np.exp(scores.bounds.log_proba().upper[0, 1]) == pytest.approx(0.01 / 0.91)
    hot = scores.bounds.scaled(0.5, np.zeros(51)).log_proba()
    # Most is added by dividing 0.02 evenly: 50 * sqrt(0.0004) = 1.
    assert np.exp(hot.lower[0, 0]) == pytest.approx(0.9**0.5 / (0.9**0.5 + 1.0))


def test_a_threshold_is_passed_for_certain_or_not_at_all():
    scores = scores_of(
        [[0.8, 0.1], [0.5, 0.1], [0.5, 0.4], [0.3, 0.1]],
        [[0.8, 0.1], [0.9, 0.1], [0.5, 0.4], [0.9, 0.1]],
        [[0.8, 0.1], [0.7, 0.1], [0.5, 0.4], [0.6, 0.1]],
    )
    rule = SelectiveClassifier.at(0.85, ["a", "b"], min_label_mass=0.5)
    decided = rule.decide(scores)
    assert decided.label.tolist() == ["a", None, None, None]
    assert decided.reason.tolist() == ["", "uncertain", "low probability", "uncertain"]
    np.testing.assert_allclose(decided.confidence, [8 / 9, 5 / 6, 5 / 9, 3 / 4])
    margin = SelectiveClassifier.at(0.0, ["a", "b"], confidence="margin")
    # The greatest probability that the other can have is 0.9 / 1.
    np.testing.assert_allclose(
        margin.decide(scores_of([0.5, 0.0], [0.5, 0.5], [0.5, 0.1])).confidence, [0.0]
    )
    even = SelectiveClassifier.at(0.5, ["a", "b"], confidence="entropy")
    known = even.decide(scores_of([0.9, 0.0], [0.9, 0.1], [0.9, 0.01]))
    entropy = -(0.9 * np.log(0.9) + 0.1 * np.log(0.1))
    assert known.confidence[0] == pytest.approx(1 - entropy / np.log(2))


def test_a_calibration_keeps_no_answer_back_for_what_the_tolerance_allows():
    # Of two texts with the same estimates, 0.5 % and 5 % of the mass are unresolved.
    unresolved = np.array([0.005, 0.05])
    lower = np.array([[0.9, 0.05, 0.0]] * 2)
    upper = lower + unresolved[:, None]
    scores = scores_of(
        lower, upper, values=np.array([[0.9, 0.05, 1e-4]] * 2), unresolved=unresolved
    )
    matrix = Matrix(
        np.arange(3), np.eye(3) - 0.2, np.zeros(3), -30.0, Affine.shift(np.zeros(3))
    )
    log_proba = matrix.transform(scores.log_proba)
    found = Posteriors(
        log_proba,
        scores.classes,
        scores.label_mass,
        matrix.bounds(scores.bounds),
        scores.resolved_mass,
        is_open(scores),
    )
    known = found.known(1e-3)
    assert (known.lower < np.exp(log_proba[:, 0]) - 0.01).all()
    threshold = float(np.exp(log_proba[0, 0])) - 1e-6
    decided = SelectiveClassifier.at(threshold, ["a", "b", "c"]).decide(found)
    assert decided.reason.tolist() == ["", "uncertain"]


def test_a_set_has_all_labels_that_may_belong_to_it():
    exact = np.array([[0.7, 0.2, 0.1]] * 20)
    for score in ("lac", "aps"):
        sets = SplitConformalSets(0.9, score, random_state=0)
        sets.conformalize(scores_of(exact, exact), ["a"] * 18 + ["b"] * 2)
        rng = np.random.default_rng(1)
        truth = rng.dirichlet([0.5, 0.5, 0.5], size=200)
        spread = rng.uniform(0, 0.3, size=truth.shape) * (rng.random((200, 1)) < 0.5)
        lower, upper = truth * (1 - spread), truth * (1 + spread)
        of_truth = sets.predict_set(scores_of(truth, truth))
        of_bounds = sets.predict_set(scores_of(lower, upper, truth))
        # The likeliest label, which every set has, is that of the estimate: the truth.
        assert (of_bounds >= of_truth).all()
        closed = (spread == 0).all(axis=1)
        np.testing.assert_array_equal(of_bounds[closed], of_truth[closed])
        assert of_bounds.sum() > of_truth.sum()


@pytest.mark.parametrize("confidence", ["max_proba", "margin", "entropy"])
def test_promises_are_kept_where_scores_are_known_in_part(confidence):
    """Over many draws, from a world in which lists leave out half of the labels."""
    rng = np.random.default_rng(0)
    truth = rng.dirichlet([0.3, 0.3, 0.3], size=2_000)
    lower = np.where(truth > 0.25, truth, 0.0)
    upper = np.where(truth > 0.25, truth, 0.25)
    y = (truth.cumsum(axis=1) > rng.random((2_000, 1))).argmax(axis=1)
    scores = scores_of(lower, upper, unresolved=1 - lower.sum(axis=1))
    labels = scores.classes[y]
    n_broken, coverage = 0, []
    for _ in range(50):
        rows = rng.integers(2_000, size=300)
        rule = SelectiveClassifier(0.2, confidence=confidence, confidence_level=0.9)
        kept = rule.fit(scores[rows], labels[rows]).decide(scores)
        wrong = scores.values.argmax(axis=1) != y
        n_broken += wrong[kept.accepted].mean() > 0.2
        sets = SplitConformalSets(0.9).fit(scores[rows], labels[rows])
        coverage.append(sets.predict_set(scores)[np.arange(2_000), y].mean())
    assert n_broken <= 14  # 5 are expected at most; more than 14 in 1 of 10,000
    assert np.mean(coverage) >= 0.89


def test_a_fit_to_scores_that_are_not_known_says_so():
    scores = scores_of([[0.6, 0.1], [0.1, 0.5]], [[0.6, 0.3], [0.2, 0.5]])
    sentence = (
        r"^{} is fitted to estimates: for 2 of the 2 texts, more than 1% of the label "
        r"mass is unknown\. The guarantees of thresholds and sets still hold, but "
        r"probabilities may be worse than the figures say\. Use an engine that "
        r"shows every token, strategy='exact' and no shortlist\.$"
    )
    with pytest.warns(CalibrationWarning, match=sentence.format("The calibration")):
        LabelCalibrator("batch").fit(scores)
    with pytest.warns(CalibrationWarning, match=sentence.format("The prior shift")):
        shift = PriorShift(prior_from=[0.5, 0.5], force=True).fit(scores)
    lower, upper = shift.bounds(scores).log_proba()
    assert (lower <= shift.transform(scores)).all()
    assert (shift.transform(scores) <= upper).all()


def classifier(n_listed, **options):
    size = len(load_tokenizer(model_folder()))
    engine = FakeEngine.from_function(
        hashed_logprobs(size, sharpness=5.0), size, n_listed=n_listed
    )
    return ZeroShotClassifier(LABELS, "demo", engine=engine, **options)


@pytest.mark.parametrize("n_listed", [5, 500, 4000])
def test_columns_of_rows_have_the_truth_within_them(n_listed):
    exact = classifier(None, tolerance=0.0).predict_proba(TEXTS)
    found = classifier(n_listed).classify_frame(pd.DataFrame({"text": TEXTS}))
    assert found.columns.tolist() == [
        *("text", "label", "probability", "lower", "upper", "certain"),
        *("label_mass", "unresolved", "truncated"),
    ]
    truth = exact[np.arange(12), [LABELS.index(each) for each in found["label"]]]
    assert (found["lower"] <= truth + 1e-5).all()
    assert (truth <= found["upper"] + 1e-5).all()
    best = exact.argmax(axis=1)
    certain = found["certain"].to_numpy(dtype=bool)
    assert [LABELS[at] for at in best[certain]] == found["label"][certain].tolist()


def test_an_engine_that_shows_every_token_has_bounds_where_they_are_asked_for():
    frame = pd.DataFrame({"text": TEXTS})
    assert "certain" not in classifier(None).classify_frame(frame)
    found = classifier(None).classify_frame(frame, bounds=True)
    assert found["certain"].all()
    assert (found["upper"] - found["lower"] <= 1e-3).all()
    assert "certain" in classifier(None, strategy="generate").classify_frame(frame)


def test_a_job_counts_the_rows_that_are_not_certain(tmp_path):
    source = csv_of(tmp_path / "in.csv", [[text] for text in TEXTS])
    job = Classification(classifier=classifier(5), columns=RowColumns(text="text"))
    summary = run_job(job, open_table(source), tmp_path / "out.csv").summary
    header, *rows = rows_of(tmp_path / "out.csv")
    found = pd.DataFrame(rows, columns=header)
    assert summary.n_uncertain == (found["certain"] == "False").sum() > 0
    width = found["upper"].astype(float) - found["lower"].astype(float)
    assert summary.n_inexact == (width > 1e-3).sum() > 0


def test_predictions_that_may_be_others_are_told_of(caplog):
    told = (
        "12 of 12 texts may have another label: the engine, the strategy or the "
        "shortlist leaves more than the tolerance of 0.001 unknown, and their labels "
        "and probabilities are estimates. classify_frame gives the bounds of each text."
    )
    with caplog.at_level(logging.WARNING, "classify.scoring.doubts"):
        classifier(1).predict(TEXTS)
        asyncio.run(classifier(1).apredict_proba(TEXTS))
    said = [each.getMessage() for each in caplog.records]
    assert said.count(told) == 2
    caplog.clear()
    classifier(None).predict_proba(TEXTS)
    assert not any("another label" in each.getMessage() for each in caplog.records)


def test_an_evaluation_says_how_many_labels_are_not_certain():
    scores = scores_of([[0.6, 0.1], [0.3, 0.2]], [[0.6, 0.1], [0.3, 0.5]])
    evaluation = Evaluation.of(["x", "y"], ["a", "b"], scores)
    assert evaluation.n_uncertain == as_json(evaluation)["n_uncertain"] == 1
    assert evaluation.facts == {
        "Not certain": "1 of 2 texts may have another label, since part of their "
        "label mass is unknown: the figures are estimates"
    }
    assert "Not certain" not in Evaluation.of(["x"], ["a"], scores[:1]).facts
