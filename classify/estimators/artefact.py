"""The files of `classify calibrate`: calibrations, and decisions made on top of them.

A threshold and prediction sets hold for the probabilities that they were fitted on, and
for no others, so they are stored with the calibration that made these.
"""

import os
from dataclasses import dataclass, replace

from classify.calibration import Fingerprint, LabelCalibrator
from classify.calibration.yes_no import YesNoCalibration
from classify.decision import (
    LabelThresholds,
    SelectiveClassifier,
    SplitConformalSets,
)
from classify.errors import ConfigError, DataError
from classify.files.json import read_json, write_json
from classify.questions.decision_rules import Target

__all__ = ["Artefact", "LabelsArtefact"]

_FORMAT = "classify artefact 1"
_FORMAT_OF_LABELS = "classify artefact of labels 1"
_WRITER = "classify calibrate"
_KEYS = {"format", "calibration", "threshold", "sets"}


@dataclass(frozen=True, eq=False)
class Artefact:
    """What is fitted to labelled texts, as one file of JSON.

    Attributes
    ----------
    calibrator : LabelCalibrator
        Fitted.
    selective : SelectiveClassifier or None
        Fitted to calibrated probabilities, as `sets`.
    sets : SplitConformalSets or None
    """

    calibrator: LabelCalibrator
    selective: SelectiveClassifier | None = None
    sets: SplitConformalSets | None = None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file, complete or not at all; one that exists is replaced.

        Raises
        ------
        DataError
            The file cannot be written.
        """
        content = {
            "format": _FORMAT,
            "calibration": self.calibrator.to_dict(),
            "threshold": None if self.selective is None else self.selective.to_dict(),
            "sets": None if self.sets is None else self.sets.to_dict(),
        }
        write_json(path, content)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        fingerprint: Fingerprint | None = None,
        force: bool = False,
    ) -> "Artefact":
        """Read what `save`, or `LabelCalibrator.save`, wrote.

        Parameters
        ----------
        path : str or Path
        fingerprint : mapping of str to str, default=None
            What texts will be scored with; `ZeroShotClassifier.scorer().fingerprint()`
            gives it. None: not compared.
        force : bool, default=False
            Accept it even if it was fitted on something else; from then on the
            calibrator counts as fitted on what is present.

        Raises
        ------
        DataError
            The file is missing, or not a calibration.
        ConfigError
            It was fitted on something else; the sentence names what differs.
        """
        artefact = _read(path)
        if fingerprint is None:
            return artefact
        what = f"The calibration {os.fspath(path)!r}"
        calibrator = artefact.calibrator.checked_for(
            fingerprint, what=what, force=force
        )
        return replace(artefact, calibrator=calibrator)

    def selective_for(self, target_risk: float) -> SelectiveClassifier:
        """Return the threshold that was chosen for a risk.

        Raises
        ------
        ConfigError
            None was, or one for another risk.
        """
        if self.selective is None or self.selective.target_risk != target_risk:
            found = (
                "no threshold"
                if self.selective is None
                else f"a threshold for a risk of {self.selective.target_risk:g}"
            )
            raise ConfigError(
                f"There is no threshold for a risk of {target_risk:g}: the calibration "
                f"holds {found}. Fit one: classify calibrate … --target-risk "
                f"{target_risk:g}."
            )
        return self.selective

    def sets_for(self, confidence_level: float) -> SplitConformalSets:
        """Return the prediction sets that were fitted for a confidence level.

        Raises
        ------
        ConfigError
            None were, or some for another level.
        """
        if self.sets is None or self.sets.confidence_level != confidence_level:
            found = (
                "no sets"
                if self.sets is None
                else f"sets for confidence level {self.sets.confidence_level:g}"
            )
            raise ConfigError(
                f"There are no sets for confidence level {confidence_level:g}: the "
                f"calibration holds {found}. Fit some: classify calibrate … --sets "
                f"{confidence_level:g}."
            )
        return self.sets


@dataclass(frozen=True, eq=False)
class LabelsArtefact:
    """What is fitted for a question of kind multi, as one file of JSON.

    Attributes
    ----------
    calibration : YesNoCalibration
    thresholds : LabelThresholds or None
        Fitted to calibrated probabilities.
    """

    calibration: YesNoCalibration
    thresholds: LabelThresholds | None = None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file, complete or not at all; one that exists is replaced.

        Raises
        ------
        DataError
            The file cannot be written.
        """
        thresholds = self.thresholds
        content = {
            "format": _FORMAT_OF_LABELS,
            "calibration": self.calibration.to_dict(),
            "thresholds": None if thresholds is None else thresholds.to_dict(),
        }
        write_json(path, content)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "LabelsArtefact":
        """Read what `save`, or `YesNoCalibration.save`, wrote.

        Raises
        ------
        DataError
            The file is missing, or not a calibration.
        """
        shown = os.fspath(path)
        content = read_json(path, writer=_WRITER)
        if not isinstance(content, dict) or content.get("format") != _FORMAT_OF_LABELS:
            # A calibration alone; anything else is refused there.
            return cls(YesNoCalibration.from_dict(content, shown))
        thresholds = content.get("thresholds")
        try:
            return cls(
                YesNoCalibration.from_dict(content.get("calibration"), shown),
                None if thresholds is None else LabelThresholds.from_dict(thresholds),
            )
        except (ConfigError, AttributeError, TypeError, ValueError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(
                f"The calibration {shown!r} is damaged. {error} Fit it again."
            ) from None

    def thresholds_for(self, wanted: Target) -> LabelThresholds:
        """Return the thresholds that were chosen for a target.

        Raises
        ------
        ConfigError
            None were, or some for another target.
        """
        found = self.thresholds
        has = None if found is None else Target(found.target, found.level)
        if found is None or has != wanted:
            raise ConfigError(
                f"There are no thresholds for {wanted}: the calibration holds "
                f"{'none' if has is None else f'some for {has}'}. Fit some: classify "
                f"calibrate … --target {wanted}."
            )
        return found


def _read(path: str | os.PathLike[str]) -> Artefact:
    shown = os.fspath(path)
    content = read_json(path, writer=_WRITER)
    if isinstance(content, dict) and content.get("format") == _FORMAT_OF_LABELS:
        raise DataError(
            f"The calibration {shown!r} is for a question of kind multi, but this "
            "question has one answer: fit another."
        )
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        # A calibration alone; anything else is refused there.
        return Artefact(LabelCalibrator.from_dict(content, shown))
    if set(content) != _KEYS:
        wrong = ", ".join(map(repr, sorted(set(content) ^ _KEYS)))
        raise DataError(
            f"The calibration {shown!r} is damaged. Keys missing or unknown: {wrong}. "
            "Fit it again."
        )
    threshold, sets = content["threshold"], content["sets"]
    try:
        return Artefact(
            LabelCalibrator.from_dict(content["calibration"], shown),
            None if threshold is None else SelectiveClassifier.from_dict(threshold),
            None if sets is None else SplitConformalSets.from_dict(sets),
        )
    except (ConfigError, TypeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"The calibration {shown!r} is damaged. {error} Fit it again."
        ) from None
