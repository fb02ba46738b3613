import itertools
import json
import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest
from sklearn.base import clone

from classify import LabelLogprobs
from classify.decision import SelectiveClassifier
from classify.decision.risk_control import certified_threshold, n_texts_needed
from classify.errors import ConfigError, InputError, LabelError


def calibrated_texts(n, k=3, *, seed=0, spread=0.3):
    rng = np.random.default_rng(seed)
    proba = rng.dirichlet([spread] * k, size=n)
    return proba, (proba.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)


def label_logprobs(values, classes):
    values = np.asarray(values, dtype=np.float64)
    n_texts = len(values)
    return LabelLogprobs(
        values=values,
        classes=np.array(classes),
        lower=values,
        upper=values,
        unresolved=np.zeros(n_texts),
        truncated=np.zeros(n_texts, dtype=np.bool_),
        n_reads=np.ones(n_texts, dtype=np.int64),
    )


def compositions(total, parts):
    """All ways to write `total` as a sum of so many numbers."""
    for bars in itertools.combinations(range(total + parts - 1), parts - 1):
        edges = (-1, *bars, total + parts - 1)
        yield [high - low - 1 for low, high in itertools.pairwise(edges)]


@pytest.mark.parametrize(
    ("n", "target_risk", "confidence_level"), [(12, 0.3, 0.75), (9, 0.5, 0.6)]
)
def test_the_promise_holds_exactly_in_small_worlds(n, target_risk, confidence_level):
    # Three values of confidence, right or wrong: every outcome of n texts, with its
    # probability under distributions drawn at random, most of them near the target.
    values = np.array([0.9, 0.8, 0.7])
    outcomes = np.array([*compositions(n, 6)])
    chosen = []
    for outcome in outcomes:
        found = certified_threshold(
            np.repeat(np.repeat(values, 2), outcome),
            np.repeat([False, True] * 3, outcome),
            target_risk=target_risk,
            confidence_level=confidence_level,
        )
        chosen.append((values >= found.threshold).sum() - 1)
    chosen = np.array(chosen)
    ways = [
        math.factorial(n) / math.prod(map(math.factorial, outcome))
        for outcome in outcomes.tolist()
    ]
    rng = np.random.default_rng(0)
    worst = 0.0
    for _ in range(300):
        share = rng.dirichlet([rng.choice([0.5, 1.0, 3.0])] * 3)
        spread = rng.choice([0.003, 0.03, 0.3])
        risk = np.clip(target_risk + spread * rng.normal(size=3), 0.0, 1.0)
        cells = np.column_stack([share * (1 - risk), share * risk]).ravel()
        chance = ways * (cells**outcomes).prod(axis=1)
        assert chance.sum() == pytest.approx(1.0)
        risk_above = (share * risk).cumsum() / share.cumsum()
        broken = (chosen >= 0) & (risk_above[chosen] > target_risk)
        worst = max(worst, chance[broken].sum())
    assert 0.02 < worst <= 1 - confidence_level


@given(st.integers(0, 1000), st.sampled_from([1, 2, 15]))
def test_what_is_certified_passes_its_exact_test(seed, digits):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(60, 600))
    confidence = np.round(rng.beta(5, 1, size=n), digits)
    wrong = rng.random(n) < (1 - confidence) * rng.choice([0.1, 0.5, 1.0])
    found = certified_threshold(
        confidence, wrong, target_risk=0.1, confidence_level=0.95
    )
    accepted = confidence >= found.threshold
    assert found.n_accepted == accepted.sum()
    assert found.n_errors == wrong[accepted].sum()
    if not found.n_accepted:
        assert found.threshold == np.inf
        assert found.risk_upper == 1.0
        return
    # One to four walks share 0.05.
    assert binom.cdf(found.n_errors, found.n_accepted, 0.1) <= 0.05
    uppers = [
        binomtest(found.n_errors, found.n_accepted, alternative="less")
        .proportion_ci(1 - 0.05 / n_walks)
        .high
        for n_walks in range(1, 5)
    ]
    assert min(abs(found.risk_upper - upper) for upper in uppers) < 1e-9
    assert found.risk_upper <= 0.1
    shuffled = rng.permutation(n)
    again = certified_threshold(
        confidence[shuffled], wrong[shuffled], target_risk=0.1, confidence_level=0.95
    )
    assert again == found


@pytest.mark.parametrize(("n_texts", "certified"), [(58, False), (59, True)])
def test_fifty_nine_right_texts_certify_five_percent(n_texts, certified):
    # 0.95^59 = 0.0485 is the first power below 0.05.
    found = certified_threshold(
        np.linspace(0.5, 1, n_texts),
        np.zeros(n_texts, dtype=np.bool_),
        target_risk=0.05,
        confidence_level=0.95,
    )
    assert (found.n_accepted > 0) == certified
    assert found.threshold == (0.0 if certified else np.inf)


