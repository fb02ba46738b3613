"""The allowed values of ``ZeroShotClassifier(calibrator=…)``, and their meaning."""

import logging
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_is_fitted

from classify.calibration import METHODS, LabelCalibrator, check_fingerprint
from classify.errors import ConfigError, InputError
from classify.estimators.artefact import Artefact
from classify.rows.encoding import Row
from classify.rows.scorer import Scorer, text_error

__all__ = [
    "CheckedCalibrator",
    "checked_calibrator",
    "fit_calibrator",
    "is_file",
    "is_fitted",
    "not_fitted",
    "saved_state",
    "warn_of_tolerance",
]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class CheckedCalibrator:
    """A fitted calibrator that was found to be made for what is scored.

    Attributes
    ----------
    given : LabelCalibrator, FrozenEstimator, str or Path
        What the calibrator was given as; see `is_fitted`.
    scorer : Scorer
        What makes the scores.
    calibrator : LabelCalibrator
    saved : object
        What tells whether it is the same still: that a file was not saved, nor a
        calibrator fitted, again.
    """

    given: Any
    scorer: Scorer
    calibrator: LabelCalibrator
    saved: object

    @classmethod
    def of(cls, given: Any, scorer: Scorer) -> "CheckedCalibrator":
        """Take or load a calibrator, and compare fingerprints.

        One that was fitted to bare arrays knows no fingerprint, and is taken at its
        word. Scores that are too coarse for it are warned of.

        Raises
        ------
        DataError
            The file cannot be read.
        ConfigError
            It was fitted on something else.
        """
        saved = _state(given)
        if is_file(given):
            fingerprint = scorer.fingerprint()
            calibrator = Artefact.load(given, fingerprint=fingerprint).calibrator
        else:
            calibrator = _unfrozen(given)
            fitted_on = calibrator.fingerprint_
            if fitted_on:
                present = scorer.fingerprint()
                check_fingerprint(fitted_on, present, what="The calibrator")
        warn_of_tolerance(calibrator, scorer)
        return cls(given, scorer, calibrator, saved)

    def holds_for(self, given: Any, scorer: Scorer) -> bool:
        """Return whether nothing has changed since."""
        return (
            self.given is given
            and self.scorer == scorer
            and self.saved == _state(given)
        )


def checked_calibrator(owner: Any) -> LabelCalibrator:
    """Return the calibrator of an estimator, given or fitted, checked once."""
    given: Any = owner.calibrator
    if not is_fitted(given):
        given = getattr(owner, "calibrator_", None)
    if given is None:
        raise not_fitted(owner.calibrator)
    # Parameters may be set again at any time; to digest a model takes a moment.
    scorer: Scorer = owner.scorer()
    checked: CheckedCalibrator | None = getattr(owner, "_checked", None)
    if checked is None or not checked.holds_for(given, scorer):
        owner._checked = checked = CheckedCalibrator.of(given, scorer)
    return checked.calibrator


def warn_of_tolerance(calibrator: LabelCalibrator, scorer: Scorer) -> None:
    """Log a warning if scores are too coarse for a fitted calibrator."""
    needed = calibrator.required_tolerance_
    scoring = scorer.scoring
    if scoring.strategy == "generate" or scoring.tolerance <= needed:
        return
    # Rounded down, so that what is advised is enough.
    unit = 10.0 ** math.floor(math.log10(needed))
    logger.warning(
        "The tolerance is %g, which is too coarse for the calibration %r of %d labels: "
        "fit it again, and use it, at a tolerance of %g.",
        scoring.tolerance,
        calibrator.method_,
        len(calibrator.classes_),
        math.floor(needed / unit + 1e-9) * unit,
    )


def is_fitted(given: Any) -> bool:
    """Return whether a calibrator can be used as it is given, without `fit`.

    A file can, and so can a fitted `LabelCalibrator`; in a `FrozenEstimator` it stays
    fitted when the classifier is cloned.

    Examples
    --------
    >>> is_fitted("calibration.json"), is_fitted("auto")
    (True, False)
    """
    if is_file(given):
        return True
    calibrator = _unfrozen(given)
    if not isinstance(calibrator, LabelCalibrator):
        return False
    try:
        check_is_fitted(calibrator)
    except NotFittedError:
        return False
    return True


def not_fitted(given: Any) -> NotFittedError:
    """Return the error for a calibrator that has to be fitted first."""
    return NotFittedError(
        f"The calibrator of this ZeroShotClassifier, {given!r}, is not fitted: call "
        "fit(texts, y), or fit(texts) for a method without labels; or give a fitted "
        "LabelCalibrator, or the file of one."
    )


def fit_calibrator(
    given: Any,
    scorer: Scorer,
    rows: Sequence[Row | InputError],
    names: Sequence[str] | None,
    sample_weight: Any,
) -> LabelCalibrator:
    """Return what ``calibrator=…`` is after `fit`: fitted to these rows, unless it was.

    Raises
    ------
    ConfigError
        It is nothing that can be fitted, or was fitted on something else.
    """
    if is_fitted(given):
        return CheckedCalibrator.of(given, scorer).calibrator
    calibrator = _unfitted(given)
    return calibrator.fit(
        scorer.score(rows, refuse=text_error).scores,
        names,
        probes=scorer.score_probes(calibrator.method, rows),
        sample_weight=sample_weight,
        fingerprint=scorer.fingerprint(),
    )


def _unfitted(given: Any) -> LabelCalibrator:
    """Return a new calibrator, of a method's name or an unfitted calibrator."""
    if isinstance(given, str) and given in METHODS:
        return LabelCalibrator(given)
    if isinstance(given, LabelCalibrator):
        calibrator: LabelCalibrator = clone(given)
        return calibrator
    raise ConfigError(
        "The 'calibrator' parameter of ZeroShotClassifier must be None, a "
        f"LabelCalibrator, a file that ends in .json, or one of "
        f"{', '.join(map(repr, METHODS))}. Got {given!r} instead."
    )


def is_file(given: Any) -> bool:
    """Return whether something is given as a file: a path, or a name in ``.json``."""
    return isinstance(given, os.PathLike) or (
        isinstance(given, str) and Path(given).suffix == ".json"
    )


def _state(given: Any) -> object:
    if not is_file(given):
        return dict(_unfrozen(given).fingerprint_)
    return saved_state(given)


def saved_state(given: str | os.PathLike[str]) -> object:
    """Return what tells whether a file was saved again."""
    try:
        stat = Path(given).stat()
    except OSError:
        return None  # whoever loads it says what is wrong
    return stat.st_size, stat.st_mtime_ns, stat.st_ino


def _unfrozen(given: Any) -> Any:
    return given.estimator if isinstance(given, FrozenEstimator) else given
