"""A report as JSON: every number of the page, and none that JSON does not have."""

import math
from typing import Any

import numpy as np

from classify.metrics.calibration_error import ReliabilityBins
from classify.report.figures import Assessment, Figures
from classify.report.measures import CONFIDENCE_LEVEL, N_RESAMPLES, Measure, Quality
from classify.report.pictures import N_MASS_BINS
from classify.report.selection import Selection, SetFigures

__all__ = ["FORMAT", "as_json"]

FORMAT = "classify-report/1"


def as_json(evaluation: Figures) -> dict[str, Any]:
    """Return the numbers of an evaluation, of types that JSON has.

    Parameters
    ----------
    evaluation : Figures

    Returns
    -------
    dict
        What is infinite or not defined is None, beside its reason. Rows of
        ``confusion`` are true labels, columns likeliest ones; ``row`` counts from 1.
    """
    after, selection = evaluation.after, evaluation.selection
    return {
        "format": FORMAT,
        "title": evaluation.title,
        "facts": evaluation.facts,
        "n_texts": len(evaluation.texts),
        "classes": list(evaluation.classes),
        "intervals": {
            "confidence_level": CONFIDENCE_LEVEL,
            "shares": "Wilson",
            "others": f"percentile bootstrap over texts, {N_RESAMPLES} resamples",
        },
        "before": _assessment(evaluation.before),
        "after": None if after is None else _assessment(after),
        "by_class": [figures._asdict() for figures in evaluation.by_class],
        "confusion": evaluation.confusion.tolist(),
        "label_mass": _label_mass(evaluation),
        "max_unresolved": float(evaluation.scores.unresolved.max()),
        "n_truncated": int(evaluation.scores.truncated.sum()),
        "selection": None if selection is None else _selection(selection),
        "sets": None if evaluation.sets is None else _sets(evaluation.sets),
        "mistakes": [mistake._asdict() for mistake in evaluation.mistakes],
    }


def _assessment(assessed: Assessment) -> dict[str, Any]:
    return {
        **_quality(assessed.quality),
        **{each.name: _measure(each.measure) for each in assessed.of_kind},
        "aurc": assessed.aurc,
        "reliability": _bins(assessed.bins),
    }


def _quality(quality: Quality) -> dict[str, Any]:
    return {
        name: _measure(value) if isinstance(value, Measure) else value
        for name, value in quality._asdict().items()
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
    fields = selection._asdict()
    del fields["decisions"]
    return fields | {
        "threshold": _finite(selection.threshold),
        "coverage": _measure(selection.coverage),
        "risk": _measure(selection.risk),
    }


def _sets(sets: SetFigures) -> dict[str, Any]:
    return {
        "coverage": _measure(sets.coverage),
        "mean_size": sets.mean_size,
        "n_by_size": {str(size): count for size, count in sets.n_by_size.items()},
    }


def _finite(value: float | None) -> float | None:
    return None if value is None or math.isinf(value) else value
