"""The summary of a job on stderr, and the estimate of a dry run on stdout."""

from collections import Counter
from collections.abc import Mapping, Sequence

import typer

from classify.cli.console import Notes, clock
from classify.engines.speculation import SpeculationFigures
from classify.errors import AnswerError, EngineError, InputError
from classify.jobs import Classification, Outcome, Summary, estimate_job
from classify.labels import LabelSet
from classify.markup import readable_piece
from classify.rows.encoding import Row
from classify.rows.scorer import Scorer
from classify.scoring.doubts import MAX_DOUBTFUL_MASS
from classify.tables.table import Table

__all__ = [
    "N_ASKED",
    "report_estimate",
    "report_likeliest",
    "report_summary",
    "warn_of_rows",
]

# Rows whose answers are looked at where the labels have little mass.
N_ASKED = 16

_MAX_LABELS = 12
_MAX_REASONS = 5
_SEEN_UNRESOLVED = 0.05
_MIN_SHOWN = 0.005  # the least that two decimals show


def report_summary(
    outcome: Outcome,
    notes: Notes,
    *,
    strategy: str,
    lists_only: bool,
    shortlisted: bool,
    renamed: Mapping[str, str],
    speculation: SpeculationFigures | None,
) -> None:
    """Say what became of the rows, and warn of what spoils them."""
    summary = outcome.summary
    if summary.n_rows:
        notes.say(_counts(outcome))
    else:
        notes.say("The input has a header but no rows.")
    for question, each in (summary.questions or {"": summary}).items():
        _report_labels(question, each, notes)
    if speculation is not None:
        notes.say(_drafts(speculation))
    for name, own in renamed.items():
        notes.note(f"The input has a column {name!r}: the result is in {own!r}.")
    if summary.n_truncated:
        notes.warn(
            f"{_rows(summary.n_truncated)} had a text too long for the model, which "
            "was cut (column truncated)."
        )
    remedy = _remedy(strategy, lists_only=lists_only, shortlisted=shortlisted)
    if summary.greatest_unresolved > _SEEN_UNRESOLVED:
        notes.warn(
            f"Up to {summary.greatest_unresolved:.2f} of a row's probability is "
            f"unresolved (column unresolved): {remedy}."
        )
    for question, each in (summary.questions or {"": summary}).items():
        _warn_of_bounds(question, each, remedy, notes)
    where = "the column error" if outcome.errors is None else str(outcome.errors)
    warn_of_rows(summary.reasons, notes, "without a label", where=f"; see {where}")


def _remedy(strategy: str, *, lists_only: bool, shortlisted: bool) -> str:
    """Return what to do about label mass that is unresolved, or why it is."""
    if strategy == "generate":
        return "use --strategy exact for exact figures"
    if lists_only:
        return "the server lists only the most likely tokens, which gives bounds"
    if shortlisted:
        return "a shortlist gives bounds; without it, figures are exact"
    return "lower the --tolerance for exact figures"


def _report_labels(question: str, summary: Summary, notes: Notes) -> None:
    """Say how many rows got each label, for a question."""
    of = f" of {question}" if question else ""
    for name, counts in (
        ("Labels", summary.label_counts),
        ("Abstained", summary.abstained),
    ):
        if counts:
            mass = (
                f"; mean label mass {summary.mean_label_mass:.2f}" if question else ""
            )
            notes.say(f"{name}{of}: {_shares(counts)}{mass}.")


def _warn_of_bounds(question: str, summary: Summary, remedy: str, notes: Notes) -> None:
    """Warn of labels and probabilities that are estimates, for a question."""
    of = f" of {question}" if question else ""
    if summary.uncertain_labels:
        notes.warn(
            f"For {_rows(summary.n_uncertain)}, some labels{of} may apply but are not "
            f"assigned, since it is not certain: {_shares(summary.uncertain_labels)}; "
            "--bounds lists them in the column uncertain."
        )
    elif summary.n_uncertain:
        notes.warn(
            f"For {_rows(summary.n_uncertain)}, another label{of} could be more "
            f"probable, since part of the label mass is unresolved: {remedy}. --bounds "
            "marks them in the column certain."
        )
    if summary.n_inexact:
        notes.warn(
            f"For {_rows(summary.n_inexact)}, the probability{of} is known less "
            "exactly than the --tolerance: see the columns lower and upper."
        )


