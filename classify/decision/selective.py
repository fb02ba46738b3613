"""Answer where the risk can be kept, abstain elsewhere."""

import logging
import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import entr
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from classify.decision.posteriors import Posteriors, posteriors_of
from classify.decision.risk_control import certified_threshold, n_texts_needed
from classify.decision.stored import SHARE, from_json_number, read_stored
from classify.errors import ConfigError, InputError
from classify.markup import first_of, probability, table, with_bar
from classify.metrics.labelled import check_lengths, label_codes
from classify.parameters import check_parameters, number, one_of, optional

__all__ = ["Decisions", "SelectiveClassifier"]

logger = logging.getLogger(__name__)

FloatArray = npt.NDArray[np.float64]

# What a notebook shows of many texts.
_N_SHOWN = 10


class Decisions(NamedTuple):
    """The decision for each text.

    Attributes
    ----------
    label : ndarray of object, shape (n_texts,)
        The class, or None where there is no answer.
    accepted : ndarray of bool, shape (n_texts,)
    reason : ndarray of str, shape (n_texts,)
        Why there is no answer: "low label mass", "low probability", or "uncertain", if
        the probability is only known within bounds; the first that applies. "" if there
        is an answer.
    confidence : ndarray of float64, shape (n_texts,)
        What is compared with the threshold: the lower bound, if there are bounds.
    """

    label: npt.NDArray[np.object_]
    accepted: npt.NDArray[np.bool_]
    reason: npt.NDArray[np.str_]
    confidence: FloatArray

    def _repr_html_(self) -> str:
        rows = [
            [
                str(at),
                "–" if self.label[at] is None else str(self.label[at]),
                with_bar(probability(self.confidence[at]), self.confidence[at]),
                self.reason[at],
            ]
            for at in range(min(len(self.label), _N_SHOWN))
        ]
        shown = table("rlrl", ["text", "label", "confidence", "reason"], rows)
        n_texts, n_answered = len(self.label), int(self.accepted.sum())
        reasons = Counter(self.reason[~self.accepted].tolist()).items()
        counted = ", ".join(f"{reason} ({n_of})" for reason, n_of in reasons)
        why = f"; no answer: {counted}" if counted else ""
        of_which = first_of(len(rows), n_texts)
        return (
            f"{shown}\n<p>{n_answered} of {n_texts} texts answered{why}{of_which}</p>"
        )


