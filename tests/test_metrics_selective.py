import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classify.errors import InputError
from classify.metrics import (
    augrc_score,
    aurc_score,
    eaurc_score,
    risk_coverage_curve,
)


def slow_aurc(errors):
    """The mean over k of the error rate of the first k."""
    n = len(errors)
    return sum(sum(errors[:k]) / k for k in range(1, n + 1)) / n


def slow_augrc(errors):
    n = len(errors)
    return sum(sum(errors[:k]) / n for k in range(1, n + 1)) / n


def random_texts(n, seed):
    rng = np.random.default_rng(seed)
    errors = (rng.random(n) < 0.3).astype(int)
    return errors, rng.permutation(n) / n


@pytest.mark.parametrize("seed", range(5))
def test_areas_of_untied_texts_are_their_definitions(seed):
    errors, confidence = random_texts(40, seed)
    zeros = np.zeros(40, dtype=int)
    ranked = errors[np.argsort(-confidence)].tolist()
    best = sorted(ranked)
    assert aurc_score(zeros, errors, confidence) == pytest.approx(slow_aurc(ranked))
    assert augrc_score(zeros, errors, confidence) == pytest.approx(slow_augrc(ranked))
    assert eaurc_score(zeros, errors, confidence) == pytest.approx(
        slow_aurc(ranked) - slow_aurc(best)
    )


def test_aurc_is_one_less_mapies_auarc():
    uncertainty = pytest.importorskip("mapie.metrics.uncertainty")
    errors, confidence = random_texts(100, 7)
    expected = 1 - uncertainty.auarc(1 - errors, confidence)
    assert aurc_score(np.zeros(100, int), errors, confidence) == pytest.approx(expected)


@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.sampled_from([0.2, 0.5, 0.9])),
        min_size=1,
        max_size=6,
    )
)
def test_ties_count_as_the_mean_over_all_orders(texts):
    errors, confidence = map(np.array, zip(*texts, strict=True))
    orders = [
        [errors[at] for at in order]
        for order in itertools.permutations(range(len(texts)))
        if (np.diff(confidence[list(order)]) <= 0).all()
    ]
    zeros = np.zeros_like(errors)
    aurc = np.mean([slow_aurc(order) for order in orders])
    assert aurc_score(zeros, errors, confidence) == pytest.approx(aurc)
    assert eaurc_score(zeros, errors, confidence) == pytest.approx(
        aurc - slow_aurc(sorted(errors)), abs=1e-12
    )
    augrc = np.mean([slow_augrc(order) for order in orders])
    assert augrc_score(zeros, errors, confidence) == pytest.approx(augrc)


@given(
    st.lists(
        st.tuples(st.booleans(), st.sampled_from([-np.inf, -2.0, 0.3, 0.7, 5.0])),
        min_size=1,
        max_size=20,
    )
)
def test_the_curve_has_a_point_for_each_confidence(texts):
    wrong, confidence = map(np.array, zip(*texts, strict=True))
    curve = risk_coverage_curve(np.zeros(len(texts)), wrong.astype(float), confidence)
    assert curve.thresholds.tolist() == sorted(set(confidence.tolist()), reverse=True)
    for coverage, risk, threshold in zip(*curve, strict=True):
        accepted = confidence >= threshold
        assert coverage == pytest.approx(accepted.mean())
        assert risk == pytest.approx(wrong[accepted].mean())


def test_names_and_codes_give_the_same():
    confidence = [0.9, 0.4, 0.6]
    names = aurc_score(["a", "b", "b"], np.array(["a", "a", "b"], object), confidence)
    assert names == aurc_score([0, 1, 1], [0, 0, 1], confidence) == pytest.approx(1 / 9)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ([0, 1], [0, 1], [0.3, np.nan]),
            "confidence[1] is NaN: give a number for each text.",
        ),
        (
            ([0, 1], [0], [0.3, 0.4]),
            (
                "All arrays must have a value for each text: y_true has 2, y_pred has "
                "1, confidence has 2."
            ),
        ),
        (
            ([], [], []),
            (
                "All arrays must have a value for each text: y_true has 0, y_pred has "
                "0, confidence has 0."
            ),
        ),
        (
            ([0, 1], ["a", "b"], [0.3, 0.4]),
            (
                "y_true holds 0 and y_pred holds 'a': give names in both, or codes in "
                "both."
            ),
        ),
        (
            ([0, 1], [0, 1], [[0.3, 0.4]]),
            "confidence must hold one value for each text. Its shape is (1, 2).",
        ),
    ],
)
def test_what_cannot_be_used_is_named(arguments, expected):
    with pytest.raises(InputError) as caught:
        aurc_score(*arguments)
    assert str(caught.value) == expected
