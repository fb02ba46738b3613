import functools

import numpy as np
import pytest
from sklearn.metrics import accuracy_score

from classify.errors import ConfigError, InputError
from classify.metrics import bootstrap_interval, calibration_error


def share(values):
    return values.mean()


def test_a_percentile_interval_is_made_of_quantiles_of_resamples():
    values = np.arange(30.0)
    interval = bootstrap_interval(share, values, n_resamples=4000)
    rng = np.random.default_rng(5)
    means = values[rng.integers(30, size=(4000, 30))].mean(axis=1)
    expected = np.quantile(means, [0.025, 0.975])
    assert [interval.low, interval.high] == pytest.approx(expected, abs=0.3)
    assert interval.value == values.mean()


def test_rows_are_drawn_jointly_from_all_arrays():
    y_true = np.random.default_rng(0).integers(3, size=50)
    proba = np.eye(3)[y_true]
    interval = bootstrap_interval(calibration_error, y_true, proba, n_resamples=50)
    assert interval == (0.0, 0.0, 0.0)


def test_names_in_lists_can_be_resampled():
    interval = bootstrap_interval(
        functools.partial(accuracy_score),
        ["a", "b"] * 10,
        ["a", "a"] * 10,
        n_resamples=200,
    )
    assert 0.2 < interval.low < interval.value == 0.5 < interval.high < 0.8


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_intervals_hold_the_truth_about_as_often_as_they_say(method):
    rng = np.random.default_rng(0)
    held = 0
    for seed in range(100):
        low, high, _ = bootstrap_interval(
            share,
            rng.exponential(size=40),
            confidence_level=0.8,
            n_resamples=200,
            random_state=seed,
            method=method,
        )
        held += low <= 1.0 <= high
    # The bootstrap of skewed means is a little short.
    assert 65 <= held <= 92


def test_the_seed_decides():
    values = np.random.default_rng(0).normal(size=30)
    first, again, other = (
        bootstrap_interval(share, values, n_resamples=100, random_state=seed)
        for seed in (0, 0, 1)
    )
    assert first == again != other


@pytest.mark.parametrize(
    ("arguments", "options", "error", "expected"),
    [
        (
            ([1.0, 2.0],),
            {"method": "basic"},
            ConfigError,
            "method must be 'percentile' or 'bca'. Got 'basic' instead.",
        ),
        (
            ([1.0, 2.0],),
            {"confidence_level": 95},
            ConfigError,
            "confidence_level must lie between 0 and 1. Got 95 instead.",
        ),
        (
            (),
            {},
            InputError,
            "Give the arrays that the metric takes after the metric.",
        ),
        (
            ([1.0, 2.0], [1.0]),
            {},
            InputError,
            "All arrays must have a value for each text: array 0 has 2, array 1 has 1.",
        ),
        (
            ([1.0],),
            {},
            InputError,
            "An interval needs at least 2 texts to resample. There is only 1.",
        ),
        (
            (np.ones(20),),
            {"method": "bca"},
            InputError,
            (
                "The bca interval does not exist here: the metric is NaN, or the same, "
                'in too many resamples. Use method="percentile" and a metric that is '
                "defined for every resample."
            ),
        ),
    ],
)
def test_what_cannot_be_used_is_named(arguments, options, error, expected):
    with pytest.raises(error) as caught:
        bootstrap_interval(share, *arguments, **options)
    assert str(caught.value) == expected
