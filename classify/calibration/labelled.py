"""Labelled texts, on which calibrations are fitted and judged."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from classify.calibration.rows import FloatArray

__all__ = ["LabelledTexts"]


@dataclass(frozen=True, eq=False)
class LabelledTexts:
    """Label log-probabilities of texts, and their true labels.

    Attributes
    ----------
    log_proba : ndarray of float64, shape (n_texts, n_labels)
        Normalised log-probabilities; -inf where a label is impossible.
    codes : ndarray of int, shape (n_texts,)
        The column of the true label.
    weights : ndarray of float64, shape (n_texts,)
        At least 0.
    floor : float
        How far below its row a true label of probability 0 counts, in nats.
    """

    log_proba: FloatArray
    codes: npt.NDArray[np.int64]
    weights: FloatArray
    floor: float

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, rows: Any) -> "LabelledTexts":
        """Return some texts, by index array or mask."""
        return LabelledTexts(
            self.log_proba[rows], self.codes[rows], self.weights[rows], self.floor
        )

    @property
    def n_labels(self) -> int:
        """How many labels there are, those that no text has included."""
        return int(self.log_proba.shape[1])

    @property
    def present(self) -> npt.NDArray[np.int64]:
        """Columns of the labels that some text of positive weight has, ascending."""
        return np.unique(self.codes[self.weights > 0])

    @property
    def shares(self) -> FloatArray:
        """Weighted share of each label among the true ones, shape (n_labels,)."""
        counts = np.bincount(self.codes, self.weights, minlength=self.n_labels)
        return np.asarray(counts / self.weights.sum(), dtype=np.float64)

    @property
    def for_fit(self) -> FloatArray:
        """`log_proba`, but a true label at -inf is `floor` below its row's least.

        Finite values stay: the map that is fitted is the map that is used.
        """
        values = self.log_proba.copy()
        rows = np.flatnonzero(self._ruled_out)
        least = np.min(values[rows], axis=1, where=np.isfinite(values[rows]), initial=0)
        values[rows, self.codes[rows]] = least + self.floor
        return values

    @property
    def n_raised(self) -> int:
        """How many true labels have a log-probability of -inf."""
        return int(self._ruled_out.sum())

    @property
    def _ruled_out(self) -> npt.NDArray[np.bool_]:
        true = self.log_proba[np.arange(len(self)), self.codes]
        return np.asarray(np.isneginf(true))

    def losses(self, log_proba: FloatArray) -> FloatArray:
        """Return -log p(true label) under these predictions, in nats, shape (n_texts,).

        A true label of probability 0 costs `-floor`, since an infinite loss would hide
        all others; any other costs what it costs.
        """
        true = log_proba[np.arange(len(self)), self.codes]
        return np.where(np.isneginf(true), -self.floor, -true)

    def log_loss(self, log_proba: FloatArray) -> float:
        """Return the weighted mean of `losses`."""
        return float(np.average(self.losses(log_proba), weights=self.weights))
