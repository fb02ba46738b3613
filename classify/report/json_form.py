"""A report as JSON: every number of the page, and none that JSON does not have."""

import math
from typing import Any

import numpy as np

from classify.metrics.calibration_error import ReliabilityBins
from classify.report.figures import Assessment, Figures
from classify.report.label_figures import (
    LabelFigures,
    LabelsAssessment,
    LabelsFigures,
)
from classify.report.measures import CONFIDENCE_LEVEL, N_RESAMPLES, Measure, Quality
from classify.report.pictures import N_MASS_BINS
from classify.report.selection import Selection, SetFigures

__all__ = ["FORMATS", "as_json", "labels_json"]

_FORMAT, _FORMAT_OF_LABELS = "classify-report/1", "classify-label-report/1"
FORMATS = (_FORMAT, _FORMAT_OF_LABELS)
_INTERVALS = {
    "confidence_level": CONFIDENCE_LEVEL,
    "shares": "Wilson",
    "others": f"percentile bootstrap over texts, {N_RESAMPLES} resamples",
}


def as_json(evaluation: Figures) -> dict[str, Any]:
    """Return the numbers of an evaluation, of types that JSON has.

    Parameters
    ----------
    evaluation : Figures

    Returns
    -------
    dict
        What is infinite or not defined is None, with its reason. Rows of
        ``confusion`` are true labels, columns most likely ones; ``row`` counts from 1.
    """
    after, selection = evaluation.after, evaluation.selection
    return {
        "format": _FORMAT,
        "title": evaluation.title,
        "facts": evaluation.facts,
        "n_texts": len(evaluation.texts),
        "classes": list(evaluation.classes),
        "intervals": _INTERVALS,
        "before": _assessment(evaluation.before),
        "after": None if after is None else _assessment(after),
        "by_class": [figures._asdict() for figures in evaluation.by_class],
        "confusion": evaluation.confusion.tolist(),
        "label_mass": _label_mass(evaluation),
        "max_unresolved": float(evaluation.scores.unresolved.max()),
        "n_uncertain": evaluation.n_uncertain,
        "n_truncated": int(evaluation.scores.truncated.sum()),
        "selection": None if selection is None else _selection(selection),
        "sets": None if evaluation.sets is None else _sets(evaluation.sets),
        "mistakes": [mistake._asdict() for mistake in evaluation.mistakes],
    }


def labels_json(evaluation: LabelsFigures) -> dict[str, Any]:
    """Return the numbers of a multi-label evaluation, as `as_json` does."""
    after = evaluation.after
    return {
        "format": _FORMAT_OF_LABELS,
        "title": evaluation.title,
        "facts": evaluation.facts,
        "n_texts": len(evaluation.texts),
        "labels": list(evaluation.labels),
        "intervals": _INTERVALS,
        "before": _label_assessment(evaluation.before),
        "after": None if after is None else _label_assessment(after),
        "by_label": [_plain(each) for each in evaluation.by_label],
        "mean_label_mass": float(evaluation.label_mass.mean()),
        "max_unresolved": float(evaluation.unresolved.max()),
        "n_uncertain": evaluation.n_uncertain,
        "n_truncated": int(evaluation.truncated.sum()),
    }


def _label_assessment(assessed: LabelsAssessment) -> dict[str, Any]:
    return {
        name: each for name, each in _plain(assessed).items() if name != "posteriors"
    }


def _plain(
    figures: LabelsAssessment | LabelFigures | Quality | Selection,
) -> dict[str, Any]:
    """Return the fields of figures, as JSON has them."""
    return {
        name: _measure(value)
        if isinstance(value, Measure)
        else _finite(value)
        if isinstance(value, float)
        else value
        for name, value in figures._asdict().items()
    }


def _assessment(assessed: Assessment) -> dict[str, Any]:
    return {
        **_plain(assessed.quality),
        **{each.name: _measure(each.measure) for each in assessed.of_kind},
        "aurc": assessed.aurc,
        "reliability": _bins(assessed.bins),
    }


def _measure(measure: Measure) -> dict[str, Any]:
    return measure._asdict() | {"value": _finite(measure.value)}


def _bins(bins: ReliabilityBins) -> list[dict[str, float]]:
    columns = {
        name: np.asarray(values).tolist() for name, values in bins._asdict().items()
    }
    return [
        dict(zip(columns, row, strict=True))
        for row in zip(*columns.values(), strict=True)
    ]


def _label_mass(evaluation: Figures) -> dict[str, Any]:
    mass = evaluation.scores.label_mass.clip(0.0, 1.0)
    counts, edges = np.histogram(mass, bins=N_MASS_BINS, range=(0.0, 1.0))
    return {
        "mean": float(mass.mean()),
        "median": float(np.median(mass)),
        "edges": edges.tolist(),
        "n_texts": counts.tolist(),
    }


def _selection(selection: Selection) -> dict[str, Any]:
    return {
        name: each for name, each in _plain(selection).items() if name != "decisions"
    }


def _sets(sets: SetFigures) -> dict[str, Any]:
    return {
        "coverage": _measure(sets.coverage),
        "mean_size": sets.mean_size,
        "n_by_size": {str(size): count for size, count in sets.n_by_size.items()},
    }


def _finite(value: float | None) -> float | None:
    return None if value is None or math.isinf(value) else value
