"""The tables of a report, with the sentences that say what they mean."""

import math

from classify.markup import Html, escaped, table
from classify.report.by_class import most_confused
from classify.report.evaluation import Evaluation
from classify.report.measures import CONFIDENCE_LEVEL, N_BINS, N_RESAMPLES, Measure
from classify.report.numbers import (
    decimals,
    percent,
    percent_with_interval,
    plural,
    with_interval,
)
from classify.report.selection import Selection

__all__ = [
    "MOST_CLASSES",
    "confusion_section",
    "labels_section",
    "mistakes_section",
    "quality_section",
    "selection_section",
    "sets_section",
]

# More columns than this are no picture any more.
MOST_CLASSES = 30
_N_PAIRS = 25
_N_CHARACTERS = 400
# Darker, the ink on it would be hard to read.
_DARKEST = 45

_TITLES = {
    "log_loss": "Log loss",
    "brier": "Brier score",
    "accuracy": "Accuracy",
    "macro_f1": "Macro-F1",
    "ece": "ECE",
}
_MEANINGS = {
    "log_loss": "Mean of −log p(true label), in nats; the lower, the better. Being "
    "sure of a wrong label is punished without bound. Computed from log-probabilities, "
    "never clipped.",
    "brier": "Mean squared distance between the probabilities and the truth, summed "
    "over the labels: 0 is perfect, 2 the worst.",
    "accuracy": "Share of the texts whose likeliest label is the true one.",
    "macro_f1": "Mean over labels of the harmonic mean of precision and recall: rare "
    "labels count as much as frequent ones. Labels that are neither true nor predicted "
    "anywhere are left out.",
    "ece": "Expected calibration error: mean gap between the probability of the "
    f"likeliest label and how often it is true, over {N_BINS} bins of equal width, "
    "each weighted by its texts (l1). It depends on the bins, and for few texts both "
    "it and its interval lie too high.",
}
_CONFIDENCES = {
    "max_proba": "the probability of the likeliest label",
    "margin": "the lead of the likeliest label over the second",
    "entropy": "1 − entropy / log(number of labels)",
}


def quality_section(evaluation: Evaluation) -> str:
    """Log loss, Brier score, accuracy, macro-F1 and ECE, before and after."""
    assessments = evaluation.assessments
    columns = {
        name: "value" if evaluation.after is None else f"{name} calibration"
        for name in assessments
    }
    rows = [
        [title] + [with_interval(getattr(a.quality, key)) for a in assessments.values()]
        for key, title in _TITLES.items()
    ]
    numbers = table("l" + "l" * len(columns), ["", *columns.values()], rows)
    meanings = "".join(
        f"<dt>{_TITLES[key]}</dt><dd>{meaning}</dd>"
        for key, meaning in _MEANINGS.items()
    )
    return f"""<h2>How good the probabilities are</h2>
<div class="box">{numbers}</div>
{_missing(evaluation)}<p>{_on_intervals(evaluation)}{_on_calibration(evaluation)}</p>
<dl>{meanings}</dl>"""


def selection_section(evaluation: Evaluation) -> str:
    """What the threshold does, if there is one."""
    selection = evaluation.selection
    if selection is None:
        return ""
    if math.isinf(selection.threshold):
        found = (
            "No threshold could be found that keeps this promise, so that no text is "
            "answered."
        )
    else:
        found = (
            f"Here {percent_with_interval(selection.coverage)} of the texts are "
            f"answered, and {percent_with_interval(selection.risk)} of the answers "
            "are wrong (95&nbsp;% Wilson intervals)."
        )
    return f"""<h2>Answers and abstentions</h2>
<p>{_rule(selection)} {found}</p>
<p class="note">The promise: with a probability of {selection.confidence_level:g} \
over the texts that the threshold was chosen on, at most \
{100 * selection.target_risk:g}&nbsp;% of the answers are wrong. It was chosen on \
{plural(selection.n_fitted, "labelled text")}; if those are among the texts here, the \
risk here is too low.</p>"""


def sets_section(evaluation: Evaluation) -> str:
    """How large prediction sets are and how often they hold the truth, if any."""
    sets = evaluation.sets
    if sets is None:
        return ""
    n_texts = len(evaluation.texts)
    rows = [
        [str(size), f"{count:,}", percent(count / n_texts)]
        for size, count in sets.n_by_size.items()
    ]
    sizes = table("rrr", ["labels in the set", "texts", "share"], rows)
    return f"""<h2>Prediction sets</h2>
<p>The set of a text holds the true label for \
{percent_with_interval(sets.coverage)} of the texts (95&nbsp;% Wilson interval). \
A set has {sets.mean_size:.2f} labels on average.</p>
<div class="box">{sizes}</div>"""


def labels_section(evaluation: Evaluation) -> str:
    """A row for each label."""
    n_texts = len(evaluation.texts)
    rows = [
        [
            figures.label,
            f"{figures.n_texts:,}",
            decimals(figures.precision),
            decimals(figures.recall),
            decimals(figures.f1),
            percent(figures.n_texts / n_texts),
            percent(figures.share_predicted),
            percent(figures.mean_proba),
        ]
        for figures in evaluation.by_class
    ]
    header = ["label", "texts", "precision", "recall", "F1"]
    header += ["share true", "share predicted", "mean probability"]
    return f"""<h2>Label by label</h2>
<div class="box">{table("lrrrrrrr", header, rows)}</div>
<p>{_of_which(evaluation)}Precision: of the texts predicted as the label, the share \
that has it; not defined if none is predicted. Recall: of the texts that have it, the \
share predicted as it; not defined if none has it. F1: their harmonic mean. A label \
whose mean probability or predicted share differs from its true share is favoured, or \
neglected, by the model.</p>"""


