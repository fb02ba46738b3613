"""Maps fitted with labels, against scikit-learn and direct optima."""

import numpy as np
import pytest
from scipy.optimize import minimize, minimize_scalar
from scipy.special import log_softmax
from sklearn.calibration import _TemperatureScaling
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from classify.calibration.labelled import LabelledTexts
from classify.calibration.matrix import matrix
from classify.calibration.scaling import (
    Affine,
    Penalty,
    affine,
    bias,
    isotonic,
    temperature,
    vector,
)
from tests.posteriors import mean_loss, posteriors

FREE = Penalty(log_scale=0.0, bias=0.0)


def texts_of(drawn, weights=None, floor=-30.0):
    weights = np.ones(len(drawn.codes)) if weights is None else weights
    return LabelledTexts(drawn.log_proba, drawn.codes, weights, floor)


def penalised(log_scale, shift, texts, penalty, start):
    """The equation in the docstring of `scaling`, word by word."""
    total = 0.0
    for s, y, w in zip(texts.log_proba, texts.codes, texts.weights, strict=True):
        total -= w * log_softmax(np.exp(log_scale) * (s + shift))[y]
    total += penalty.log_scale / 2 * np.sum(np.square(log_scale))
    return total + penalty.bias / 2 * np.sum((shift - start) ** 2)


def test_a_temperature_without_prior_is_scikit_learns():
    drawn = posteriors(500, 4)
    oracle = _TemperatureScaling().fit(drawn.log_proba, drawn.codes)
    found = temperature(texts_of(drawn), penalty=FREE)
    np.testing.assert_allclose(found.scale, oracle.beta_, rtol=1e-6)
    assert not found.bias.any()


def test_weighted_texts_are_repeated_texts():
    drawn = posteriors(80, 3)
    times = np.random.default_rng(1).integers(1, 4, size=80)
    repeated = drawn._replace(
        log_proba=np.repeat(drawn.log_proba, times, axis=0),
        codes=np.repeat(drawn.codes, times),
    )
    for fit in (temperature, bias, affine, vector):
        weighted = fit(texts_of(drawn, times.astype(float)), penalty=Penalty())
        expected = fit(texts_of(repeated), penalty=Penalty())
        np.testing.assert_allclose(weighted.scale, expected.scale, rtol=1e-5)
        np.testing.assert_allclose(weighted.bias, expected.bias, atol=1e-5)


# scales and biases that are free, of n_labels
FREEDOM = {temperature: (1, 0), bias: (0, 1), affine: (1, 1), vector: (3, 1)}


@pytest.mark.parametrize("fit", FREEDOM, ids=lambda fit: fit.__name__)
def test_fits_are_direct_optima(fit):
    drawn = posteriors(40, 3)
    texts, penalty = texts_of(drawn), Penalty(log_scale=0.7, bias=2.0)
    start = np.array([0.5, -0.2, -0.3])
    n_scales, with_bias = FREEDOM[fit]
    keywords = {"bias": start} if fit is temperature else {"start": start}
    found = fit(texts, penalty=penalty, **keywords)

    def unpacked(free):
        shift = free[n_scales:] if with_bias else start
        return (free[:n_scales] if n_scales else 0.0), shift - shift.mean()

    def objective(free):
        return penalised(*unpacked(free), texts, penalty, start)

    first = np.concatenate([np.zeros(n_scales), start if with_bias else []])
    best = minimize(
        objective,
        first,
        method="Nelder-Mead",
        options={
            "xatol": 1e-8,
            "fatol": 1e-12,
            "maxiter": 20_000,
            "maxfev": 20_000,
            "adaptive": True,
        },
    )
    mine = penalised(
        np.log(found.scale[: max(1, n_scales)]) if n_scales else 0.0,
        found.bias,
        texts,
        penalty,
        start,
    )
    assert mine <= best.fun + 1e-9
    log_scale, shift = unpacked(best.x)
    np.testing.assert_allclose(np.log(found.scale), log_scale * np.ones(3), atol=1e-3)
    np.testing.assert_allclose(found.bias, shift, atol=1e-3)


