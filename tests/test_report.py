import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import (
    accuracy_score,
    brier_score_loss,
    confusion_matrix,
    f1_score,
    log_loss,
    precision_recall_fscore_support,
)

from classify.decision import SelectiveClassifier, SplitConformalSets
from classify.errors import InputError, LabelError
from classify.metrics import aurc_score, calibration_error
from classify.report import Evaluation
from classify.report.by_class import most_confused
from classify.report.measures import confusion_counts, macro_f1
from tests.posteriors import posteriors, scores_of

DRAWN = posteriors(300, 4, seed=3)
TEXTS = [f"text {at}" for at in range(300)]
CALIBRATED = np.log(
    np.exp(DRAWN.log_proba) ** DRAWN.scale
    / (np.exp(DRAWN.log_proba) ** DRAWN.scale).sum(axis=1, keepdims=True)
)


@pytest.fixture(scope="module")
def scores():
    """Scores whose label mass lies between 0.2 and 1."""
    mass = np.linspace(0.2, 1.0, 300)[:, None]
    return scores_of(DRAWN.log_proba + np.log(mass), DRAWN.names)


@pytest.fixture(scope="module")
def evaluation(scores):
    return Evaluation.of(TEXTS, DRAWN.y, scores, calibrated=CALIBRATED)


@pytest.mark.parametrize("when", ["before", "after"])
def test_metrics_are_those_of_scikit_learn(evaluation, when):
    proba = np.exp(DRAWN.log_proba if when == "before" else CALIBRATED)
    predicted = DRAWN.names[proba.argmax(axis=1)]
    quality = evaluation.assessments[when].quality
    expected = {
        "log_loss": log_loss(DRAWN.y, proba, labels=DRAWN.names),
        "brier": brier_score_loss(
            DRAWN.y, proba, labels=DRAWN.names, scale_by_half=False
        ),
        "accuracy": accuracy_score(DRAWN.y, predicted),
        "macro_f1": f1_score(DRAWN.y, predicted, average="macro"),
        "ece": calibration_error(DRAWN.codes, proba),
    }
    for name, value in expected.items():
        assert getattr(quality, name).value == pytest.approx(value, rel=1e-9), name
        assert getattr(quality, name).reason == ""
    assert quality.n_infinite == 0
    aurc = aurc_score(DRAWN.y, predicted, proba.max(axis=1))
    assert evaluation.assessments[when].aurc == pytest.approx(aurc)


def test_calibration_shows(evaluation):
    before, after = evaluation.before.quality, evaluation.after.quality
    assert after.log_loss.value < before.log_loss.value
    assert evaluation.final is evaluation.after


def test_intervals(evaluation):
    quality = evaluation.before.quality
    losses = -DRAWN.log_proba[np.arange(300), DRAWN.codes]
    reach = 1.96 * losses.std() / np.sqrt(300)
    assert quality.log_loss.low == pytest.approx(losses.mean() - reach, abs=reach / 5)
    assert quality.log_loss.high == pytest.approx(losses.mean() + reach, abs=reach / 5)
    n_right = round(quality.accuracy.value * 300)
    wilson = binomtest(n_right, 300).proportion_ci(0.95, method="wilson")
    assert quality.accuracy[1:3] == pytest.approx((wilson.low, wilson.high))
    for measure in quality[:5]:
        assert measure.low < measure.high
    # A binned calibration error is biased upwards, and so are its resamples.
    for measure in quality[:4]:
        assert measure.low < measure.value < measure.high


def test_the_same_texts_give_the_same_numbers(scores, evaluation):
    again = Evaluation.of(TEXTS, DRAWN.y, scores, calibrated=CALIBRATED)
    assert again.before.quality == evaluation.before.quality
    assert again.mistakes == evaluation.mistakes


def test_figures_by_label_are_those_of_scikit_learn(evaluation):
    predicted = DRAWN.names[CALIBRATED.argmax(axis=1)]
    expected = precision_recall_fscore_support(DRAWN.y, predicted, labels=DRAWN.names)
    found = [(f.precision, f.recall, f.f1, f.n_texts) for f in evaluation.by_class]
    assert np.array(found) == pytest.approx(np.transpose(expected))
    assert [f.label for f in evaluation.by_class] == DRAWN.names.tolist()
    shares = [
        (f.n_predicted, f.share_predicted, f.mean_proba) for f in evaluation.by_class
    ]
    counts = np.bincount(CALIBRATED.argmax(axis=1), minlength=4)
    means = np.exp(CALIBRATED).mean(axis=0)
    assert np.array(shares) == pytest.approx(np.array([counts, counts / 300, means]).T)
    matrix = confusion_matrix(DRAWN.y, predicted, labels=DRAWN.names)
    assert evaluation.confusion.tolist() == matrix.tolist()


