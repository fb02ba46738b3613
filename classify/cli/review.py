"""Rows for a person to look at: where `classify predict` writes them, and what next."""

from classify.cli.console import Notes
from classify.cli.groups import JobOptions
from classify.cli.overwriting import check_review_files
from classify.jobs import Classification, Review, ReviewFile
from classify.jobs.review_rows import check_review
from classify.tables.table import Table

__all__ = ["report_review", "review_of"]


def review_of(options: JobOptions, job: Classification, table: Table) -> Review | None:
    """Return what is to be reviewed; what cannot be written is refused."""
    if options.review is None:
        return None
    review = Review(options.review, options.review_rows, options.review_random)
    check_review(review, job, table, options.output)
    if not options.overwrite:
        check_review_files(review, job, table)
    return review


def report_review(written: ReviewFile, review: Review, notes: Notes) -> None:
    """Say what was written for a person, and how to go on."""
    drawn = ""
    if written.n_random:
        drawn = f", {written.n_random:,} of them drawn at random"
    notes.say(f"{written.n_rows:,} rows to review{drawn}: {written.path}.")
    columns = " and ".join(map(repr, written.answers))
    if review.is_tasks:
        notes.note(
            "Import it into a Label Studio project with the labeling interface of "
            f"{review.interface}. classify evaluate and calibrate read the export "
            "(JSON or JSON-MIN)."
        )
    else:
        which = "columns" if len(written.answers) > 1 else "column"
        notes.note(
            f"Fill in the {which} {columns} for as many rows as you like: the most "
            "useful rows come first. classify evaluate and calibrate read the file."
        )
    if not written.n_random and written.n_rows:
        notes.note(
            "These rows are harder than most. To get figures that hold for all rows, "
            "draw some at random with --review-random."
        )
