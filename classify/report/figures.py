"""The figures of an evaluation, which pages, pictures and JSON are made of."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from classify.decision.posteriors import Known, Posteriors
from classify.metrics.calibration_error import ReliabilityBins
from classify.report.by_class import ClassFigures, Mistake
from classify.report.measures import BeforeAfter, FloatArray, IntArray, Quality
from classify.report.of_kind import KindMeasure
from classify.report.selection import Selection, SetFigures
from classify.scoring.result import LabelLogprobs

__all__ = ["Assessment", "Figures"]


class Assessment(NamedTuple):
    """Probabilities of the labels of each text, and how good they are.

    Attributes
    ----------
    log_proba : ndarray of float64, shape (n_texts, n_labels)
        Natural logarithms; the probabilities of a row sum to 1.
    quality : Quality
    bins : ReliabilityBins
        Of the most likely label: 15 bins of equal width, those without texts left out.
    order : ndarray of float64, shape (n_texts,)
        What texts are sorted by, surest highest, for risk and coverage.
    aurc : float
        `aurc_score` in this order.
    of_kind : tuple of KindMeasure
        What is measured of ordinal questions and trees only.
    """

    log_proba: FloatArray
    quality: Quality
    bins: ReliabilityBins
    order: FloatArray
    aurc: float
    of_kind: tuple[KindMeasure, ...] = ()

    @property
    def proba(self) -> FloatArray:
        """Shape (n_texts, n_labels): rows sum to 1."""
        return np.exp(self.log_proba)

    @property
    def predicted(self) -> IntArray:
        """Shape (n_texts,): column of the most likely label, the first if tied."""
        return np.asarray(self.log_proba.argmax(axis=1))


@dataclass(frozen=True, eq=False, repr=False)
class Figures(BeforeAfter[Assessment]):
    """All that is measured of predictions: see `classify.report.Evaluation`."""

    title: str
    facts: dict[str, str]
    texts: tuple[str, ...]
    classes: tuple[str, ...]
    codes: IntArray
    scores: LabelLogprobs
    posteriors: Posteriors
    known: Known
    before: Assessment
    after: Assessment | None
    confusion: npt.NDArray[np.int64]
    by_class: tuple[ClassFigures, ...]
    mistakes: tuple[Mistake, ...]
    selection: Selection | None = None
    sets: SetFigures | None = None

    @property
    def n_uncertain(self) -> int:
        """Texts for which another label could be more probable by what is not known."""
        return int((~self.known.certain).sum())
