"""From scored texts to a calibration, and on other rows to a threshold and sets."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from classify.calibration import Fingerprint, LabelCalibrator
from classify.calibration.yes_no import YesNoCalibration
from classify.decision import SelectiveClassifier, SplitConformalSets, fit_thresholds
from classify.decision.posteriors import LabelPosteriors, Posteriors
from classify.errors import DataError
from classify.estimators.artefact import Artefact, LabelsArtefact
from classify.estimators.given_yes_no import fits_fingerprint
from classify.estimators.multi_label import ZeroShotMultiLabelClassifier
from classify.jobs.labelled import ScoredTexts
from classify.questions.decision_rules import Target
from classify.scoring import LabelLogprobs
from classify.scoring.doubts import doubt_one_label

__all__ = [
    "CalibrationFit",
    "CalibrationWishes",
    "LabelsFit",
    "fit_artefact",
    "fit_labels_artefact",
]

_SEED = 0


@dataclass(frozen=True, kw_only=True)
class CalibrationWishes:
    """What to fit.

    Attributes
    ----------
    method : str
        Of `LabelCalibrator`, as `prior`.
    prior : str or mapping of str to float
    target_risk : float or None
        Of the `SelectiveClassifier`, as `min_label_mass`; None: no threshold.
    min_label_mass : float or None
    sets : float or None
        Confidence level of the `SplitConformalSets`; None: no sets.
    target : Target or None
        What the thresholds of labels are fitted for, where any number of labels may
        apply; None: no thresholds.
    force : bool
        Of `LabelCalibrator`.
    any_labels : bool
        Whether each row has its own labels, which are not known in advance.
    """

    method: str = "auto"
    prior: str | Mapping[str, float] = "uniform"
    target_risk: float | None = None
    min_label_mass: float | None = None
    sets: float | None = None
    target: Target | None = None
    force: bool = False
    any_labels: bool = False

    @property
    def has_decisions(self) -> bool:
        """Whether labelled rows have to be held out from the calibration."""
        wishes = (self.target_risk, self.sets, self.target)
        return any(each is not None for each in wishes)


class CalibrationFit(NamedTuple):
    """What was fitted, on how many texts.

    Attributes
    ----------
    artefact : Artefact
    n_calibrated : int
        Texts that the calibration was fitted on.
    n_decided : int
        Other texts, that threshold and sets were fitted on.
    set_sizes : ndarray of int64, shape (n_decided,), or None
        Number of labels in the set of each of these.
    error_rate : float or None
        Of the most likely labels of these.
    seed : int
        Seed of the draw that divided them.
    """

    artefact: Artefact
    n_calibrated: int
    n_decided: int
    set_sizes: npt.NDArray[np.int64] | None
    error_rate: float | None = None
    seed: int = _SEED


def fit_artefact(
    texts: ScoredTexts,
    wishes: CalibrationWishes,
    *,
    unlabelled: LabelLogprobs | None = None,
    probes: LabelLogprobs | None = None,
    fingerprint: Fingerprint,
) -> CalibrationFit:
    """Fit a calibration, and on other rows a threshold and sets.

    Guarantees of risk and coverage hold only for probabilities that have seen none of
    the labels, nor the texts, that threshold and sets are fitted on. So where there are
    any to fit, half of the rows, drawn at random, are held out for them.

    Parameters
    ----------
    texts : ScoredTexts
        With labels, if there are decisions to fit.
    wishes : CalibrationWishes
    unlabelled, probes : LabelLogprobs, default=None
        As in `LabelCalibrator.fit`.
    fingerprint : mapping of str to str
        Of the scorer.

    Returns
    -------
    CalibrationFit

    Raises
    ------
    DataError
        There is only one row, which cannot be divided.
    """
    n_texts = len(texts.scores)
    first, kept_back = _divided(n_texts, wishes)
    calibrator = LabelCalibrator(wishes.method, wishes.prior, force=wishes.force).fit(
        texts.scores[first],
        _some(texts.labels, first),
        X_unlabeled=unlabelled,
        probes=probes,
        fingerprint=fingerprint,
    )
    true = _some(texts.labels, first)
    doubt_one_label(
        Counter(calibrator.predict(texts.scores[first]).tolist()),
        None if true is None else Counter(true.tolist()),
    )
    artefact, set_sizes, error_rate = Artefact(calibrator), None, None
    if wishes.has_decisions:
        scores, true = texts.scores[kept_back], _some(texts.labels, kept_back)
        posteriors = Posteriors.of(scores, calibrator)
        error_rate = float((scores.classes[posteriors.best] != true).mean())
        sets = _fitted_sets(wishes, posteriors, true)
        if sets is not None:
            set_sizes = sets.predict_set(posteriors).sum(axis=1)
        artefact = Artefact(calibrator, _fitted_rule(wishes, posteriors, true), sets)
    return CalibrationFit(artefact, len(first), len(kept_back), set_sizes, error_rate)


class LabelsFit(NamedTuple):
    """What was fitted for a multi-label question, on how many texts.

    Attributes
    ----------
    artefact : LabelsArtefact
    n_calibrated, n_decided : int
        As in `CalibrationFit`.
    n_having : ndarray of int64, shape (n_labels,)
        Of the texts that the calibration was fitted on, how many have each label.
    seed : int
    """

    artefact: LabelsArtefact
    n_calibrated: int
    n_decided: int
    n_having: npt.NDArray[np.int64]
    seed: int = _SEED


def fit_labels_artefact(
    classifier: ZeroShotMultiLabelClassifier,
    texts: ScoredTexts,
    wishes: CalibrationWishes,
) -> LabelsFit:
    """Fit a calibration for each label, and on other rows its threshold.

    Parameters
    ----------
    classifier : ZeroShotMultiLabelClassifier
        Has scored the texts.
    texts : ScoredTexts
        With labels.
    wishes : CalibrationWishes
        Its method and target are used.

    Raises
    ------
    DataError
        As in `fit_artefact`.
    """
    scorer, true = classifier.scorer(), texts.labels
    assert true is not None, "checked: labels are needed"
    first, kept_back = _divided(len(true), wishes)
    calibration = YesNoCalibration.fit(
        wishes.method,
        _pairs(texts.scores, first, len(scorer.names)),
        true[first],
        fingerprints=scorer.fingerprints(),
        probes=[each.score_probes(wishes.method, texts.rows) for each in scorer.each()],
    )
    thresholds = None
    if wishes.target is not None:
        kept = _pairs(texts.scores, kept_back, len(scorer.names))
        thresholds = fit_thresholds(
            LabelPosteriors.of(kept, scorer.names, calibration.calibrators).least,
            true[kept_back],
            scorer.names,
            target=wishes.target.name,
            level=wishes.target.level,
            fingerprint=fits_fingerprint(scorer, calibration),
        )
    return LabelsFit(
        LabelsArtefact(calibration, thresholds),
        len(first),
        len(kept_back),
        true[first].sum(axis=0),
    )


def _pairs(
    scores: LabelLogprobs, rows: npt.NDArray[np.int64], n_labels: int
) -> LabelLogprobs:
    """Return the scores of all labels of some rows."""
    return scores[(rows[:, None] * n_labels + np.arange(n_labels)).ravel()]


class _Divided(NamedTuple):
    first: npt.NDArray[np.int64]
    kept_back: npt.NDArray[np.int64]


def _divided(n_texts: int, wishes: CalibrationWishes) -> _Divided:
    """Draw the texts for the calibration, and keep others back for decisions."""
    order = np.random.default_rng(_SEED).permutation(n_texts)
    n_calibrated = n_texts
    if wishes.has_decisions:
        n_calibrated = (n_texts + 1) // 2
        if n_calibrated == n_texts:
            raise DataError(
                "There is 1 labelled row, but a calibration and a threshold or sets "
                "need different ones: label more, 200 if possible."
            )
    # In the order of the file: folds are dealt as rows stand.
    return _Divided(np.sort(order[:n_calibrated]), np.sort(order[n_calibrated:]))


def _some(labels: npt.NDArray[np.str_] | None, rows: npt.NDArray[np.int64]) -> Any:
    return None if labels is None else labels[rows]


def _fitted_rule(
    wishes: CalibrationWishes, posteriors: Posteriors, true: Any
) -> SelectiveClassifier | None:
    if wishes.target_risk is None:
        return None
    rule = SelectiveClassifier(
        wishes.target_risk,
        min_label_mass=wishes.min_label_mass,
        classes="any" if wishes.any_labels else None,
    )
    return rule.fit(posteriors, true)


def _fitted_sets(
    wishes: CalibrationWishes, posteriors: Posteriors, true: Any
) -> SplitConformalSets | None:
    if wishes.sets is None:
        return None
    return SplitConformalSets(wishes.sets).conformalize(posteriors, true)
