"""`LabelCalibrator`: what holds for every method, and what it refuses."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline

from classify.calibration import METHODS, PROBE_METHODS, LabelCalibrator
from classify.calibration.checks import CalibrationWarning
from classify.calibration.methods import LABELLED_METHODS, SHIFT_METHODS
from tests.posteriors import NAMES, mean_loss, posteriors, scores_of

PROBES = np.log([[0.5, 0.2, 0.2, 0.1], [0.3, 0.3, 0.3, 0.1]])


def calibrator(method, **options):
    return LabelCalibrator(method, force=True, **options)


def fitted(method, drawn, **options):
    probes = PROBES if method in PROBE_METHODS else None
    made = calibrator(method, classes=drawn.names, **options)
    return made.fit(drawn.log_proba, drawn.y, probes=probes)


@pytest.fixture(scope="module")
def drawn():
    return posteriors(240, 4)


# ---------------------------------------------------------------- every method


@pytest.mark.parametrize("method", METHODS)
def test_a_constant_added_to_a_row_changes_nothing(method, drawn):
    constants = np.random.default_rng(0).normal(0.0, 20.0, size=(240, 1))
    moved = drawn._replace(log_proba=drawn.log_proba + constants)
    found = fitted(method, moved).transform(moved.log_proba)
    expected = fitted(method, drawn).transform(drawn.log_proba)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_permuting_labels_permutes_everything(method, drawn):
    order = np.array([2, 0, 3, 1])
    permuted = LabelCalibrator(method, classes=drawn.names[order], force=True)
    permuted.fit(
        drawn.log_proba[:, order],
        drawn.y,
        probes=PROBES[:, order] if method in PROBE_METHODS else None,
    )
    found = permuted.transform(drawn.log_proba[:, order])
    expected = fitted(method, drawn).transform(drawn.log_proba)
    np.testing.assert_allclose(found, expected[:, order], atol=2e-4)
    assert permuted.classes_.tolist() == drawn.names[order].tolist()


@pytest.mark.parametrize("method", METHODS)
def test_a_text_gets_the_same_whatever_stands_beside_it(method, drawn):
    made = fitted(method, drawn)
    together = made.transform(drawn.log_proba)
    alone = np.vstack([made.transform(row[None]) for row in drawn.log_proba])
    np.testing.assert_array_equal(alone, together)


@pytest.mark.parametrize("method", METHODS)
def test_rows_are_distributions_and_impossible_stays_impossible(method, drawn):
    shown = drawn.log_proba.copy()
    shown[::3, 1] = -np.inf
    shown[1::3, :3] = -np.inf
    found = fitted(method, drawn).transform(shown)
    np.testing.assert_array_equal(np.isneginf(found), np.isneginf(shown))
    np.testing.assert_allclose(np.exp(found).sum(axis=1), 1.0)


@pytest.mark.parametrize("method", METHODS)
def test_candidates_that_differ_from_text_to_text_can_be_fitted_on(method, drawn):
    shown = drawn.log_proba.copy()
    others = (drawn.codes + 1) % 4
    shown[np.arange(0, 240, 2), others[::2]] = -np.inf
    shown[5, drawn.codes[5]] = -np.inf  # the true label is no candidate
    made = fitted(method, drawn._replace(log_proba=shown))
    assert made.n_floored_ >= 1
    assert np.isfinite(made.metrics_["after"]["log_loss"])
    np.testing.assert_allclose(made.predict_proba(shown).sum(axis=1), 1.0)


@pytest.mark.parametrize("method", METHODS)
def test_it_is_a_scikit_learn_estimator(method, drawn):
    made = calibrator(method, classes=drawn.names.tolist(), prior="labels")
    same = clone(made)
    assert same.get_params() == made.get_params()
    with pytest.raises(NotFittedError):
        same.transform(drawn.log_proba)
    probes = PROBES if method in PROBE_METHODS else None
    assert made.fit(drawn.log_proba, drawn.y, probes=probes) is made
    log_proba = made.predict_log_proba(drawn.log_proba)
    np.testing.assert_array_equal(made.transform(drawn.log_proba), log_proba)
    np.testing.assert_array_equal(
        made.predict_proba(drawn.log_proba), np.exp(log_proba)
    )
    best = drawn.names[log_proba.argmax(axis=1)]
    assert made.predict(drawn.log_proba).tolist() == best.tolist()
    assert made.score(drawn.log_proba, drawn.y) == np.mean(best == drawn.y)
    assert made.n_features_in_ == 4
    assert made.transform(np.empty((0, 4))).shape == (0, 4)


def test_it_works_in_a_pipeline(drawn):
    made = make_pipeline(LabelCalibrator("temperature", classes=drawn.names))
    made.fit(drawn.log_proba, drawn.y)
    assert set(made.predict(drawn.log_proba)) <= set(NAMES)


def test_scores_bring_their_classes(drawn):
    scores = scores_of(drawn.log_proba, drawn.names)
    found = LabelCalibrator("prior_matching").fit(scores)
    assert found.classes_.tolist() == drawn.names.tolist()
    array = LabelCalibrator("prior_matching").fit(drawn.log_proba)
    np.testing.assert_array_equal(
        found.transform(scores), array.transform(drawn.log_proba)
    )
    assert array.classes_.tolist() == [0, 1, 2, 3]


def test_none_is_the_identity_on_normalised_rows(drawn):
    made = LabelCalibrator("none").fit(drawn.log_proba)
    np.testing.assert_allclose(
        made.transform(drawn.log_proba), drawn.log_proba, atol=1e-12
    )


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.integers(2, 5))
def test_temperature_keeps_every_ranking(seed, n_labels):
    drawn = posteriors(30, n_labels, seed=seed)
    made = LabelCalibrator("temperature", classes=drawn.names)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CalibrationWarning)  # one label, if so drawn
        found = made.fit(drawn.log_proba, drawn.y).transform(drawn.log_proba)
    np.testing.assert_array_equal(
        found.argsort(axis=1, kind="stable"),
        drawn.log_proba.argsort(axis=1, kind="stable"),
    )


# ------------------------------------------------------------------ what is fitted


def test_prior_matching_gives_a_given_prior(drawn):
    prior = dict(zip(NAMES, [0.4, 0.3, 0.2, 0.1], strict=False))
    made = LabelCalibrator("prior_matching", prior, classes=drawn.names)
    found = made.fit(drawn.log_proba).predict_proba(drawn.log_proba).mean(axis=0)
    np.testing.assert_allclose(found, [0.4, 0.3, 0.2, 0.1], rtol=0, atol=1e-8)
    np.testing.assert_allclose(made.prior_, [0.4, 0.3, 0.2, 0.1])


def test_the_prior_of_the_labels(drawn):
    made = fitted("prior_matching", drawn, prior="labels")
    shares = np.bincount(drawn.codes) / 240
    np.testing.assert_allclose(
        made.predict_proba(drawn.log_proba).mean(axis=0), shares, atol=1e-8
    )
    np.testing.assert_allclose(made.label_shares_, shares)


def test_unlabelled_texts_join_those_of_prior_matching(drawn):
    made = LabelCalibrator("prior_matching").fit(
        drawn.log_proba[:100], X_unlabeled=drawn.log_proba[100:]
    )
    together = LabelCalibrator("prior_matching").fit(drawn.log_proba)
    np.testing.assert_allclose(made.bias_, together.bias_, atol=1e-9)
    assert (made.n_labels_, made.n_unlabeled_) == (0, 240)


def test_attributes_say_what_was_fitted(drawn):
    for method in ("none", *SHIFT_METHODS):
        made = fitted(method, drawn)
        assert (made.scale_, made.temperature_) == (1.0, 1.0)
    made = fitted("temperature", drawn)
    assert made.temperature_ == pytest.approx(1 / made.scale_)
    assert made.temperature_ > 1.5  # the drawn model is over-confident
    assert not made.bias_.any()
    assert fitted("vector", drawn).temperature_.shape == (4,)
    for method in ("auto", "matrix", "isotonic"):
        made = fitted(method, drawn)
        assert (made.scale_, made.bias_) == (None, None)


def test_metrics_are_cross_fitted(drawn):
    """Of labels that say nothing, a fit that has seen them knows something."""
    y = np.random.default_rng(5).permutation(drawn.y)
    made = LabelCalibrator("matrix", classes=drawn.names).fit(
        drawn.log_proba[:60], y[:60]
    )
    codes = np.searchsorted(drawn.names, y[:60])
    seen = mean_loss(made.transform(drawn.log_proba[:60]), codes)
    assert made.metrics_["after"]["log_loss"] > seen + 0.1
    raw = mean_loss(drawn.log_proba[:60], codes)
    assert made.metrics_["before"]["log_loss"] == pytest.approx(raw)
    assert set(made.metrics_["after"]) == {"log_loss", "brier", "accuracy", "ece"}


def test_texts_of_no_weight_count_for_nothing(drawn):
    weights = np.r_[np.ones(100), np.zeros(140)]
    made = LabelCalibrator("affine", classes=drawn.names)
    made.fit(drawn.log_proba, drawn.y, sample_weight=weights)
    alone = LabelCalibrator("affine", classes=drawn.names)
    alone.fit(drawn.log_proba[:100], drawn.y[:100])
    np.testing.assert_allclose(made.bias_, alone.bias_, atol=1e-7)
    assert made.n_labels_ == 100
    assert made.metrics_["after"] == pytest.approx(alone.metrics_["after"], abs=1e-6)


def test_a_class_without_labels_keeps_its_column(drawn):
    for method in (*LABELLED_METHODS, "auto"):
        kept = drawn.codes != 3
        made = calibrator(method, classes=drawn.names)
        made.fit(drawn.log_proba[kept], drawn.y[kept])
        found = made.transform(drawn.log_proba)
        assert found.shape == (240, 4)
        assert np.isfinite(found).all()


def test_required_tolerance(drawn):
    assert fitted("none", drawn).required_tolerance_ == 1.0
    assert fitted("prior_matching", drawn).required_tolerance_ == 1e-3
    assert fitted("batch", drawn).required_tolerance_ == 1e-5


# ------------------------------------------------------------------------ warnings


def test_shares_far_from_the_prior_are_warned_of():
    shown = log_softmax(np.tile([[4.0, 0.0], [3.0, 1.0], [0.0, 4.0]], (40, 1)), axis=1)
    LabelCalibrator("prior_matching", classes=["a", "b"]).fit(shown)  # two of three
    with pytest.warns(CalibrationWarning) as caught:
        LabelCalibrator(classes=["a", "b"]).fit(
            np.r_[shown[shown[:, 0] > -1], shown[:3]]
        )
    assert str(caught[0].message) == (
        "The shares of the labels that the model itself predicts for 83 texts are far "
        "from the prior: 'a' 99% (prior 50%), 'b' 1% (prior 50%). Prior matching "
        "treats this as a bias of the model. If the texts really have these shares, it "
        "does harm: give the shares as prior, or label some texts."
    )


def test_few_labels_are_warned_of(drawn):
    with pytest.warns(CalibrationWarning) as caught:
        LabelCalibrator(classes=drawn.names).fit(drawn.log_proba[:4], drawn.y[:4])
    assert str(caught[0].message) == (
        "There are only 4 labels: below 10 a calibration can be worse than none, and "
        "its cross-validation has 4 folds. Label more texts, 50 if possible, or use "
        "method='prior_matching', which needs none."
    )


def test_more_folds_than_labels_are_warned_of(drawn):
    made = LabelCalibrator("affine", classes=drawn.names, cv=20)
    with pytest.warns(CalibrationWarning) as caught:
        made.fit(drawn.log_proba[:12], drawn.y[:12])
    assert str(caught[0].message) == (
        "cv=20 folds are more than there are labels (12): 12 folds are taken. Lower "
        "cv, or label more texts."
    )


def test_labels_of_one_class_fall_back_to_unlabelled_texts(drawn):
    made = LabelCalibrator(classes=drawn.names)
    with pytest.warns(CalibrationWarning) as caught:
        made.fit(drawn.log_proba[:20], ["joy"] * 20, X_unlabeled=drawn.log_proba[20:])
    reason = (
        "All 20 labels are 'joy', which say nothing about the other 3: "
        "'auto' falls back to prior matching on the 220 unlabelled texts."
    )
    assert str(caught[0].message) == (
        f"{reason} Label texts of other classes too, or give unlabelled ones: "
        "X_unlabeled."
    )
    assert made.explanation_.startswith(reason)
    assert made.method_ == "prior_matching"
    expected = LabelCalibrator().fit(drawn.log_proba[20:])
    np.testing.assert_allclose(made.bias_, expected.bias_, atol=1e-9)


def test_labels_of_one_class_and_nothing_else_change_nothing(drawn):
    made = LabelCalibrator("affine", classes=drawn.names)
    with pytest.warns(CalibrationWarning, match="falls back to log-probabilities that"):
        made.fit(drawn.log_proba[:20], ["joy"] * 20)
    np.testing.assert_allclose(
        made.transform(drawn.log_proba), drawn.log_proba, atol=1e-12
    )
