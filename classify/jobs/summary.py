"""What a job did, row by row added up."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from classify.results import RowResults

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
        Labelled rows of each label.
    reasons : Counter of str
        Rows that could not be scored, by reason.
    abstained : Counter of str
        Rows whose label was withheld, by reason.
    n_unreadable : int
        Rows that could not even be read, among those of `reasons`.
    sum_label_mass : float
        Over the scored rows.
    greatest_unresolved : float
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

    @classmethod
    def of(cls, results: RowResults, unreadable: Counter[str]) -> "Summary":
        """Count rows.

        Parameters
        ----------
        results : RowResults
        unreadable : Counter of str
            Rows that could not be read, by reason.
        """
        columns = results.columns
        labels = columns["label"].tolist()
        abstained: Counter[str] = Counter()
        if "abstained" in columns:
            reasons = columns["abstained"].tolist()
            abstained.update(reason for reason in reasons if reason)
            labels = [
                label
                for label, reason in zip(labels, reasons, strict=True)
                if not reason
            ]
        unresolved = columns["unresolved"]
        return cls(
            n_rows=len(results.scored) + unreadable.total(),
            n_labelled=len(labels),
            n_truncated=int(columns["truncated"].sum()),
            label_counts=Counter(labels),
            reasons=Counter(results.errors.values()) + unreadable,
            abstained=abstained,
            n_unreadable=unreadable.total(),
            sum_label_mass=float(columns["label_mass"].sum()),
            greatest_unresolved=float(np.max(unresolved, initial=0.0)),
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
        return cls(**values)

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {
            name: dict(value) if isinstance(value, Counter) else value
            for name, value in values.items()
        }

    def add(self, other: "Summary") -> None:
        """Add the counts of other rows."""
        for each in fields(self):
            if each.name != "greatest_unresolved":
                mine, theirs = getattr(self, each.name), getattr(other, each.name)
                setattr(self, each.name, mine + theirs)
        self.greatest_unresolved = max(
            self.greatest_unresolved, other.greatest_unresolved
        )

    @property
    def n_scored(self) -> int:
        """Rows that have probabilities, whether or not their label was withheld."""
        return self.n_labelled + self.abstained.total()

    @property
    def n_set_aside(self) -> int:
        """Rows that could not be scored."""
        return self.n_rows - self.n_scored

    @property
    def mean_label_mass(self) -> float:
        """Mean of the label mass of the scored rows; 0 without any."""
        return self.sum_label_mass / self.n_scored if self.n_scored else 0.0