labels_and_predictions = st.integers(1, 30).flatmap(
    lambda n: st.tuples(
        *[st.lists(st.integers(0, 4), min_size=n, max_size=n) for _ in range(2)]
    )
)


@given(labels_and_predictions)
def test_macro_f1_is_that_of_scikit_learn(drawn):
    codes, predicted = map(np.array, drawn)
    expected = f1_score(codes, predicted, average="macro", zero_division=0)
    confusion = confusion_counts(codes, predicted, 5)
    marginals = confusion.sum(axis=0) + confusion.sum(axis=1)
    assert macro_f1(confusion.diagonal(), marginals) == pytest.approx(expected)


@given(labels_and_predictions, st.integers(1, 25))
def test_confused_pairs_are_the_greatest_cells_off_the_diagonal(drawn, most):
    codes, predicted = map(np.array, drawn)
    names = list("vwxyz")
    counted = {}
    for true, other in zip(*drawn, strict=True):
        if true != other:
            pair = (names[true], names[other])
            counted[pair] = counted.get(pair, 0) + 1
    expected = sorted(counted, key=lambda pair: (-counted[pair], pair))[:most]
    pairs = most_confused(names, confusion_counts(codes, predicted, 5), most=most)
    assert [(pair.label, pair.predicted) for pair in pairs] == expected
    for pair in pairs:
        n_texts = drawn[0].count(names.index(pair.label))
        assert pair.n_texts == counted[pair.label, pair.predicted]
        assert pair.share == pytest.approx(pair.n_texts / n_texts)


def test_mistakes_are_the_surest_ones(evaluation):
    proba = np.exp(CALIBRATED)
    wrong = [
        (-proba[at].max(), at)
        for at in range(300)
        if proba[at].argmax() != DRAWN.codes[at]
    ]
    assert len(wrong) > 20
    expected = sorted(wrong)[:20]
    assert [mistake.row for mistake in evaluation.mistakes] == [
        at + 1 for _, at in expected
    ]
    for mistake, (surety, at) in zip(evaluation.mistakes, expected, strict=True):
        assert mistake.text == TEXTS[at]
        assert mistake.label == DRAWN.y[at] != mistake.predicted
        assert mistake.proba_predicted == pytest.approx(-surety)
        assert mistake.proba_label == pytest.approx(proba[at, DRAWN.codes[at]])
        assert mistake.label_mass == pytest.approx(0.2 + 0.8 * at / 299)


def test_an_impossible_true_label_makes_the_log_loss_infinite_and_is_counted():
    log_proba = np.log([[0.5, 0.5], [1.0, 1e-320], [0.25, 0.75]])
    log_proba[1] = [0.0, -np.inf]
    scores = scores_of(log_proba, ["a", "b"])
    quality = Evaluation.of(["x", "y", "z"], ["a", "b", "b"], scores).before.quality
    assert quality.log_loss.value == np.inf
    assert quality.log_loss.low is quality.log_loss.high is None
    assert quality.log_loss.reason == (
        "the true label of 1 of 3 texts has probability 0"
    )
    assert quality.n_infinite == 1
    assert quality.brier.value == pytest.approx((0.5 + 2 + 0.125) / 3)


def test_with_one_label_nothing_is_measured():
    scores = scores_of(np.zeros((3, 1)), ["only"])
    quality = Evaluation.of(["x"] * 3, ["only"] * 3, scores).before.quality
    for measure in quality[:5]:
        assert measure == (
            None,
            None,
            None,
            "there is one label only, of probability 1",
        )


def test_a_single_text_has_no_bootstrap_interval():
    scores = scores_of(np.log([[0.8, 0.2]]), ["a", "b"])
    quality = Evaluation.of(["x"], ["a"], scores).before.quality
    assert quality.log_loss.value == pytest.approx(-np.log(0.8))
    assert quality.log_loss.low is None
    assert quality.log_loss.reason == "an interval needs 2 or more texts"
    assert quality.accuracy.high == 1.0


def test_labels_that_no_text_has_or_gets_have_no_precision_recall_or_f1():
    scores = scores_of(np.log([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1]]), ["a", "b", "c"])
    a, b, c = Evaluation.of(["x", "y"], ["a", "a"], scores).by_class
    assert (a.precision, a.recall, a.f1) == (1.0, 0.5, pytest.approx(2 / 3))
    assert (b.precision, b.recall, b.f1) == (0.0, None, 0.0)
    assert (c.precision, c.recall, c.f1) == (None, None, None)


