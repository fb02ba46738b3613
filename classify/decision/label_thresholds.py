"""A threshold for each label, chosen on labelled texts for a target."""

import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import bdtr, betaincinv

from classify.decision.risk_control import certified_threshold, n_texts_needed
from classify.decision.stored import SHARE, from_json_number, read_stored
from classify.errors import ConfigError, DataError, InputError
from classify.files.json import read_json, write_json
from classify.parameters import check_parameters, one_of
from classify.scoring.fingerprint import Fingerprint
from classify.wording import no_effect, parameter

__all__ = ["LabelThresholds", "fit_thresholds"]

logger = logging.getLogger(__name__)

FloatArray = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Target = Literal["f1", "precision", "recall", "risk"]

_FORMAT = "classify label thresholds 1"
_WRITER = "LabelThresholds.save"


class _Found(NamedTuple):
    threshold: float
    reached: float


@dataclass(frozen=True)
class LabelThresholds:
    """Thresholds of labels: a label applies if its probability reaches its threshold.

    If the probability is known within bounds, the lower bound must reach it.

    Attributes
    ----------
    thresholds : dict of str to float
        By label; inf: the label is never assigned.
    target : {"f1", "precision", "recall", "risk"}
    level : float or None
        The guaranteed level; None for "f1", which has no guarantee.
    confidence_level : float
        Probability with which the guarantee holds, for each label separately.
    reached : dict of str to float
        By label: for "f1" the F1 on the texts of the fit, which is optimistic; else the
        exact (Clopper-Pearson) bound of precision, recall or risk. NaN if nothing
        is known: the label is never assigned.
    n_texts : int
        Labelled texts of the fit.
    fingerprint : mapping of str to str
        Fingerprint of the probabilities; empty if unknown.

    Examples
    --------
    >>> found = fit_thresholds([[0.9], [0.2]], [[1], [0]], ["billing"])
    >>> LabelThresholds.from_dict(found.to_dict()) == found
    True
    """

    thresholds: Mapping[str, float]
    target: Target
    level: float | None
    confidence_level: float
    reached: Mapping[str, float]
    n_texts: int
    fingerprint: Fingerprint = field(default_factory=dict)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the thresholds as JSON, complete or not at all.

        Raises
        ------
        DataError
            The file cannot be written.
        """
        write_json(path, self.to_dict(), what="The file of thresholds")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "LabelThresholds":
        """Read what `save` wrote.

        Raises
        ------
        DataError
            The file is missing, or contains no thresholds.
        """
        content = read_json(path, writer=_WRITER, kind="file of thresholds")
        try:
            return cls.from_dict(content)
        except (ConfigError, AttributeError, TypeError, ValueError):
            raise DataError(
                f"{os.fspath(path)!r} is damaged, or is not a file of thresholds: give "
                f"a file that {_WRITER} wrote."
            ) from None

    def to_dict(self) -> dict[str, Any]:
        """Return the same in types that JSON has; see `from_dict`."""
        return {
            "format": _FORMAT,
            **vars(self),
            # JSON has neither infinity nor NaN.
            "thresholds": {
                name: None if math.isinf(value) else value
                for name, value in self.thresholds.items()
            },
            "reached": {
                name: None if math.isnan(value) else value
                for name, value in self.reached.items()
            },
            "fingerprint": dict(self.fingerprint),
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "LabelThresholds":
        """Return the thresholds that `to_dict` described."""
        names = [each.name for each in fields(cls)]
        found = read_stored(stored, cls.__name__, options=["format"], learned=names)
        if found.options["format"] != _FORMAT:
            raise ConfigError(f"The format of thresholds must be {_FORMAT!r}.")
        learned = found.learned
        for name, null in (("thresholds", math.inf), ("reached", math.nan)):
            learned[name] = {
                label: from_json_number(value, null=null)
                for label, value in learned[name].items()
            }
        return cls(**learned)


def fit_thresholds(
    proba: npt.ArrayLike,
    Y: npt.ArrayLike,
    labels: Sequence[str],
    *,
    target: Target = "f1",
    level: float | None = None,
    confidence_level: float = 0.95,
    fingerprint: Fingerprint | None = None,
) -> LabelThresholds:
    """Choose a threshold for each label on texts that nothing else was fitted on.

    "precision" and "risk" (the share of wrong ones among the texts that get the label,
    1 - precision) take the lowest threshold that is certified to reach the level, by a
    sequence of exact binomial tests; if there is none, the label is never assigned.
    "recall" takes the highest, by the exact distribution of an order statistic; if
    there is none, every text gets the label. Each label's guarantee holds with a
    probability of `confidence_level` over the labelled texts, if they and the texts to
    come are drawn independently from one source. "f1" takes the threshold with the
    highest F1 on these texts: a best effort, without a guarantee.

    Parameters
    ----------
    proba : array-like of float, shape (n_texts, n_labels)
        p(label applies); if it is known within bounds, the lower bounds, since these
        are compared with thresholds.
    Y : array-like of 0 or 1, shape (n_texts, n_labels)
    labels : sequence of str, length n_labels
        The label of each column.
    target : {"f1", "precision", "recall", "risk"}, default="f1"
    level : float, default=None
        Precision or recall of at least this, risk of at most this; in (0, 1).
    confidence_level : float, default=0.95
        In (0, 1).
    fingerprint : mapping of str to str, default=None
        Fingerprint of the probabilities, to be stored.

    Returns
    -------
    LabelThresholds

    Raises
    ------
    ConfigError
        A parameter is not allowed.
    InputError
        The arrays do not fit each other, or hold other values.

    Examples
    --------
    >>> proba = [[0.9], [0.8], [0.3], [0.2]]
    >>> fit_thresholds(proba, [[1], [1], [0], [0]], ["billing"]).thresholds
    {'billing': 0.55}
    """
    check_parameters(
        "fit_thresholds",
        target=(target, one_of("f1", *_FITS)),
        confidence_level=(confidence_level, SHARE),
    )
    if target != "f1":
        check_parameters("fit_thresholds", level=(level, SHARE))
    elif level is not None:
        targets = " or ".join(parameter("target", each) for each in _FITS)
        raise ConfigError(no_effect("level", targets))
    values, true = _checked(proba, Y, len(labels))
    found = {}
    for at, label in enumerate(labels):
        column = values[:, at], true[:, at]
        if target == "f1":
            found[label] = _greatest_f1(label, *column)
        else:
            assert level is not None, "checked"
            found[label] = _FITS[target](label, *column, float(level), confidence_level)
    return LabelThresholds(
        {label: each.threshold for label, each in found.items()},
        target,
        level,
        confidence_level,
        {label: each.reached for label, each in found.items()},
        len(values),
        dict(fingerprint or {}),
    )


def _checked(
    proba: npt.ArrayLike, Y: npt.ArrayLike, n_labels: int
) -> tuple[FloatArray, Flags]:
    values, flags = np.asarray(proba, dtype=np.float64), np.asarray(Y)
    if values.ndim != 2 or values.shape[1] != n_labels or values.shape != flags.shape:
        raise InputError(
            "proba and Y must have a row for each text and a column for each of the "
            f"{n_labels} labels. Their shapes are {values.shape} and {flags.shape}."
        )
    if not len(values):
        raise InputError("Thresholds need labelled texts: there are none.")
    if not ((values >= 0.0) & (values <= 1.0)).all():  # NaN fails, too
        raise InputError("proba must hold probabilities, from 0 to 1.")
    if not np.isin(flags, (0, 1)).all():
        raise InputError("Y must hold 1 where a label applies, and 0 elsewhere.")
    return values, flags.astype(np.bool_)


def _greatest_f1(label: str, proba: FloatArray, true: Flags) -> _Found:
    if not true.any():
        logger.warning(
            "Label %r applies to none of the %d labelled texts, so it will never be "
            "assigned: add texts that it applies to.",
            label,
            len(true),
        )
        return _Found(math.inf, math.nan)
    given, tie = np.unique(-proba, return_inverse=True)
    n_given = np.bincount(tie).cumsum()
    n_hits = np.bincount(tie[true], minlength=len(given)).cumsum()
    f1 = 2.0 * n_hits / (n_given + true.sum())  # 2 TP / (2 TP + FP + FN)
    best = int(f1.argmax())
    lowest = -float(given[best])
    below = -float(given[best + 1]) if best + 1 < len(given) else 0.0
    middle = (lowest + below) / 2.0
    return _Found(middle if middle > below else lowest, float(f1[best]))


def _with_risk(
    label: str, proba: FloatArray, true: Flags, risk: float, confidence_level: float
) -> _Found:
    promise = {"target_risk": risk, "confidence_level": confidence_level}
    found = certified_threshold(proba, ~true, **promise)
    if found.n_accepted:
        return _Found(found.threshold, found.risk_upper)
    needed = n_texts_needed(proba, ~true, **promise)
    logger.warning(
        "No threshold keeps the precision of label %r at %g or more, at confidence "
        "level %g, with %d labelled texts, %d of which have it: it will never be "
        "assigned. %s.",
        label,
        1.0 - risk,
        confidence_level,
        len(true),
        int(true.sum()),
        "Its precision is lower at every threshold: more texts will not help, but "
        "better probabilities or another level may"
        if needed is None
        else f"That takes about {needed} or more such texts",
    )
    return _Found(math.inf, math.nan)


def _with_precision(
    label: str, proba: FloatArray, true: Flags, level: float, confidence_level: float
) -> _Found:
    found = _with_risk(label, proba, true, 1.0 - level, confidence_level)
    return _Found(found.threshold, 1.0 - found.reached)


def _with_recall(
    label: str, proba: FloatArray, true: Flags, level: float, confidence_level: float
) -> _Found:
    """Take the value of the (m + 1)-th lowest text that has the label.

    Of n texts with the label, drawn independently, the share of all such texts below
    that value is at most Beta(m + 1, n - m), which exceeds 1 - level as often as a
    binomial of n draws at 1 - level is at most m.
    """
    having = np.sort(proba[true])
    n_texts, error = len(having), 1.0 - confidence_level
    n_missed = np.arange(n_texts)
    allowed = int((bdtr(n_missed, n_texts, 1.0 - level) <= error).sum())
    if allowed:
        missed = allowed - 1
        bound = 1.0 - betaincinv(missed + 1, n_texts - missed, 1.0 - error)
        return _Found(float(having[missed]), float(bound))
    logger.warning(
        "No threshold keeps the recall of label %r at %g or more, at confidence level "
        "%g, with %d labelled texts that have it: it will be assigned to every text. "
        "That takes %d or more.",
        label,
        level,
        confidence_level,
        n_texts,
        math.ceil(math.log(error) / math.log(level)),
    )
    return _Found(0.0, 1.0)


_FITS: dict[str, Callable[[str, FloatArray, Flags, float, float], _Found]] = {
    "precision": _with_precision,
    "recall": _with_recall,
    "risk": _with_risk,
}
