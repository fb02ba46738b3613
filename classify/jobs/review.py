"""Rows that a job writes for review: their choice, and the columns of their file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from classify.parameters import at_least, check_parameters, number
from classify.tables.annotations import REVIEW_ROW

__all__ = [
    "LABELS",
    "RANDOM",
    "REASON",
    "SAMPLE",
    "SELECTED",
    "Review",
    "ReviewFile",
    "answer_column",
    "label_column",
]

# Columns of such a file, besides those of the input and the results.
LABELS, REASON, SAMPLE = "review_labels", "review_reason", "review_sample"
RESERVED = (REVIEW_ROW, LABELS, REASON, SAMPLE)
# How a row came into the file.
RANDOM, SELECTED = "random", "selected"


@dataclass(frozen=True)
class Review:
    """The rows that `run_job` writes for a person to label.

    Parameters
    ----------
    path : str or Path
        A table by its ending, .csv, .tsv, .jsonl or .parquet, with an empty column for
        the label; or .json: tasks for Label Studio, with the labelling interface in a
        file of the same name that ends in .xml.
    n_rows : int, default=100
        Maximum number of rows; the most useful ones come first.
    random : float, default=0.0
        The share of these that is drawn at random from all rows instead. Metrics for
        all rows need such rows: those that a model is unsure about are harder.

    Raises
    ------
    ConfigError
        A value is not allowed.

    Examples
    --------
    >>> Review("review.csv", n_rows=50, random=0.2).n_random
    10
    """

    path: str | Path
    n_rows: int = 100
    random: float = 0.0

    def __post_init__(self) -> None:
        check_parameters(
            "Review",
            n_rows=(self.n_rows, at_least(1, whole=True)),
            random=(
                self.random,
                number("from 0 to 1", lambda value: 0.0 <= value <= 1.0),
            ),
        )

    @property
    def file(self) -> Path:
        """The path."""
        return Path(self.path)

    @property
    def is_tasks(self) -> bool:
        """Whether tasks for Label Studio are written, not a table."""
        return self.file.suffix.lower() == ".json"

    @property
    def interface(self) -> Path:
        """The file with the labelling interface of Label Studio."""
        return self.file.with_suffix(".xml")

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that are written."""
        return (self.interface, self.file) if self.is_tasks else (self.file,)

    @property
    def n_random(self) -> int:
        """Rows that are drawn at random; one at least, if any."""
        return max(round(self.n_rows * self.random), int(self.random > 0.0))

    def described(self) -> dict[str, Any]:
        """Return the settings that determine the choice of rows."""
        return {"rows": int(self.n_rows), "random": float(self.random)}


class ReviewFile(NamedTuple):
    """The file that was written for review.

    Attributes
    ----------
    path : Path
    n_rows : int
    n_random : int
        How many of these were drawn at random.
    answers : tuple of str
        The empty column for each question.
    """

    path: Path
    n_rows: int
    n_random: int
    answers: tuple[str, ...]


def answer_column(question: str, columns: tuple[str, ...]) -> str:
    """Return the column that holds a person's answers to a question.

    Parameters
    ----------
    question : str
        Its name; empty if there is only one.
    columns : tuple of str
        Those of the input, or of a file that was filled in.

    Examples
    --------
    >>> answer_column("", ("text",)), answer_column("", ("text", "label"))
    ('label', 'reviewed_label')
    """
    name = question or "label"
    return f"reviewed_{name}" if name in columns else name


def label_column(question: str, columns: tuple[str, ...]) -> str:
    """Return the column in which a table should have the labels of a question.

    Examples
    --------
    >>> label_column("", ("text", "label", "reviewed_label", "review_sample"))
    'reviewed_label'
    """
    name = question or "label"
    own = f"reviewed_{name}"
    return own if SAMPLE in columns and own in columns else name
