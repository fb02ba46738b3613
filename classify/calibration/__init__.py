"""From what a model believes to how often it is right.

`LabelCalibrator` is the estimator; it takes label log-probabilities, and everything is
computed on those. The functions behind its methods, each with its formula and paper,
are in `shifts` (without labels) and `scaling`, `matrix`, `isotonic`, `mixture` (with).
"""

from classify.calibration.calibrator import LabelCalibrator
from classify.calibration.checks import CalibrationWarning
from classify.calibration.methods import METHODS, PROBE_METHODS, required_tolerance
from classify.calibration.prior_shift import PriorShift
from classify.scoring.fingerprint import (
    Fingerprint,
    check_fingerprint,
    fingerprint_of,
)

__all__ = [
    "METHODS",
    "PROBE_METHODS",
    "CalibrationWarning",
    "Fingerprint",
    "LabelCalibrator",
    "PriorShift",
    "check_fingerprint",
    "fingerprint_of",
    "required_tolerance",
]