class SelectiveClassifier(BaseEstimator):  # type: ignore[misc]
    """Abstains below a confidence threshold that guarantees a maximum risk.

    The guarantee: with a probability of `confidence_level` over the labelled texts that
    `fit` is given, the share of wrong labels among the answered texts is at most
    `target_risk`::

        P( P(label is wrong | answered) <= target_risk ) >= confidence_level

    It holds for the threshold that was chosen, however poor the posteriors are, if
    the labelled and the future texts are drawn independently from one source, and if
    none of the labelled texts has been used for the posteriors: not for choosing
    prompts or labels, and not for fitting a calibrator. The threshold is found by a
    sequence of exact binomial tests (`classify.decision.risk_control`).

    If more than a hundredth of the label mass is unresolved, as with an engine that
    shows only the most likely tokens, both `fit` and `decide` use the lower bound of
    the confidence (`LabelLogprobs.bounds`): a text passes the threshold only if this is
    certain, so the guarantee still holds.

    Parameters
    ----------
    target_risk : float, default=0.05
        Maximum share of wrong answers, in (0, 1).
    confidence : {"max_proba", "margin", "entropy"}, default="max_proba"
        Measure of confidence, in [0, 1]: the highest probability; the highest minus the
        second highest; 1 - (entropy / log n_labels).
    confidence_level : float, default=0.95
        In (0, 1).
    min_label_mass : float, default=None
        Minimum label mass of an answered text, in (0, 1]; needs posteriors that have a
        label mass. Texts below it are ignored when the threshold is chosen.
    classes : array-like, shape (n_labels,), or "any", default=None
        The class of each column, where posteriors do not say it and `y` holds names.
        "any": posteriors may have other classes than those of `fit`, as where each
        text has its own candidates; they must name them.

    Attributes
    ----------
    threshold_ : float
        Texts with ``confidence >= threshold_`` are answered: inf for none, 0 for all.
    coverage_ : float
        Share of the labelled texts that is answered; NaN after `at`.
    risk_upper_ : float
        Clopper-Pearson bound at the threshold, at most `target_risk`; 1 if nothing is
        answered, NaN after `at`. For information: the guarantee is `target_risk`.
    n_labels_ : int
        Number of labelled texts; 0 after `at`, which gives no guarantee.
    classes_ : ndarray, shape (n_labels,), or None
        None where they may be any.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> proba = rng.dirichlet([0.2, 0.2], size=400)
    >>> y = (rng.random(400) < proba[:, 1]).astype(int)
    >>> selective = SelectiveClassifier(target_risk=0.1).fit(proba, y)
    >>> selective.predict([[0.999, 0.001], [0.55, 0.45]]).tolist()
    [0, None]
    >>> selective.decide([[0.55, 0.45]]).reason
    array(['low probability'], dtype='<U15')
    """

    def __init__(
        self,
        target_risk: float = 0.05,
        *,
        confidence: Literal["max_proba", "margin", "entropy"] = "max_proba",
        confidence_level: float = 0.95,
        min_label_mass: float | None = None,
        classes: Any = None,
    ) -> None:
        self.target_risk = target_risk
        self.confidence = confidence
        self.confidence_level = confidence_level
        self.min_label_mass = min_label_mass
        self.classes = classes

    def fit(self, X: Any, y: Any) -> "SelectiveClassifier":
        """Choose the threshold.

        Parameters
        ----------
        X : ClassPosteriors or array-like of float, shape (n_texts, n_labels)
            Posteriors, as `LabelLogprobs`, or probabilities or their logarithms.
        y : array-like, shape (n_texts,)
            True labels: class names, or where classes have no names, columns.

        Returns
        -------
        self
        """
        self._check_options()
        posteriors = posteriors_of(X, None if self._takes_any else self.classes)
        n_classes = posteriors.log_proba.shape[1]
        codes = label_codes(y, posteriors.classes, n_classes, "y")
        check_lengths(X=posteriors.log_proba, y=codes)
        named = posteriors.classes
        self.classes_: npt.NDArray[Any] | None = None
        if not self._takes_any:
            self.classes_ = np.arange(n_classes) if named is None else named
        heavy = self._has_mass(posteriors, posteriors.resolved_mass)
        confidence = _CONFIDENCES[self.confidence](posteriors)[heavy]
        wrong = (posteriors.best != codes)[heavy]
        found = certified_threshold(
            confidence,
            wrong,
            target_risk=self.target_risk,
            confidence_level=self.confidence_level,
        )
        self.threshold_ = found.threshold
        self.coverage_ = found.n_accepted / len(codes)
        self.risk_upper_ = found.risk_upper
        self.n_labels_ = len(codes)
        if not found.n_accepted:
            self._warn_that_all_abstain(confidence, wrong)
        return self

    @classmethod
    def at(
        cls,
        threshold: float,
        classes: Any,
        *,
        confidence: Literal["max_proba", "margin", "entropy"] = "max_proba",
        min_label_mass: float | None = None,
    ) -> "SelectiveClassifier":
        """Return a classifier with a threshold of your choice, without a guarantee.

        Parameters
        ----------
        threshold : float
            Texts with confidence >= threshold are answered, in [0, 1].
        classes : array-like, shape (n_labels,), or "any"
            The class of each column of the posteriors.
        confidence : {"max_proba", "margin", "entropy"}, default="max_proba"
        min_label_mass : float, default=None

        Returns
        -------
        SelectiveClassifier
            Ready to `decide`.

        Raises
        ------
        ConfigError
            An option is not allowed.

        Examples
        --------
        >>> selective = SelectiveClassifier.at(0.9, ["ham", "spam"])
        >>> selective.predict([[0.05, 0.95], [0.4, 0.6]]).tolist()
        ['spam', None]
        """
        if not 0.0 <= threshold <= 1.0:
            raise ConfigError(
                f"threshold must be a number from 0 to 1. Got {threshold!r} instead."
            )
        made = cls(
            confidence=confidence, min_label_mass=min_label_mass, classes=classes
        )
        made._check_options()
        made.classes_ = None if made._takes_any else np.asarray(classes)
        made.threshold_ = float(threshold)
        made.coverage_ = made.risk_upper_ = math.nan
        made.n_labels_ = 0
        return made

    def decide(self, X: Any) -> Decisions:
        """Answer or abstain, with reasons.

        Parameters
        ----------
        X : ClassPosteriors or array-like of float, shape (n_texts, n_labels)
            Posteriors of the classes of `fit`, in its order.

        Returns
        -------
        Decisions
        """
        check_is_fitted(self)
        posteriors = posteriors_of(X, self.classes_)
        confidence_of = _CONFIDENCES[self.confidence]
        confidence = confidence_of(posteriors)
        estimate = confidence_of(posteriors._replace(bounds=None))
        accepted = confidence >= self.threshold_
        accepted &= self._has_mass(posteriors, posteriors.resolved_mass)
        if posteriors.classes is None:
            raise InputError(
                "With classes='any', X must name its classes: give LabelLogprobs."
            )
        label = posteriors.classes.astype(object)[posteriors.best]
        label[~accepted] = None
        return Decisions(
            label=label,
            accepted=accepted,
            reason=np.select(
                [
                    accepted,
                    ~self._has_mass(posteriors, posteriors.label_mass),
                    estimate < self.threshold_,
                ],
                ["", "low label mass", "low probability"],
                default="uncertain",
            ),
            confidence=confidence,
        )

    def predict(self, X: Any) -> npt.NDArray[np.object_]:
        """Return the class of each text, None where there is no answer, (n_texts,).

        `X` is that of `decide`. None is used since it equals no class.
        """
        return self.decide(X).label

    def to_dict(self) -> dict[str, Any]:
        """Return the fitted state in JSON types; see `from_dict`."""
        check_is_fitted(self)
        return {
            "target_risk": self.target_risk,
            "confidence": self.confidence,
            "confidence_level": self.confidence_level,
            "min_label_mass": self.min_label_mass,
            "classes": None if self.classes_ is None else self.classes_.tolist(),
            # JSON has neither infinity nor NaN.
            "threshold": None if math.isinf(self.threshold_) else self.threshold_,
            "coverage": None if math.isnan(self.coverage_) else self.coverage_,
            "risk_upper": None if math.isnan(self.risk_upper_) else self.risk_upper_,
            "n_labels": self.n_labels_,
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "SelectiveClassifier":
        """Return the fitted classifier that `to_dict` described."""
        fields = read_stored(
            stored,
            cls.__name__,
            options=("target_risk", "confidence", "confidence_level", "min_label_mass"),
            learned=("classes", "threshold", "coverage", "risk_upper", "n_labels"),
        )
        known = fields.learned["classes"]
        made = cls(**fields.options, classes="any" if known is None else known)
        made._check_options()
        made.classes_ = None if known is None else np.array(known)
        made.threshold_ = from_json_number(fields.learned["threshold"], null=math.inf)
        made.coverage_ = from_json_number(fields.learned["coverage"], null=math.nan)
        made.risk_upper_ = from_json_number(fields.learned["risk_upper"], null=math.nan)
        made.n_labels_ = fields.learned["n_labels"]
        return made

    @property
    def _takes_any(self) -> bool:
        return isinstance(self.classes, str) and self.classes == "any"

    def _check_options(self) -> None:
        if self._takes_any and self.confidence == "entropy":
            raise ConfigError(
                "confidence='entropy' can only compare texts with the same number of "
                "classes, which classes='any' does not guarantee: use 'max_proba' or "
                "'margin'."
            )
        check_parameters(
            "SelectiveClassifier",
            target_risk=(self.target_risk, SHARE),
            confidence_level=(self.confidence_level, SHARE),
            confidence=(self.confidence, one_of(*_CONFIDENCES)),
            min_label_mass=(
                self.min_label_mass,
                optional(number("above 0, at most 1", lambda mass: 0.0 < mass <= 1.0)),
            ),
        )

    def _has_mass(
        self, posteriors: Posteriors, label_mass: FloatArray | None
    ) -> npt.NDArray[np.bool_]:
        if self.min_label_mass is None:
            return np.ones(len(posteriors.log_proba), dtype=np.bool_)
        mass = posteriors.label_mass if label_mass is None else label_mass
        if mass is None:
            raise InputError(
                f"min_label_mass is {self.min_label_mass!r}, but X is an array, which "
                "has no label mass: give LabelLogprobs, or min_label_mass=None."
            )
        return np.asarray(mass >= self.min_label_mass)

    def _warn_that_all_abstain(
        self, confidence: FloatArray, wrong: npt.NDArray[np.bool_]
    ) -> None:
        needed = n_texts_needed(
            confidence,
            wrong,
            target_risk=self.target_risk,
            confidence_level=self.confidence_level,
        )
        advice = (
            "the risk is above it at every threshold: more labels will not help, but "
            "better posteriors or another target may"
            if needed is None
            else f"that takes about {needed:,} or more such texts with enough label "
            "mass"
        )
        logger.warning(
            "No threshold keeps a risk of %g at confidence level %g with %d labelled "
            "texts, %d of them with enough label mass: no text will be "
            "answered. %s.",
            self.target_risk,
            self.confidence_level,
            self.n_labels_,
            len(confidence),
            advice[0].upper() + advice[1:],
        )


def _max_proba(posteriors: Posteriors) -> FloatArray:
    return np.exp(_of_best(posteriors.interval.lower, posteriors.best))


def _margin(posteriors: Posteriors) -> FloatArray:
    lower, upper = posteriors.interval
    others = upper.copy()
    np.put_along_axis(others, posteriors.best[:, None], -np.inf, axis=1)
    gap = np.exp(_of_best(lower, posteriors.best)) - np.exp(others.max(axis=1))
    return np.asarray(gap.clip(0.0))


def _evenness(posteriors: Posteriors) -> FloatArray:
    lower, upper = posteriors.interval
    # -p log p rises up to 1/e, and falls from there on.
    greatest = entr(np.exp(np.clip(-1.0, lower, upper))).sum(axis=1)
    # Rounding may leave a uniform row below 0.
    return np.asarray((1.0 - greatest / np.log(lower.shape[1])).clip(0.0))


def _of_best(values: FloatArray, best: npt.NDArray[np.int64]) -> FloatArray:
    return np.asarray(np.take_along_axis(values, best[:, None], axis=1)[:, 0])


_CONFIDENCES: dict[str, Callable[[Posteriors], FloatArray]] = {
    "max_proba": _max_proba,
    "margin": _margin,
    "entropy": _evenness,
}
