"""Which calibration and thresholds a `ZeroShotMultiLabelClassifier` uses."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import NotFittedError

from classify.calibration import METHODS, LabelCalibrator, check_fingerprint
from classify.calibration.yes_no import YesNoCalibration
from classify.decision import LabelThresholds
from classify.decision.posteriors import LabelPosteriors
from classify.errors import ConfigError, InputError
from classify.estimators.artefact import LabelsArtefact
from classify.estimators.given_calibrator import is_file, saved_state, warn_of_tolerance
from classify.labels import LabelSet
from classify.parameters import number
from classify.rows.encoding import Row
from classify.rows.scorer import Scorer, text_error
from classify.scoring import LabelLogprobs

__all__ = [
    "CheckedFits",
    "checked_fits",
    "fit_yes_no",
    "fits_fingerprint",
    "given_thresholds",
    "must_be_fitted",
]

FloatArray = npt.NDArray[np.float64]

_PROBABILITY = number("from 0 to 1", lambda value: 0.0 <= value <= 1.0)


class CheckedFits(NamedTuple):
    """What was found to be made for what is scored.

    Attributes
    ----------
    given : tuple
        What it was given as, and what tells that nothing has changed since.
    calibration : YesNoCalibration or None
    given_thresholds : float, mapping, LabelThresholds or None
        As they were given, or their file holds them.
    thresholds : ndarray of float64, shape (n_labels,)
        Sorted by label.
    """

    given: tuple[Any, ...]
    calibration: YesNoCalibration | None
    given_thresholds: Any
    thresholds: FloatArray

    def posteriors_of(
        self, scores: LabelLogprobs, labels: Sequence[str]
    ) -> LabelPosteriors:
        """Return p(label applies) by the scores of yes/no reads."""
        calibration = self.calibration
        calibrators = None if calibration is None else calibration.calibrators
        return LabelPosteriors.of(scores, labels, calibrators)


def must_be_fitted(calibrator: Any) -> bool:
    """Return whether a calibrator is of no use before `fit`."""
    is_ready = isinstance(calibrator, YesNoCalibration) or is_file(calibrator)
    return calibrator is not None and not is_ready


def checked_fits(owner: Any) -> CheckedFits:
    """Return the calibration and the thresholds of an estimator, checked once.

    Raises
    ------
    NotFittedError
        The calibrator has to be fitted first.
    ConfigError
        They were fitted on something else, or cannot be used.
    """
    given: Any = owner.calibrator
    if must_be_fitted(given):
        given = getattr(owner, "calibrator_", None)
        if given is None:
            raise NotFittedError(
                "The calibrator of this ZeroShotMultiLabelClassifier, "
                f"{owner.calibrator!r}, is not fitted: call fit(texts, Y), or give a "
                "fitted one, or its file."
            )
    # Parameters may be set again at any time; to digest a model takes a moment.
    scorer: Scorer = owner.scorer()
    files = [each for each in (given, owner.thresholds) if is_file(each)]
    # Not the mapping itself, which may be changed in place.
    now = (scorer, given, repr(owner.thresholds), *map(saved_state, files))
    checked: CheckedFits | None = getattr(owner, "_checked", None)
    if checked is None or checked.given != now:
        loaded = _loaded(given)
        calibration = _calibration(given, loaded, scorer)
        thresholds, what = owner.thresholds, "The LabelThresholds object"
        if is_file(thresholds):
            what = f"The file of thresholds {os.fspath(thresholds)!r}"
            thresholds = LabelThresholds.load(thresholds)
        elif thresholds is None and loaded is not None:
            what = f"The thresholds of {os.fspath(given)!r}"
            thresholds = loaded.thresholds
        found = _thresholds(thresholds, what, scorer, calibration)
        owner._checked = checked = CheckedFits(now, calibration, thresholds, found)
    return checked


def fit_yes_no(
    given: Any,
    scorer: Scorer,
    rows: Sequence[Row | InputError],
    true: npt.NDArray[np.int64] | None,
    sample_weight: Any,
) -> YesNoCalibration:
    """Return what ``calibrator=…`` is after `fit`, fitted to these rows.

    Raises
    ------
    ConfigError
        It is nothing that can be fitted, or not without `Y`.
    """
    method = given.method if isinstance(given, LabelCalibrator) else given
    if method not in METHODS:
        raise ConfigError(
            "The 'calibrator' parameter of ZeroShotMultiLabelClassifier must be None, "
            "a LabelCalibrator that is fitted to each label, what was fitted, its file "
            f"(.json), or one of {', '.join(map(repr, METHODS))}. Got {given!r} "
            "instead."
        )
    if true is None and not isinstance(given, LabelCalibrator):
        raise ConfigError(
            "Without Y, the share of texts that a label applies to is unknown: pass Y "
            "to fit, or use a calibrator that needs no labels, with that share as its "
            "prior, such as LabelCalibrator('prior_matching', "
            "prior={'yes': 0.1, 'no': 0.9})."
        )
    return YesNoCalibration.fit(
        given,
        scorer.score(rows, refuse=text_error).scores,
        true,
        fingerprints=scorer.fingerprints(),
        probes=[each.score_probes(method, rows) for each in scorer.each()],
        sample_weight=sample_weight,
    )


def fits_fingerprint(
    scorer: Scorer, calibration: YesNoCalibration | None
) -> dict[str, str]:
    """Return what the probabilities of labels depend on, for their thresholds."""
    digest = "none" if calibration is None else calibration.digest
    return scorer.fingerprint() | {"calibration": digest}


def given_thresholds(given: Any, labels: LabelSet) -> FloatArray:
    """Return thresholds sorted by label, whatever they were fitted on.

    Raises
    ------
    ConfigError
        One is not in [0, 1], or there is no such label.
    DataError
        The file cannot be read.
    """
    if given is None:
        return np.full(len(labels), 0.5)
    if is_file(given):
        given = LabelThresholds.load(given)
    if isinstance(given, LabelThresholds):
        given = given.thresholds
    elif isinstance(given, Mapping):
        for name, value in given.items():
            if not _PROBABILITY.holds(value):
                raise ConfigError(
                    f"The threshold of label {name!r} must be {_PROBABILITY.says}. "
                    f"Got {value!r} instead."
                )
    elif _PROBABILITY.holds(given):
        return np.full(len(labels), float(given))
    else:
        raise ConfigError(
            "The 'thresholds' parameter of ZeroShotMultiLabelClassifier must be "
            f"{_PROBABILITY.says}, a mapping of labels to such numbers, what "
            f"fit_thresholds returned, or its file (.json). Got {given!r} instead."
        )
    found = dict.fromkeys(sorted(labels.names), 0.5)
    for name, value in given.items():
        known = labels.find(name)
        if known is None:
            raise ConfigError(f"Among the thresholds, {labels.unknown(name)}")
        found[known] = float(value)
    return np.array(list(found.values()))


def _loaded(given: Any) -> LabelsArtefact | None:
    return LabelsArtefact.load(given) if is_file(given) else None


def _calibration(
    given: Any, loaded: LabelsArtefact | None, scorer: Scorer
) -> YesNoCalibration | None:
    if given is None:
        return None
    what = "The calibration"
    if loaded is not None:
        what = f"The calibration {os.fspath(given)!r}"
        given = loaded.calibration
    found: YesNoCalibration = given.checked_for(scorer.fingerprints(), what=what)
    strictest = min(
        found.calibrators.values(), key=lambda each: each.required_tolerance_
    )
    warn_of_tolerance(strictest, scorer)
    return found


def _thresholds(
    given: Any, what: str, scorer: Scorer, calibration: YesNoCalibration | None
) -> FloatArray:
    values = given_thresholds(given, LabelSet(scorer.about))
    if isinstance(given, LabelThresholds) and given.fingerprint:
        present = fits_fingerprint(scorer, calibration)
        check_fingerprint(given.fingerprint, present, what=what, force=None)
    return values
