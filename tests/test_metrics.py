import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss

from classify.errors import ConfigError, InputError, LabelError
from classify.metrics import (
    calibration_error,
    log_loss_from_log_proba,
    smooth_calibration_error,
)


def draws(n, k=4, *, seed=0, sharpness=1.0):
    """Labels from softmax(z), and the posteriors softmax(sharpness * z)."""
    rng = np.random.default_rng(seed)
    z = 2 * rng.normal(size=(n, k))
    proba = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    y = (proba.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    stated = np.exp(sharpness * z)
    return y, stated / stated.sum(axis=1, keepdims=True)


def slow_error(confidence, correct, n_bins, norm):
    """Equal-width bins (lo, hi], one text at a time."""
    texts_of = {}
    for c, right in zip(confidence, correct, strict=True):
        at = next(i for i in range(n_bins) if c <= (i + 1) / n_bins)
        texts_of.setdefault(at, []).append((c, right))
    gaps, shares = [], []
    for texts in texts_of.values():
        c, right = zip(*texts, strict=True)
        gaps.append(abs(sum(right) / len(right) - sum(c) / len(c)))
        shares.append(len(texts) / len(confidence))
    if norm == "max":
        return max(gaps)
    power = {"l1": 1, "l2": 2}[norm]
    weighted = zip(gaps, shares, strict=True)
    return sum(s * g**power for g, s in weighted) ** (1 / power)


@pytest.mark.parametrize("norm", ["l1", "l2", "max"])
@pytest.mark.parametrize("n_bins", [1, 4, 15])
def test_top_label_error_is_that_of_the_slow_one(norm, n_bins):
    y, proba = draws(300, sharpness=2.0)
    expected = slow_error(proba.max(axis=1), proba.argmax(axis=1) == y, n_bins, norm)
    found = calibration_error(y, proba, norm=norm, n_bins=n_bins)
    assert found == pytest.approx(expected, abs=1e-12)
    assert found > 0.05


@pytest.mark.parametrize("norm", ["l1", "l2", "max"])
def test_classwise_error_is_the_mean_over_classes(norm):
    y, proba = draws(200, 3, sharpness=0.5)
    each = [slow_error(proba[:, at], y == at, 10, norm) for at in range(3)]
    found = calibration_error(y, proba, norm=norm, n_bins=10, kind="classwise")
    assert found == pytest.approx(np.mean(each), abs=1e-12)


@pytest.mark.parametrize(
    ("confidence", "n_bins"), [(0.5, 2), (0.75, 4), (0.6, 15), (0.8, 15), (1.0, 3)]
)
def test_an_upper_edge_belongs_to_its_bin(confidence, n_bins):
    # The partner is below the edge by less than a bin, wrong where the first is right:
    # only in one bin do their gaps cancel.
    partner = confidence - 0.5 / n_bins
    first = np.array([confidence, partner])
    proba = np.column_stack([first, *[(1 - first) / 7] * 7])
    gap = abs(0.5 - (confidence + partner) / 2)
    found = calibration_error([0, 1], proba, n_bins=n_bins)
    assert found == pytest.approx(gap, abs=1e-12)


def test_zero_is_in_the_first_bin():
    proba = [[0.0, 1.0], [0.01, 0.99]]
    error = calibration_error([1, 0], proba, n_bins=2, kind="classwise")
    assert error == pytest.approx(abs(0.5 - 0.005))


@pytest.mark.parametrize("order", [1, -1])
def test_quantile_bins_never_split_ties(order):
    # In halves by position, the six tied texts would be cut 2 to 4, by their order.
    confidence = np.array([0.6, 0.6, 0.6, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8])
    right = np.array([1, 1, 0, 1, 1, 1, 0, 0, 0])[::order]
    confidence = confidence[::order]
    proba = np.column_stack([confidence, 1 - confidence])
    found = calibration_error(1 - right, proba, n_bins=2, strategy="quantile")
    # The least confidence that a half does not exceed is 0.8: a single bin.
    assert found == pytest.approx(abs(5 / 9 - confidence.mean()))
    found = calibration_error(1 - right, proba, n_bins=3, strategy="quantile")
    assert found == pytest.approx((3 * abs(2 / 3 - 0.6) + 6 * abs(0.5 - 0.8)) / 9)


def test_quantile_bins_hold_the_same_number_of_texts():
    y, proba = draws(60)
    confidence, correct = proba.max(axis=1), proba.argmax(axis=1) == y
    order = np.argsort(confidence)
    gaps = [
        abs(correct[rows].mean() - confidence[rows].mean())
        for rows in np.split(order, 15)
    ]
    found = calibration_error(y, proba, strategy="quantile")
    assert found == pytest.approx(np.mean(gaps), abs=1e-12)


@given(st.integers(0, 10_000), st.sampled_from(["uniform", "quantile"]))
def test_the_order_of_texts_and_columns_does_not_matter(seed, strategy):
    y, proba = draws(40, 3, seed=seed)
    names = np.array(["a", "b", "c"])
    rng = np.random.default_rng(seed)
    rows, columns = rng.permutation(40), rng.permutation(3)
    for kind in ("top_label", "classwise"):
        expected = calibration_error(y, proba, strategy=strategy, kind=kind)
        found = calibration_error(
            names[y][rows],
            proba[rows][:, columns],
            strategy=strategy,
            kind=kind,
            classes=names[columns],
        )
        assert found == pytest.approx(expected, abs=1e-9)
    expected = smooth_calibration_error(y, proba)
    found = smooth_calibration_error(
        names[y][rows], proba[rows][:, columns], classes=names[columns]
    )
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("strategy", ["uniform", "quantile"])
def test_a_weight_is_a_number_of_copies(strategy):
    y, proba = draws(50)
    copies = np.random.default_rng(1).integers(0, 4, size=50)
    rows = np.repeat(np.arange(50), copies)
    for metric, options in (
        (calibration_error, {"strategy": strategy, "n_bins": 7}),
        (smooth_calibration_error, {}),
    ):
        expected = metric(y[rows], proba[rows], **options)
        found = metric(y, proba, sample_weight=copies, **options)
        assert found == pytest.approx(expected, abs=1e-6)


def test_errors_of_calibrated_posteriors_vanish_with_many_texts():
    y, proba = draws(200_000)
    assert calibration_error(y, proba) < 0.01
    assert smooth_calibration_error(y, proba) < 0.01
    y, proba = draws(200_000, sharpness=3.0)
    assert calibration_error(y, proba) > 0.1
    assert smooth_calibration_error(y, proba) > 0.1


def slow_smooth_error(confidence, correct):
    """The fixed point by bisection, with images of each Gaussian and a Riemann sum."""
    t = (np.arange(3000) + 0.5) / 3000

    def smoothed(width):
        kernel = sum(
            np.exp(-0.5 * ((t[:, None] - sign * confidence - 2 * turn) / width) ** 2)
            for turn in range(-3, 4)
            for sign in (1, -1)
        ) / (width * np.sqrt(2 * np.pi))
        return np.abs((kernel * (correct - confidence)).mean(axis=1)).mean()

    low, high = 1e-3, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if smoothed(middle) > middle else (low, middle)
    return low


@pytest.mark.parametrize("sharpness", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("n", [3, 7, 200])
def test_the_smooth_error_is_that_of_the_slow_one(n, sharpness):
    y, proba = draws(n, seed=3, sharpness=sharpness)
    expected = slow_smooth_error(proba.max(axis=1), proba.argmax(axis=1) == y)
    assert smooth_calibration_error(y, proba) == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize("confidence", [0.55, 0.8, 0.999, 1.0])
@pytest.mark.parametrize("n_right", [0, 3, 10])
def test_the_smooth_error_of_one_confidence_is_its_gap(confidence, n_right):
    y = np.repeat([0, 1], [n_right, 10 - n_right])
    found = smooth_calibration_error(y, [[confidence, 1 - confidence]] * 10)
    assert found == pytest.approx(abs(n_right / 10 - confidence), abs=2e-4)


def test_log_loss_is_that_of_scikit_learn_where_that_does_not_clip():
    y, proba = draws(100)
    found = log_loss_from_log_proba(y, np.log(proba))
    assert found.value == pytest.approx(log_loss(y, proba), rel=1e-12)
    assert found.n_infinite == 0


def test_log_loss_does_not_clip_and_counts_the_impossible():
    log_proba = np.array([[-800.0, 0.0], [0.0, -np.inf], [-np.inf, 0.0]])
    found = log_loss_from_log_proba(["a", "a", "b"], log_proba, classes=["a", "b"])
    assert found == (800 / 3, 0)
    found = log_loss_from_log_proba(["a", "b", "a"], log_proba, classes=["a", "b"])
    assert found == (np.inf, 2)


def message(error, call):
    with pytest.raises(error) as caught:
        call()
    return str(caught.value)


GOOD = [[0.5, 0.5], [0.2, 0.8]]


@pytest.mark.parametrize(
    ("call", "error", "expected"),
    [
        (
            lambda: calibration_error([0, 1], [[0.5, 0.5], [0.2, 0.7]]),
            InputError,
            (
                "Row 1 of y_proba is not a probability distribution: its values go "
                "from 0.2 to 0.7 and sum to 0.9. Give probabilities: at least 0, with "
                "sum 1 in each row."
            ),
        ),
        (
            lambda: calibration_error([0, 1], [[np.nan, 0.5], [0.2, 0.8]]),
            InputError,
            (
                "Row 0 of y_proba is not a probability distribution: its values go "
                "from nan to nan and sum to nan. Give probabilities: at least 0, with "
                "sum 1 in each row."
            ),
        ),
        (
            lambda: calibration_error([0, 1], [0.5, 0.5]),
            InputError,
            (
                "y_proba must have a row for each text and a column for each class, at "
                "least one of both. Its shape is (2,)."
            ),
        ),
        (
            lambda: calibration_error([0], GOOD),
            InputError,
            "All arrays must have a value for each text: y_true has 1, y_proba has 2.",
        ),
        (
            lambda: calibration_error([[0, 1]], GOOD),
            InputError,
            (
                "y_true must hold one label for each text, in one dimension. Got "
                "shape (1, 2) instead."
            ),
        ),
        (
            lambda: calibration_error(["a", "b"], GOOD),
            InputError,
            (
                "y_true holds 'a', which is not a column of the probabilities: give "
                "classes, the names of the 2 columns in their order."
            ),
        ),
        (
            lambda: calibration_error(["a", "c"], GOOD, classes=["a", "b"]),
            LabelError,
            (
                "y_true[1] is 'c', which is not one of the classes: 'a', 'b'. Correct "
                "the label, or add a class and its column of probabilities."
            ),
        ),
        (
            lambda: calibration_error([0, 2], GOOD),
            LabelError,
            (
                "y_true[1] is 2, which is not one of the classes: 0, 1. Correct the "
                "label, or add a class and its column of probabilities."
            ),
        ),
        (
            lambda: calibration_error(["a", "b"], GOOD, classes=["a", "b", "c"]),
            InputError,
            "classes must name each of the 2 columns. Its shape is (3,).",
        ),
        (
            lambda: calibration_error(["a", "b"], GOOD, classes=["a", "a"]),
            LabelError,
            "classes must be different from each other. Got 'a', 'a'.",
        ),
        (
            lambda: calibration_error([0, 1], GOOD, sample_weight=[1, -1]),
            InputError,
            (
                "sample_weight must hold 2 finite numbers, at least 0 and not all 0. "
                "Got array([ 1., -1.]) instead."
            ),
        ),
        (
            lambda: calibration_error([0, 1], GOOD, norm="l3"),
            ConfigError,
            "norm must be one of 'l1', 'l2', 'max'. Got 'l3' instead.",
        ),
        (
            lambda: calibration_error([0, 1], GOOD, n_bins=0),
            ConfigError,
            "n_bins must be at least 1. Got 0 instead.",
        ),
        (
            lambda: log_loss_from_log_proba([0, 1], GOOD),
            InputError,
            (
                "Row 0 of log_proba is not a probability distribution: its "
                "probabilities sum to 3.29744. Give natural logarithms of "
                "probabilities that sum to 1 in each row."
            ),
        ),
        (
            lambda: log_loss_from_log_proba([0, 1], [-1.0, -1.0]),
            InputError,
            (
                "log_proba must have a row for each text and a column for each class, "
                "at least one of both. Its shape is (2,)."
            ),
        ),
    ],
)
def test_what_cannot_be_used_is_named(call, error, expected):
    assert message(error, call) == expected


def test_integers_are_columns_or_values_and_never_stand_for_names():
    _, proba = draws(3, 2)
    # Where 0 stands for "b", as in labels={0: "b", 1: "a"}, columns would be mistaken.
    for numbers in ([0, 1, 1], [True, False, False]):
        with pytest.raises(
            LabelError,
            match=re.escape(
                f"y_true holds {numbers[0]}, but the classes are names: 'a', 'b'. Give "
                "the names, so that no number is taken for another label."
            ),
        ):
            log_loss_from_log_proba(numbers, np.log(proba), classes=["a", "b"])
    assert log_loss_from_log_proba(
        [7, 5, 5], np.log(proba), classes=[7, 5]
    ) == log_loss_from_log_proba([0, 1, 1], np.log(proba))


def test_missing_labels_are_no_class():
    with pytest.raises(LabelError, match=re.escape("y_true has no label in row 1:")):
        calibration_error(np.array(["a", None]), GOOD, classes=["a", "b"])
