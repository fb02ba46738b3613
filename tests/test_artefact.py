"""The file with a calibration and what was decided on top of it."""

import json
import re

import numpy as np
import pytest

from classify.calibration import LabelCalibrator
from classify.decision import SelectiveClassifier, SplitConformalSets
from classify.errors import ConfigError, DataError
from classify.estimators.artefact import Artefact

NAMES = ["a", "b"]
RNG = np.random.default_rng(0)
P = RNG.beta(0.5, 0.5, size=200)
SCORES = np.log(np.column_stack([P, 1 - P]))
TRUE = np.where(RNG.random(200) < P, "a", "b")


def raises(message, error):
    return pytest.raises(error, match=r"^" + re.escape(message) + "$")


@pytest.fixture
def artefact():
    calibrator = LabelCalibrator("temperature", classes=NAMES)
    calibrator.fit(SCORES, TRUE, fingerprint={"model": "one", "prompt": "p"})
    log_proba = calibrator.transform(SCORES)
    return Artefact(
        calibrator,
        SelectiveClassifier(0.2, classes=NAMES).fit(log_proba, TRUE),
        SplitConformalSets(0.9, classes=NAMES).conformalize(log_proba, TRUE),
    )


def test_what_is_saved_is_what_is_loaded(artefact, tmp_path):
    path = tmp_path / "calibration.json"
    artefact.save(path)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    loaded = Artefact.load(path)
    log_proba = artefact.calibrator.transform(SCORES)
    np.testing.assert_array_equal(loaded.calibrator.transform(SCORES), log_proba)
    assert 0 < loaded.selective.threshold_ == artefact.selective.threshold_
    np.testing.assert_array_equal(
        loaded.sets.predict_set(log_proba), artefact.sets.predict_set(log_proba)
    )
    assert list(json.loads(path.read_text())) == [
        "format",
        "calibration",
        "threshold",
        "sets",
    ]


def test_a_calibration_alone_is_an_artefact_without_decisions(artefact, tmp_path):
    path = tmp_path / "alone.json"
    artefact.calibrator.save(path)
    loaded = Artefact.load(path)
    assert (loaded.selective, loaded.sets) == (None, None)
    np.testing.assert_array_equal(
        loaded.calibrator.transform(SCORES), artefact.calibrator.transform(SCORES)
    )


def test_another_fingerprint_is_refused_unless_forced(artefact, tmp_path):
    path = tmp_path / "c.json"
    artefact.save(path)
    other = {"model": "two", "prompt": "p"}
    message = (
        f"The calibration {str(path)!r} was fitted on something else. model: fitted "
        "with one, now two. Fit it again, or use it anyway with "
        "force=True."
    )
    with raises(message, ConfigError):
        Artefact.load(path, fingerprint=other)
    forced = Artefact.load(path, fingerprint=other, force=True)
    assert forced.calibrator.fingerprint_ == other
    # What is written of it says so too.
    forced.save(path)
    assert Artefact.load(path, fingerprint=other).calibrator.fingerprint_ == other
    assert artefact.calibrator.fingerprint_ == {"model": "one", "prompt": "p"}


def test_decisions_that_were_not_fitted(artefact):
    assert artefact.selective_for(0.2) is artefact.selective
    assert artefact.sets_for(0.9) is artefact.sets
    message = (
        "There is no threshold for a risk of 0.1: the calibration holds a threshold "
        "for a risk of 0.2. Fit one: classify calibrate … --target-risk 0.1."
    )
    with raises(message, ConfigError):
        artefact.selective_for(0.1)
    message = (
        "There are no sets for confidence level 0.8: the calibration holds sets for "
        "confidence level 0.9. Fit some: classify calibrate … --sets 0.8."
    )
    with raises(message, ConfigError):
        artefact.sets_for(0.8)
    alone = Artefact(artefact.calibrator)
    message = (
        "There is no threshold for a risk of 0.1: the calibration holds no threshold. "
        "Fit one: classify calibrate … --target-risk 0.1."
    )
    with raises(message, ConfigError):
        alone.selective_for(0.1)
    message = (
        "There are no sets for confidence level 0.8: the calibration holds no sets. "
        "Fit some: classify calibrate … --sets 0.8."
    )
    with raises(message, ConfigError):
        alone.sets_for(0.8)


def test_files_that_are_none(artefact, tmp_path):
    path = tmp_path / "c.json"
    shown = repr(str(path))
    message = (
        f"The calibration {shown} cannot be read: No such file or directory. Give a "
        "file that classify calibrate wrote."
    )
    with raises(message, DataError):
        Artefact.load(path)
    path.write_text("no")
    message = (
        f"{shown} is no calibration: it is not JSON (Expecting value: line 1 column 1 "
        "(char 0)). Give a file that classify calibrate wrote."
    )
    with raises(message, DataError):
        Artefact.load(path)
    artefact.save(path)
    good = json.loads(path.read_text())
    path.write_text(json.dumps({**good, "more": 1}))
    message = (
        f"The calibration {shown} is damaged. Keys missing or unknown: 'more'. Fit it "
        "again."
    )
    with raises(message, DataError):
        Artefact.load(path)
    path.write_text(json.dumps({**good, "threshold": {}}))
    with pytest.raises(DataError, match=re.escape(f"The calibration {shown} is dam")):
        Artefact.load(path)
    path.write_text(json.dumps({**good, "calibration": {"format": "other"}}))
    with pytest.raises(
        DataError, match=re.escape(f"{shown} is not a calibration that")
    ):
        Artefact.load(path)


def test_a_place_that_cannot_be_written_to(artefact, tmp_path):
    path = tmp_path / "none" / "c.json"
    message = (
        f"The calibration {str(path)!r} cannot be written: No such file or directory. "
        "Name a file in a folder that exists."
    )
    with raises(message, DataError):
        artefact.save(path)
