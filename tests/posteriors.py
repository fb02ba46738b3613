"""Label posteriors of a pretended language model, whose right calibration is known."""

from typing import NamedTuple

import numpy as np
from scipy.special import log_softmax

from classify.scoring import LabelLogprobs

NAMES = ("anger", "fear", "joy", "trust", "wonder")


class Posteriors(NamedTuple):
    """log p(label | text) with the true labels, and what would calibrate it."""

    log_proba: np.ndarray
    codes: np.ndarray
    scale: float
    bias: np.ndarray

    @property
    def names(self) -> np.ndarray:
        return np.array(NAMES[: self.log_proba.shape[1]])

    @property
    def y(self) -> np.ndarray:
        return self.names[self.codes]


def posteriors(
    n_texts=400, n_labels=4, *, scale=0.4, bias=(1.0, -1.0), spread=1.5, seed=0
) -> Posteriors:
    """Draw labels of calibrated logits z, and show z / scale - bias instead."""
    draw = np.random.default_rng(seed)
    logits = draw.normal(0.0, spread, size=(n_texts, n_labels))
    proba = np.exp(log_softmax(logits, axis=1))
    codes = np.array([draw.choice(n_labels, p=row) for row in proba])
    full = np.zeros(n_labels)
    full[: len(bias)] = bias
    full -= full.mean()
    shown = log_softmax(logits / scale - full, axis=1)
    return Posteriors(shown, codes, scale, full)


def mean_loss(log_proba, codes) -> float:
    return float(-log_proba[np.arange(len(codes)), codes].mean())


def scores_of(log_proba, names):
    n_texts = len(log_proba)
    return LabelLogprobs(
        values=log_proba,
        classes=np.array(names),
        lower=log_proba,
        upper=log_proba,
        unresolved=np.zeros(n_texts),
        truncated=np.zeros(n_texts, dtype=bool),
        n_reads=np.ones(n_texts, dtype=np.int64),
    )
