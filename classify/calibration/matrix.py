"""Matrix scaling: a logistic regression on all log-probabilities at once."""

import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp
from sklearn.linear_model import LogisticRegression

from classify.calibration.labelled import LabelledTexts
from classify.calibration.rows import FloatArray, filled, filled_bounds, normalised
from classify.calibration.scaling import Affine, Penalty, affine
from classify.scoring import LabelBounds

__all__ = ["Matrix", "matrix"]


@dataclass(frozen=True, eq=False)
class Matrix:
    """The map s -> log softmax(W s + c), for the labels that it was fitted with.

    Attributes
    ----------
    columns : ndarray of int, shape (n_fitted,)
        The labels that some text had, ascending.
    coef : ndarray of float64, shape (n_fitted, n_labels)
    intercept : ndarray of float64, shape (n_fitted,)
    floor : float
        What s is raised to, below its row's greatest, in nats: a linear map takes no
        -inf. Impossible labels are taken out again after it.
    rest : Affine
        Says how probable the labels are that no text had, together and each.
    """

    columns: npt.NDArray[np.int64]
    coef: FloatArray
    intercept: FloatArray
    floor: float
    rest: Affine

    def transform(self, log_proba: FloatArray) -> FloatArray:
        """Return calibrated log-probabilities; -inf stays -inf."""
        calibrated = self.rest.transform(log_proba)
        # Not `@`, whose rounding depends on the number of rows.
        logits = np.einsum("nk,jk->nj", filled(log_proba, self.floor), self.coef)
        fitted = np.where(
            np.isneginf(log_proba[:, self.columns]), -np.inf, logits + self.intercept
        )
        # Where none of the fitted labels is a candidate, there is nothing to share out.
        some = np.isfinite(fitted).any(axis=1)
        share = logsumexp(calibrated[:, self.columns][some], axis=1, keepdims=True)
        calibrated[np.ix_(some, self.columns)] = normalised(fitted[some]) + share
        return normalised(calibrated)

    def bounds(self, known: LabelBounds) -> LabelBounds:
        """Return what is known after calibration."""
        shares = known.log_proba()
        rest = self.rest.bounds(known).log_proba()
        impossible = [np.isneginf(each[:, self.columns]) for each in shares]
        low, high = filled_bounds(shares, self.floor)
        rising, falling = np.maximum(self.coef, 0.0), np.minimum(self.coef, 0.0)
        fitted = LabelBounds.of(
            *(
                np.where(
                    is_impossible,
                    -np.inf,
                    np.einsum("nk,jk->nj", one, rising)
                    + np.einsum("nk,jk->nj", other, falling)
                    + self.intercept,
                )
                for is_impossible, one, other in zip(
                    impossible, (low, high), (high, low), strict=True
                )
            )
        ).log_proba()
        some = np.flatnonzero(~impossible[1].all(axis=1))
        together = LabelBounds.of_proba(rest).sum_of(self.columns)
        for each, own, of_all in zip(rest, fitted, together, strict=True):
            each[np.ix_(some, self.columns)] = own[some] + of_all[some, None]
        return LabelBounds.of_proba(rest)


def matrix(texts: LabelledTexts, *, penalty: Penalty) -> Matrix:
    """Fit p = softmax(W s + c) with scikit-learn's ``LogisticRegression(C=1)``.

    Minimises the log loss, summed, plus |W|² / 2. Labels that no text has keep their
    columns: their probabilities are those of `affine` on the same texts, and the others
    share out what remains.

    Parameters
    ----------
    texts : LabelledTexts
    penalty : Penalty
        For `affine`.

    Returns
    -------
    Matrix

    References
    ----------
    Guo et al. (2017), section 4.2: matrix scaling. On log-probabilities it is the
    linear form of Dirichlet calibration: Kull et al., "Beyond temperature scaling"
    (2019), section 3.

    Examples
    --------
    >>> texts = LabelledTexts(
    ...     np.log([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 1]), np.ones(2), floor=-30.0
    ... )
    >>> matrix(texts, penalty=Penalty()).coef.shape
    (2, 2)
    """
    n_labels, present = texts.n_labels, texts.present
    if len(present) < 2:
        # A fold of few texts; a constant shares out what `affine` leaves to one label.
        coef, intercept = np.zeros((1, n_labels)), np.zeros(1)
        rest = affine(texts, penalty=penalty)
        return Matrix(present, coef, intercept, texts.floor, rest)
    values = filled(texts.log_proba, texts.floor)
    # The intercept, which is free, takes the means up: the same optimum, ten times
    # faster.
    means = values.mean(axis=0)
    model = LogisticRegression(C=1.0, tol=1e-6, max_iter=10_000)
    with warnings.catch_warnings():
        # There may be many labels and few texts: cross-validation decides.
        warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
        model.fit(values - means, texts.codes, sample_weight=texts.weights)
    coef, intercept = model.coef_, model.intercept_ - model.coef_ @ means
    if len(present) == 2:
        # Of two labels it fits the second's log odds.
        coef = np.vstack([np.zeros_like(coef), coef])
        intercept = np.concatenate([[0.0], intercept])
    if len(present) == n_labels:
        rest = Affine(np.ones(n_labels), np.zeros(n_labels))  # every share is 1
    else:
        rest = affine(texts, penalty=penalty)
    # The memory order that a file gives; the last digits of a product hang on it.
    return Matrix(present, np.ascontiguousarray(coef), intercept, texts.floor, rest)
