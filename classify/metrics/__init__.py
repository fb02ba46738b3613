"""Measures of probabilities that scikit-learn does not have.

Log loss, Brier score and their skill scores are scikit-learn's: `log_loss`,
`brier_score_loss`, `d2_log_loss_score`, `d2_brier_score`.
"""

from classify.metrics.bootstrap import BootstrapInterval, bootstrap_interval
from classify.metrics.calibration_error import (
    calibration_error,
    smooth_calibration_error,
)
from classify.metrics.log_loss import (
    LogLoss,
    log_loss_from_log_proba,
    mutual_information,
)
from classify.metrics.ordinal import ranked_probability_score
from classify.metrics.reliability_display import ReliabilityDisplay
from classify.metrics.risk_coverage import (
    RiskCoverageCurve,
    augrc_score,
    aurc_score,
    eaurc_score,
    risk_coverage_curve,
)
from classify.metrics.risk_coverage_display import RiskCoverageDisplay
from classify.plots.track_display import TrackDisplay

__all__ = [
    "BootstrapInterval",
    "LogLoss",
    "ReliabilityDisplay",
    "RiskCoverageCurve",
    "RiskCoverageDisplay",
    "TrackDisplay",
    "augrc_score",
    "aurc_score",
    "bootstrap_interval",
    "calibration_error",
    "eaurc_score",
    "log_loss_from_log_proba",
    "mutual_information",
    "ranked_probability_score",
    "risk_coverage_curve",
    "smooth_calibration_error",
]