def test_more_labels_answer_more_texts():
    coverages = [
        np.mean(
            [
                SelectiveClassifier(0.1).fit(*calibrated_texts(n, seed=seed)).coverage_
                for seed in range(20)
            ]
        )
        for n in (100, 400, 1600)
    ]
    assert np.diff(coverages).min() > 0.02
    # 0.57 of the texts have a risk of 0.1 together.
    assert 0.4 < coverages[-1] < 0.57


def test_answers_and_reasons():
    proba = np.array([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7], [0.99, 0.01]])
    mass = np.array([0.5, 0.5, 0.001, 0.001])
    X = label_logprobs(np.log(proba * mass[:, None]), ["no", "yes"])
    fitted = SelectiveClassifier.from_dict(
        {
            "target_risk": 0.05,
            "confidence": "max_proba",
            "confidence_level": 0.95,
            "min_label_mass": 0.01,
            "classes": ["no", "yes"],
            "threshold": 0.8,
            "coverage": 0.5,
            "risk_upper": 0.04,
            "n_labels": 100,
        }
    )
    decisions = fitted.decide(X)
    assert decisions.label.tolist() == ["no", None, None, None]
    assert decisions.accepted.tolist() == [True, False, False, False]
    assert decisions.reason.tolist() == [
        "",
        "low probability",
        "low label mass",
        "low label mass",
    ]
    assert decisions.confidence == pytest.approx([0.9, 0.6, 0.7, 0.99])
    assert fitted.predict(X).tolist() == ["no", None, None, None]


def test_a_confidence_at_the_threshold_is_answered():
    proba, y = calibrated_texts(500)
    selective = SelectiveClassifier(0.1).fit(proba, y)
    decisions = selective.decide(proba)
    assert 0.2 < decisions.accepted.mean() < 0.95
    assert decisions.accepted.mean() == selective.coverage_
    lowest = decisions.confidence[decisions.accepted].min()
    highest = decisions.confidence[~decisions.accepted].max()
    assert highest < selective.threshold_ <= lowest
    assert selective.threshold_ == np.nextafter(highest, 1)


@pytest.mark.parametrize(
    ("confidence", "expected"),
    [
        ("max_proba", [0.7, 1.0, 0.5]),
        ("margin", [0.5, 1.0, 0.0]),
        (
            "entropy",
            [
                1
                + (0.7 * np.log(0.7) + 0.2 * np.log(0.2) + 0.1 * np.log(0.1))
                / np.log(3),
                1.0,
                1 - np.log(2) / np.log(3),
            ],
        ),
    ],
)
def test_confidences(confidence, expected):
    proba, y = calibrated_texts(300)
    fitted = SelectiveClassifier(0.2, confidence=confidence).fit(proba, y)
    X = [[0.2, 0.7, 0.1], [0.0, 0.0, 1.0], [0.5, 0.5, 0.0]]
    assert fitted.decide(X).confidence == pytest.approx(expected)
    assert fitted.coverage_ > 0.1


def test_probabilities_their_logarithms_and_label_logprobs_give_the_same():
    proba, y = calibrated_texts(600)
    proba[0] = [1.0, 0.0, 0.0]
    names = np.array(["a", "b", "c"])
    with np.errstate(divide="ignore"):
        log_proba = np.log(proba)
    joint = label_logprobs(log_proba - 3.0, names)
    fits = [
        SelectiveClassifier(0.1, classes=names).fit(proba, names[y]),
        SelectiveClassifier(0.1, classes=names).fit(log_proba, names[y]),
        SelectiveClassifier(0.1).fit(joint, names[y]),
    ]
    decided = [
        fits[0].predict(proba),
        fits[1].predict(log_proba),
        fits[2].predict(joint),
    ]
    assert decided[0].tolist() == decided[1].tolist() == decided[2].tolist()
    assert {fit.n_labels_ for fit in fits} == {600}
    assert 0.2 < fits[0].coverage_ == fits[1].coverage_ == fits[2].coverage_ < 1


def test_the_order_of_columns_does_not_matter():
    proba, y = calibrated_texts(300)
    names = np.array(["a", "b", "c"])
    columns = [2, 0, 1]
    first = SelectiveClassifier(0.1, classes=names).fit(proba, names[y])
    other = SelectiveClassifier(0.1, classes=names[columns])
    other.fit(proba[:, columns], names[y])
    assert first.threshold_ == pytest.approx(other.threshold_)
    assert (first.predict(proba) == other.predict(proba[:, columns])).all()


