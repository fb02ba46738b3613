"""How much predictions say about what they were made for."""

import numpy as np
import numpy.typing as npt
from scipy.special import entr

__all__ = ["mutual_information"]


def mutual_information(proba: npt.NDArray[np.float64]) -> float:
    """Return I(label; text) = H(mean of p) - mean of H(p), in nats.

    Zero if every text gets the same probabilities; log(n_labels) if every text gets one
    label for sure, and each label as often as any other.

    Parameters
    ----------
    proba : ndarray of float64, shape (n_texts, n_labels)
        p(label | text); rows sum to 1.

    References
    ----------
    Sorensen et al., "An Information-theoretic Approach to Prompt Engineering Without
    Ground Truth Labels", ACL 2022, choose prompts by it.

    Examples
    --------
    >>> round(mutual_information(np.array([[1.0, 0.0], [0.0, 1.0]])), 6)
    0.693147
    >>> round(mutual_information(np.array([[0.9, 0.1], [0.9, 0.1]])), 6)
    0.0
    """
    return float(entr(proba.mean(axis=0)).sum() - entr(proba).sum(axis=1).mean())
