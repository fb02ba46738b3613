"""Prediction sets that contain the true label with a guaranteed probability."""

import logging
import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from classify.cells import column_list
from classify.decision.posteriors import Posteriors, posteriors_of
from classify.decision.stored import SHARE, from_json_number, read_stored
from classify.errors import InputError
from classify.labels.names import plain
from classify.metrics.labelled import check_lengths, label_codes
from classify.parameters import (
    Allowed,
    at_least,
    check_parameters,
    one_of,
    optional,
)

__all__ = ["SplitConformalSets"]

logger = logging.getLogger(__name__)

FloatArray = npt.NDArray[np.float64]

_SCORES = ("lac", "aps")


class SplitConformalSets(BaseEstimator):  # type: ignore[misc]
    """Split conformal prediction sets.

    A conformity score s(x, l) measures how unusual label l is for text x. With s_(1) ≤
    … ≤ s_(n) the scores of the true labels of n labelled texts, and level the
    confidence level::

        threshold = s_(r),  r = ceil((n + 1) level);  infinite if r > n
        set(x)    = {l : s(x, l) <= threshold} and the most likely label

    so that P(true label in set) >= level over labelled and new texts, if these are
    exchangeable and no labelled one was used for the posteriors. With fewer than
    level / (1 - level) labelled texts every set is full. This rule alone can leave a
    set empty; its only member is then the most likely label, which only raises
    coverage.

    With groups, the threshold is that of the labelled texts in the same group, and the
    guarantee holds in each group (Mondrian). ``groups="label"`` takes label l into the
    set by the threshold of the texts whose true label is l: the guarantee holds for
    each class. A group that is new, or has too few texts, gets full sets (a label: is
    in every set).

    If more than a hundredth of the label mass is unresolved, the lower bound of a
    label's score is used (`LabelLogprobs.bounds`), for labelled and new texts alike:
    the guarantee holds, and a set contains all labels that may belong to it.

    Scores are computed from log-probabilities, so that very improbable labels can still
    be distinguished; a tolerance of 1e-8 in probability, which libraries use, voids the
    guarantee or fills the sets if posteriors are over-confident.

    Parameters
    ----------
    confidence_level : float, default=0.9
        In (0, 1).
    conformity_score : {"lac", "aps"}, default="lac"
        "lac" [1]_: -log p(l | x), which orders labels as 1 - p does; the smallest sets.
        "aps" [2]_: mass of the labels that are more likely than l, plus a random share
        of p(l | x); sets adapt to how hard a text is. Written as -log(1 - mass).
    groups : {None, "label"}, default=None
        None: one group, or those given to `conformalize`.
    classes : array-like, shape (n_labels,), default=None
        The class of each column, where posteriors do not say it and `y` holds names.
    random_state : int, default=None
        Seed of the random shares of "aps": with an int the same posteriors in the same
        order get the same sets.

    Attributes
    ----------
    thresholds_ : dict
        Threshold of each group, by its value; by class for "label"; the only key is
        None without groups.
    n_texts_ : dict
        Labelled texts of each group.
    classes_ : ndarray, shape (n_labels,)

    References
    ----------
    .. [1] Sadinle, Lei, Wasserman: Least Ambiguous Set-Valued Classifiers with Bounded
       Error Levels, JASA 114, 2019.
    .. [2] Romano, Sesia, Candès: Classification with Valid and Adaptive Coverage,
       NeurIPS 2020.

    Examples
    --------
    >>> proba = [[0.9, 0.1], [0.8, 0.2], [0.6, 0.4], [0.7, 0.3]]
    >>> sets = SplitConformalSets(0.75).conformalize(proba, [0, 0, 0, 1])
    >>> sets.predict_set([[0.95, 0.05], [0.55, 0.45]])
    array([[ True, False],
           [ True,  True]])
    """

    def __init__(
        self,
        confidence_level: float = 0.9,
        conformity_score: Literal["lac", "aps"] = "lac",
        *,
        groups: Literal["label"] | None = None,
        classes: Any = None,
        random_state: int | None = None,
    ) -> None:
        self.confidence_level = confidence_level
        self.conformity_score = conformity_score
        self.groups = groups
        self.classes = classes
        self.random_state = random_state

    def conformalize(self, X: Any, y: Any, groups: Any = None) -> "SplitConformalSets":
        """Find the thresholds.

        Parameters
        ----------
        X : ClassPosteriors or array-like of float, shape (n_texts, n_labels)
            Posteriors, as `LabelLogprobs`, or probabilities or their logarithms.
        y : array-like, shape (n_texts,)
            True labels: class names, or where classes have no names, columns.
        groups : array-like of str or int, shape (n_texts,), default=None
            A group of each text that is known without its label, such as its language.

        Returns
        -------
        self
        """
        self._check_options()
        posteriors = posteriors_of(X, self.classes)
        n_classes = posteriors.log_proba.shape[1]
        codes = label_codes(y, posteriors.classes, n_classes, "y")
        check_lengths(X=posteriors.log_proba, y=codes)
        self.classes_ = (
            np.arange(n_classes) if posteriors.classes is None else posteriors.classes
        )
        if self.groups == "label":
            if groups is not None:
                raise InputError(
                    'groups="label" already groups the texts: give no other groups, or '
                    "make SplitConformalSets(groups=None)."
                )
            names = self.classes_[codes].tolist()
            rows_of: dict[Any, list[int]] = {c: [] for c in self.classes_.tolist()}
        else:
            names = _group_of_each(groups, len(codes))
            rows_of = {name: [] for name in names}
        for row, name in enumerate(names):
            rows_of[name].append(row)
        scores = self._scores(posteriors, stream=0)
        own_scores = scores[np.arange(len(codes)), codes]
        self.n_texts_ = {name: len(rows) for name, rows in rows_of.items()}
        self.thresholds_ = {
            name: _conformal_quantile(own_scores[rows], self.confidence_level)
            for name, rows in rows_of.items()
        }
        self._warn_of_full_sets()
        return self

    def fit(self, X: Any, y: Any, groups: Any = None) -> "SplitConformalSets":
        """Same as `conformalize`, the usual name in conformal prediction."""
        return self.conformalize(X, y, groups)

    def predict_set(self, X: Any, groups: Any = None) -> npt.NDArray[np.bool_]:
        """Return which labels are in the set of each text.

        Parameters
        ----------
        X : ClassPosteriors or array-like of float, shape (n_texts, n_labels)
            Posteriors of the classes of `conformalize`, in its order.
        groups : array-like of str or int, shape (n_texts,), default=None
            The group of each text, if `conformalize` was given groups.

        Returns
        -------
        ndarray of bool, shape (n_texts, n_labels)
            At least one label in each row.
        """
        check_is_fitted(self)
        posteriors = posteriors_of(X, self.classes_)
        n_texts = len(posteriors.log_proba)
        if self.groups == "label":
            thresholds = np.array([self.thresholds_[c] for c in self.classes_.tolist()])
        else:
            grouped = None not in self.thresholds_
            if grouped != (groups is not None):
                raise InputError(
                    "conformalize was given groups: give the group of each text here "
                    "too."
                    if grouped
                    else "conformalize was given no groups: give none here either."
                )
            names = _group_of_each(groups, n_texts)
            found = [self.thresholds_.get(name, math.inf) for name in names]
            thresholds = np.array(found).reshape(n_texts, 1)
        sets = np.asarray(self._scores(posteriors, stream=1) <= thresholds)
        sets[np.arange(n_texts), posteriors.best] = True
        return sets

    def to_dict(self) -> dict[str, Any]:
        """Return the fitted state in JSON types; see `from_dict`."""
        check_is_fitted(self)
        return {
            "confidence_level": self.confidence_level,
            "conformity_score": self.conformity_score,
            "groups": self.groups,
            "random_state": self.random_state,
            "classes": self.classes_.tolist(),
            # Names need not be strings, as keys would, and JSON has no infinity.
            "thresholds": [
                [name, None if math.isinf(value) else value, self.n_texts_[name]]
                for name, value in self.thresholds_.items()
            ],
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "SplitConformalSets":
        """Return the conformalized sets that `to_dict` described."""
        fields = read_stored(
            stored,
            cls.__name__,
            options=("confidence_level", "conformity_score", "groups", "random_state"),
            learned=("classes", "thresholds"),
        )
        made = cls(**fields.options, classes=fields.learned["classes"])
        made._check_options()
        made.classes_ = np.array(fields.learned["classes"])
        rows = fields.learned["thresholds"]
        made.thresholds_ = {name: from_json_number(value) for name, value, _ in rows}
        made.n_texts_ = {name: n_texts for name, _, n_texts in rows}
        return made

    def _check_options(self) -> None:
        check_parameters(
            "SplitConformalSets",
            confidence_level=(self.confidence_level, SHARE),
            conformity_score=(self.conformity_score, one_of(*_SCORES)),
            groups=(
                self.groups,
                Allowed(
                    "'label' or None (the groups of texts are given to conformalize "
                    "and predict_set)",
                    optional(one_of("label")).holds,
                ),
            ),
            random_state=(
                self.random_state,
                optional(at_least(0, whole=True)),
            ),
        )

    def _scores(self, posteriors: Posteriors, *, stream: int) -> FloatArray:
        """Return the least that s(x, l) of each label can be, (n_texts, n_labels).

        Labelled and new texts draw from different streams of the same seed: with the
        same numbers their scores would not be exchangeable.
        """
        lower, upper = posteriors.interval
        if self.conformity_score == "lac":
            return -upper
        seeds = np.random.SeedSequence(self.random_state).spawn(2)
        shares = 1.0 - np.random.default_rng(seeds[stream]).random((len(upper), 1))
        scores = _aps_scores(upper, shares)
        for row in np.flatnonzero((lower != upper).any(axis=1)):
            scores[row] = _least_aps_scores(lower[row], upper[row], shares[row])
        return scores

    def _warn_of_full_sets(self) -> None:
        full = [name for name, value in self.thresholds_.items() if math.isinf(value)]
        if not full:
            return
        needed = math.ceil(self.confidence_level / (1.0 - self.confidence_level) - 1e-9)
        logger.warning(
            "Prediction sets will contain all labels%s: at confidence level %g a "
            "threshold needs at least %d labelled texts whose true label is not "
            "impossible%s.",
            "" if full == [None] else f" for {', '.join(map(repr, full))}",
            self.confidence_level,
            needed,
            "" if full == [None] else " in each group",
        )


def _aps_scores(log_proba: FloatArray, shares: FloatArray) -> FloatArray:
    """-log of (mass of the less likely labels + share * p), small sums added first."""
    order = np.argsort(log_proba, axis=1, kind="stable")
    rising = np.take_along_axis(log_proba, order, axis=1)
    below = np.logaddexp.accumulate(rising, axis=1)[:, :-1]
    below = np.pad(below, ((0, 0), (1, 0)), constant_values=-np.inf)
    scores = np.empty_like(log_proba)
    mass = np.logaddexp(below, rising + np.log(shares))
    np.put_along_axis(scores, order, -mass, axis=1)
    return scores


def _least_aps_scores(
    lower: FloatArray, upper: FloatArray, share: FloatArray
) -> FloatArray:
    """The same of one text where all labels that may be less likely are at most."""
    at = np.arange(len(upper))
    # [l, k]: whether k may be less likely than l; of equal ones the first is.
    less = lower[None, :] < upper[:, None]
    less |= (lower[None, :] == upper[:, None]) & (at[None, :] < at[:, None])
    np.fill_diagonal(less, val=False)
    below = np.logaddexp.reduce(np.where(less, upper, -np.inf), axis=1)
    return np.asarray(-np.minimum(np.logaddexp(below, upper + np.log(share)), 0.0))


def _conformal_quantile(scores: FloatArray, level: float) -> float:
    # The slack undoes rounding, as in (9 + 1) * 0.9 = 9.000000000000002.
    rank = math.ceil((len(scores) + 1) * level - 1e-9)
    return math.inf if rank > len(scores) else float(np.sort(scores)[rank - 1])


def _group_of_each(groups: Any, n_texts: int) -> list[Any]:
    if groups is None:
        return [None] * n_texts
    names = [plain(name) for name in column_list(groups)]
    if len(names) != n_texts:
        raise InputError(
            f"groups must hold the group of each text: it has {len(names)} for "
            f"{n_texts} texts."
        )
    for row, name in enumerate(names):
        if not isinstance(name, str | int):
            raise InputError(
                f"groups[{row}] is {name!r}: a group must be a string or an integer."
            )
    return names
