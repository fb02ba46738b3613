"""`auto`: a mixture of methods, weighted by their cross-validated log loss."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import log_softmax, logsumexp

from classify.calibration.cross_fitting import Fit, Folds, held_out
from classify.calibration.labelled import LabelledTexts
from classify.calibration.rows import FloatArray, RowMap, normalised
from classify.scoring import Interval, LabelBounds

__all__ = ["Mixture", "Weighed", "mixture"]


@dataclass(frozen=True, eq=False)
class Mixture:
    """The map s -> log sum_m w_m p_m(s): a mean of the probabilities of several maps.

    Attributes
    ----------
    log_weights : ndarray of float64, shape (n_parts,)
        log w; the weights sum to 1.
    parts : tuple of RowMap, length n_parts
    """

    log_weights: FloatArray
    parts: tuple[RowMap, ...]

    def transform(self, log_proba: FloatArray) -> FloatArray:
        """Return calibrated log-probabilities; -inf stays -inf."""
        predicted = [part.transform(log_proba) for part in self.parts]
        return mixed(np.stack(predicted), self.log_weights)

    def bounds(self, known: LabelBounds) -> LabelBounds:
        """Return what is known after calibration."""
        parts = [part.bounds(known).log_proba() for part in self.parts]
        weights = self.log_weights[:, None, None]
        of_each = (
            logsumexp(np.stack(each) + weights, axis=0)
            for each in zip(*parts, strict=True)
        )
        return LabelBounds.of_proba(Interval(*of_each))


class Weighed(NamedTuple):
    """A mixture, and what it rests on.

    Attributes
    ----------
    mixture : Mixture
    weights : dict of str to float
        By candidate.
    log_loss : dict of str to float
        Mean cross-validated log loss of each candidate, in nats.
    held_out : ndarray of float64, shape (n_texts, n_labels)
        Predictions of mixtures that know nothing of the fold they predict.
    """

    mixture: Mixture
    weights: dict[str, float]
    log_loss: dict[str, float]
    held_out: FloatArray


def mixture(
    candidates: Mapping[str, Fit], texts: LabelledTexts, folds: Folds
) -> Weighed:
    """Fit all candidates, and weigh them by exp(-cross-validated log loss).

    w_m is proportional to exp(-sum_i w_i loss_m(i)), with loss_m(i) = -log p(y_i) under
    candidate m fitted without the fold of text i. Were the losses those of fixed
    models, this would be their posterior with a uniform prior. With few labels it
    spreads over all; with many it is all on the best.

    Parameters
    ----------
    candidates : mapping of str to callable
        Fits by name.
    texts : LabelledTexts
    folds : sequence of ndarray of int
        Rows of each fold.

    Returns
    -------
    Weighed

    References
    ----------
    Yao et al., "Using stacking to average Bayesian predictive distributions" (2018),
    section 3.3: pseudo-BMA, here with K folds in place of single texts.

    Examples
    --------
    >>> from classify.calibration.scaling import Affine
    >>> s, codes = np.log([[0.8, 0.2]] * 4), np.array([0, 0, 0, 1])
    >>> texts = LabelledTexts(s, codes, np.ones(4), floor=-30.0)
    >>> fixed = {
    ...     "as it is": lambda _: Affine(np.ones(2), np.zeros(2)),
    ...     "reversed": lambda _: Affine(np.ones(2), np.log([0.25, 4.0])),
    ... }
    >>> found = mixture(fixed, texts, folds=[np.array([0, 1]), np.array([2, 3])])
    >>> {name: round(weight, 2) for name, weight in found.weights.items()}
    {'as it is': 0.94, 'reversed': 0.06}
    """
    predicted = np.stack([held_out(fit, texts, folds) for fit in candidates.values()])
    losses = np.stack([texts.losses(each) for each in predicted])
    weighted = losses * texts.weights  # (n_candidates, n_texts)
    totals = weighted.sum(axis=1)
    # A fold is judged by weights that its own losses had no part in.
    blind = np.empty_like(texts.log_proba)
    for fold in folds:
        others = totals - weighted[:, fold].sum(axis=1)
        blind[fold] = mixed(predicted[:, fold], log_softmax(-others))
    log_weights = log_softmax(-totals)
    parts = tuple(fit(texts) for fit in candidates.values())
    means = totals / texts.weights.sum()
    return Weighed(
        mixture=Mixture(log_weights, parts),
        weights=dict(zip(candidates, np.exp(log_weights).tolist(), strict=True)),
        log_loss=dict(zip(candidates, means.tolist(), strict=True)),
        held_out=blind,
    )


def mixed(log_proba: FloatArray, log_weights: FloatArray) -> FloatArray:
    """Return log sum_m w_m p_m, (n_parts, n_texts, n_labels) to (n_texts, n_labels)."""
    return normalised(logsumexp(log_proba + log_weights[:, None, None], axis=0))
