"""`LabelsEvaluation`: the contents of a multi-label report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from classify.decision.posteriors import LabelPosteriors
from classify.errors import InputError
from classify.metrics.labelled import check_lengths
from classify.report.label_figures import (
    Flags,
    LabelFigures,
    LabelsAssessment,
    LabelsFigures,
)
from classify.report.measures import (
    FloatArray,
    Measure,
    macro_f1,
    share_of,
    with_doubts,
    with_interval,
)
from classify.report.page import labels_html

__all__ = ["LabelsEvaluation"]


@dataclass(frozen=True, eq=False, repr=False)
class LabelsEvaluation(LabelsFigures):
    """Measurements of multi-label predictions.

    Make one with `of`. Figures by label are those of the calibrated probabilities if
    there are any, else of the raw ones.

    Attributes
    ----------
    title : str
    facts : dict of str to str
    texts : tuple of str, length n_texts
    labels : tuple of str, length n_labels
    true : ndarray of bool, shape (n_texts, n_labels)
    thresholds : ndarray of float64, shape (n_labels,)
    label_mass, unresolved : ndarray of float64, shape (n_texts,)
    truncated : ndarray of bool, shape (n_texts,)
    before : LabelsAssessment
    after : LabelsAssessment or None
    by_label : tuple of LabelFigures

    Examples
    --------
    >>> evaluation = LabelsEvaluation.of(
    ...     ["Hi", "Bye"], [[1, 0], [1, 1]], ["a", "b"], [[0.9, 0.2], [0.8, 0.3]]
    ... )
    >>> evaluation, evaluation.before.exact.value
    (LabelsEvaluation(2 texts, 2 labels), 0.5)
    """

    @classmethod
    def of(
        cls,
        texts: Sequence[str],
        Y: Any,
        labels: Sequence[str],
        proba: Any,
        *,
        calibrated: Any = None,
        thresholds: Any = 0.5,
        label_mass: Any = 1.0,
        unresolved: Any = 0.0,
        truncated: Any = False,
        title: str = "Evaluation",
        facts: Mapping[str, str] | None = None,
    ) -> "LabelsEvaluation":
        """Measure assigned labels.

        Parameters
        ----------
        texts : sequence of str, length n_texts
        Y : array-like of 0 or 1, shape (n_texts, n_labels)
            Whether each label applies.
        labels : sequence of str, length n_labels
        proba : LabelPosteriors or array-like, shape (n_texts, n_labels)
            p(label applies), raw.
        calibrated : LabelPosteriors or array-like, (n_texts, n_labels), default=None
            The same after calibration on other texts.
        thresholds : float or array-like, shape (n_labels,), default=0.5
            Of calibrated probabilities, if there are any.
        label_mass, unresolved, truncated : array-like, shape (n_texts,)
        title : str, default="Evaluation"
        facts : mapping of str to str, default=None

        Raises
        ------
        InputError
            There are no texts, or an argument has another shape.
        """
        true = np.asarray(Y, dtype=np.bool_)
        check_lengths(texts=texts, Y=true)
        if true.ndim != 2 or true.shape[1] != len(labels):
            raise InputError(
                f"Y must have a column for each of the {len(labels)} labels. Its shape "
                f"is {true.shape}."
            )
        limits = np.broadcast_to(np.asarray(thresholds, np.float64), len(labels))
        # Thresholds are fitted to calibrated probabilities; raw ones are compared with
        # 0.5 then.
        usual = limits if calibrated is None else np.full(len(labels), 0.5)
        before = _assessed(true, _shaped(proba, true), usual)
        after = None
        if calibrated is not None:
            after = _assessed(true, _shaped(calibrated, true), limits)
        final = (after or before).posteriors
        given, n_texts = final.given(limits), len(true)
        n_uncertain = int(final.uncertain(limits).any(axis=1).sum())
        return cls(
            title=title,
            facts=with_doubts(
                facts,
                n_uncertain,
                n_texts,
                "more labels than they are given, since part of their label mass is "
                "unknown: log loss and Brier score are estimates",
            ),
            texts=tuple(texts),
            labels=tuple(labels),
            true=true,
            thresholds=limits,
            label_mass=np.broadcast_to(np.asarray(label_mass, np.float64), n_texts),
            unresolved=np.broadcast_to(np.asarray(unresolved, np.float64), n_texts),
            truncated=np.broadcast_to(np.asarray(truncated, np.bool_), n_texts),
            before=before,
            after=after,
            by_label=tuple(
                _figures(
                    name,
                    true[:, at],
                    given[:, at],
                    float(limits[at]),
                    float(final.proba[:, at].mean()),
                )
                for at, name in enumerate(labels)
            ),
        )

    def __repr__(self) -> str:
        return f"LabelsEvaluation({len(self.texts)} texts, {len(self.labels)} labels)"

    def _repr_html_(self) -> str:
        return labels_html(self)


def _shaped(proba: Any, true: Flags) -> LabelPosteriors:
    found = proba
    if not isinstance(found, LabelPosteriors):
        found = LabelPosteriors.exact(np.asarray(proba, dtype=np.float64))
    if found.proba.shape != true.shape:
        raise InputError(
            f"Probabilities must have the shape of Y, {true.shape}: a row for each "
            f"text and a column for each label. Their shape is {found.proba.shape}."
        )
    return found


def _assessed(
    true: Flags, posteriors: LabelPosteriors, thresholds: FloatArray
) -> LabelsAssessment:
    given, proba = posteriors.given(thresholds), posteriors.proba
    with np.errstate(divide="ignore"):
        loss = -np.log(np.where(true, proba, 1.0 - proba))
    n_wrong_for_sure = int(np.isinf(loss).sum())
    log_loss = (
        Measure(
            np.inf, reason=f"{n_wrong_for_sure:,} labels are wrong with probability 1"
        )
        if n_wrong_for_sure
        else with_interval(np.mean, loss.mean(axis=1))
    )
    exact = (given == true).all(axis=1)
    return LabelsAssessment(
        posteriors,
        log_loss,
        with_interval(np.mean, ((proba - true) ** 2).mean(axis=1)),
        _f1_or_none(_micro_f1, true, given),
        _f1_or_none(_macro_f1, true, given),
        share_of(int(exact.sum()), len(exact), nothing="there is no text"),
    )


def _f1_or_none(metric: Any, true: Flags, given: Flags) -> Measure:
    if not (true | given).any():
        return Measure(None, reason="no text has a label, or is given one")
    return with_interval(metric, true, given)


def _micro_f1(true: Flags, given: Flags) -> float:
    n_met = int(true.sum() + given.sum())
    # In a resample without any label, no decision is wrong.
    return 2.0 * int((true & given).sum()) / n_met if n_met else 1.0


def _macro_f1(true: Flags, given: Flags) -> float:
    marginals = true.sum(axis=0) + given.sum(axis=0)
    return macro_f1((true & given).sum(axis=0), marginals) if marginals.any() else 1.0


def _figures(
    label: str, true: Flags, given: Flags, threshold: float, mean_proba: float
) -> LabelFigures:
    n_hits, n_given, n_texts = (int(each.sum()) for each in (true & given, given, true))
    return LabelFigures(
        label,
        threshold,
        n_texts,
        n_given,
        share_of(n_hits, n_given, nothing="no text is given the label"),
        share_of(n_hits, n_texts, nothing="no text has the label"),
        _f1_or_none(_micro_f1, true[:, None], given[:, None]),
        mean_proba,
    )