def report_likeliest(
    scorer: Scorer,
    rows: Sequence[Row | InputError],
    label_mass: float,
    notes: Notes,
    *,
    candidates: Sequence[LabelSet | InputError] | None = None,
) -> None:
    """Say what a model begins its answers with, where labels have little mass."""
    # With a thought before it, no prompt ends where the answer begins.
    if label_mass >= MAX_DOUBTFUL_MASS or scorer.scoring.strategy == "reason":
        return
    try:
        likeliest = scorer.likeliest_tokens(rows, candidates)
    except (AnswerError, EngineError, InputError):
        return  # it explains results, which do not depend on it
    listed = ", ".join(
        f"{readable_piece(piece)!r} ({probability:.2f})"
        for piece, probability in likeliest
        if probability >= _MIN_SHOWN
    )
    if not listed:
        return
    to = f" to question {scorer.question!r}" if scorer.question else ""
    notes.say(
        f"The model's answers{to} are most likely to begin with {listed}. If these are "
        "other words for the labels, add them as label words; if they introduce an "
        "answer, put that text into --answer-prefix."
    )


def warn_of_rows(
    reasons: Counter[str], notes: Notes, what: str, *, where: str = ""
) -> None:
    """Warn of rows that were left out, by reason."""
    for reason, count in reasons.most_common(_MAX_REASONS):
        notes.warn(f"{_rows(count)} {what}: {reason}")
    n_more = len(reasons) - _MAX_REASONS
    if n_more > 0:
        notes.warn(f"{n_more} more reasons{where}.")


def _counts(outcome: Outcome) -> str:
    summary = outcome.summary
    n_now = summary.n_rows - outcome.n_resumed
    speed = n_now / max(outcome.seconds, 1e-9)
    per_second = f"{speed:,.0f}" if speed >= 10 else f"{speed:.1f}"
    resumed = ""
    if outcome.n_resumed:
        resumed = f" ({outcome.n_resumed:,} of them by an earlier run)"
    took = f"{outcome.seconds:,.1f} s ({per_second} rows/s)"
    parts = [
        f"{_rows(summary.n_rows)}{resumed} in {took}",
        f"{summary.n_labelled:,} labelled",
    ]
    if summary.abstained:
        parts.append(f"{summary.abstained.total():,} abstained")
    if summary.n_set_aside:
        parts.append(f"{summary.n_set_aside:,} set aside")
    if summary.n_scored and not summary.questions:
        parts.append(f"mean label mass {summary.mean_label_mass:.2f}")
    return f"{parts[0]}: {', '.join(parts[1:])}."


def _shares(counts: Counter[str]) -> str:
    shares = [f"{name} {count:,}" for name, count in counts.most_common()]
    if len(shares) > _MAX_LABELS:
        shares[_MAX_LABELS:] = [f"{len(shares) - _MAX_LABELS} more labels"]
    return ", ".join(shares)


def _drafts(figures: SpeculationFigures) -> str:
    if not figures.n_drafts:
        return "Speculation: nothing was drafted."
    return (
        f"Speculation: {figures.n_drafts:,} drafts, {figures.n_accepted_tokens:,} of "
        f"{figures.n_draft_tokens:,} drafted tokens accepted, "
        f"{figures.mean_accepted_length:.2f} tokens a pass."
    )


def _rows(count: int) -> str:
    return f"{count:,} row{'s' * (count != 1)}"


def report_estimate(job: Classification, table: Table, notes: Notes) -> None:
    """Measure on a sample and print rows, tokens, reads and time."""
    with notes.waiting("Measuring on a sample …"):
        estimate = estimate_job(job, table)
    lines = [
        f"rows          {_count(estimate.n_rows)}",
        f"tokens        {_total(estimate.tokens_a_row, estimate.n_rows)}",
        f"reads         {_total(estimate.reads_a_row, estimate.n_rows)}",
        f"speed         {estimate.rows_per_second:,.1f} rows/s",
    ]
    if estimate.seconds is not None:
        lines.append(f"time          about {clock(estimate.seconds)}")
    for line in lines:
        typer.echo(line)
    notes.note(
        f"Measured on {estimate.n_sampled:,} rows drawn at random, in batches; texts "
        "that occur more than once are scored once, and loading is not counted."
    )
    what = f"of the {estimate.n_drawn:,} drawn cannot be scored"
    warn_of_rows(estimate.bad, notes, what)
    if estimate.n_drawn and estimate.bad.total() == estimate.n_drawn:
        raise typer.Exit(1)


def _count(n_rows: int | None) -> str:
    return "unknown before the end" if n_rows is None else f"{n_rows:,}"


def _total(a_row: float, n_rows: int | None) -> str:
    if n_rows is None:
        return f"{a_row:,.1f} a row"
    return f"{a_row * n_rows:,.0f} ({a_row:,.1f} a row)"
