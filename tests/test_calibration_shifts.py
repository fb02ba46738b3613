"""Shifts that need no labels, against their equations solved by other means."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import brentq, root
from scipy.special import expit, log_softmax, logsumexp, softmax

from classify.calibration.shifts import (
    batch_shift,
    content_free_shift,
    domain_shift,
    pmi_shift,
    prior_matching_shift,
)
from tests.posteriors import posteriors

SHAPES = st.tuples(st.integers(1, 12), st.integers(2, 5))
# Steps of 1e-3, so that rounding does not make ties of what is no tie.
LOGITS = st.integers(-40_000, 40_000).map(lambda n: n / 1000)


def uniform(n_labels):
    return np.full(n_labels, 1 / n_labels)


def fixed_point(log_proba, prior, n_steps):
    """The published iteration, as it stands."""
    bias = np.zeros(len(prior))
    for _ in range(n_steps):
        mean = softmax(log_proba + bias, axis=1).mean(axis=0)
        bias = bias + np.log(prior) - np.log(mean)
    return bias - bias.mean()


@given(SHAPES.flatmap(lambda shape: arrays(float, shape, elements=LOGITS)), st.data())
def test_prior_matching_gives_the_prior(logits, data):
    n_labels = logits.shape[1]
    parts = data.draw(arrays(float, n_labels, elements=st.floats(0.01, 1.0)))
    prior = parts / parts.sum()
    found = prior_matching_shift(log_softmax(logits, axis=1), prior)
    mean = softmax(logits + found.bias, axis=1).mean(axis=0)
    np.testing.assert_allclose(mean, prior, rtol=0, atol=1e-8)
    assert found.gap <= 1e-10
    assert abs(found.bias.mean()) < 1e-9


def test_prior_matching_is_where_the_published_iteration_goes():
    shown = posteriors(300, 4).log_proba
    prior = np.array([0.4, 0.3, 0.2, 0.1])
    found = prior_matching_shift(shown, prior)
    expected = fixed_point(shown, prior, 5000)
    np.testing.assert_allclose(found.bias, expected, rtol=0, atol=1e-7)


def test_prior_matching_of_two_labels_is_a_root_of_one_equation():
    margins = np.array([3.0, 1.0, 0.5, -4.0, 8.0])
    shown = log_softmax(np.column_stack([margins, np.zeros(5)]), axis=1)
    apart = brentq(lambda b: expit(margins + b).mean() - 0.3, -50, 50, xtol=1e-13)
    found = prior_matching_shift(shown, np.array([0.3, 0.7]))
    np.testing.assert_allclose(found.bias, [apart / 2, -apart / 2], atol=1e-9)


def test_prior_matching_of_sharp_scores_takes_steps_through_flat_ground():
    margins = np.array([900.0, 700.0, -800.0])
    shown = log_softmax(np.column_stack([margins, np.zeros(3)]), axis=1)
    found = prior_matching_shift(shown, uniform(2))
    assert found.gap <= 1e-10
    # Half the mass of three sure texts: the middle one is torn.
    assert found.bias[0] - found.bias[1] == pytest.approx(-700.0)


def test_prior_matching_weighs_texts():
    shown = posteriors(60, 3).log_proba
    times = np.random.default_rng(0).integers(0, 4, size=60)
    weighted = prior_matching_shift(shown, uniform(3), times.astype(float))
    repeated = prior_matching_shift(np.repeat(shown, times, axis=0), uniform(3))
    np.testing.assert_allclose(weighted.bias, repeated.bias, atol=1e-9)


def test_prior_matching_asks_a_text_for_the_prior_among_its_candidates():
    draw = np.random.default_rng(0)
    logits = draw.normal(size=(200, 4))
    possible = draw.random((200, 4)) < 0.6
    possible[np.arange(200), draw.integers(4, size=200)] = True
    logits[~possible] = -np.inf
    prior = np.array([0.4, 0.3, 0.2, 0.1])
    target = np.mean([row * prior / (row @ prior) for row in possible], axis=0)

    found = prior_matching_shift(log_softmax(logits, axis=1), prior)

    def gap(free):
        return (softmax(logits + np.append(free, 0.0), axis=1).mean(axis=0) - target)[
            :3
        ]

    expected = np.append(root(gap, np.zeros(3), tol=1e-12).x, 0.0)
    np.testing.assert_allclose(found.bias, expected - expected.mean(), atol=1e-8)


def test_a_label_that_nobody_has_as_candidate_has_no_say():
    shown = posteriors(100, 3).log_proba
    absent = np.full((100, 1), -np.inf)
    alone = prior_matching_shift(shown, uniform(3)).bias
    beside = prior_matching_shift(np.hstack([shown, absent]), uniform(4)).bias
    np.testing.assert_allclose(np.diff(beside[:3]), np.diff(alone), atol=1e-8)
    assert np.isfinite(beside).all()


def test_batch_shift_is_the_mean_of_logarithms():
    shown = posteriors(50, 3).log_proba
    prior = np.array([0.5, 0.3, 0.2])
    found = batch_shift(shown, prior, floor=-1000.0)
    adapted = shown + found
    # What is left of each label's mean is its prior, but for one constant.
    left = adapted.mean(axis=0) - np.log(prior)
    np.testing.assert_allclose(left, left[0], atol=1e-12)


def test_batch_shift_raises_what_is_far_below_and_leaves_out_what_is_impossible():
    shown = np.array([[0.0, -100.0], [0.0, -2.0], [0.0, -np.inf]])
    found = batch_shift(shown, uniform(2), floor=-30.0)
    assert found[1] - found[0] == pytest.approx((30.0 + 2.0) / 2)


PROBES = np.log([[0.6, 0.3, 0.1], [0.2, 0.2, 0.6]]) - np.array([[1.0], [5.0]])


@pytest.mark.parametrize("shift", [content_free_shift, domain_shift])
def test_content_free_shift_divides_by_the_mean_probability(shift):
    text = log_softmax(np.array([[0.3, -0.7, 1.1]]), axis=1)
    found = shift(PROBES, uniform(3), floor=-30.0)
    divided = np.exp(text) / np.array([0.4, 0.25, 0.35])
    np.testing.assert_allclose(softmax(text + found), divided / divided.sum())


def test_pmi_shift_subtracts_the_joint_log_probability_of_the_premise():
    found = pmi_shift(PROBES[:1], uniform(3), floor=-30.0)
    np.testing.assert_allclose(found, -PROBES[0] + PROBES[0].mean())


def test_several_premises_weigh_by_their_label_mass():
    found = pmi_shift(PROBES, uniform(3), floor=-30.0)
    joint = -logsumexp(PROBES, axis=0)
    np.testing.assert_allclose(found, joint - joint.mean())
    assert not np.allclose(found, content_free_shift(PROBES, uniform(3), floor=-30.0))


def test_a_label_that_probes_rule_out_shifts_by_the_floor_at_most():
    probes = np.array([[0.0, -np.inf]])
    for shift in (content_free_shift, domain_shift, pmi_shift):
        found = shift(probes, uniform(2), floor=-30.0)
        np.testing.assert_allclose(found, [-15.0, 15.0])
