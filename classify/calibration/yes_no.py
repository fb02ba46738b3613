"""Calibration of yes/no reads: a `LabelCalibrator` for the answers about a label."""

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import clone

from classify.calibration.calibrator import LabelCalibrator
from classify.errors import ConfigError, DataError
from classify.files.json import read_json, write_json
from classify.scoring import LabelLogprobs
from classify.scoring.fingerprint import Fingerprint, check_fingerprint, digest_of

__all__ = ["YesNoCalibration"]

_FORMAT = "classify yes/no calibration 1"
_WRITER = "ZeroShotMultiLabelClassifier.calibrator_.save"
# What of a calibration changes probabilities.
_VALUES = ("method", "classes", "parameters")


@dataclass(frozen=True, eq=False)
class YesNoCalibration:
    """How the answers about each label are calibrated.

    Attributes
    ----------
    calibrators : mapping of str to LabelCalibrator
        By label; fitted to the classes "no" and "yes".
    """

    calibrators: Mapping[str, LabelCalibrator]

    @classmethod
    def fit(
        cls,
        given: str | LabelCalibrator,
        scores: LabelLogprobs,
        Y: npt.NDArray[np.int64] | None,
        *,
        fingerprints: Mapping[str, Fingerprint],
        probes: Sequence[LabelLogprobs | None],
        sample_weight: Any = None,
    ) -> "YesNoCalibration":
        """Fit a calibrator for each label.

        Parameters
        ----------
        given : str or LabelCalibrator
            A method, which takes the share of texts that a label applies to from `Y`;
            or a calibrator, of which each label gets a copy.
        scores : LabelLogprobs
            A row for each label of each text: text by text, labels sorted by name.
        Y : ndarray of int64, shape (n_texts, n_labels), or None
        fingerprints : mapping of str to mapping
            What the scores of each label depend on, sorted by label.
        probes : sequence of LabelLogprobs or None, length n_labels
            Those of the method, if it needs any.
        sample_weight : array, shape (n_texts,), default=None
        """
        calibrators = {}
        for at, (label, fingerprint) in enumerate(fingerprints.items()):
            true = None if Y is None else Y[:, at]
            made = clone(given) if isinstance(given, LabelCalibrator) else None
            with _warnings_about(label):
                calibrators[label] = (made or _calibrator(str(given), true)).fit(
                    scores[at :: len(fingerprints)],
                    None if true is None else np.where(true == 1, "yes", "no"),
                    probes=probes[at],
                    sample_weight=sample_weight,
                    fingerprint=fingerprint,
                )
        return cls(calibrators)

    def checked_for(
        self, fingerprints: Mapping[str, Fingerprint], *, what: str
    ) -> "YesNoCalibration":
        """Return this, if it was fitted on what scores each of these labels now.

        Raises
        ------
        ConfigError
            A label has no calibration, or one that was fitted on something else.
        """
        for label, fingerprint in fingerprints.items():
            if label not in self.calibrators:
                raise ConfigError(
                    f"{what} does not cover the label {label!r}: fit it with all "
                    "labels."
                )
            fitted_on = self.calibrators[label].fingerprint_
            if fitted_on:  # one that was fitted to bare arrays is taken at its word
                each = f"{what} of {label!r}"
                check_fingerprint(fitted_on, fingerprint, what=each, force=None)
        return self

    @property
    def digest(self) -> str:
        """Hash of what probabilities depend on."""
        return digest_of(
            {
                name: {key: each[key] for key in _VALUES}
                for name, each in self._saved.items()
            }
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file, complete or not at all; one that exists is replaced.

        Raises
        ------
        DataError
            The file cannot be written.
        """
        write_json(path, self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Return the same in types that JSON has; see `from_dict`."""
        return {"format": _FORMAT, "calibrations": self._saved}

    @property
    def _saved(self) -> dict[str, dict[str, Any]]:
        return {name: each.to_dict() for name, each in self.calibrators.items()}

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "YesNoCalibration":
        """Read what `save` wrote.

        Raises
        ------
        DataError
            The file is missing, or not such a file.
        """
        return cls.from_dict(read_json(path, writer=_WRITER), os.fspath(path))

    @classmethod
    def from_dict(cls, content: Any, shown: str) -> "YesNoCalibration":
        """Return what `to_dict` described, of the file that messages name."""
        found = content.get("format") if isinstance(content, dict) else None
        saved = content.get("calibrations") if found == _FORMAT else None
        if not isinstance(saved, dict):
            raise DataError(
                f"{shown!r} is not a calibration of yes/no answers: its format must be "
                f"{_FORMAT!r}. Got {found!r} instead. Give a file that {_WRITER} wrote."
            )
        return cls(
            {
                name: LabelCalibrator.from_dict(each, f"{shown}, label {name!r}")
                for name, each in saved.items()
            }
        )


@contextmanager
def _warnings_about(label: str) -> Iterator[None]:
    """Name the label in each warning."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for each in caught:
        warnings.warn(f"Label {label!r}: {each.message}", each.category, stacklevel=4)


def _calibrator(method: str, true: npt.NDArray[np.int64] | None) -> LabelCalibrator:
    """Return a calibrator whose prior is the label's share of texts, smoothed."""
    assert true is not None, "checked: no method knows the share without it"
    # Laplace's rule: a label that no text has is rare, and not impossible.
    share = (int(true.sum()) + 1) / (len(true) + 2)
    return LabelCalibrator(method, prior={"yes": share, "no": 1.0 - share})
