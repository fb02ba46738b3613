"""What is promised holds over many random draws, whatever the posteriors are worth."""

import logging

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import binom

from classify.decision import SelectiveClassifier, SplitConformalSets

pytestmark = pytest.mark.slow

N_DRAWS = 1000
# A bound that true promises break once in ten thousand times.
RARE = 1e-4


class World:
    """Texts with labels from softmax(z), and posteriors that are worth more or less.

    Attributes
    ----------
    proba : ndarray of float64, shape (n_texts, n_labels)
        What is stated.
    truth : ndarray of float64, shape (n_texts, n_labels)
        What labels are drawn from.
    """

    def __init__(self, kind, *, n_labels=4, n_texts=50_000):
        rng = np.random.default_rng(42)
        logits = 3 * rng.normal(size=(n_texts, n_labels))
        logits[:, 0] += 1.5  # a common class
        self.truth = softmax(logits, axis=1)
        stated = {
            "calibrated": logits,
            "over-confident": 20 * logits,
            "biased": 0.5 * logits + 2 * (np.arange(n_labels) == 1),
            "coarse": np.round(logits),
            "misleading": logits,
        }[kind]
        self.proba = softmax(stated, axis=1)
        if kind == "misleading":
            # The surest fiftieth is as good as guessed; what follows is as stated.
            sure = np.argsort(-self.proba.max(axis=1))[: n_texts // 50]
            self.truth[sure] = 1 / n_labels

    def draw(self, rng, n):
        rows = rng.integers(len(self.proba), size=n)
        shares = rng.random((n, 1))
        y = (self.truth[rows].cumsum(axis=1) > shares).argmax(axis=1)
        return self.proba[rows], y

    def risks(self, thresholds):
        """The true risk among all texts of at least these confidences."""
        confidence = self.proba.max(axis=1)
        order = np.argsort(-confidence)
        best = self.proba.argmax(axis=1)
        wrong = 1 - self.truth[np.arange(len(best)), best]
        n_accepted = np.searchsorted(-confidence[order], -thresholds, side="right")
        return wrong[order].cumsum()[n_accepted - 1] / n_accepted


KINDS = ["calibrated", "over-confident", "biased", "coarse", "misleading"]


@pytest.fixture(autouse=True)
def _quiet(caplog):
    caplog.set_level(logging.ERROR, logger="classify")


def broken_promises(world, choose):
    """How often the true risk at the threshold is too high; distinct thresholds."""
    rng = np.random.default_rng(0)
    thresholds = np.array([choose(*world.draw(rng, 250)) for _ in range(N_DRAWS)])
    thresholds = thresholds[np.isfinite(thresholds)]
    return (world.risks(thresholds) > 0.15).sum(), len(np.unique(thresholds))


@pytest.mark.parametrize("kind", KINDS)
def test_the_risk_stays_below_its_target(kind):
    def choose(proba, y):
        selective = SelectiveClassifier(0.15, confidence_level=0.9)
        return selective.fit(proba, y).threshold_

    broken, n_choices = broken_promises(World(kind), choose)
    assert broken <= binom.isf(RARE, N_DRAWS, 0.1)
    assert n_choices >= 5


def test_a_threshold_that_looks_right_breaks_the_promise():
    # What the test above would see if the bound did not survive the choosing.
    def choose(proba, y):
        order = np.argsort(-proba.max(axis=1))
        wrong = (proba.argmax(axis=1) != y)[order]
        looks_right = wrong.cumsum() / np.arange(1, 251) <= 0.15
        return proba.max(axis=1)[order][np.flatnonzero(looks_right).max(initial=0)]

    broken, _ = broken_promises(World("calibrated"), choose)
    assert broken > 2 * binom.isf(RARE, N_DRAWS, 0.1)


def coverages(world, make):
    """Covered and all new texts, each of shape (n_draws, n_labels)."""
    rng = np.random.default_rng(0)
    n_labels = world.proba.shape[1]
    covered = np.zeros((N_DRAWS, n_labels))
    seen = np.zeros((N_DRAWS, n_labels))
    for at in range(N_DRAWS):
        sets = make(at).conformalize(*world.draw(rng, 120))
        proba, y = world.draw(rng, 100)
        held = sets.predict_set(proba)[np.arange(100), y]
        covered[at] = np.bincount(y, held, n_labels)
        seen[at] = np.bincount(y, minlength=n_labels)
    return covered, seen


def mean_and_error(covered, seen):
    """Share of covered texts, and its standard error from the spread of the draws."""
    share = covered.sum() / seen.sum()
    return share, (covered - share * seen).std() * np.sqrt(N_DRAWS) / seen.sum()


@pytest.mark.parametrize("score", ["lac", "aps"])
@pytest.mark.parametrize("kind", KINDS)
def test_sets_hold_the_true_label(kind, score):
    covered, seen = coverages(
        World(kind), lambda at: SplitConformalSets(0.85, score, random_state=at)
    )
    share, error = mean_and_error(covered.sum(axis=1), seen.sum(axis=1))
    assert share >= 0.85 - 4 * error
    assert error < 0.003


@pytest.mark.parametrize("score", ["lac", "aps"])
@pytest.mark.parametrize("kind", KINDS)
def test_sets_hold_the_true_label_of_each_class(kind, score):
    covered, seen = coverages(
        World(kind),
        lambda at: SplitConformalSets(0.8, score, groups="label", random_state=at),
    )
    for label in range(4):
        share, error = mean_and_error(covered[:, label], seen[:, label])
        assert share >= 0.8 - 4 * error, label
        assert error < 0.01


def test_without_groups_a_class_can_fall_short():
    # What the test of classes would see if they had one threshold.
    covered, seen = coverages(World("biased"), lambda _: SplitConformalSets(0.8))
    shares = covered.sum(axis=0) / seen.sum(axis=0)
    assert shares.min() < 0.75


def test_lac_covers_no_more_than_it_must():
    # Without ties, and with few texts whose set would be empty.
    covered, seen = coverages(World("biased"), lambda _: SplitConformalSets(0.85))
    share, error = mean_and_error(covered.sum(axis=1), seen.sum(axis=1))
    assert share <= 0.85 + 1 / 121 + 4 * error
