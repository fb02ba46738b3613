"""The picture of an explanation: lines of text, and HTML.

Figures stand before what they are about, so that no line depends on how wide the
characters of tokens and labels are.
"""

import math
from collections.abc import Iterator, Sequence

from markupsafe import Markup

from classify.markup import (
    Span,
    bar,
    displayable,
    escaped,
    probability,
    shortened,
    table,
    token_html,
    with_bar,
)
from classify.rows.explained_prompt import LabelFigures, PromptReads
from classify.scoring.paths import PathLine

__all__ = ["html_picture", "line_text", "text_picture"]

# How many prompts, labels and paths are shown.
MAX_PROMPTS = 4
MAX_LABELS = 12
_MAX_PATHS = 12  # after a single prompt
_MAX_PATHS_OF_SEVERAL = 5
_MAX_NAMED = 3  # of the labels that several paths lead to
_MAX_CHARACTERS = 40
# Bounds that differ by less are not worth a reader's eye.
_SEEN_UNCERTAIN = 1e-3


def text_picture(
    prompts: Sequence[PromptReads],
    labels: Sequence[LabelFigures],
    *,
    is_calibrated: bool,
) -> list[list[Span]]:
    """Return the lines of the picture."""
    lines: list[list[Span]] = []
    for prompt in prompts[:MAX_PROMPTS]:
        lines += [*_prompt_lines(prompt, _max_paths(prompts)), []]
    if len(prompts) > MAX_PROMPTS:
        more = f"… {len(prompts) - MAX_PROMPTS} more prompts"
        lines += [[Span(more, "dim")], []]
    return [*lines, *_label_lines(labels, is_calibrated=is_calibrated)]


def html_picture(
    prompts: Sequence[PromptReads],
    labels: Sequence[LabelFigures],
    *,
    is_calibrated: bool,
) -> Markup:
    """Return the picture as HTML; its colours suit light and dark pages."""
    parts = [
        _prompt_html(prompt, _max_paths(prompts)) for prompt in prompts[:MAX_PROMPTS]
    ]
    if len(prompts) > MAX_PROMPTS:
        more = f"… {len(prompts) - MAX_PROMPTS} more prompts"
        parts.append(Markup("<p>{}</p>").format(more))
    return Markup("\n").join(
        [*parts, _labels_html(labels, is_calibrated=is_calibrated)]
    )


def _max_paths(prompts: Sequence[PromptReads]) -> int:
    return _MAX_PATHS if len(prompts) == 1 else _MAX_PATHS_OF_SEVERAL


def _prompt_lines(prompt: PromptReads, max_paths: int) -> Iterator[list[Span]]:
    lines, total = prompt.lines(max_paths), prompt.label_mass
    is_open = any(map(_is_open, lines))
    if prompt.title:
        yield [Span(displayable(prompt.title), "title")]
    header = f"{'log p':>9} {'mass':>7} {'at most' if is_open else '':>{8 * is_open}} "
    yield [Span(header, "dim"), Span(" " * 9 + _ending(prompt), "dim")]
    for line in lines:
        most = f" {probability(line.max_mass) if _is_open(line) else '':>7}"
        share = line.mass / total if total else 0.0
        yield [
            Span(f"{_logprob(line):>9} {probability(line.mass):>7}", "figure"),
            Span(f"{most * is_open} ", "dim"),
            Span(f" {bar(share) if line.n_paths else '':<6} ", "bar"),
            Span(" " + line.guide, "dim"),
            *_named(prompt, line),
        ]
    yield [Span(_reads(prompt), "dim")]


def line_text(prompt: PromptReads, line: PathLine) -> str:
    """Return what a line says, without its figures."""
    return "".join(span.text for span in _named(prompt, line))


def _named(prompt: PromptReads, line: PathLine) -> Iterator[Span]:
    """Yield the tokens of a line, and the labels that it leads to."""
    if line.is_folded:
        yield Span(_folded(line), "dim")
        return
    yield Span(_cut(" ".join(prompt.readable(line.token_ids))), "token")
    for label in line.labels:
        yield Span("  → ", "dim")
        yield Span(_cut(label), "label")


def _label_lines(
    labels: Sequence[LabelFigures], *, is_calibrated: bool
) -> Iterator[list[Span]]:
    is_open = any(map(_is_uncertain, labels))
    share = f"{'share':>7} " * is_calibrated
    given = "calibrated" if is_calibrated else "probability"
    bounds = f" {'bounds':<15}" * is_open
    yield [Span(f"{'mass':>9} {share}{given:>11}{bounds}", "dim")]
    for each in labels[:MAX_LABELS]:
        shown = f"{probability(each.share):>7} " * is_calibrated
        known = f"{probability(each.least)} – {probability(each.most)}"
        yield [
            Span(f"{_mass(each):>9} {shown}", "figure"),
            Span(f"{probability(each.probability):>11}", "figure"),
            Span(f" {known:<15}" * is_open, "dim"),
            Span(f" {bar(each.probability)} ", "bar"),
            Span(_cut(each.label), "label"),
        ]
    if rest := labels[MAX_LABELS:]:
        total = probability(sum(each.probability for each in rest))
        place = " " * (10 + 8 * is_calibrated)
        more = f"{'':{8 + 16 * is_open}}… {len(rest)} more labels"
        yield [Span(f"{place}{total:>11}", "figure"), Span(more, "dim")]


