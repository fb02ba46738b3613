"""`auto`: how it weighs, and that it does no harm; and adaptation to other shares."""

import re

import numpy as np
import pytest
from scipy.special import log_softmax, logsumexp, softmax

from classify.calibration import LabelCalibrator, PriorShift
from classify.calibration.checks import CalibrationWarning
from classify.calibration.cross_fitting import folds_of, held_out
from classify.calibration.labelled import LabelledTexts
from classify.calibration.mixture import mixture
from classify.calibration.scaling import Affine, Penalty, temperature
from classify.errors import ConfigError
from tests.posteriors import mean_loss, posteriors


def auto(drawn, rows, **options):
    made = LabelCalibrator(classes=drawn.names, **options)
    return made.fit(drawn.log_proba[rows], drawn.y[rows])


def texts_of(drawn):
    return LabelledTexts(
        drawn.log_proba, drawn.codes, np.ones(len(drawn.codes)), floor=-30.0
    )


def test_folds_share_out_every_label():
    codes = np.random.default_rng(0).integers(0, 4, size=103)
    for random_state in (None, 0, 1):
        folds = folds_of(codes, n_folds=5, random_state=random_state)
        assert sorted(np.concatenate(folds)) == list(range(103))
        for code in range(4):
            counts = [np.sum(codes[fold] == code) for fold in folds]
            assert max(counts) - min(counts) <= 1
        sizes = [len(fold) for fold in folds]
        assert max(sizes) - min(sizes) <= 1


def test_folds_do_not_depend_on_how_labels_are_numbered():
    codes = np.random.default_rng(0).integers(0, 4, size=50)
    renumbered = np.array([2, 0, 3, 1])[codes]
    for one, other in zip(
        folds_of(codes, n_folds=5), folds_of(renumbered, n_folds=5), strict=True
    ):
        assert one.tolist() == other.tolist()


def test_no_text_is_predicted_by_a_fit_that_saw_it():
    drawn = posteriors(30, 3)
    seen = []

    def fit(texts):
        seen.append({tuple(row) for row in texts.log_proba})
        return Affine.shift(np.zeros(3))

    folds = folds_of(drawn.codes, n_folds=3)
    held_out(fit, texts_of(drawn), folds)
    for fold, others in zip(folds, seen, strict=True):
        mine = {tuple(row) for row in drawn.log_proba[fold]}
        assert not mine & others
        assert len(mine) + len(others) == 30


def test_a_mixture_is_a_mean_of_probabilities_by_cross_validated_loss():
    drawn = posteriors(40, 3)
    texts = texts_of(drawn)
    folds = folds_of(drawn.codes, n_folds=4)
    fits = {
        "raw": lambda texts: Affine.shift(np.zeros(3)),
        "scaled": lambda texts: temperature(texts, penalty=Penalty()),
    }
    found = mixture(fits, texts, folds)
    totals = {
        name: 40 * mean_loss(held_out(fit, texts, folds), drawn.codes)
        for name, fit in fits.items()
    }
    best = min(totals.values())
    weights = {name: np.exp(best - total) for name, total in totals.items()}
    whole = sum(weights.values())
    for name in fits:
        assert found.weights[name] == pytest.approx(weights[name] / whole)
        assert found.log_loss[name] == pytest.approx(totals[name] / 40)
    expected = sum(
        weights[name] / whole * np.exp(fit(texts).transform(drawn.log_proba))
        for name, fit in fits.items()
    )
    np.testing.assert_allclose(
        np.exp(found.mixture.transform(drawn.log_proba)), expected
    )


def test_auto_says_what_it_weighed():
    drawn = posteriors(60, 3)
    made = auto(drawn, slice(None))
    assert set(made.weights_) == set(made.cv_log_loss_)
    assert sum(made.weights_.values()) == pytest.approx(1.0)
    first = max(made.weights_, key=made.weights_.__getitem__)
    shown = f"{first} {made.weights_[first]:.2f} ({made.cv_log_loss_[first]:.3f})"
    assert made.explanation_.startswith(
        "auto mixes 5 candidates by how well they predicted 60 labels in 5-fold "
        f"cross-validation; weight, and mean log loss in nats: {shown}, "
    )
    assert made.explanation_.endswith("matrix was left out: it needs 200 labels.")


def test_auto_takes_the_matrix_from_200_labels():
    drawn = posteriors(200, 3)
    assert "matrix" not in auto(drawn, slice(199)).weights_
    assert "matrix" in auto(drawn, slice(200)).weights_


def test_auto_takes_the_matrix_from_ten_labels_a_class():
    drawn = posteriors(200, 5)
    wide = np.column_stack([drawn.log_proba, np.tile(drawn.log_proba - 9, 4)])
    made = LabelCalibrator(classes=[*drawn.names, *(f"z{at}" for at in range(20))])
    made.fit(wide, drawn.y)
    assert made.explanation_.endswith("matrix was left out: it needs 250 labels.")


def test_auto_without_labels_is_prior_matching():
    drawn = posteriors(100, 3)
    made = LabelCalibrator().fit(drawn.log_proba)
    assert made.method_ == "prior_matching"
    assert (made.weights_, made.metrics_) == (None, None)
    assert made.explanation_ == (
        "prior_matching shifts by what it found on 100 texts, without labels."
    )


def test_auto_is_the_same_every_time_and_another_with_another_seed():
    drawn = posteriors(60, 3)
    first, second = auto(drawn, slice(None)), auto(drawn, slice(None))
    assert first.weights_ == second.weights_
    assert auto(drawn, slice(None), random_state=1).weights_ != first.weights_


