"""The summary of a job, on stderr."""

from pathlib import Path

from classify.cli.console import Notes
from classify.engines.vllm.speculation import SpeculationFigures
from classify.jobs import Summary

__all__ = ["report_summary"]

_MOST_LABELS = 12
_MOST_REASONS = 5
_SEEN_UNRESOLVED = 0.05


def report_summary(
    summary: Summary,
    output: Path | None,
    notes: Notes,
    *,
    strategy: str,
    speculation: SpeculationFigures | None,
) -> None:
    """Say what became of the rows, and warn of what spoils them."""
    if summary.n_rows:
        notes.say(_counts(summary))
    else:
        notes.say("The input has a header but no rows.")
    if summary.label_counts:
        notes.say(f"Labels: {_shares(summary)}.")
    if speculation is not None:
        notes.say(_drafts(speculation))
    for name, own in summary.renamed.items():
        notes.note(f"The input has a column {name!r}: the result is in {own!r}.")
    if summary.n_truncated:
        notes.warn(
            f"{_rows(summary.n_truncated)} had a text too long for the model, which "
            "was cut (column truncated)."
        )
    if summary.greatest_unresolved > _SEEN_UNRESOLVED:
        remedy = (
            "use --strategy exact"
            if strategy == "generate"
            else "lower the --tolerance"
        )
        notes.warn(
            f"Up to {summary.greatest_unresolved:.2f} of a row's probability is "
            f"unresolved (column unresolved): {remedy} for exact figures."
        )
    for reason, count in summary.reasons.most_common(_MOST_REASONS):
        notes.warn(f"{_rows(count)} without a label: {reason}")
    n_more = len(summary.reasons) - _MOST_REASONS
    if n_more > 0:
        notes.warn(f"{n_more} more reasons; see the column error.")
    if output is not None:
        notes.say(f"Written to {output}.")


def _counts(summary: Summary) -> str:
    speed = summary.rows_per_second
    per_second = f"{speed:,.0f}" if speed >= 10 else f"{speed:.1f}"
    parts = [
        f"{_rows(summary.n_rows)} in {summary.seconds:,.1f} s ({per_second} rows/s)",
        f"{summary.n_labelled:,} labelled",
    ]
    if summary.n_set_aside:
        parts.append(f"{summary.n_set_aside:,} set aside")
    if summary.n_labelled:
        parts.append(f"mean label mass {summary.mean_label_mass:.2f}")
    return f"{parts[0]}: {', '.join(parts[1:])}."


def _shares(summary: Summary) -> str:
    shares = [
        f"{label} {count:,}" for label, count in summary.label_counts.most_common()
    ]
    if len(shares) > _MOST_LABELS:
        shares[_MOST_LABELS:] = [f"{len(shares) - _MOST_LABELS} more labels"]
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
