"""The counts of a job, added up row by row."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from classify.rows.results import RowResults, columns_of, errors_of

__all__ = ["Summary"]


@dataclass(kw_only=True)
class Summary:
    """Counts over rows.

    Attributes
    ----------
    n_rows : int
        All rows, readable or not.
    n_labelled : int
        Rows that got a label.
    n_truncated : int
        Rows whose text was cut to fit the model.
    label_counts : Counter of str
        Labelled rows of each label. Where any number may apply, a row counts for each
        of its labels, and is labelled even if none applies.
    reasons : Counter of str
        Rows that could not be scored, by reason.
    abstained : Counter of str
        Rows whose label was withheld, by reason.
    n_unreadable : int
        Those of the rows in `reasons` that could not be read.
    sum_label_mass : float
        Over the scored rows.
    greatest_unresolved : float
    n_uncertain : int
        Scored rows for which another label could be more probable by more than the
        tolerance, or a label may apply that is not given.
    uncertain_labels : Counter of str
        Of the latter rows, those that each of these labels may apply to.
    n_inexact : int
        Scored rows with bounds that are wider than the tolerance.
    questions : dict of str to Summary
        Where there are several questions, the same of each; labels, abstentions and
        label mass are counted there alone, and rows are labelled if they are for all.
    """

    n_rows: int = 0
    n_labelled: int = 0
    n_truncated: int = 0
    label_counts: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    abstained: Counter[str] = field(default_factory=Counter)
    n_unreadable: int = 0
    sum_label_mass: float = 0.0
    greatest_unresolved: float = 0.0
    n_uncertain: int = 0
    uncertain_labels: Counter[str] = field(default_factory=Counter)
    n_inexact: int = 0
    questions: "dict[str, Summary]" = field(default_factory=dict)

    @classmethod
    def of(
        cls, results: Mapping[str, RowResults], unreadable: Counter[str]
    ) -> "Summary":
        """Count rows.

        Parameters
        ----------
        results : mapping of str to RowResults
            Those of each question.
        unreadable : Counter of str
            Rows that could not be read, by reason.
        """
        counts = {name: cls._of(each, unreadable) for name, each in results.items()}
        if "" in counts:
            return counts[""]
        columns = columns_of(results)
        n_rows = len(columns["truncated"].scored)
        unlabelled = [_unlabelled(each) for each in results.values()]
        return cls(
            n_rows=n_rows + unreadable.total(),
            n_labelled=int(n_rows - np.any(unlabelled, axis=0).sum()),
            n_truncated=int(columns["truncated"].values.sum()),
            reasons=Counter(errors_of(results).values()) + unreadable,
            n_unreadable=unreadable.total(),
            greatest_unresolved=max(
                each.greatest_unresolved for each in counts.values()
            ),
            questions=counts,
        )

    @classmethod
    def _of(cls, results: RowResults, unreadable: Counter[str]) -> "Summary":
        columns = results.columns
        n_labelled, labels = _labels(columns)
        abstained: Counter[str] = Counter()
        if "abstained" in columns:
            reasons = columns["abstained"].tolist()
            abstained.update(reason for reason in reasons if reason)
            labels = [
                label
                for label, reason in zip(labels, reasons, strict=True)
                if not reason
            ]
            n_labelled = len(labels)
        unresolved = columns["unresolved"]
        return cls(
            n_rows=len(results.scored) + unreadable.total(),
            n_labelled=n_labelled,
            n_truncated=int(columns["truncated"].sum()),
            label_counts=Counter(labels),
            reasons=Counter(results.errors.values()) + unreadable,
            abstained=abstained,
            n_unreadable=unreadable.total(),
            sum_label_mass=float(columns["label_mass"].sum()),
            greatest_unresolved=float(np.max(unresolved, initial=0.0)),
            n_uncertain=results.n_uncertain,
            uncertain_labels=Counter(results.uncertain_labels),
            n_inexact=results.n_inexact,
        )

    @classmethod
    def of_json(cls, counts: Mapping[str, Any]) -> "Summary":
        """Return what `as_json` described.

        Examples
        --------
        >>> summary = Summary(n_rows=2, label_counts=Counter({"a": 2}))
        >>> Summary.of_json(summary.as_json()) == summary
        True
        """
        values: dict[str, Any] = {
            name: Counter(count) if isinstance(count, Mapping) else count
            for name, count in counts.items()
        }
        of_questions = counts.get("questions", {})
        values["questions"] = {
            name: cls.of_json(each) for name, each in of_questions.items()
        }
        return cls(**values)

    def as_json(self) -> dict[str, Any]:
        """Return it in JSON types."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        questions = {
            name: each.as_json() for name, each in values.pop("questions").items()
        }
        return {
            **{
                name: dict(value) if isinstance(value, Counter) else value
                for name, value in values.items()
            },
            **({"questions": questions} if questions else {}),
        }

    def add(self, other: "Summary") -> None:
        """Add the counts of other rows."""
        for name, counts in other.questions.items():
            self.questions.setdefault(name, Summary()).add(counts)
        for each in fields(self):
            if each.name not in ("greatest_unresolved", "questions"):
                mine, theirs = getattr(self, each.name), getattr(other, each.name)
                setattr(self, each.name, mine + theirs)
        self.greatest_unresolved = max(
            self.greatest_unresolved, other.greatest_unresolved
        )

    @property
    def n_scored(self) -> int:
        """Rows that have probabilities, whether or not their label was withheld."""
        return self.n_rows - self.n_set_aside

    @property
    def n_set_aside(self) -> int:
        """Rows that could not be scored."""
        return self.reasons.total()

    @property
    def mean_label_mass(self) -> float:
        """Mean of the label mass of the scored rows; 0 without any."""
        return self.sum_label_mass / self.n_scored if self.n_scored else 0.0


def _labels(columns: Mapping[str, npt.NDArray[Any]]) -> tuple[int, list[str]]:
    """Return how many rows have an answer, and all labels that were given."""
    if "label" in columns:
        return len(columns["label"]), columns["label"].tolist()
    lists = columns["labels"].tolist()
    return len(lists), [name for each in lists for name in each]


def _unlabelled(results: RowResults) -> npt.NDArray[np.bool_]:
    """Return which rows have no label, shape (n_rows,)."""
    unlabelled = ~results.scored
    if "abstained" in results.columns:
        unlabelled[results.scored] = results.columns["abstained"] != ""
    return unlabelled