def test_the_truth_is_found_from_many_labels():
    drawn = posteriors(20_000, 4, scale=0.5, bias=(0.8, -0.6))
    found = affine(texts_of(drawn), penalty=Penalty())
    assert found.scale[0] == pytest.approx(0.5, abs=0.02)
    np.testing.assert_allclose(found.bias, drawn.bias, atol=0.1)


def test_separable_labels_reach_the_bound_and_no_further():
    shown = log_softmax(np.array([[4.0, 0.0], [0.0, 4.0]]), axis=1)
    right = LabelledTexts(shown, np.array([0, 1]), np.ones(2), -30.0)
    wrong = LabelledTexts(shown, np.array([1, 0]), np.ones(2), -30.0)
    assert temperature(right, penalty=FREE).scale[0] <= np.exp(5.0)
    assert temperature(wrong, penalty=FREE).scale[0] == pytest.approx(np.exp(-5.0))
    # With priors, two labels do not turn a model's confidence upside down.
    assert 1 < temperature(right, penalty=Penalty()).scale[0] < 2


def test_labels_that_no_text_has_stay_near_their_prior():
    drawn = posteriors(60, 3)
    wide = np.column_stack([drawn.log_proba, np.full(60, -9.0)])
    texts = LabelledTexts(log_softmax(wide, axis=1), drawn.codes, np.ones(60), -30.0)
    start = np.array([0.0, 0.0, 0.0, 1.2])
    found = affine(texts, start=start, penalty=Penalty())
    assert found.bias[3] == pytest.approx(1.2 - 0.3, abs=0.35)


def test_impossible_labels_count_for_nothing():
    drawn = posteriors(50, 3)
    wide = np.column_stack([drawn.log_proba, np.full(50, -np.inf)])
    texts = LabelledTexts(wide, drawn.codes, np.ones(50), -30.0)
    found = affine(texts, penalty=Penalty())
    alone = affine(texts_of(drawn), penalty=Penalty())
    assert found.scale[0] == pytest.approx(alone.scale[0], rel=0.05)
    predicted = found.transform(wide)
    assert np.isneginf(predicted[:, 3]).all()
    np.testing.assert_allclose(np.exp(predicted).sum(axis=1), 1.0)


def test_matrix_is_scikit_learns_logistic_regression():
    drawn = posteriors(300, 4)
    oracle = LogisticRegression(C=1.0, tol=1e-8, max_iter=10_000)
    oracle.fit(drawn.log_proba, drawn.codes)
    found = matrix(texts_of(drawn), penalty=Penalty()).transform(drawn.log_proba)
    expected = oracle.predict_log_proba(drawn.log_proba)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_matrix_of_two_labels_is_scikit_learns_too():
    drawn = posteriors(200, 2)
    oracle = LogisticRegression(C=1.0, tol=1e-8).fit(drawn.log_proba, drawn.codes)
    found = matrix(texts_of(drawn), penalty=Penalty()).transform(drawn.log_proba)
    expected = oracle.predict_log_proba(drawn.log_proba)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("n_present", [1, 2, 3])
def test_matrix_keeps_the_columns_of_labels_that_no_text_has(n_present):
    drawn = posteriors(200, 4)
    kept = drawn.codes < n_present
    texts = texts_of(drawn)[kept]
    found = matrix(texts, penalty=Penalty()).transform(drawn.log_proba)
    rest = affine(texts, penalty=Penalty()).transform(drawn.log_proba)
    np.testing.assert_allclose(np.exp(found).sum(axis=1), 1.0)
    np.testing.assert_allclose(found[:, n_present:], rest[:, n_present:], atol=1e-12)