@pytest.mark.parametrize("scale", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("bias", [(0.0,), (2.5, -1.5)])
@pytest.mark.parametrize("skew", [False, True])
def test_auto_does_no_harm_from_ten_labels_up(scale, bias, skew):
    """Over draws of ten labels: never far above doing nothing, whatever is wrong."""
    drawn = posteriors(3000, 4, scale=scale, bias=bias)
    if skew:
        kept = (drawn.codes == 0) | (np.arange(3000) % 8 == 0)
        drawn = drawn._replace(log_proba=drawn.log_proba[kept], codes=drawn.codes[kept])
    test = slice(1000, None)
    raw = mean_loss(drawn.log_proba[test], drawn.codes[test])
    for n_labels, allowed in ((10, 0.25), (50, 0.06)):
        losses = []
        for start in range(0, 400, 50):
            made = auto(drawn, slice(start, start + n_labels))
            found = made.transform(drawn.log_proba[test])
            losses.append(mean_loss(found, drawn.codes[test]))
        assert np.mean(losses) < raw + allowed / 2
        assert np.max(losses) < raw + 2 * allowed


def test_auto_comes_close_to_the_truth():
    drawn = posteriors(4000, 4)
    made = auto(drawn, slice(1000))
    best = log_softmax(drawn.scale * (drawn.log_proba + drawn.bias), axis=1)
    test = slice(1000, None)
    found = mean_loss(made.transform(drawn.log_proba[test]), drawn.codes[test])
    assert found < mean_loss(best[test], drawn.codes[test]) + 0.01
    there = mean_loss(best[:1000], drawn.codes[:1000])
    assert made.metrics_["after"]["log_loss"] == pytest.approx(there, abs=0.02)


# ---------------------------------------------------------------------- PriorShift


def skewed(drawn, shares, n_texts=2000):
    draw = np.random.default_rng(1)
    codes = draw.choice(len(shares), p=shares, size=n_texts)
    rows = [draw.choice(np.flatnonzero(drawn.codes == code)) for code in codes]
    return drawn.log_proba[rows], codes


def test_prior_shift_finds_other_shares_from_calibrated_probabilities():
    drawn = posteriors(8000, 3, scale=0.5, bias=(0.7,))
    made = LabelCalibrator("affine", classes=drawn.names)
    made.fit(drawn.log_proba, drawn.y)
    shares = np.array([0.75, 0.2, 0.05])
    texts, codes = skewed(drawn, shares)
    shift = PriorShift(made).fit(texts)
    np.testing.assert_allclose(shift.prior_, shares, atol=0.05)
    adapted = shift.transform(texts)
    assert mean_loss(adapted, codes) < mean_loss(made.transform(texts), codes) - 0.1
    assert shift.predict(texts).tolist() == drawn.names[adapted.argmax(1)].tolist()


def test_prior_shift_is_the_most_likely_mix():
    """Expectation-maximisation climbs log p(texts); its end must be the top."""
    drawn = posteriors(300, 3, scale=1.0, bias=(0.0,))
    shift = PriorShift("uniform", classes=drawn.names, force=True)
    found = shift.fit(drawn.log_proba).prior_

    def log_likelihood(shares):
        return logsumexp(drawn.log_proba + np.log(3 * shares), axis=1).sum()

    draw = np.random.default_rng(0)
    near = found * np.exp(draw.normal(0.0, 0.05, size=(500, 3)))
    near /= near.sum(axis=1, keepdims=True)
    assert log_likelihood(found) >= max(map(log_likelihood, near))
    np.testing.assert_allclose(
        softmax(drawn.log_proba + shift.shift_, axis=1).mean(axis=0), found, atol=1e-6
    )


def test_prior_shift_refuses_what_is_not_calibrated():
    drawn = posteriors(100, 3)
    unlabelled = LabelCalibrator("prior_matching").fit(drawn.log_proba)
    with pytest.raises(ConfigError) as caught:
        PriorShift(unlabelled).fit(drawn.log_proba)
    assert str(caught.value) == (
        "PriorShift needs calibrated probabilities, and method='prior_matching' does "
        "not calibrate them: on such, it collapses to one label. Fit the "
        "LabelCalibrator with labels, or pass force=True."
    )
    for prior_from in (None, "uniform"):
        with pytest.raises(ConfigError) as caught:
            PriorShift(prior_from).fit(drawn.log_proba)
        assert str(caught.value) == (
            "PriorShift needs calibrated probabilities, and those of a language model "
            "are not: on such, it collapses to one label. Pass a LabelCalibrator "
            "fitted with labels; or, if the probabilities are calibrated, the label "
            "shares that they were calibrated with and force=True."
        )
    forced = PriorShift(unlabelled, force=True).fit(drawn.log_proba)
    assert forced.prior_.sum() == pytest.approx(1.0)


def test_prior_shift_collapses_on_raw_scores_which_is_why():
    """A biased, over-confident model: the mix that fits its scores best is absurd."""
    drawn = posteriors(1000, 2, scale=2.5, bias=(1.0, -1.0))
    shift = PriorShift("uniform", classes=drawn.names, force=True)
    assert shift.fit(drawn.log_proba).prior_.min() < 1e-3
    assert np.bincount(drawn.codes).min() > 400


def test_prior_shift_that_does_not_settle_is_warned_of():
    drawn = posteriors(100, 3)
    shift = PriorShift("uniform", force=True, max_iter=1)
    with pytest.warns(CalibrationWarning) as caught:
        shift.fit(drawn.log_proba)
    pattern = (
        r"PriorShift stopped after max_iter=1 steps, the last of which moved a share "
        r"by 0\.\d+ \(tol=1e-08\): raise max_iter, or pass more texts\."
    )
    assert re.fullmatch(pattern, str(caught[0].message))
