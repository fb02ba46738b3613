"""`Evaluation`: the contents of a report, as numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from classify.decision import SelectiveClassifier
from classify.decision.posteriors import Posteriors
from classify.errors import InputError
from classify.metrics import aurc_score
from classify.metrics.calibration_error import reliability_bins
from classify.metrics.labelled import (
    check_lengths,
    check_log_proba,
    label_codes,
    text_weights,
)
from classify.questions.kinds import Kind
from classify.report.by_class import (
    figures_by_class,
    surest_mistakes,
)
from classify.report.figures import Assessment, Figures
from classify.report.measures import (
    N_BINS,
    FloatArray,
    IntArray,
    confusion_counts,
    quality_of,
    with_doubts,
)
from classify.report.of_kind import measures_of_kind
from classify.report.page import notebook_html
from classify.report.selection import Selection, SetFigures
from classify.scoring.doubts import doubt_one_label
from classify.scoring.result import LabelLogprobs

__all__ = ["Evaluation"]

_N_MISTAKES = 20


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation(Figures):
    """Measurements of predictions for labelled texts; notebooks show it as a report.

    Make one with `of`. Figures by label, mistakes, threshold and sets are those of the
    calibrated probabilities if there are any, else of the raw ones.

    Attributes
    ----------
    title : str
    facts : dict of str to str
        How the predictions were made: model, prompt, versions and the like.
    texts : tuple of str, length n_texts
    classes : tuple of str, length n_labels
    codes : ndarray of int64, shape (n_texts,)
        Column of the true label.
    scores : LabelLogprobs
        The model's scores.
    posteriors : Posteriors
        The probabilities, and their bounds.
    known : Known
        Bounds of the most likely labels. All figures are those of the estimates.
    before : Assessment
        Of the raw probabilities.
    after : Assessment or None
        Of the calibrated ones.
    confusion : ndarray of int64, shape (n_labels, n_labels)
        Texts by true label (rows) and predicted label (columns).
    by_class : tuple of ClassFigures, length n_labels
    mistakes : tuple of Mistake
        The 20 wrong labels with the highest probability, highest first.
    selection : Selection or None
    sets : SetFigures or None

    Examples
    --------
    >>> scores = LabelLogprobs(
    ...     values=np.log([[0.6, 0.2], [0.1, 0.5], [0.4, 0.3]]),
    ...     classes=np.array(["ham", "spam"]),
    ...     lower=np.log([[0.6, 0.2], [0.1, 0.5], [0.4, 0.3]]),
    ...     upper=np.log([[0.6, 0.2], [0.1, 0.5], [0.4, 0.3]]),
    ...     unresolved=np.zeros(3),
    ...     truncated=np.zeros(3, dtype=bool),
    ...     n_reads=np.ones(3, dtype=int),
    ... )
    >>> texts = ["Lunch?", "You won!", "Your prize"]
    >>> evaluation = Evaluation.of(texts, ["ham", "spam", "spam"], scores)
    >>> evaluation, round(evaluation.before.quality.accuracy.value, 2)
    (Evaluation(3 texts, 2 labels), 0.67)
    >>> [(mistake.row, mistake.predicted) for mistake in evaluation.mistakes]
    [(3, 'ham')]
    """

    @classmethod
    def of(
        cls,
        texts: Sequence[str],
        y_true: Any,
        label_logprobs: LabelLogprobs,
        *,
        calibrated: Any = None,
        selective: SelectiveClassifier | None = None,
        sets: Any = None,
        kind: Kind | None = None,
        tolerance: float = 1e-3,
        title: str = "Evaluation",
        facts: Mapping[str, str] | None = None,
    ) -> "Evaluation":
        """Measure predictions.

        Parameters
        ----------
        texts : sequence of str, length n_texts
        y_true : array-like, shape (n_texts,)
            True labels: names, or columns of the classes.
        label_logprobs : LabelLogprobs
            n_texts rows.
        calibrated : Posteriors or array-like, (n_texts, n_labels), default=None
            Class log-probabilities after calibration, as `LabelCalibrator.transform`
            returns them. They are too optimistic if they were fitted to the same texts.
        selective : SelectiveClassifier, default=None
            Fitted to other texts, on probabilities of the same kind.
        sets : array-like of bool, shape (n_texts, n_labels), default=None
            Prediction sets, as `SplitConformalSets.predict_set` returns them.
        kind : Ordinal, Tree or None, default=None
            The kind of question, which may have measures of its own.
        tolerance : float, default=1e-3
            By how much another label could be more probable without being counted,
            where not everything is known.
        title : str, default="Evaluation"
        facts : mapping of str to str, default=None
            What the report says about how the predictions were made, in this order.

        Returns
        -------
        Evaluation

        Raises
        ------
        LabelError
            A true label is not one of the classes.
        InputError
            There are no texts, an argument has other rows or columns, or a text gives
            none of the labels any probability.
        """
        classes = label_logprobs.classes
        codes = label_codes(y_true, classes, len(classes), "y_true")
        texts = tuple(texts)
        check_lengths(texts=texts, y_true=codes, label_logprobs=label_logprobs)
        _check_texts(texts)
        raw = Posteriors.of(label_logprobs)
        posteriors = raw if calibrated is None else _calibrated(calibrated, raw)
        selection = None
        if selective is not None:
            selection = Selection.of(selective, posteriors, codes)
        known = posteriors.known(tolerance)
        if posteriors.bounds is None:  # a bare array, of scores with bounds
            known = known._replace(certain=raw.known(tolerance).certain)
        n_uncertain = int((~known.certain).sum())
        names = tuple(classes.tolist())
        order = None if selection is None else selection.order
        assess = partial(_assessed, codes, kind, names)
        last = assess(posteriors.log_proba, order)
        predicted = last.predicted
        confusion = confusion_counts(codes, predicted, len(classes))
        counts, true = (
            dict(zip(names, confusion.sum(axis=at).tolist(), strict=True))
            for at in (0, 1)
        )
        doubt_one_label(counts, true)
        return cls(
            title=title,
            facts=with_doubts(
                facts,
                n_uncertain,
                len(texts),
                "another label, since part of their label mass is unknown: the figures "
                "are estimates",
            ),
            texts=texts,
            classes=names,
            codes=codes,
            scores=label_logprobs,
            posteriors=posteriors,
            known=known,
            before=last if calibrated is None else assess(raw.log_proba, None),
            after=None if calibrated is None else last,
            confusion=confusion,
            by_class=figures_by_class(names, confusion, last.proba),
            mistakes=surest_mistakes(
                texts,
                names,
                codes,
                predicted,
                last.proba,
                label_logprobs.label_mass,
                most=_N_MISTAKES,
            ),
            selection=selection,
            sets=None if sets is None else SetFigures.of(sets, codes, len(classes)),
        )

    def __repr__(self) -> str:
        return f"Evaluation({len(self.texts)} texts, {len(self.classes)} labels)"

    def _repr_html_(self) -> str:
        return notebook_html(self)


def _assessed(
    codes: IntArray,
    kind: Kind | None,
    classes: Sequence[str],
    log_proba: FloatArray,
    order: FloatArray | None,
) -> Assessment:
    quality = quality_of(codes, log_proba)
    confidence = np.exp(log_proba.max(axis=1))
    predicted = log_proba.argmax(axis=1)
    if order is None:
        order = confidence
    return Assessment(
        log_proba,
        quality,
        reliability_bins(
            confidence,
            predicted == codes,
            text_weights(None, len(codes)),
            n_bins=N_BINS,
            strategy="uniform",
        ),
        order,
        aurc_score(codes, predicted, order),
        measures_of_kind(kind, list(classes), codes, log_proba),
    )


def _calibrated(values: Any, raw: Posteriors) -> Posteriors:
    if isinstance(values, Posteriors):
        return values
    log_proba, shape = np.asarray(values, dtype=np.float64), raw.log_proba.shape
    if log_proba.shape != shape:
        raise InputError(
            f"calibrated must have the shape of label_logprobs, {shape}: a row for "
            f"each text and a column for each class. Its shape is {log_proba.shape}."
        )
    advice = "Give what LabelCalibrator.transform returned."
    check_log_proba(log_proba, "calibrated", advice)
    return Posteriors(log_proba, raw.classes, raw.label_mass)


def _check_texts(texts: Sequence[str]) -> None:
    for at, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(
                f"texts[{at}] is {text!r}, of type {type(text).__name__}: give texts "
                "as strings."
            )
