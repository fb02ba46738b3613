"""`ZeroShotClassifier` with a calibrator: named, fitted, from a file, changed."""

import copy
import logging
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted

from classify import LabelCalibrator, PromptTemplate, ZeroShotClassifier
from classify.decision import SelectiveClassifier, SplitConformalSets
from classify.errors import ConfigError, DataError, LabelError
from tests.tiny_tokenizers import byte_level
from tests.toy_model import hashed_engine

NAMES = ["shipping", "billing", "refund"]
TEXTS = [f"Message number {at}." for at in range(24)]
TRUE = [NAMES[at % 3] for at in range(24)]
TOPIC = PromptTemplate("{text}\nTopic:", chat=False)


def make(calibrator=None, labels=NAMES, **options):
    options = {"prompt": TOPIC, "tolerance": 0.0, **options}
    return ZeroShotClassifier(
        labels,
        engine=hashed_engine(len(byte_level())),
        tokenizer=byte_level(),
        calibrator=calibrator,
        **options,
    )


def raises(message, error):
    return pytest.raises(error, match=r"^" + re.escape(message) + "$")


def by_hand(method, y=None):
    return LabelCalibrator(method).fit(make().label_logprobs(TEXTS), y)


@pytest.mark.parametrize("method", ["auto", "affine", "prior_matching"])
def test_a_named_method_is_fitted_to_the_texts(method):
    clf = make(method)
    assert get_tags(clf).requires_fit
    assert clf.fit(TEXTS, TRUE) is clf
    expected = by_hand(method, TRUE).transform(make().label_logprobs(TEXTS))
    np.testing.assert_allclose(clf.predict_log_proba(TEXTS), expected)
    np.testing.assert_allclose(clf.predict_proba(TEXTS), np.exp(expected))
    best = clf.classes_[expected.argmax(axis=1)]
    assert clf.predict(TEXTS).tolist() == best.tolist()
    assert clf.calibrator_.method_ == method
    assert clf.calibrator_.n_labels_ == 24
    assert clf.calibrator_.fingerprint_ == clf.scorer().fingerprint()


def test_label_logprobs_stay_raw():
    raw, clf = make().label_logprobs(TEXTS), make("affine").fit(TEXTS, TRUE)
    np.testing.assert_array_equal(clf.label_logprobs(TEXTS).values, raw.values)
    assert np.abs(clf.predict_log_proba(TEXTS) - raw.log_proba).max() > 0.01
    # They need no fit either.
    np.testing.assert_array_equal(make("auto").label_logprobs(TEXTS).values, raw.values)


def test_without_labels_a_shift_is_found():
    clf = make("auto").fit(TEXTS)
    assert clf.calibrator_.method_ == "prior_matching"
    # What prior matching promises: mean probabilities are those of the prior.
    np.testing.assert_allclose(
        clf.predict_proba(TEXTS).mean(axis=0), [1 / 3] * 3, atol=1e-6
    )


@pytest.mark.parametrize("method", ["content_free", "domain", "pmi"])
def test_methods_with_probes_ask_the_model_about_them(method):
    clf = make(method).fit(TEXTS)
    assert re.search(r"on \d+ probes", clf.calibrator_.explanation_)
    np.testing.assert_allclose(clf.predict_proba(TEXTS).sum(axis=1), 1.0)


def test_labels_are_learnt_together_with_the_calibrator():
    clf = make("temperature", labels=None).fit(TEXTS, TRUE)
    assert clf.calibrator_.classes_.tolist() == sorted(NAMES) == clf.classes_.tolist()


def test_not_fitted():
    message = (
        "The calibrator of this ZeroShotClassifier, 'auto', is not fitted: call "
        "fit(texts, y), or fit(texts) for a method without labels; or give a fitted "
        "LabelCalibrator, or the file of one."
    )
    clf = make("auto")
    for ask in (clf.predict, clf.predict_proba, clf.predict_log_proba):
        with raises(message, NotFittedError):
            ask(TEXTS)
    with raises(message, NotFittedError):
        clf.classify_frame(pd.DataFrame({"text": TEXTS}))
    assert clf.engine.requests == []  # it costs no model call
    with pytest.raises(NotFittedError):
        check_is_fitted(clf)
    check_is_fitted(clf.fit(TEXTS, TRUE))


