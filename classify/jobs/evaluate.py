"""From scored, labelled texts to an evaluation with its decisions."""

from collections.abc import Mapping

from classify.calibration import LabelCalibrator
from classify.decision import SelectiveClassifier, SplitConformalSets
from classify.decision.posteriors import LabelPosteriors, Posteriors
from classify.estimators.given_yes_no import checked_fits
from classify.estimators.multi_label import ZeroShotMultiLabelClassifier
from classify.jobs.labelled import ScoredTexts
from classify.questions.kinds import Kind
from classify.report import Evaluation, LabelsEvaluation
from classify.report.selection import Selection

__all__ = ["evaluate", "evaluate_labels", "selection_of"]


def evaluate(
    texts: ScoredTexts,
    *,
    calibrator: LabelCalibrator | None = None,
    selective: SelectiveClassifier | None = None,
    sets: SplitConformalSets | None = None,
    kind: Kind | None = None,
    tolerance: float,
    title: str,
    facts: Mapping[str, str],
) -> Evaluation:
    """Measure the scores of labelled texts, before and after calibration.

    Parameters
    ----------
    texts : ScoredTexts
        With labels; none of them may have been used to fit the following.
    calibrator : LabelCalibrator, default=None
    selective : SelectiveClassifier, default=None
        Fitted to probabilities of this calibrator, as `sets`.
    sets : SplitConformalSets, default=None
    kind : Ordinal, Tree or None, default=None
        The kind of question, which may have measures of its own.
    tolerance : float
        By how much another label could be more probable without being counted.
    title : str
    facts : mapping of str to str
        What the report says about how the predictions were made.

    Returns
    -------
    Evaluation
    """
    scores = texts.scores
    posteriors = Posteriors.of(scores, calibrator)
    return Evaluation.of(
        texts.texts,
        texts.labels,
        scores,
        calibrated=None if calibrator is None else posteriors,
        selective=selective,
        sets=None if sets is None else sets.predict_set(posteriors),
        kind=kind,
        tolerance=tolerance,
        title=title,
        facts=facts,
    )


def evaluate_labels(
    classifier: ZeroShotMultiLabelClassifier,
    texts: ScoredTexts,
    *,
    title: str,
    facts: Mapping[str, str],
) -> LabelsEvaluation:
    """Measure multi-label predictions, before and after calibration.

    Parameters
    ----------
    classifier : ZeroShotMultiLabelClassifier
        Has scored the texts; its calibration and thresholds must not have seen them.
    texts : ScoredTexts
        With labels.
    title : str
    facts : mapping of str to str
        As in `evaluate`.
    """
    names, fits, scores = (
        classifier.scorer().names,
        checked_fits(classifier),
        texts.scores,
    )
    shape = (-1, len(names))
    calibrated = None
    if fits.calibration is not None:
        calibrated = fits.posteriors_of(scores, names)
    return LabelsEvaluation.of(
        texts.texts,
        texts.labels,
        names,
        LabelPosteriors.of(scores, names),
        calibrated=calibrated,
        thresholds=fits.thresholds,
        label_mass=scores.label_mass.reshape(shape).min(axis=1),
        unresolved=scores.unresolved.reshape(shape).max(axis=1),
        truncated=scores.truncated.reshape(shape).any(axis=1),
        title=title,
        facts=facts,
    )


def selection_of(evaluation: Evaluation, selective: SelectiveClassifier) -> Selection:
    """Return the effect of a rule on the texts of an evaluation.

    A threshold chosen by hand has no guarantee, so the report, which describes
    the guarantee of a fitted one, does not show it.
    """
    return Selection.of(selective, evaluation.posteriors, evaluation.codes)