def confusion_section(evaluation: Evaluation) -> str:
    """The confusion matrix, or its greatest cells if it is too wide."""
    if len(evaluation.classes) > MOST_CLASSES:
        return _confused_pairs(evaluation)
    names = [escaped(name) for name in evaluation.classes]
    head = "".join(f'<th scope="col" dir="auto">{name}</th>' for name in names)
    lines = []
    for at, (name, counts) in enumerate(
        zip(names, evaluation.confusion.tolist(), strict=True)
    ):
        cells = "".join(
            _cell(count, sum(counts), is_right=at == column)
            for column, count in enumerate(counts)
        )
        lines.append(f'<tr><th scope="row" dir="auto">{name}</th>{cells}</tr>')
    body = "\n".join(lines)
    return f"""<h2>What is taken for what</h2>
<div class="box"><table class="confusion">
<thead>
<tr><th scope="col">true&nbsp;↓ predicted&nbsp;→</th>{head}</tr>
</thead>
<tbody>
{body}
</tbody>
</table></div>
<p>{_of_which(evaluation)}Texts by true label (rows) and likeliest label (columns), \
with their share of the row, which is the shade of the cell. Framed cells are right; \
empty ones have no text.</p>"""


def mistakes_section(evaluation: Evaluation) -> str:
    """The surest mistakes, with their texts."""
    mistakes = evaluation.mistakes
    title = "<h2>Surest mistakes</h2>"
    if not mistakes:
        return f"{title}\n<p>There is none: every likeliest label is the true one.</p>"
    rows = [
        [
            f"{mistake.row:,}",
            _shortened(mistake.text),
            mistake.label,
            decimals(mistake.proba_label),
            mistake.predicted,
            decimals(mistake.proba_predicted),
            decimals(mistake.label_mass),
        ]
        for mistake in mistakes
    ]
    header = ["row", "text", "true label", "its probability"]
    header += ["predicted", "its probability", "label mass"]
    return f"""{title}
<p>{_of_which(evaluation)}The wrong labels of greatest probability, at most 20. Worth \
reading first: some are wrong labels of the data, some unclear labels, some what the \
model does not know. Row 1 is the first text.</p>
<div class="box mistakes">{table("rllrlrr", header, rows)}</div>"""


def _missing(evaluation: Evaluation) -> str:
    """Say why values or intervals are missing."""
    notes = []
    for name, assessed in evaluation.assessments.items():
        when = "" if evaluation.after is None else f" {name} calibration"
        reasons: dict[str, list[str]] = {}
        for key, title in _TITLES.items():
            measure: Measure = getattr(assessed.quality, key)
            if measure.reason:
                reasons.setdefault(_lack(measure), []).append(title)
        notes += [
            f'<p class="note">{", ".join(titles)}{when}: {lack}.</p>\n'
            for lack, titles in reasons.items()
        ]
    return "".join(notes)


def _lack(measure: Measure) -> str:
    if measure.value is None:
        return f"not defined, since {measure.reason}"
    if math.isinf(measure.value):
        return f"infinite, since {measure.reason}"
    return f"no interval, since {measure.reason}"


def _on_intervals(evaluation: Evaluation) -> str:
    if evaluation.final.quality.accuracy.low is None:
        return ""
    n_texts = plural(len(evaluation.texts), "text")
    return (
        f"In brackets: {100 * CONFIDENCE_LEVEL:g}&nbsp;% intervals, of accuracy by "
        "Wilson’s formula, of the others percentiles of "
        f"{N_RESAMPLES:,} bootstrap resamples of the {n_texts}. "
    )


def _on_calibration(evaluation: Evaluation) -> str:
    if evaluation.after is None:
        return "Probabilities are raw: as the model gives them, not calibrated."
    return (
        "“After” flatters if the calibration was fitted to these same texts without "
        "cross-fitting."
    )


def _of_which(evaluation: Evaluation) -> str:
    return "" if evaluation.after is None else "After calibration. "


def _rule(selection: Selection) -> str:
    what = _CONFIDENCES[selection.confidence]
    if math.isinf(selection.threshold):
        rule = f"A text would be answered where {what} reaches a threshold"
    else:
        rule = f"A text is answered where {what} is at least {selection.threshold:.4g}"
    if selection.min_label_mass is not None:
        rule += f" and its label mass at least {selection.min_label_mass:g}"
    return f"{rule}; elsewhere the answer is withheld."


def _cell(count: int, n_texts: int, *, is_right: bool) -> str:
    right = ' class="right"' if is_right else ""
    if not count:
        return f"<td{right}></td>"
    share = count / n_texts
    return (
        f'<td{right} style="--share:{_DARKEST * share:.1f}%">{count:,}<br>'
        f"{100 * share:.0f}&nbsp;%</td>"
    )


def _confused_pairs(evaluation: Evaluation) -> str:
    title = "<h2>What is taken for what</h2>"
    pairs = most_confused(evaluation.classes, evaluation.confusion, most=_N_PAIRS)
    if not pairs:
        return f"{title}\n<p>No label is taken for another.</p>"
    rows = [
        [pair.label, pair.predicted, f"{pair.n_texts:,}", percent(pair.share)]
        for pair in pairs
    ]
    header = ["true label", "predicted", "texts", "share of the label"]
    listed: Html = table("llrr", header, rows)
    return f"""{title}
<div class="box">{listed}</div>
<p>{_of_which(evaluation)}With {len(evaluation.classes)} labels the whole matrix is \
too wide: these are the {len(pairs)} pairs with the most texts. report.json has all of \
it.</p>"""


def _shortened(text: str) -> str:
    return text if len(text) <= _N_CHARACTERS else f"{text[:_N_CHARACTERS]} …"