def test_matrix_and_isotonic_keep_impossible_labels_impossible():
    drawn = posteriors(200, 3)
    shown = drawn.log_proba.copy()
    shown[::2, 1] = -np.inf
    shown[1, :2] = -np.inf
    for fitted in (
        matrix(texts_of(drawn), penalty=Penalty()),
        isotonic(texts_of(drawn)),
    ):
        predicted = fitted.transform(shown)
        np.testing.assert_array_equal(np.isneginf(predicted), np.isneginf(shown))
        np.testing.assert_allclose(np.exp(predicted).sum(axis=1), 1.0)


def test_isotonic_is_scikit_learns_of_each_label():
    drawn = posteriors(300, 3)
    texts = texts_of(drawn)
    least = 0.5 / 301
    expected = np.column_stack(
        [
            IsotonicRegression(y_min=least, y_max=1.0, out_of_bounds="clip")
            .fit(drawn.log_proba[:, at], drawn.codes == at)
            .predict(drawn.log_proba[:, at])
            for at in range(3)
        ]
    )
    found = np.exp(isotonic(texts).transform(drawn.log_proba))
    np.testing.assert_allclose(found, expected / expected.sum(axis=1, keepdims=True))


def test_isotonic_has_no_infinite_loss_where_it_saw_no_text_of_a_label():
    drawn = posteriors(300, 3)
    fitted = isotonic(texts_of(drawn)[drawn.codes != 2])
    assert np.isfinite(mean_loss(fitted.transform(drawn.log_proba), drawn.codes))


def test_a_true_label_of_probability_0_is_raised_for_the_fit_and_counted():
    shown = np.array([[-0.1, -2.4, -np.inf], [-40.0, 0.0, -1.0]])
    texts = LabelledTexts(shown, np.array([2, 1]), np.ones(2), -30.0)
    assert texts.for_fit.tolist() == [[-0.1, -2.4, -32.4], [-40.0, 0.0, -1.0]]
    assert texts.n_raised == 1
    assert texts.losses(shown).tolist() == [30.0, 0.0]
    assert np.isfinite(affine(texts, penalty=Penalty()).bias).all()


def test_the_map_that_is_fitted_is_the_one_that_is_used():
    # Half of the cells lie more than 30 nats below their row's greatest.
    drawn = posteriors(300, 4, scale=0.04, spread=2.0)
    shown = drawn.log_proba
    far = shown < shown.max(axis=1, keepdims=True) - 30.0
    assert 0.4 < far.mean() < 0.6
    texts = texts_of(drawn)
    penalty = Penalty(log_scale=0.0, bias=0.0)

    def used_loss(log_temperature):
        used = log_softmax(shown / np.exp(log_temperature), axis=1)
        return mean_loss(used, drawn.codes)

    best = np.exp(minimize_scalar(used_loss, bounds=(-2.0, 5.0), method="bounded").x)
    found = 1 / temperature(texts, penalty=penalty).scale[0]
    assert found == pytest.approx(best, rel=1e-4)
    # A floor that raised finite values would bend it.
    floored = np.maximum(shown, shown.max(axis=1, keepdims=True) - 30.0)
    bent = LabelledTexts(floored, drawn.codes, texts.weights, -30.0)
    assert abs(1 / temperature(bent, penalty=penalty).scale[0] - best) > 0.01 * best
    for fit in (bias, affine, vector):
        fitted = fit(texts, penalty=penalty)
        at_optimum = mean_loss(fitted.transform(shown), drawn.codes)
        for moved in (fitted.scale * 1.02, fitted.scale * 0.98):
            if fit is not bias:
                nearby = Affine(moved, fitted.bias).transform(shown)
                assert mean_loss(nearby, drawn.codes) >= at_optimum
        for at in range(4):
            nearby = Affine(fitted.scale, fitted.bias + 0.3 * np.eye(4)[at])
            assert mean_loss(nearby.transform(shown), drawn.codes) >= at_optimum


def test_temperature_keeps_ties_and_rankings():
    shown = log_softmax(np.array([[3.0, 3.0, 1.0, -np.inf]]), axis=1)
    cold = Affine(np.full(4, 50.0), np.zeros(4)).transform(shown)[0]
    assert cold[0] == cold[1] > cold[2] > cold[3] == -np.inf