def test_low_label_mass_takes_no_part():
    proba, y = calibrated_texts(600)
    light = np.arange(600) % 2 == 0
    # The light texts are sure and always wrong.
    proba[light] = [0.998, 0.001, 0.001]
    y[light] = 1
    mass = np.where(light, 1e-4, 0.5)
    X = label_logprobs(np.log(proba * mass[:, None]), ["a", "b", "c"])
    y = np.array(["a", "b", "c"])[y]
    fitted = SelectiveClassifier(0.1, min_label_mass=0.1).fit(X, y)
    alone = SelectiveClassifier(0.1).fit(X[~light], y[~light])
    assert fitted.threshold_ == alone.threshold_ < 1
    assert fitted.coverage_ == alone.coverage_ / 2 > 0
    assert fitted.n_labels_ == 600
    assert (fitted.decide(X).reason[light] == "low label mass").all()
    assert not SelectiveClassifier(0.1).fit(X, y).coverage_


@pytest.mark.parametrize("level", [0.9, 0.99999])
def test_what_is_stored_decides_alike(level):
    proba, y = calibrated_texts(300)
    names = ["a", "b", "c"]
    fitted = SelectiveClassifier(0.1, confidence_level=level, classes=names)
    fitted.fit(proba, np.array(names)[y])
    assert (fitted.coverage_ == 0) == (level > 0.999)
    text = json.dumps(fitted.to_dict(), allow_nan=False)
    read = SelectiveClassifier.from_dict(json.loads(text))
    assert read.to_dict() == fitted.to_dict()
    assert (read.predict(proba) == fitted.predict(proba)).all()
    assert read.threshold_ == fitted.threshold_


def test_a_threshold_of_ones_own():
    proba, _ = calibrated_texts(300)
    given = SelectiveClassifier.at(0.8, ["a", "b", "c"])
    answered = proba.max(axis=1) >= 0.8
    assert 0 < answered.sum() < 300
    decided = given.decide(proba)
    assert (decided.accepted == answered).all()
    assert set(decided.label[answered]) == {"a", "b", "c"}
    assert np.isnan([given.coverage_, given.risk_upper_]).all()
    assert given.n_labels_ == 0
    text = json.dumps(given.to_dict(), allow_nan=False)
    read = SelectiveClassifier.from_dict(json.loads(text))
    assert read.to_dict() == given.to_dict()
    assert np.isnan([read.coverage_, read.risk_upper_]).all()
    assert (read.predict(proba) == given.predict(proba)).all()
    with pytest.raises(ValueError, match="not fitted yet"):
        clone(given).predict(proba)
    by_margin = SelectiveClassifier.at(0.5, list("abc"), confidence="margin")
    ordered = np.sort(proba, axis=1)
    margins = ordered[:, -1] - ordered[:, -2]
    assert (by_margin.decide(proba).accepted == (margins >= 0.5)).all()


@pytest.mark.parametrize("threshold", [-0.1, 1.5, float("nan"), float("inf")])
def test_a_threshold_that_is_none(threshold):
    message = f"threshold must be a number from 0 to 1. Got {threshold!r} instead."
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        SelectiveClassifier.at(threshold, ["a", "b"])


def test_no_texts_get_no_decisions():
    fitted = SelectiveClassifier(0.2).fit(*calibrated_texts(200))
    assert [len(values) for values in fitted.decide(np.empty((0, 3)))] == [0] * 4


def test_it_follows_scikit_learn():
    selective = SelectiveClassifier(0.1, confidence="margin", classes=["a", "b"])
    copy = clone(selective).set_params(target_risk=0.2)
    assert copy.get_params() == selective.get_params() | {"target_risk": 0.2}
    with pytest.raises(ValueError, match="not fitted yet"):
        selective.predict([[0.5, 0.5]])


@pytest.mark.parametrize(
    ("n_texts", "error_rate", "advice"),
    [
        (30, 0.0, "That takes about 59 or more such texts with enough label mass."),
        (
            200,
            0.5,
            (
                "The risk is above it at every threshold: more labels will not help, "
                "but better posteriors or another target may."
            ),
        ),
    ],
)
def test_without_a_threshold_all_abstain_and_the_log_says_why(
    n_texts, error_rate, advice, caplog
):
    # Errors come first by confidence.
    sure = np.linspace(0.9, 0.6, n_texts)
    y = (np.arange(n_texts) < error_rate * n_texts).astype(int)
    fitted = SelectiveClassifier().fit(np.column_stack([sure, 1 - sure]), y)
    assert fitted.threshold_ == np.inf
    assert fitted.coverage_ == 0.0
    assert fitted.risk_upper_ == 1.0
    assert fitted.predict([[1.0, 0.0]]).tolist() == [None]
    assert caplog.messages == [
        (
            "No threshold keeps a risk of 0.05 at confidence level 0.95 with "
            f"{n_texts} labelled texts, {n_texts} of them with enough label mass: "
            f"no text will be answered. {advice}"
        )
    ]


