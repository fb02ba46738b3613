"""A report as HTML: a page that needs nothing else, or what a notebook shows."""

import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from classify.errors import MissingDependencyError
from classify.markup import displayable
from classify.report.by_class import most_confused
from classify.report.figures import Figures
from classify.report.label_figures import LabelsAssessment, LabelsFigures
from classify.report.measures import (
    CONFIDENCE_LEVEL,
    N_BINS,
    N_RESAMPLES,
    Measure,
    Quality,
)
from classify.report.pictures import draw_pictures

__all__ = [
    "MAX_MATRIX_LABELS",
    "decimals",
    "labels_html",
    "notebook_html",
    "page_html",
    "percent",
    "percent_with_interval",
    "plural",
]

# A matrix with more columns than this cannot be read.
MAX_MATRIX_LABELS = 30
_MAX_PAIRS = 25
_UNDEFINED = "not defined"
# A number and its unit stay in one line.
_PERCENT = "\N{NO-BREAK SPACE}%"


class _Described(NamedTuple):
    """A measure of `classify.report.measures.Quality`, and what a reader must know."""

    name: str
    title: str
    meaning: str


_MEASURES = (
    _Described(
        "log_loss",
        "Log loss",
        "Mean of −log p(true label), in nats; lower is better. Confidence in a wrong "
        "label is penalized without bound. Computed from log-probabilities, never "
        "clipped.",
    ),
    _Described(
        "brier",
        "Brier score",
        "Mean squared distance between the probabilities and the truth, summed over "
        "the labels: 0 is perfect, 2 the worst.",
    ),
    _Described(
        "accuracy",
        "Accuracy",
        "Share of the texts whose most probable label is the true one.",
    ),
    _Described(
        "macro_f1",
        "Macro-F1",
        "Mean over labels of the harmonic mean of precision and recall: rare labels "
        "count as much as frequent ones. Labels that are neither true nor predicted "
        "anywhere are left out.",
    ),
    _Described(
        "ece",
        "ECE",
        "Expected calibration error: mean gap between the probability of the most "
        f"probable label and how often it is true, over {N_BINS} bins of equal width, "
        "each weighted by its number of texts (l1). It depends on the bins, and for "
        "few texts both it and its interval are too high.",
    ),
)
_LABEL_MEASURES = (
    _Described(
        "log_loss",
        "Log loss",
        "Mean over texts and labels of −log p(what is true of the label), in nats; "
        "lower is better.",
    ),
    _Described(
        "brier",
        "Brier score",
        "Mean squared distance between the probability of a label and whether it "
        "applies: 0 is perfect, 1 the worst.",
    ),
    _Described(
        "micro_f1",
        "Micro-F1",
        "Harmonic mean of precision and recall of all labels together.",
    ),
    _Described(
        "macro_f1",
        "Macro-F1",
        "Mean over labels of the harmonic mean of precision and recall: rare labels "
        "count as much as frequent ones. Labels that no text has or is given are left "
        "out.",
    ),
    _Described(
        "exact", "All right", "Share of the texts all of whose labels are right."
    ),
)
_CONFIDENCES = {
    "max_proba": "the probability of the most probable label",
    "margin": "the lead of the most probable label over the second",
    "entropy": "1 − entropy / log(number of labels)",
}


def page_html(evaluation: Figures) -> str:
    """Return a page of its own, without scripts, fonts or pictures from elsewhere.

    Parameters
    ----------
    evaluation : Figures

    Returns
    -------
    str

    Raises
    ------
    MissingDependencyError
        matplotlib is not installed.
    """
    pictures = draw_pictures(evaluation)
    return _rendered(evaluation, is_page=True, pictures=pictures)


def notebook_html(evaluation: Figures) -> str:
    """Return the HTML for a notebook: the body of the page and its style.

    Parameters
    ----------
    evaluation : Figures

    Returns
    -------
    str
        Without matplotlib, a sentence takes the place of the pictures.
    """
    try:
        pictures = draw_pictures(evaluation)
    except MissingDependencyError as error:
        return _rendered(evaluation, pictures=None, why_no_pictures=str(error))
    return _rendered(evaluation, pictures=pictures)


def labels_html(evaluation: LabelsFigures, *, is_page: bool = False) -> str:
    """Return a multi-label report, as a page of its own or for a notebook."""
    measured = {
        name: _titled(_LABEL_MEASURES, assessed)
        for name, assessed in evaluation.assessments.items()
    }
    return _template("labels.html.j2").render(
        report=evaluation,
        is_page=is_page,
        measures=_LABEL_MEASURES,
        measured=measured,
        notes=_notes(measured),
    )