def _prompt_html(prompt: PromptReads, max_paths: int) -> Markup:
    lines, total = prompt.lines(max_paths), prompt.label_mass
    is_open = any(map(_is_open, lines))
    rows = []
    for line in lines:
        most = [probability(line.max_mass) if _is_open(line) else ""]
        share = line.mass / total if total and line.n_paths else 0.0
        rows.append(
            [
                _logprob(line),
                with_bar(probability(line.mass), share),
                *(most * is_open),
                _path_html(prompt, line),
            ]
        )
    header = ["log p", "mass", *(["at most"] * is_open), _ending(prompt)]
    align = "rr" + "r" * is_open + "l"
    title = Markup("<p><strong>{}</strong></p>").format(escaped(prompt.title))
    shown = table(align, header, rows)
    return (
        (title if prompt.title else Markup(""))
        + shown
        + Markup("<p>{}</p>").format(_reads(prompt))
    )


def _path_html(prompt: PromptReads, line: PathLine) -> Markup:
    """Return the tokens and labels of a line, indented by its depth."""
    if line.is_folded:
        inner = Markup("<em>{}</em>").format(escaped(_folded(line)))
    else:
        inner = Markup(" ").join(map(token_html, prompt.readable(line.token_ids)))
        for label in line.labels:
            inner += Markup(" → <strong>{}</strong>").format(escaped(label))
    indent = Markup(
        '<div style="margin-left:{}em;padding-left:0.5em;text-align:left;'
        'border-left:2px solid rgba(128,128,128,0.4)">{}</div>'
    )
    return indent.format(line.depth, inner)


def _labels_html(labels: Sequence[LabelFigures], *, is_calibrated: bool) -> Markup:
    is_open = any(map(_is_uncertain, labels))
    given = "calibrated" if is_calibrated else "probability"
    header = ["mass", *(["share"] * is_calibrated), given]
    header += [*(["bounds"] * is_open), "label"]
    rows: list[list[str]] = []
    for each in labels[:MAX_LABELS]:
        known = f"{probability(each.least)} – {probability(each.most)}"
        rows.append(
            [
                _mass(each),
                *([probability(each.share)] * is_calibrated),
                with_bar(probability(each.probability), each.probability),
                *([known] * is_open),
                each.label,
            ]
        )
    if rest := labels[MAX_LABELS:]:
        total = probability(sum(each.probability for each in rest))
        more = f"… {len(rest)} more labels"
        rows.append(["", *([""] * is_calibrated), total, *([""] * is_open), more])
    align = "r" * (len(header) - 1) + "l"
    return table(align, header, rows)


def _reads(prompt: PromptReads) -> str:
    score = prompt.score
    rounds = f" in {score.n_rounds} rounds" if score.n_rounds > 1 else ""
    nodes = "node" if prompt.n_inner == 1 else "nodes"
    return (
        f"{score.n_reads} of {prompt.n_inner} {nodes} read{rounds}; label mass "
        f"{probability(prompt.label_mass)}, unresolved {score.mass.unresolved:.2g}"
    )


def _ending(prompt: PromptReads) -> str:
    return f"prompt: … {displayable(' '.join(prompt.ending))}"


def _folded(line: PathLine) -> str:
    paths = "path" if line.n_paths == 1 else "paths"
    names = line.labels[:_MAX_NAMED] if len(line.labels) <= _MAX_NAMED else ()
    named = ": " + ", ".join(map(_cut, names)) if names else ""
    if line.is_unread:
        return f"{line.n_paths} {paths}, not read{named}"
    return f"… {line.n_paths} more {paths}{named}"


def _logprob(line: PathLine) -> str:
    if line.is_folded:
        return ""
    if line.most > line.logprob:
        return f"≤ {line.most:.3f}"
    return f"{line.logprob:.3f}"


def _mass(figures: LabelFigures) -> str:
    return probability(math.exp(figures.logprob))


def _is_open(line: PathLine) -> bool:
    return line.max_mass - line.mass > _SEEN_UNCERTAIN


def _is_uncertain(figures: LabelFigures) -> bool:
    return figures.most - figures.least > _SEEN_UNCERTAIN


def _cut(text: str) -> str:
    """Return a text of a line, its middle left out where it is long."""
    return shortened(text, _MAX_CHARACTERS)