def test_what_a_calibrator_cannot_be():
    with pytest.raises(ConfigError) as caught:
        make("temprature").fit(TEXTS, TRUE)
    assert str(caught.value) == (
        "The 'calibrator' parameter of ZeroShotClassifier must be None, a "
        "LabelCalibrator, a file that ends in .json, or one of 'none', "
        "'prior_matching', 'batch', 'content_free', 'domain', 'pmi', 'temperature', "
        "'temperature_by_count', "
        "'bias', 'affine', 'vector', 'matrix', 'isotonic', 'auto'. Got 'temprature' "
        "instead."
    )


def test_an_unfitted_calibrator_is_cloned_and_fitted():
    given = LabelCalibrator("affine", l2_bias=7.0)
    clf = make(given).fit(TEXTS, TRUE)
    assert clf.calibrator_ is not given
    assert clf.calibrator_.l2_bias == 7.0
    assert not hasattr(given, "classes_")


@pytest.mark.parametrize("wrap", [lambda each: each, FrozenEstimator])
def test_a_fitted_calibrator_is_used_as_it_is(wrap):
    given = by_hand("affine", TRUE)
    clf = make(wrap(given))
    assert not get_tags(clf).requires_fit
    expected = given.transform(make().label_logprobs(TEXTS))
    np.testing.assert_array_equal(clf.predict_log_proba(TEXTS), expected)
    clf.fit(TEXTS, TRUE[::-1])
    assert clf.calibrator_ is given
    np.testing.assert_array_equal(clf.predict_log_proba(TEXTS), expected)


@pytest.mark.parametrize("kind", [str, Path])
def test_a_file_is_loaded_and_checked(tmp_path, kind):
    path = tmp_path / "calibration.json"
    fitted = make("affine").fit(TEXTS, TRUE)
    fitted.calibrator_.save(path)
    clf = make(kind(path))
    np.testing.assert_array_equal(
        clf.predict_log_proba(TEXTS), fitted.predict_log_proba(TEXTS)
    )
    # A clone keeps the file, though it forgets a fit.
    np.testing.assert_array_equal(
        clone(clf).predict_proba(TEXTS), fitted.predict_proba(TEXTS)
    )
    other = make(kind(path), prompt=PromptTemplate("{text} is about", chat=False))
    message = (
        f"The calibration {str(path)!r} was fitted on something else. prompt.template: "
        "fitted with {text}\\nTopic:, now {text} is about. Fit it again, or use it "
        "anyway with force=True."
    )
    with raises(message, ConfigError):
        other.predict(TEXTS)
    with pytest.raises(DataError, match="cannot be read: No such file"):
        make(tmp_path / "none.json").predict(TEXTS)


def test_a_fitted_calibrator_of_another_prompt_is_refused():
    given = make("affine").fit(TEXTS, TRUE).calibrator_
    other = make(given, tolerance=0.01)
    message = (
        "The calibrator was fitted on something else. tolerance: fitted with 0.0, now "
        "0.01. Fit it again, or use it anyway with force=True."
    )
    with raises(message, ConfigError):
        other.predict(TEXTS)


def test_a_prompt_that_is_changed_after_the_fit_is_noticed():
    clf = make("affine").fit(TEXTS, TRUE)
    clf.predict(TEXTS)
    clf.set_params(prompt="{text}. Team:")
    with pytest.raises(ConfigError, match=r"prompt\.template: fitted with"):
        clf.predict(TEXTS)
    clf.set_params(calibrator=None)
    assert clf.predict(TEXTS).shape == (24,)


def test_other_labels_than_those_of_arrays_are_refused():
    given = LabelCalibrator("none", classes=["x", "y", "z"]).fit(np.zeros((2, 3)))
    with pytest.raises(LabelError):
        make(given).predict(TEXTS)


def test_candidates_keep_their_zeros():
    clf = make("affine").fit(TEXTS, TRUE)
    proba = clf.predict_proba(TEXTS[:2], labels=[["billing", "refund"], NAMES])
    assert proba[0, 2] == 0.0
    np.testing.assert_array_equal(proba[1], clf.predict_proba(TEXTS[1:2])[0])
    assert (proba[0, :2] > 0).all()
    np.testing.assert_allclose(proba.sum(axis=1), 1.0)


def test_no_text_gives_no_result():
    clf = make("affine").fit(TEXTS, TRUE)
    assert clf.predict([]).shape == (0,)
    assert clf.predict_proba([]).shape == (0, 3)
    assert clf.classify_frame(pd.DataFrame({"text": []})).shape == (0, 6)


