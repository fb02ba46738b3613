"""The effect of a threshold and prediction sets on labelled texts."""

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from classify.decision import Decisions, SelectiveClassifier
from classify.decision.posteriors import Posteriors
from classify.errors import InputError
from classify.report.measures import IntArray, Measure, share_of

__all__ = ["Selection", "SetFigures"]


class Selection(NamedTuple):
    """A fitted threshold, and what it does to the texts.

    Attributes
    ----------
    threshold : float
        inf if no text is answered.
    confidence : str
        What is compared with it, as `SelectiveClassifier` names it.
    target_risk, confidence_level : float
        The guarantee that the threshold was chosen for.
    min_label_mass : float or None
        Least label mass of a text that is answered.
    n_fitted : int
        Labelled texts that the threshold was chosen on.
    decisions : Decisions
        What is decided for each text.
    coverage, risk : Measure
        Share of the texts that is answered, and share of the answers that is wrong,
        with 95 % Wilson intervals.
    """

    threshold: float
    confidence: str
    target_risk: float
    confidence_level: float
    min_label_mass: float | None
    n_fitted: int
    decisions: Decisions
    coverage: Measure
    risk: Measure

    @classmethod
    def of(
        cls,
        selective: SelectiveClassifier,
        posteriors: Posteriors,
        codes: IntArray,
    ) -> "Selection":
        """Decide on each text.

        Parameters
        ----------
        selective : SelectiveClassifier
            Fitted.
        posteriors : Posteriors
            n_texts rows.
        codes : ndarray of int64, shape (n_texts,)
            Column of the true label.

        Returns
        -------
        Selection
        """
        decisions = selective.decide(posteriors)
        accepted = decisions.accepted
        wrong = posteriors.log_proba.argmax(axis=1) != codes
        n_answered = int(accepted.sum())
        return cls(
            threshold=selective.threshold_,
            confidence=selective.confidence,
            target_risk=selective.target_risk,
            confidence_level=selective.confidence_level,
            min_label_mass=selective.min_label_mass,
            n_fitted=selective.n_labels_,
            decisions=decisions,
            coverage=share_of(n_answered, len(codes), nothing="there is no text"),
            risk=share_of(
                int(wrong[accepted].sum()), n_answered, nothing="no text is answered"
            ),
        )

    @property
    def order(self) -> npt.NDArray[np.float64]:
        """Shape (n_texts,): confidence; -inf where the label mass forbids an answer."""
        too_little = self.decisions.reason == "low label mass"
        return np.where(too_little, -math.inf, self.decisions.confidence)


class SetFigures(NamedTuple):
    """Figures of prediction sets.

    Attributes
    ----------
    member : ndarray of bool, shape (n_texts, n_labels)
        Whether the set of a text holds a label.
    coverage : Measure
        Share of the sets that hold the true label, with its 95 % Wilson interval.
    mean_size : float
        Labels in a set.
    n_by_size : dict of int to int
        Sets of each size that occurs, smallest first.
    """

    member: npt.NDArray[np.bool_]
    coverage: Measure
    mean_size: float
    n_by_size: dict[int, int]

    @classmethod
    def of(cls, sets: Any, codes: IntArray, n_labels: int) -> "SetFigures":
        """Count what the sets hold.

        Parameters
        ----------
        sets : array-like of bool, shape (n_texts, n_labels)
        codes : ndarray of int64, shape (n_texts,)
            Column of the true label.
        n_labels : int

        Returns
        -------
        SetFigures

        Raises
        ------
        InputError
            The sets are of another shape or type.

        Examples
        --------
        >>> figures = SetFigures.of([[True, False], [True, True]], np.array([1, 1]), 2)
        >>> figures.coverage.value, figures.mean_size, figures.n_by_size
        (0.5, 1.5, {1: 1, 2: 1})
        """
        member = np.asarray(sets)
        if member.dtype != np.bool_ or member.shape != (len(codes), n_labels):
            raise InputError(
                f"sets must be booleans of shape ({len(codes)}, {n_labels}): whether "
                f"each text's set holds each label. Got {member.dtype} of shape "
                f"{member.shape} instead."
            )
        sizes, counts = np.unique(member.sum(axis=1), return_counts=True)
        hits = member[np.arange(len(codes)), codes]
        return cls(
            member=member,
            coverage=share_of(int(hits.sum()), len(codes), nothing="there is no text"),
            mean_size=float(member.sum(axis=1).mean()),
            n_by_size=dict(zip(sizes.tolist(), counts.tolist(), strict=True)),
        )
