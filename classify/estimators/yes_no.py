"""Rows scored with a yes/no read for each label: any number of labels may apply.

For each label the rows are asked by a scorer of its own, whose two labels are the
answers. So a label's probability depends on no other label, and all that holds for rows
(keys, stores, fingerprints, errors) holds for these.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from classify.errors import DataError, InputError, RowError
from classify.labels import LabelSet
from classify.questions.yes_no import LABEL, asked
from classify.rows.encoding import Row
from classify.rows.prompted_model import Progress, Refuse
from classify.rows.scorer import RowScorer, ScoredRows
from classify.rows.side_by_side import Encoded, score_encoded
from classify.scoring import LabelLogprobs

__all__ = ["YesNoScorer", "interleaved"]


@dataclass(frozen=True)
class YesNoScorer:
    """Scores rows with a yes/no read for each label. Equal ones give equal scores.

    Attributes
    ----------
    pairs : RowScorer
        Scores rows with the column ``label``; its labels are the answers.
    labels : LabelSet
    """

    pairs: RowScorer
    labels: LabelSet

    @property
    def names(self) -> list[str]:
        """The labels in the order of scores: sorted."""
        return sorted(self.labels.names)

    @property
    def fields(self) -> tuple[str, ...]:
        """The columns that the prompt needs of a row."""
        return tuple(name for name in self.pairs.fields if name != LABEL)

    def scorers(self) -> tuple[RowScorer, ...]:
        """Return what asks rows about one label, for each in sorted order."""
        return tuple(
            replace(self.pairs, fixed=((LABEL, asked(self.labels[name])),))
            for name in self.names
        )

    def score(
        self,
        rows: Sequence[Row | InputError],
        *,
        refuse: Refuse | None = None,
        progress: Progress | None = None,
    ) -> ScoredRows:
        """Score rows, all their labels in one pass.

        Parameters
        ----------
        rows, refuse, progress
            As in `RowScorer.score`, of rows.

        Returns
        -------
        ScoredRows
            As `interleaved` has them.
        """
        answers = self.pairs.known_labels()
        encoded = [
            Encoded(each.model, each.encode(rows, None), sorted(answers.names))
            for each in self.scorers()
        ]
        scored = score_encoded(
            encoded,
            self.pairs.read_strategy(),
            refuse=refuse,
            progress=progress and _Told(len(encoded), progress),
        )
        return interleaved(len(rows), scored, self.names, refuse=refuse)

    def fingerprint(self) -> dict[str, str]:
        """Return what the scores of all labels depend on; see `fingerprints`."""
        labels = {f"label {name}": asked(self.labels[name]) for name in self.names}
        return self.pairs.fingerprint() | labels

    def fingerprints(self) -> dict[str, dict[str, str]]:
        """Return what the scores of each label depend on; see `RowScorer.fingerprint`.

        Loads the tokenizer only.
        """
        shared = self.pairs.fingerprint()  # to digest a model takes a moment
        scorers = zip(self.names, self.scorers(), strict=True)
        return {name: shared | dict(each.fixed) for name, each in scorers}


def interleaved(
    n_rows: int,
    scored: Sequence[ScoredRows],
    labels: Sequence[str],
    *,
    refuse: Refuse | None = None,
) -> ScoredRows:
    """Put the scores of all labels together.

    Parameters
    ----------
    n_rows : int
    scored : sequence of ScoredRows, length n_labels
        The answers about each label.
    labels : sequence of str, length n_labels
    refuse : callable, default=None
        Makes the exception that a row raises for which neither answer has any
        probability. None: it is set aside.

    Returns
    -------
    ScoredRows
        The n_labels scores of each row that has no error, one behind the other; and
        the errors of rows. A row has one where any of its labels has, or where neither
        answer has any probability.
    """
    errors: dict[int, RowError] = {}
    silent: dict[int, RowError] = {}
    for label, (scores, row_errors) in zip(labels, scored, strict=True):
        for at, error in row_errors.items():
            errors.setdefault(at, error)
        rows = _positions(n_rows, row_errors)
        for at in rows[np.isneginf(scores.log_label_mass)].tolist():
            silent.setdefault(
                at,
                DataError(
                    f"neither yes nor no has any probability for label {label!r}."
                ),
            )
    if silent and refuse is not None:
        raise refuse(min(silent), silent[min(silent)])
    errors = silent | errors
    good = [
        scores[[at not in errors for at in _positions(n_rows, row_errors).tolist()]]
        for scores, row_errors in scored
    ]
    together = LabelLogprobs.concatenated(good)
    order = np.arange(len(together)).reshape(len(scored), -1).T.ravel()
    return ScoredRows(together[order], dict(sorted(errors.items())))


def _positions(n_rows: int, errors: Mapping[int, object]) -> npt.NDArray[np.int64]:
    """Return the positions of the rows that have no error."""
    return np.array([at for at in range(n_rows) if at not in errors], dtype=np.int64)


class _Told:
    """Counts rows, of whose labels so many were finished."""

    def __init__(self, n_labels: int, progress: Progress) -> None:
        self._n_labels, self._progress, self._n_pairs = n_labels, progress, 0

    def __call__(self, n_pairs: int) -> None:
        before = self._n_pairs // self._n_labels
        self._n_pairs += n_pairs
        if n_rows := self._n_pairs // self._n_labels - before:
            self._progress(n_rows)
