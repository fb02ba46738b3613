"""What a job did, row by row added up."""

from collections import Counter
from dataclasses import dataclass, field

import pandas as pd

__all__ = ["Summary", "results_of"]


@dataclass
class Summary:
    """Counts over all rows of a job.

    Attributes
    ----------
    n_rows : int
    n_labelled : int
        Rows that got a label.
    n_truncated : int
        Rows whose text was cut to fit the model.
    label_counts : Counter of str
        Labelled rows of each label.
    reasons : Counter of str
        Rows set aside, by reason.
    abstained : Counter of str
        Rows whose label was withheld, by reason.
    renamed : dict of str to str
        Result columns whose name the input had already, and their new name.
    seconds : float
        Wall-clock time of the classification.
    """

    n_rows: int = 0
    n_labelled: int = 0
    n_truncated: int = 0
    label_counts: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    abstained: Counter[str] = field(default_factory=Counter)
    renamed: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    _sum_label_mass: float = 0.0
    greatest_unresolved: float = 0.0

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
        return self._sum_label_mass / self.n_scored if self.n_scored else 0.0

    @property
    def rows_per_second(self) -> float:
        """Rows by seconds; 0 before the first."""
        return self.n_rows / self.seconds if self.seconds else 0.0

    def add(self, frame: pd.DataFrame, n_columns: int) -> None:
        """Count the rows of a classified frame whose input had `n_columns` columns."""
        results = results_of(frame, n_columns)
        scored = results[results["error"] == ""]
        labelled = scored
        if "abstained" in results:
            labelled = scored[scored["abstained"] == ""]
            withheld = scored.loc[scored["abstained"] != "", "abstained"]
            self.abstained.update(withheld.tolist())
        self.n_rows += len(results)
        self.n_labelled += len(labelled)
        self.n_truncated += int(scored["truncated"].sum())
        self.label_counts.update(labelled["label"].tolist())
        self.reasons.update(results.loc[results["error"] != "", "error"].tolist())
        self._sum_label_mass += float(scored["label_mass"].sum())
        if len(scored):
            self.greatest_unresolved = max(
                self.greatest_unresolved, float(scored["unresolved"].max())
            )
        for name, own in zip(results, frame.columns[n_columns:], strict=True):
            if name != own:
                self.renamed[str(name)] = str(own)


def results_of(frame: pd.DataFrame, n_columns: int) -> pd.DataFrame:
    """Return the results of a classified frame under their own names.

    Parameters
    ----------
    frame : DataFrame
        From `ZeroShotClassifier.classify_frame`, errors set aside.
    n_columns : int
        Columns of the input, which stand first.
    """
    results = frame.iloc[:, n_columns:]
    names = [str(name) for name in results.columns]
    # No result has a name of its own that begins so.
    while any(name.startswith("predicted_") for name in names):
        names = [name.removeprefix("predicted_") for name in names]
    return results.set_axis(names, axis=1)
