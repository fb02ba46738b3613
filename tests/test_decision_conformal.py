import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, ClassifierMixin, clone

from classify.decision import SplitConformalSets
from classify.errors import ConfigError, InputError, LabelError


def texts(n, k=4, *, seed=0, sharpness=1.0):
    """Labels from softmax(z), and the posteriors softmax(sharpness * z)."""
    rng = np.random.default_rng(seed)
    z = 1.5 * rng.normal(size=(n, k))
    proba = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    y = (proba.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    stated = np.exp(sharpness * (z - z.max(axis=1, keepdims=True)))
    return stated / stated.sum(axis=1, keepdims=True), y


def with_likeliest(sets, proba):
    sets = sets.copy()
    sets[np.arange(len(sets)), proba.argmax(axis=1)] = True
    return sets


class Given(ClassifierMixin, BaseEstimator):
    """Takes its probabilities from X."""

    def __init__(self, n_classes):
        self.classes_ = np.arange(n_classes)
        self.n_features_in_ = n_classes

    def fit(self, X, y):
        return self

    def predict(self, X):
        return X.argmax(axis=1)

    def predict_proba(self, X):
        return X

    def __sklearn_is_fitted__(self):
        return True


@pytest.mark.parametrize("level", [0.6, 0.8, 0.9, 0.95])
@pytest.mark.parametrize("n", [20, 99, 250])
def test_lac_sets_are_mapies(level, n):
    classification = pytest.importorskip("mapie.classification")
    (labelled, y), (new, _) = texts(n), texts(300, seed=1)
    theirs = classification.SplitConformalClassifier(
        Given(4), confidence_level=level, conformity_score="lac"
    ).conformalize(labelled, y)
    expected = with_likeliest(theirs.predict_set(new)[1][:, :, 0], new)
    found = SplitConformalSets(level).conformalize(labelled, y).predict_set(new)
    assert (found == expected).all()
    assert 1.0 < found.sum(axis=1).mean() < 4.0


def slow_aps_score(proba, label, share):
    """Mass of the labels that are likelier, and a share of its own, taken from 1."""
    likelier = sum(p for p in proba if p > proba[label])
    return 1 - likelier - (1 - share) * proba[label]


def test_aps_sets_are_those_of_the_slow_definition():
    (labelled, y), (new, _) = texts(120), texts(50, seed=1)
    sets = SplitConformalSets(0.8, "aps", random_state=3).conformalize(labelled, y)
    # The streams of the seed are part of what `random_state` promises.
    streams = [
        np.random.default_rng(seed) for seed in np.random.SeedSequence(3).spawn(2)
    ]
    shares = [
        1 - stream.random(n) for stream, n in zip(streams, (120, 50), strict=True)
    ]
    scores = sorted(
        slow_aps_score(labelled[at], y[at], shares[0][at]) for at in range(120)
    )
    # The ceil(121 * 0.8) = 97th least strange is the 24th smallest of what is left.
    least = scores[120 - 97]
    expected = [
        [slow_aps_score(new[at], k, shares[1][at]) >= least for k in range(4)]
        for at in range(50)
    ]
    found = sets.predict_set(new)
    assert (found == with_likeliest(np.array(expected), new)).all()
    assert (found == sets.predict_set(new)).all()


def test_no_texts_have_no_sets():
    labelled, y = texts(40)
    for groups in (None, "label"):
        sets = SplitConformalSets(0.8, "aps", groups=groups).conformalize(labelled, y)
        assert sets.predict_set(np.empty((0, 4))).shape == (0, 4)
    sets = SplitConformalSets(0.8).conformalize(labelled, y, groups=y % 2)
    assert sets.predict_set(np.empty((0, 4)), groups=[]).shape == (0, 4)


@given(st.integers(0, 500), st.sampled_from(["lac", "aps"]))
def test_a_higher_level_never_takes_a_label_out(seed, score):
    (labelled, y), (new, _) = texts(60, seed=seed), texts(20, seed=seed + 1)
    low, high = (
        SplitConformalSets(level, score, random_state=0)
        .conformalize(labelled, y)
        .predict_set(new)
        for level in (0.7, 0.9)
    )
    assert (high >= low).all()
    assert low.any(axis=1).all()


@pytest.mark.parametrize("score", ["lac", "aps"])
@pytest.mark.parametrize(("n", "full"), [(8, True), (9, False)])
def test_too_few_texts_give_full_sets(score, n, full, caplog):
    # ceil((8 + 1) * 0.9) = 9 > 8; ceil((9 + 1) * 0.9) = 9.
    labelled, _ = texts(n)
    sets = SplitConformalSets(0.9, score, random_state=0)
    sets.conformalize(labelled, labelled.argmax(axis=1))
    new = np.array([[0.97, 0.01, 0.01, 0.01], [1.0, 0.0, 0.0, 0.0]])
    assert sets.predict_set(new).all() == full
    assert sets.n_texts_ == {None: n}
    message = (
        "Prediction sets will contain all labels: at confidence level 0.9 a threshold "
        "needs at least 9 labelled texts whose true label is not impossible."
    )
    assert caplog.messages == ([message] if full else [])


def test_each_class_has_its_own_threshold(caplog):
    labelled, y = texts(400, 3)
    kept = (y != 2) | (np.arange(400) % 30 == 0)
    labelled, y = labelled[kept], y[kept]
    assert 0 < (y == 2).sum() < 9
    names = np.array(["a", "b", "c"])
    sets = SplitConformalSets(0.9, groups="label", classes=names)
    sets.conformalize(labelled, names[y])
    assert sets.thresholds_["c"] == np.inf
    for at, name in enumerate("ab"):
        own = np.sort(-np.log(labelled[y == at, at]))
        rank = int(np.ceil((len(own) + 1) * 0.9))
        assert sets.thresholds_[name] == own[rank - 1]
    new, _ = texts(100, 3, seed=5)
    thresholds = [sets.thresholds_[name] for name in names]
    expected = with_likeliest(-np.log(new) <= thresholds, new)
    found = sets.predict_set(new)
    assert (found == expected).all()
    assert found[:, 2].all()
    assert caplog.messages == [
        (
            "Prediction sets will contain all labels for 'c': at confidence level 0.9 "
            "a threshold needs at least 9 labelled texts whose true label is not "
            "impossible in each group."
        )
    ]


def test_given_groups_have_their_own_thresholds():
    labelled, y = texts(300)
    language = np.array(["de", "en", "fr"])[np.arange(300) % 3]
    language[:5] = "it"
    sets = SplitConformalSets(0.8).conformalize(labelled, y, groups=language)
    new, _ = texts(10, seed=1)
    alone = SplitConformalSets(0.8)
    alone.conformalize(labelled[language == "en"], y[language == "en"])
    groups = ["en"] * 8 + ["pt", "it"]
    found = sets.predict_set(new, groups=groups)
    assert (found[:8] == alone.predict_set(new)[:8]).all()
    assert found[8].all()
    assert not found[9].all()
    assert sets.n_texts_["it"] == 5


def test_labels_of_any_improbability_are_told_apart():
    # True labels between 1e-30 and 1e-10: to a tolerance of 1e-8 all would be alike.
    exponents = np.arange(10.0, 30.0)
    log_p = -exponents * np.log(10.0)
    labelled = np.column_stack([np.log1p(-2 * np.exp(log_p)), log_p, log_p])
    sets = SplitConformalSets(0.75).conformalize(labelled, np.ones(20, dtype=int))
    # ceil(21 * 0.75) = 16th: 1e-25.
    assert sets.thresholds_[None] == pytest.approx(25 * np.log(10))
    new = [[-1e-24, -24 * np.log(10.0), -26 * np.log(10.0)]]
    assert sets.predict_set(new).tolist() == [[True, True, False]]


def test_impossible_labels_are_in_full_sets_only():
    labelled, y = texts(50)
    sets = SplitConformalSets(0.9).conformalize(labelled, y)
    assert sets.predict_set([[0.5, 0.5, 0.0, 0.0]]).tolist() == [[True, True, 0, 0]]
    # More true labels than the level leaves out are impossible: nothing is promised.
    labelled = np.where(np.arange(4) == y[:, None], 0.0, labelled)
    labelled /= labelled.sum(axis=1, keepdims=True)
    for score in ("lac", "aps"):
        sets = SplitConformalSets(0.9, score, random_state=0).conformalize(labelled, y)
        assert sets.predict_set([[0.5, 0.5, 0.0, 0.0]]).all()


@pytest.mark.parametrize("score", ["lac", "aps"])
@pytest.mark.parametrize("groups", [None, "label", "given"])
def test_what_is_stored_gives_the_same_sets(score, groups):
    labelled, y = texts(30)
    given_groups = (
        [f"group {at % 4}" for at in range(30)] if groups == "given" else None
    )
    sets = SplitConformalSets(
        0.9, score, groups="label" if groups == "label" else None, random_state=1
    ).conformalize(labelled, y, given_groups)
    text = json.dumps(sets.to_dict(), allow_nan=False)
    read = SplitConformalSets.from_dict(json.loads(text))
    new, _ = texts(30, seed=2)
    assert (
        read.predict_set(new, given_groups) == sets.predict_set(new, given_groups)
    ).all()
    assert read.to_dict() == sets.to_dict()
    assert read.n_texts_ == sets.n_texts_


def test_it_follows_scikit_learn():
    sets = SplitConformalSets(0.8, "aps", groups="label", random_state=0)
    assert clone(sets).get_params() == sets.get_params()
    with pytest.raises(ValueError, match="not fitted yet"):
        sets.predict_set([[0.5, 0.5]])
    labelled, y = texts(50)
    first, second = clone(sets).fit(labelled, y), clone(sets).conformalize(labelled, y)
    assert first.thresholds_ == second.thresholds_


GOOD = np.array([[0.5, 0.5], [0.2, 0.8]])


def conformalized(**options):
    return SplitConformalSets(0.5).conformalize(GOOD, [0, 1], **options)


@pytest.mark.parametrize(
    ("call", "error", "expected"),
    [
        (
            lambda: SplitConformalSets(90).conformalize(GOOD, [0, 1]),
            ConfigError,
            (
                "The 'confidence_level' parameter of SplitConformalSets must be a "
                "number, between 0 and 1, both excluded. Got 90 instead."
            ),
        ),
        (
            lambda: SplitConformalSets(0.9, "raps").conformalize(GOOD, [0, 1]),
            ConfigError,
            (
                "The 'conformity_score' parameter of SplitConformalSets must be one "
                "of 'lac', 'aps'. Got 'raps' instead."
            ),
        ),
        (
            lambda: SplitConformalSets(groups="x").conformalize(GOOD, [0, 1]),
            ConfigError,
            (
                "The 'groups' parameter of SplitConformalSets must be 'label' or None "
                "(the groups of texts are given to conformalize and predict_set). Got "
                "'x' instead."
            ),
        ),
        (
            lambda: SplitConformalSets(groups="label").conformalize(
                GOOD, [0, 1], groups=["a", "b"]
            ),
            InputError,
            (
                'groups="label" already groups the texts: give no other groups, or '
                "make SplitConformalSets(groups=None)."
            ),
        ),
        (
            lambda: conformalized(groups=["a"]),
            InputError,
            "groups must hold the group of each text: it has 1 for 2 texts.",
        ),
        (
            lambda: conformalized(groups=["a", None]),
            InputError,
            "groups[1] is None: a group must be a string or an integer.",
        ),
        (
            lambda: conformalized(groups=["a", "b"]).predict_set(GOOD),
            InputError,
            "conformalize was given groups: give the group of each text here too.",
        ),
        (
            lambda: conformalized().predict_set(GOOD, groups=["a", "b"]),
            InputError,
            "conformalize was given no groups: give none here either.",
        ),
        (
            lambda: SplitConformalSets().conformalize(GOOD, ["a", "b"]),
            InputError,
            (
                "y holds 'a', which is not a column of the probabilities: give "
                "classes, the names of the 2 columns in their order."
            ),
        ),
        (
            lambda: SplitConformalSets(classes=["a", "b"]).conformalize(
                GOOD, ["a", "x"]
            ),
            LabelError,
            (
                "y[1] is 'x', which is not one of the classes: 'a', 'b'. Correct the "
                "label, or add a class and its column of probabilities."
            ),
        ),
        (
            lambda: conformalized().predict_set([[0.5, 0.25, 0.25]]),
            InputError,
            "classes must name each of the 3 columns. Its shape is (2,).",
        ),
        (
            lambda: conformalized().predict_set([[0.5, 0.6]]),
            InputError,
            (
                "Row 0 of X is not a probability distribution: its probabilities sum "
                "to 1.1. Give probabilities that sum to 1 in each row, or their "
                "natural logarithms."
            ),
        ),
    ],
)
def test_what_cannot_be_used_is_named(call, error, expected):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == expected