def test_scikit_learn_clones_pipes_and_cross_validates():
    clf = make("temperature")
    assert clone(clf).get_params()["calibrator"] == "temperature"
    assert cross_val_score(clf, TEXTS, TRUE, cv=2).shape == (2,)
    own = make(LabelCalibrator("temperature", l2_log_scale=2.0))
    assert own.get_params()["calibrator__l2_log_scale"] == 2.0
    same = FunctionTransformer(validate=False, feature_names_out="one-to-one")
    pipeline = make_pipeline(same, own).fit(TEXTS, TRUE)
    np.testing.assert_allclose(pipeline.predict_proba(TEXTS).sum(axis=1), 1.0)
    fitted = clf.fit(TEXTS, TRUE)
    np.testing.assert_array_equal(
        copy.deepcopy(fitted).predict_proba(TEXTS), fitted.predict_proba(TEXTS)
    )


def test_too_coarse_a_tolerance_is_told_once(caplog):
    clf = make("batch", tolerance=1e-3).fit(TEXTS)
    with caplog.at_level(logging.WARNING, "classify.estimators.given_calibrator"):
        clf.predict(TEXTS)
        clf.predict(TEXTS)
    [record] = [each for each in caplog.records if "tolerance" in each.msg]
    assert record.getMessage() == (
        "The tolerance is 0.001, which is too coarse for the calibration 'batch' of 3 "
        "labels: fit it again, and use it, at a tolerance of 1e-05."
    )
    many = make("auto", labels=[f"label {at}" for at in range(12)], tolerance=1e-3)
    many.fit(TEXTS).predict(TEXTS)
    assert caplog.messages[-1].endswith("at a tolerance of 0.0008.")  # ≤ 0.01 / 12
    caplog.clear()
    make("batch", tolerance=1e-5).fit(TEXTS).predict(TEXTS)
    assert not [each for each in caplog.records if "coarse" in each.msg]


# ------------------------------------------------------------------------- frames


def test_frames_hold_calibrated_probabilities():
    clf = make("affine").fit(TEXTS, TRUE)
    frame = clf.classify_frame(pd.DataFrame({"text": TEXTS}), probabilities=True)
    proba = clf.predict_proba(TEXTS)
    assert frame["label"].tolist() == clf.predict(TEXTS).tolist()
    np.testing.assert_allclose(frame["probability"], proba.max(axis=1))
    columns = [f"p({name})" for name in clf.classes_]
    np.testing.assert_allclose(frame[columns], proba)
    raw = make().classify_frame(pd.DataFrame({"text": TEXTS}))
    np.testing.assert_array_equal(frame["label_mass"], raw["label_mass"])


def test_frames_hold_decisions():
    clf = make("affine").fit(TEXTS, TRUE)
    log_proba = clf.predict_log_proba(TEXTS)
    rule = SelectiveClassifier(0.5, classes=clf.classes_).fit(log_proba, TRUE)
    rule.threshold_ = float(np.median(np.exp(log_proba.max(axis=1))))
    sets = SplitConformalSets(0.7, classes=clf.classes_).conformalize(log_proba, TRUE)
    frame = pd.DataFrame({"text": [*TEXTS, ""]})
    out = clf.classify_frame(frame, selective=rule, sets=sets, on_error="set_aside")
    assert list(out)[1:5] == ["label", "probability", "abstained", "label_set"]
    accepted = np.exp(log_proba.max(axis=1)) >= rule.threshold_
    assert 0 < accepted.sum() < len(TEXTS)
    best = clf.predict(TEXTS)
    for at in range(len(TEXTS)):
        if accepted[at]:
            assert out["label"][at] == best[at]
        else:
            assert pd.isna(out["label"][at])
        assert out["abstained"][at] == ("" if accepted[at] else "low probability")
        members = clf.classes_[sets.predict_set(log_proba)[at]]
        assert out["label_set"][at] == "|".join(members)
    assert pd.isna(out["label_set"][24])
    assert out["error"][24] != ""


def test_full_sets_hold_no_label_that_is_no_candidate():
    clf = make("affine").fit(TEXTS, TRUE)
    log_proba = clf.predict_log_proba(TEXTS[:3])
    sets = SplitConformalSets(0.9, classes=clf.classes_)
    sets.conformalize(log_proba, TRUE[:3])  # too few: every set is full
    frame = pd.DataFrame({"text": TEXTS[:1], "allowed": ["billing|refund"]})
    out = clf.classify_frame(frame, labels_column="allowed", sets=sets)
    assert out["label_set"].tolist() == ["billing|refund"]
