"""How much a person should look at rows, and why."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from classify.decision.posteriors import Flags, LabelPosteriors, Posteriors
from classify.scoring.doubts import MAX_DOUBTFUL_MASS

__all__ = ["Doubts", "choice_doubts", "multi_doubts"]


class Doubts(NamedTuple):
    """The reasons to review rows that have a score.

    Attributes
    ----------
    rank : ndarray of int64, shape (n_scored,)
        The first reason that applies. 0: abstained; 1: not one label in the set;
        2: low label mass; 3: uncertain; 4: none of these, only the margin.
    margin : ndarray of float64, shape (n_scored,)
        By how much the most likely label is ahead of the second; if any number of
        labels may apply, the smallest distance between a probability and its threshold.
    probability : ndarray of float64, shape (n_scored,)
        Of the most likely label, or that the least certain label is decided rightly.
    answers : callable
        From a position to the most likely label, or to the labels that apply.
    reasons : callable
        From a position to why the row is worth a look, in words.
    """

    rank: npt.NDArray[np.int64]
    margin: npt.NDArray[np.float64]
    probability: npt.NDArray[np.float64]
    answers: Callable[[int], list[str]]
    reasons: Callable[[int], list[str]]


def choice_doubts(
    columns: Mapping[str, npt.NDArray[Any]], posteriors: Posteriors, certain: Flags
) -> Doubts:
    """Return the doubts about rows with one answer.

    Parameters
    ----------
    columns : mapping of str to ndarray
        Results of the rows that have a score.
    posteriors : Posteriors
        Of the same rows, with classes.
    certain : ndarray of bool
        Whether no other label can be more likely.
    """
    classes, n_rows = posteriors.classes, len(posteriors.log_proba)
    assert classes is not None, "scores have classes"
    if not n_rows:  # then there may be no column either
        return _no_doubts()
    proba = np.exp(posteriors.log_proba)
    rows, best = np.arange(n_rows), posteriors.best
    first, rest = proba[rows, best], proba.copy()
    rest[rows, best] = -1.0
    second = rest.argmax(axis=1)
    behind = np.maximum(rest[rows, second], 0.0)
    none = np.full(n_rows, "", dtype=object)
    abstained = np.asarray(columns.get("abstained", none))
    sizes = np.array([len(each) for each in columns.get("label_set", ["1"] * n_rows)])
    mass = columns["label_mass"]
    signs = [abstained != "", sizes != 1, mass < MAX_DOUBTFUL_MASS, ~certain]

    def reasons(at: int) -> list[str]:
        n_labels = f"{sizes[at]} labels" if sizes[at] else "no label"
        found = [
            f"abstained ({abstained[at]})",
            f"{n_labels} in the set",
            f"label mass {mass[at]:.2f}",
            "another label may be more likely",
        ]
        close = f"{classes[best[at]]} {first[at]:.2f}"
        if rest.shape[1] > 1:
            close += f", {classes[second[at]]} {behind[at]:.2f}"
        return [*_holding(found, signs, at), close]

    return Doubts(
        _first_of(signs),
        first - behind,
        first,
        lambda at: [str(classes[best[at]])],
        reasons,
    )


def multi_doubts(
    columns: Mapping[str, npt.NDArray[Any]],
    posteriors: LabelPosteriors,
    labels: Sequence[str],
    thresholds: npt.NDArray[np.float64],
) -> Doubts:
    """Return the doubts about rows to which any number of labels apply."""
    proba = posteriors.proba
    if not len(proba):
        return _no_doubts()
    rows, uncertain = np.arange(len(proba)), posteriors.uncertain(thresholds)
    given = posteriors.given(thresholds)
    # A label that never applies has an infinite threshold.
    distance = np.minimum(np.abs(proba - thresholds), 1.0)
    closest = distance.argmin(axis=1)
    mass, n_uncertain = columns["label_mass"], uncertain.sum(axis=1)
    never = np.zeros(len(proba), dtype=np.bool_)
    signs = [never, never, mass < MAX_DOUBTFUL_MASS, n_uncertain > 0]
    right = np.where(given, proba, 1.0 - proba)

    def reasons(at: int) -> list[str]:
        label = closest[at]
        others = "label" if n_uncertain[at] == 1 else "labels"
        found = [
            "",
            "",
            f"label mass {mass[at]:.2f}",
            f"{n_uncertain[at]} {others} may apply",
        ]
        close = (
            f"{labels[label]} {proba[at, label]:.2f}, threshold {thresholds[label]:.2f}"
        )
        return [*_holding(found, signs, at), close]

    return Doubts(
        _first_of(signs),
        distance[rows, closest],
        right[rows, closest],
        lambda at: [name for name, yes in zip(labels, given[at], strict=True) if yes],
        reasons,
    )


def _first_of(signs: Sequence[Flags]) -> npt.NDArray[np.int64]:
    return np.asarray(np.argmax([*signs, np.ones_like(signs[0])], axis=0))


def _holding(found: Sequence[str], signs: Sequence[Flags], at: int) -> list[str]:
    return [reason for reason, sign in zip(found, signs, strict=True) if sign[at]]


def _no_doubts() -> Doubts:
    nothing = np.empty(0)
    return Doubts(nothing.astype(np.int64), nothing, nothing, _none_at, _none_at)


def _none_at(at: int) -> list[str]:
    raise IndexError(at)
