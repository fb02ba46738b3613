"""Figures by label, the confusion matrix, and the most confident mistakes."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from classify.report.measures import FloatArray, IntArray

__all__ = [
    "ClassFigures",
    "ConfusedPair",
    "Mistake",
    "figures_by_class",
    "most_confused",
    "surest_mistakes",
]


class ClassFigures(NamedTuple):
    """One label's figures.

    Attributes
    ----------
    label : str
    n_texts : int
        Texts whose true label it is.
    n_predicted : int
        Texts whose most likely label it is.
    precision : float or None
        Share of the texts predicted as it that have it; None if there are none.
    recall : float or None
        Share of the texts that have it that are predicted as it; None likewise.
    f1 : float or None
        2 * hits / (n_texts + n_predicted); None if both are 0.
    mean_proba : float
        Mean probability over all texts; the share of the label, if calibrated.
    share_predicted : float
        n_predicted as a share of all texts.
    """

    label: str
    n_texts: int
    n_predicted: int
    precision: float | None
    recall: float | None
    f1: float | None
    mean_proba: float
    share_predicted: float


class ConfusedPair(NamedTuple):
    """Texts of one label that are taken for another.

    Attributes
    ----------
    label, predicted : str
    n_texts : int
    share : float
        Of the texts that have the label.
    """

    label: str
    predicted: str
    n_texts: int
    share: float


def figures_by_class(
    classes: Sequence[str],
    confusion: npt.NDArray[np.int64],
    proba: npt.NDArray[np.float64],
) -> tuple[ClassFigures, ...]:
    """Return the figures of each label, in the order of the columns.

    Parameters
    ----------
    classes : sequence of str, length n_labels
    confusion : ndarray of int64, shape (n_labels, n_labels)
        Texts by true label (rows) and predicted label (columns).
    proba : ndarray of float64, shape (n_texts, n_labels)

    Returns
    -------
    tuple of ClassFigures

    Examples
    --------
    >>> proba = np.array([[0.9, 0.1], [0.8, 0.2]])
    >>> first, _ = figures_by_class(["a", "b"], np.array([[1, 0], [1, 0]]), proba)
    >>> first.precision, first.recall
    (0.5, 1.0)
    """
    n_texts = confusion.sum(axis=1).tolist()
    n_predicted = confusion.sum(axis=0).tolist()
    n_hits = confusion.diagonal().tolist()
    means = proba.mean(axis=0).tolist()
    return tuple(
        ClassFigures(
            label=label,
            n_texts=n_texts[at],
            n_predicted=n_predicted[at],
            precision=_share(n_hits[at], n_predicted[at]),
            recall=_share(n_hits[at], n_texts[at]),
            f1=_share(2 * n_hits[at], n_texts[at] + n_predicted[at]),
            mean_proba=means[at],
            share_predicted=n_predicted[at] / len(proba),
        )
        for at, label in enumerate(classes)
    )


def most_confused(
    classes: Sequence[str], confusion: npt.NDArray[np.int64], *, most: int
) -> tuple[ConfusedPair, ...]:
    """Return the pairs with the most texts, most first.

    Parameters
    ----------
    classes : sequence of str, length n_labels
    confusion : ndarray of int64, shape (n_labels, n_labels)
    most : int
        Pairs at most.

    Returns
    -------
    tuple of ConfusedPair
        Pairs with equally many texts are in the order of `classes`.

    Examples
    --------
    >>> most_confused(["a", "b"], np.array([[3, 1], [0, 2]]), most=5)
    (ConfusedPair(label='a', predicted='b', n_texts=1, share=0.25),)
    """
    wrong = confusion - np.diag(confusion.diagonal())
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    pairs = [divmod(cell, len(classes)) for cell in order.tolist()]
    return tuple(
        ConfusedPair(
            classes[true],
            classes[predicted],
            int(wrong[true, predicted]),
            float(wrong[true, predicted] / confusion[true].sum()),
        )
        for true, predicted in pairs
        if wrong[true, predicted]
    )


def _share(n_hits: int, n_texts: int) -> float | None:
    return n_hits / n_texts if n_texts else None


class Mistake(NamedTuple):
    """A text whose most likely label is wrong.

    Attributes
    ----------
    row : int
        Which text, from 1.
    text : str
    label, predicted : str
        The true label, and the most likely one.
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
        Columns of the true label and of the most likely one.
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