def test_the_texts_needed_are_about_right():
    # Half of the texts are never wrong, the others always.
    options = {"target_risk": 0.05, "confidence_level": 0.95}
    for n_texts, expected in ((40, 117), (58, 117), (100, 200)):
        half = np.arange(n_texts) < n_texts / 2
        needed = n_texts_needed(np.where(half, 0.9, 0.6), ~half, **options)
        # 2 log(0.05) / log(0.95) = 116.8; chance was against those who had enough.
        assert needed == expected
    none = np.empty(0)
    assert n_texts_needed(none, none.astype(np.bool_), **options) == 59


GOOD = np.array([[0.5, 0.5], [0.2, 0.8]])


@pytest.mark.parametrize(
    ("call", "error", "expected"),
    [
        (
            lambda: SelectiveClassifier(5).fit(GOOD, [0, 1]),
            ConfigError,
            (
                "The 'target_risk' parameter of SelectiveClassifier must be a number, "
                "between 0 and 1, both excluded. Got 5 instead."
            ),
        ),
        (
            lambda: SelectiveClassifier(confidence_level=1.0).fit(GOOD, [0, 1]),
            ConfigError,
            (
                "The 'confidence_level' parameter of SelectiveClassifier must be a "
                "number, between 0 and 1, both excluded. Got 1.0 instead."
            ),
        ),
        (
            lambda: SelectiveClassifier(confidence="top").fit(GOOD, [0, 1]),
            ConfigError,
            (
                "The 'confidence' parameter of SelectiveClassifier must be one of "
                "'max_proba', 'margin', 'entropy'. Got 'top' instead."
            ),
        ),
        (
            lambda: SelectiveClassifier(min_label_mass=0).fit(GOOD, [0, 1]),
            ConfigError,
            (
                "The 'min_label_mass' parameter of SelectiveClassifier must be a "
                "number, above 0, at most 1, or None. Got 0 instead."
            ),
        ),
        (
            lambda: SelectiveClassifier(min_label_mass=0.1).fit(GOOD, [0, 1]),
            InputError,
            (
                "min_label_mass is 0.1, but X is an array, which has no label mass: "
                "give LabelLogprobs, or min_label_mass=None."
            ),
        ),
        (
            lambda: SelectiveClassifier().fit(GOOD, [0]),
            InputError,
            "All arrays must have a value for each text: X has 2, y has 1.",
        ),
        (
            lambda: SelectiveClassifier().fit(GOOD, [0, 5]),
            LabelError,
            (
                "y[1] is 5, which is not one of the classes: 0, 1. Correct the label, "
                "or add a class and its column of probabilities."
            ),
        ),
        (
            lambda: SelectiveClassifier().fit([[0.5, 0.5], [0.2, np.nan]], [0, 1]),
            InputError,
            (
                "Row 1 of X is not a probability distribution: its probabilities sum "
                "to nan. Give probabilities that sum to 1 in each row, or their "
                "natural logarithms."
            ),
        ),
        (
            lambda: SelectiveClassifier().fit(np.log(GOOD) - 1, [0, 1]),
            InputError,
            (
                "Row 0 of X is not a probability distribution: its probabilities sum "
                "to 0.367879. Give probabilities that sum to 1 in each row, or their "
                "natural logarithms."
            ),
        ),
        (
            lambda: SelectiveClassifier().fit([[1.0], [1.0]], [0, 0]),
            InputError,
            (
                "X must have a row for each text and a column for each of 2 or more "
                "classes. Its shape is (2, 1)."
            ),
        ),
        (
            lambda: SelectiveClassifier(classes=["b", "a"]).fit(
                label_logprobs(np.log(GOOD), ["a", "b"]), ["a", "b"]
            ),
            LabelError,
            (
                "The classes of X are 'a', 'b', but 'b', 'a' were expected: give "
                "posteriors of the same classes, in the same order."
            ),
        ),
        (
            lambda: SelectiveClassifier.from_dict({"target_risk": 0.1, "n": 3}),
            ConfigError,
            (
                "This is not a stored SelectiveClassifier: 'classes', 'confidence', "
                "'confidence_level', 'coverage', 'min_label_mass', 'n', 'n_labels', "
                "'risk_upper', 'threshold' missing or unknown. Give what "
                "SelectiveClassifier.to_dict() returned."
            ),
        ),
    ],
)
def test_what_cannot_be_used_is_named(call, error, expected):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == expected
