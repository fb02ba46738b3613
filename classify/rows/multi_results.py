"""From yes/no reads to the columns of multi-label results."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from classify.decision.posteriors import Flags, LabelPosteriors
from classify.rows.doubts import multi_doubts
from classify.rows.results import RowResults, of_reasoning, reasoning_kinds
from classify.rows.scorer import ScoredRows, Scorer
from classify.scoring import LabelLogprobs
from classify.tables import ResultKind

__all__ = ["label_kinds", "multi_results"]


def label_kinds(
    labels: Sequence[str], lists: ResultKind, *, probabilities: bool, bounds: bool
) -> dict[str, ResultKind]:
    """Return the contents of the columns with labels, and of those for each label.

    Examples
    --------
    >>> list(label_kinds(["x"], "list", probabilities=True, bounds=True))
    ['labels', 'uncertain', 'p(x)', 'lower(x)', 'upper(x)']
    """
    kinds: dict[str, ResultKind] = {"labels": lists}
    if bounds:
        kinds["uncertain"] = lists
    of_each = ("p", "lower", "upper") if bounds else ("p",)
    if probabilities:
        kinds |= {f"{name}({label})": "float" for label in labels for name in of_each}
    return kinds


def multi_results(
    scorer: Scorer,
    n_rows: int,
    scored_rows: ScoredRows,
    *,
    posteriors_of: Callable[[LabelLogprobs], LabelPosteriors],
    thresholds: npt.NDArray[np.float64],
    probabilities: bool = False,
    bounds: bool = False,
) -> RowResults:
    """Return the results of yes/no reads of rows.

    Parameters
    ----------
    scorer : Scorer
        Has asked about each label.
    n_rows : int
    scored_rows : ScoredRows
        As `Scorer.score` returns them: the scores of each row's labels, one after the
        other.
    posteriors_of : callable
        From scores to p(yes), calibrated or not.
    thresholds : ndarray of float64, shape (n_labels,)
        Labels whose p(yes) is at least that, for certain, apply.
    probabilities : bool, default=False
        Whether to add a column for each label.
    bounds : bool, default=False
        Whether to add the labels that may apply, and bounds of probabilities, even
        if the scorer leaves no more than its tolerance unknown.

    Returns
    -------
    RowResults
        With the columns ``labels`` and ``uncertain`` (lists), ``p(…)``, ``lower(…)``,
        ``upper(…)``, ``label_mass`` (the least of a row's labels), ``unresolved`` (the
        greatest), ``agreement`` (the least), ``truncated`` and ``cut`` (any), and
        ``standard_error`` (the greatest).
    """
    scores, labels = scored_rows.scores, scorer.names
    errors = {at: str(error) for at, error in scored_rows.errors.items()}
    bounds = bounds or scorer.gives_bounds
    scored = np.ones(n_rows, dtype=np.bool_)
    scored[list(errors)] = False
    shape = (-1, len(labels))
    names = np.array(labels, dtype=np.str_)
    posteriors = posteriors_of(scores)
    uncertain = posteriors.uncertain(thresholds)
    found: dict[str, npt.NDArray[Any]] = {
        "labels": _lists(names, posteriors.given(thresholds)),
        "uncertain": _lists(names, uncertain),
    }
    for at, name in enumerate(labels):
        found[f"p({name})"] = posteriors.proba[:, at]
        found[f"lower({name})"] = posteriors.lower[:, at]
        found[f"upper({name})"] = posteriors.upper[:, at]
    kinds = label_kinds(labels, "list", probabilities=probabilities, bounds=bounds)
    columns = {name: found[name] for name in kinds}
    columns["label_mass"] = scores.label_mass.reshape(shape).min(axis=1)
    columns["unresolved"] = scores.unresolved.reshape(shape).max(axis=1)
    if scorer.asks_repeatedly and scores.agreement is not None:
        columns["agreement"] = scores.agreement.reshape(shape).min(axis=1)
    columns["truncated"] = np.asarray(scores.truncated.reshape(shape).any(axis=1))
    # Of two answers, what the first has less the second has more.
    first = np.zeros(len(scores), dtype=np.int64)
    for name in reasoning_kinds(scorer.scoring, with_text=False):
        values = of_reasoning(name, scores.reasoning or (), first).reshape(shape)
        least = name == "agreement"
        columns[name] = values.min(axis=1) if least else values.max(axis=1)
    width, tolerance = posteriors.upper - posteriors.lower, scorer.scoring.tolerance
    inexact = (width > tolerance).any(axis=1)
    return RowResults(
        columns,
        scored,
        errors,
        names,
        partial(multi_doubts, columns, posteriors, labels, thresholds),
        n_uncertain=int(uncertain.any(axis=1).sum()),
        n_inexact=int(inexact.sum()) * (bounds and probabilities),
        uncertain_labels=names[np.nonzero(uncertain)[1]].tolist(),
    )


def _lists(names: npt.NDArray[np.str_], member: Flags) -> npt.NDArray[Any]:
    lists: Iterator[list[str]] = (names[row].tolist() for row in member)
    return np.fromiter(lists, dtype=object, count=len(member))
