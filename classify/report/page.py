"""A report as HTML: a page that needs nothing else, or what a notebook shows."""

from pathlib import Path

from classify.errors import MissingDependencyError
from classify.markup import Html, escaped
from classify.report.evaluation import Evaluation
from classify.report.measures import N_BINS
from classify.report.numbers import percent, percent_with_interval, plural
from classify.report.pictures import Pictures, draw_pictures
from classify.report.sections import (
    confusion_section,
    labels_section,
    mistakes_section,
    quality_section,
    selection_section,
    sets_section,
)

__all__ = ["notebook_html", "page_html"]

# Nothing may be loaded and nothing may run, whatever a text holds.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def page_html(evaluation: Evaluation) -> str:
    """Return a page of its own, without scripts, fonts or pictures from elsewhere.

    Parameters
    ----------
    evaluation : Evaluation

    Returns
    -------
    str

    Raises
    ------
    MissingDependencyError
        matplotlib is not installed.
    """
    pictures = _pictures_section(evaluation, draw_pictures(evaluation))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escaped(evaluation.title)}</title>
<style>
html {{ background: #ffffff; }}
body {{ margin: 0; }}
@media screen and (prefers-color-scheme: dark) {{ html {{ background: #15181c; }} }}
{_stylesheet()}</style>
</head>
<body>
<main class="classify-report">
{_body(evaluation, pictures)}
</main>
</body>
</html>
"""


def notebook_html(evaluation: Evaluation) -> str:
    """Return what a notebook shows: the body of the page and its style.

    Parameters
    ----------
    evaluation : Evaluation

    Returns
    -------
    str
        Without matplotlib a sentence stands in the place of the pictures.
    """
    try:
        pictures = _pictures_section(evaluation, draw_pictures(evaluation))
    except MissingDependencyError as error:
        pictures = f'<p class="note">{escaped(str(error))}</p>'
    body = _body(evaluation, pictures)
    return (
        f"<style>\n{_stylesheet()}</style>\n"
        f'<div class="classify-report">\n{body}\n</div>'
    )


def _stylesheet() -> str:
    return Path(__file__).with_name("report.css").read_text("utf-8")


def _body(evaluation: Evaluation, pictures: str) -> str:
    parts = [
        _header(evaluation),
        quality_section(evaluation),
        pictures,
        selection_section(evaluation),
        sets_section(evaluation),
        labels_section(evaluation),
        confusion_section(evaluation),
        mistakes_section(evaluation),
    ]
    return "\n".join(part for part in parts if part)


def _header(evaluation: Evaluation) -> str:
    accuracy = evaluation.final.quality.accuracy
    n_texts, n_labels = len(evaluation.texts), len(evaluation.classes)
    lead = f"{plural(n_texts, 'text')}, {plural(n_labels, 'label')}."
    if accuracy.value is not None:
        when = "" if evaluation.after is None else ", after calibration,"
        lead += (
            f" The likeliest label{when} is the true one for "
            f"{percent_with_interval(accuracy)} of the texts."
        )
    facts = "".join(
        f'<dt dir="auto">{escaped(name)}</dt><dd dir="auto">{escaped(value)}</dd>'
        for name, value in evaluation.facts.items()
    )
    listed = f'\n<dl class="facts">{facts}</dl>' if facts else ""
    return (
        f'<h1 dir="auto">{escaped(evaluation.title)}</h1>\n'
        f'<p class="lead">{lead}</p>{listed}'
    )


def _pictures_section(evaluation: Evaluation, pictures: Pictures) -> str:
    figures = [
        (pictures.reliability, _on_reliability(evaluation)),
        (pictures.risk_coverage, _on_risk_coverage(evaluation)),
        (pictures.label_mass, _on_label_mass(evaluation)),
    ]
    drawn = "\n".join(
        f"<figure>{picture}<figcaption>{caption}</figcaption></figure>"
        for picture, caption in figures
    )
    return f'<h2>Pictures</h2>\n<div class="pictures">\n{drawn}\n</div>'


def _on_reliability(evaluation: Evaluation) -> Html:
    n_texts = len(evaluation.texts)
    return Html(
        "<b>Reliability.</b> Above: how often the likeliest label is true, by its "
        "probability; on the diagonal, probabilities are frequencies. Bars are "
        f"95&nbsp;% Wilson intervals. Below: texts in each of up to {N_BINS} bins of "
        f"equal width; n&nbsp;=&nbsp;{n_texts:,}."
    )


def _on_risk_coverage(evaluation: Evaluation) -> Html:
    caption = (
        "<b>Risk and coverage.</b> If only the surest texts are answered, down to a "
        "share of all: how many of those answers are wrong. AURC is the mean risk over "
        "all coverages; the lower, the better."
    )
    selection = evaluation.selection
    if selection is not None and selection.confidence != "max_proba":
        which = "" if evaluation.after is None else "after calibration "
        caption += f" Texts {which}are sorted by {escaped(selection.confidence)}."
    return Html(caption)


def _on_label_mass(evaluation: Evaluation) -> Html:
    mass = evaluation.scores.label_mass
    low = float((mass < 0.5).mean())
    n_cut = int(evaluation.scores.truncated.sum())
    caption = (
        "<b>Label mass.</b> How probable it was that the model answers with a label "
        f"at all; mean {mass.mean():.2f}, below 0.5 for {percent(low)} of the texts. "
        "Where it is low, the prompt does not make the model name a label."
    )
    if n_cut:
        caption += f" {plural(n_cut, 'text')} had to be cut to fit the model."
    return Html(caption)
