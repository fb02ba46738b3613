"""Adapting calibrated probabilities to texts with other label shares."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from classify.calibration.calibrator import LabelCalibrator
from classify.calibration.checks import (
    CalibrationWarning,
    as_logprobs,
    class_names,
    target_prior,
    warn_of_bounds,
)
from classify.calibration.methods import LABELLED_METHODS
from classify.calibration.rows import FloatArray, normalised
from classify.errors import ConfigError, DataError
from classify.parameters import at_least, check_parameters, instance_of
from classify.scoring import LabelBounds, LabelLogprobs

__all__ = ["PriorShift"]

_MIN_SHARE = 1e-6


class PriorShift(ClassifierMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Estimates the label shares in unlabelled texts, and adapts probabilities to them.

    With p calibrated under the label shares pi, the shares pi' of other texts are the
    fixed point of expectation-maximisation::

        pi'_k <- mean_i p_ik (pi'_k / pi_k) / sum_j p_ij (pi'_j / pi_j)

    and the adapted probabilities are softmax(log p + log pi' - log pi).

    This holds for *calibrated* p only. On the raw posteriors of a language model it
    collapsed to one label, so these are refused.

    Parameters
    ----------
    prior_from : LabelCalibrator, or {"uniform"}, mapping, or sequence of float
        Where p and pi come from. A calibrator fitted with labels is applied to what is
        passed to `fit` and `transform`, and pi are the shares of its labels. A prior is
        pi itself, and what is passed counts as p; since it is unknown whether that is
        calibrated, this needs ``force=True``.
    classes : sequence of str or int, default=None
        The labels of the columns, for arrays and where a prior is given.
    max_iter : int, default=10000
        Maximum number of steps.
    tol : float, default=1e-8
        Stop when no share changes by more than this in a step.
    force : bool, default=False
        Accept probabilities that are not known to be calibrated.

    Attributes
    ----------
    classes_ : ndarray, shape (n_labels,)
    prior_ : ndarray of float64, shape (n_labels,)
        pi', at least 1e-6 each.
    shift_ : ndarray of float64, shape (n_labels,)
        log pi' - log pi.
    n_iter_ : int

    References
    ----------
    Saerens, Latinne and Decaestecker, "Adjusting the outputs of a classifier to new a
    priori probabilities" (2002), section 2.2; Alexandari et al., "Maximum likelihood
    with bias-corrected calibration is hard-to-beat at label shift adaptation" (2020).

    Examples
    --------
    >>> p = np.log([[0.9, 0.1], [0.9, 0.1], [0.9, 0.1], [0.1, 0.9]])
    >>> shift = PriorShift("uniform", classes=["a", "b"], force=True).fit(p)
    >>> shift.prior_.round(2).tolist()
    [0.81, 0.19]
    """

    def __init__(
        self,
        prior_from: (
            LabelCalibrator | str | Mapping[Any, float] | Sequence[float] | None
        ) = None,
        *,
        classes: Sequence[str] | Sequence[int] | None = None,
        max_iter: int = 10_000,
        tol: float = 1e-8,
        force: bool = False,
    ) -> None:
        self.prior_from = prior_from
        self.classes = classes
        self.max_iter = max_iter
        self.tol = tol
        self.force = force

    def fit(self, label_logprobs: Any, y: Any = None) -> Self:
        """Estimate the shares of labels.

        Parameters
        ----------
        label_logprobs : LabelLogprobs or array, shape (n_texts, n_labels)
            Scores of the texts whose label shares are estimated.
        y : None
            Not used.

        Returns
        -------
        self

        Raises
        ------
        ConfigError
            The probabilities are not known to be calibrated.
        """
        check_parameters(
            "PriorShift",
            max_iter=(
                self.max_iter,
                at_least(1, whole=True),
            ),
            tol=(self.tol, at_least(0)),
            force=(self.force, instance_of("a boolean", bool)),
        )
        source = self.prior_from
        if isinstance(source, LabelCalibrator):
            prior = self._shares_of(source)
            self.classes_: npt.NDArray[Any] = source.classes_
        else:
            values = as_logprobs(label_logprobs, what="label_logprobs")
            self.classes_ = class_names(
                label_logprobs, self.classes, None, values.shape[1]
            )
            prior = self._given_prior()
        warn_of_bounds(label_logprobs, "The prior shift", stacklevel=2)
        log_proba = self._calibrated(label_logprobs)
        if not len(log_proba):
            raise DataError("There are no texts to adapt to: pass at least one.")
        shares, self.n_iter_ = self._estimate(log_proba, np.log(prior))
        self.prior_ = shares
        self.shift_ = np.log(shares) - np.log(prior)
        return self

    def transform(self, label_logprobs: Any) -> FloatArray:
        """Return adapted log p(label | text), shape (n_texts, n_labels)."""
        check_is_fitted(self)
        return normalised(self._calibrated(label_logprobs) + self.shift_)

    def bounds(self, label_logprobs: LabelLogprobs) -> LabelBounds:
        """Return bounds of adapted probabilities, as `LabelCalibrator` does."""
        check_is_fitted(self)
        known = label_logprobs.bounds
        if isinstance(self.prior_from, LabelCalibrator):
            known = self.prior_from.bounds(label_logprobs)
        return known.scaled(1.0, self.shift_)

    def predict_log_proba(self, label_logprobs: Any) -> FloatArray:
        """Return adapted log p(label | text), shape (n_texts, n_labels)."""
        return self.transform(label_logprobs)

    def predict_proba(self, label_logprobs: Any) -> FloatArray:
        """Return adapted p(label | text), shape (n_texts, n_labels)."""
        return np.exp(self.transform(label_logprobs))

    def predict(self, label_logprobs: Any) -> npt.NDArray[Any]:
        """Return the most likely label of each text, shape (n_texts,)."""
        best: npt.NDArray[Any] = self.classes_[
            self.transform(label_logprobs).argmax(axis=1)
        ]
        return best

    def _shares_of(self, calibrator: LabelCalibrator) -> FloatArray:
        check_is_fitted(calibrator)
        shares = calibrator.label_shares_
        with_labels = calibrator.method_ in (*LABELLED_METHODS, "auto")
        if not self.force and (shares is None or not with_labels):
            raise ConfigError(
                f"PriorShift needs calibrated probabilities, and method="
                f"{calibrator.method_!r} does not calibrate them: on such, it "
                "collapses to one label. Fit the LabelCalibrator with labels, or pass "
                "force=True."
            )
        known = calibrator.prior_ if shares is None else shares
        return target_prior(known, calibrator.classes_, None)

    def _given_prior(self) -> FloatArray:
        if self.prior_from is None or not self.force:
            raise ConfigError(
                "PriorShift needs calibrated probabilities, and those of a language "
                "model are not: on such, it collapses to one label. Pass a "
                "LabelCalibrator fitted with labels; or, if the probabilities are "
                "calibrated, the label shares that they were calibrated with and "
                "force=True."
            )
        return target_prior(self.prior_from, self.classes_, None)

    def _calibrated(self, label_logprobs: Any) -> FloatArray:
        if isinstance(self.prior_from, LabelCalibrator):
            return self.prior_from.transform(label_logprobs)
        values = as_logprobs(
            label_logprobs, what="label_logprobs", classes=self.classes_
        )
        return normalised(values)

    def _estimate(
        self, log_proba: FloatArray, log_prior: FloatArray
    ) -> tuple[FloatArray, int]:
        shares, moved = np.exp(log_prior), np.inf
        for step in range(self.max_iter):
            adapted = normalised(log_proba + np.log(shares) - log_prior)
            found = np.exp(logsumexp(adapted, axis=0) - np.log(len(adapted)))
            # A share of 0 could never come back, and has no logarithm.
            found = np.maximum(found, _MIN_SHARE)
            found /= found.sum()
            moved, shares = float(np.abs(found - shares).max()), found
            if moved <= self.tol:
                return shares, step + 1
        warnings.warn(
            f"PriorShift stopped after max_iter={self.max_iter} steps, the last of "
            f"which moved a share by {moved:.2g} (tol={self.tol:g}): raise max_iter, "
            "or pass more texts.",
            CalibrationWarning,
            stacklevel=3,
        )
        return shares, self.max_iter