def _rendered(evaluation: Figures, *, is_page: bool = False, **further: Any) -> str:
    pairs = most_confused(evaluation.classes, evaluation.confusion, most=_MAX_PAIRS)
    measured = {
        name: _titled(_MEASURES, assessed.quality)
        + [(each.title, each.measure) for each in assessed.of_kind]
        for name, assessed in evaluation.assessments.items()
    }
    return _template("report.html.j2").render(
        report=evaluation,
        is_page=is_page,
        measures=_MEASURES,
        of_kind=evaluation.before.of_kind,
        measured=measured,
        notes=_notes(measured),
        pairs=pairs,
        **further,
    )


@cache
def _template(name: str) -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        finalize=displayable,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {
        "decimals": decimals,
        "percent": percent,
        "percent_with_interval": percent_with_interval,
        "plural": plural,
    }
    environment.globals |= {
        "CONFIDENCES": _CONFIDENCES,
        "CONFIDENCE_LEVEL": CONFIDENCE_LEVEL,
        "INFINITY": math.inf,
        "MAX_CHARACTERS": 400,
        "MAX_MATRIX_LABELS": MAX_MATRIX_LABELS,
        # Per cent. The ink on a darker cell would be hard to read.
        "MAX_SHADE": 45,
        "N_BINS": N_BINS,
        "N_RESAMPLES": N_RESAMPLES,
    }
    return environment.get_template(name)


def _titled(
    described: Sequence[_Described], figures: Quality | LabelsAssessment
) -> list[tuple[str, Measure]]:
    return [(each.title, getattr(figures, each.name)) for each in described]


def _notes(measured: Mapping[str, list[tuple[str, Measure]]]) -> list[str]:
    """Say why values or intervals are missing."""
    notes = []
    for name, rows in measured.items():
        when = f" {name} calibration" if len(measured) > 1 else ""
        titles: dict[str, list[str]] = {}
        for title, measure in rows:
            if measure.reason:
                titles.setdefault(_lack(measure), []).append(title)
        notes += [
            f"{', '.join(listed)}{when}: {lack}." for lack, listed in titles.items()
        ]
    return notes


def _lack(measure: Measure) -> str:
    if measure.value is None:
        return f"not defined, since {measure.reason}"
    if math.isinf(measure.value):
        return f"infinite, since {measure.reason}"
    return f"no interval, since {measure.reason}"


def decimals(value: float | None) -> str:
    """Return three decimals; "not defined" for None.

    Examples
    --------
    >>> decimals(0.12345), decimals(math.inf), decimals(None)
    ('0.123', '∞', 'not defined')
    """
    if value is None:
        return _UNDEFINED
    return "∞" if math.isinf(value) else f"{value:.3f}"


def percent(share: float | None) -> str:
    """Return a share in per cent, so that only 0 and 1 are written as 0 and 100.

    Examples
    --------
    >>> [percent(p).split() for p in (0.8371, 1.0, 0.9999)]
    [['83.7', '%'], ['100', '%'], ['>', '99.9', '%']]
    """
    if share is None:
        return _UNDEFINED
    if share in (0.0, 1.0):
        written = f"{100 * share:.0f}"
    elif share < 0.0005:
        written = "<\N{NO-BREAK SPACE}0.1"
    elif share > 0.9995:
        written = ">\N{NO-BREAK SPACE}99.9"
    else:
        written = f"{100 * share:.1f}"
    return written + _PERCENT


def percent_with_interval(measure: Measure) -> str:
    r"""Return a share in per cent, with its interval.

    Examples
    --------
    >>> percent_with_interval(Measure(0.5, 0.25, 0.75)).replace("\xa0", " ")
    '50.0 % (25.0–75.0 %)'
    """
    value = percent(measure.value)
    if measure.low is None or measure.high is None:
        return value
    return f"{value} ({100 * measure.low:.1f}–{100 * measure.high:.1f}{_PERCENT})"


def plural(count: int, noun: str) -> str:
    """Return a count with its noun.

    Examples
    --------
    >>> plural(1, "text"), plural(2000, "text")
    ('1 text', '2,000 texts')
    """
    return f"{count:,} {noun}{'s' * (count != 1)}"