def test_a_threshold_is_judged_on_the_calibrated_probabilities(scores):
    chosen = SelectiveClassifier(target_risk=0.3, min_label_mass=0.4).fit(
        scores_of(CALIBRATED, DRAWN.names), DRAWN.y
    )
    evaluation = Evaluation.of(
        TEXTS, DRAWN.y, scores, calibrated=CALIBRATED, selective=chosen
    )
    confidence, heavy = np.exp(CALIBRATED).max(axis=1), scores.label_mass >= 0.4
    accepted = heavy & (confidence >= chosen.threshold_)
    wrong = CALIBRATED.argmax(axis=1) != DRAWN.codes
    assert 0 < accepted.sum() < 300
    selection = evaluation.selection
    assert selection.decisions.accepted.tolist() == accepted.tolist()
    assert selection.coverage.value == pytest.approx(accepted.mean())
    assert selection.risk.value == pytest.approx(wrong[accepted].mean())
    n_wrong, n_accepted = int(wrong[accepted].sum()), int(accepted.sum())
    wilson = binomtest(n_wrong, n_accepted).proportion_ci(0.95, method="wilson")
    assert selection.risk[1:3] == pytest.approx((wilson.low, wilson.high))
    # Texts without enough mass are answered last, however sure they look.
    order = np.where(heavy, confidence, -1.0)
    assert evaluation.final.aurc == pytest.approx(
        aurc_score(DRAWN.codes, CALIBRATED.argmax(axis=1), order)
    )
    assert evaluation.before.aurc == pytest.approx(
        aurc_score(
            DRAWN.codes,
            DRAWN.log_proba.argmax(axis=1),
            np.exp(DRAWN.log_proba).max(axis=1),
        )
    )


def test_the_risk_of_no_answer_is_not_defined(scores, caplog):
    chosen = SelectiveClassifier(target_risk=0.001).fit(scores, DRAWN.y)
    assert "no text will be answered" in caplog.text
    selection = Evaluation.of(TEXTS, DRAWN.y, scores, selective=chosen).selection
    assert selection.threshold == np.inf
    assert selection.coverage.value == 0.0
    assert selection.risk == (None, None, None, "no text is answered")


def test_sets_are_counted(scores):
    held = SplitConformalSets(0.8).conformalize(scores, DRAWN.y).predict_set(scores)
    sets = Evaluation.of(TEXTS, DRAWN.y, scores, sets=held).sets
    hits = [row[code] for row, code in zip(held, DRAWN.codes, strict=True)]
    assert sets.coverage.value == pytest.approx(np.mean(hits))
    assert sets.mean_size == pytest.approx(held.sum() / 300)
    sizes = held.sum(axis=1).tolist()
    assert sets.n_by_size == {size: sizes.count(size) for size in sorted(set(sizes))}


def test_texts_and_labels_may_be_series_of_any_index(scores, evaluation):
    index = np.arange(300)[::-1]
    texts, y = pd.Series(TEXTS, index=index), pd.Series(DRAWN.y, index=index)
    again = Evaluation.of(texts, y, scores, calibrated=CALIBRATED)
    assert again.mistakes == evaluation.mistakes


def refused(kind, *arguments, **options):
    with pytest.raises(kind) as caught:
        Evaluation.of(*arguments, **options)
    return str(caught.value)


def test_what_does_not_fit_is_refused(scores):
    assert refused(InputError, TEXTS[1:], DRAWN.y, scores) == (
        "All arrays must have a value for each text: texts has 299, y_true has 300, "
        "label_logprobs has 300."
    )
    assert refused(InputError, [], [], scores[[]]) == (
        "All arrays must have a value for each text: texts has 0, y_true has 0, "
        "label_logprobs has 0."
    )
    assert refused(LabelError, TEXTS, ["rage", *DRAWN.y[1:]], scores) == (
        "y_true[0] is 'rage', which is not one of the classes: 'anger', 'fear', 'joy', "
        "'trust'. Did you mean 'anger'? Correct the label, or add a class and its "
        "column of probabilities."
    )
    assert refused(InputError, [*TEXTS[1:], np.nan], DRAWN.y, scores) == (
        "texts[299] is nan, of type float: give texts as strings."
    )
    assert refused(
        InputError, TEXTS, DRAWN.y, scores, calibrated=CALIBRATED[:, :3]
    ) == (
        "calibrated must have the shape of label_logprobs, (300, 4): a row for each "
        "text and a column for each class. Its shape is (300, 3)."
    )
    assert refused(InputError, TEXTS, DRAWN.y, scores, sets=np.ones((300, 4))) == (
        "sets must be booleans of shape (300, 4): whether each text's set holds each "
        "label. Got float64 of shape (300, 4) instead."
    )


def test_probabilities_are_no_log_probabilities(scores):
    message = refused(
        InputError, TEXTS, DRAWN.y, scores, calibrated=np.full((300, 4), 0.25)
    )
    assert message == (
        "Row 0 of calibrated is not a probability distribution: its probabilities sum "
        "to 5.1361. Give what LabelCalibrator.transform returned."
    )
