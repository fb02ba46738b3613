"""The figures of multi-label predictions, from which pages and JSON are made."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from classify.decision.posteriors import LabelPosteriors
from classify.report.measures import BeforeAfter, FloatArray, Measure

__all__ = ["Flags", "LabelFigures", "LabelsAssessment", "LabelsFigures"]

Flags = npt.NDArray[np.bool_]


class LabelsAssessment(NamedTuple):
    """How good probabilities of labels are, and what thresholds make of them.

    Attributes
    ----------
    posteriors : LabelPosteriors
        p(label applies), of which the measures of probabilities take the estimate.
    log_loss : Measure
        Mean over texts and labels of -log p(what is true of the label), in nats.
    brier : Measure
        Mean over texts and labels of (p - [the label applies])^2.
    micro_f1 : Measure
        F1 of all decisions about labels together.
    macro_f1 : Measure
        Mean over labels of F1, those left out that no text has or is given.
    exact : Measure
        Share of the texts all of whose labels are right.
    """

    posteriors: LabelPosteriors
    log_loss: Measure
    brier: Measure
    micro_f1: Measure
    macro_f1: Measure
    exact: Measure

    @property
    def proba(self) -> FloatArray:
        """Shape (n_texts, n_labels): p(label applies)."""
        return self.posteriors.proba


class LabelFigures(NamedTuple):
    """One label's figures.

    Attributes
    ----------
    label : str
    threshold : float
        Minimum probability at which it is given; inf: never.
    n_texts : int
        Texts that it applies to.
    n_given : int
        Texts that are given it.
    precision, recall, f1 : Measure
    mean_proba : float
        Over all texts; the share of the label, if calibrated.
    """

    label: str
    threshold: float
    n_texts: int
    n_given: int
    precision: Measure
    recall: Measure
    f1: Measure
    mean_proba: float


@dataclass(frozen=True, eq=False, repr=False)
class LabelsFigures(BeforeAfter[LabelsAssessment]):
    """All that is measured: see `classify.report.LabelsEvaluation`."""

    title: str
    facts: dict[str, str]
    texts: tuple[str, ...]
    labels: tuple[str, ...]
    true: Flags
    thresholds: FloatArray
    label_mass: FloatArray
    unresolved: FloatArray
    truncated: Flags
    before: LabelsAssessment
    after: LabelsAssessment | None
    by_label: tuple[LabelFigures, ...]

    @property
    def given(self) -> Flags:
        """Shape (n_texts, n_labels): which labels texts are given."""
        return self.final.posteriors.given(self.thresholds)

    @property
    def uncertain(self) -> Flags:
        """Shape (n_texts, n_labels): which labels may apply and are not given."""
        return self.final.posteriors.uncertain(self.thresholds)

    @property
    def n_uncertain(self) -> int:
        """Texts that have such labels."""
        return int(self.uncertain.any(axis=1).sum())
