"""The wrong labels that look surest."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from classify.report.measures import FloatArray, IntArray

__all__ = ["Mistake", "surest_mistakes"]


class Mistake(NamedTuple):
    """A text whose likeliest label is wrong.

    Attributes
    ----------
    row : int
        Which text, from 1.
    text : str
    label, predicted : str
        The true label, and the likeliest one.
    proba_label, proba_predicted : float
        Their probabilities.
    label_mass : float
    """

    row: int
    text: str
    label: str
    predicted: str
    proba_label: float
    proba_predicted: float
    label_mass: float


def surest_mistakes(
    texts: Sequence[str],
    classes: Sequence[str],
    codes: IntArray,
    predicted: IntArray,
    proba: FloatArray,
    label_mass: FloatArray,
    *,
    most: int,
) -> tuple[Mistake, ...]:
    """Return the wrong labels of greatest probability, greatest first.

    Parameters
    ----------
    texts : sequence of str, length n_texts
    classes : sequence of str, length n_labels
    codes, predicted : ndarray of int64, shape (n_texts,)
        Columns of the true label and of the likeliest one.
    proba : ndarray of float64, shape (n_texts, n_labels)
    label_mass : ndarray of float64, shape (n_texts,)
    most : int
        Mistakes at most.

    Returns
    -------
    tuple of Mistake
        Equally probable ones in the order of the texts.

    Examples
    --------
    >>> proba, mass = np.array([[0.9, 0.1], [0.3, 0.7]]), np.ones(2)
    >>> codes, predicted = np.array([1, 1]), np.array([0, 1])
    >>> surest_mistakes(
    ...     ["x", "y"], ["a", "b"], codes, predicted, proba, mass, most=9
    ... )
    (Mistake(row=1, text='x', label='b', predicted='a', proba_label=0.1,
     proba_predicted=0.9, label_mass=1.0),)
    """
    wrong = np.flatnonzero(predicted != codes)
    surest = wrong[np.argsort(-proba[wrong, predicted[wrong]], kind="stable")][:most]
    return tuple(
        Mistake(
            row=at + 1,
            text=texts[at],
            label=classes[codes[at]],
            predicted=classes[predicted[at]],
            proba_label=float(proba[at, codes[at]]),
            proba_predicted=float(proba[at, predicted[at]]),
            label_mass=float(label_mass[at]),
        )
        for at in surest.tolist()
    )
