"""Measures of one kind of question: errors on a scale, accuracy by tree level."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from classify.metrics import ranked_probability_score
from classify.questions.kinds import Kind, Ordinal, Tree
from classify.questions.ordinal import expected_value
from classify.report.measures import Measure, confusion_counts, share_of, with_interval

__all__ = ["KindMeasure", "measures_of_kind"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


class KindMeasure(NamedTuple):
    """A measure that only one kind of question has.

    Attributes
    ----------
    name : str
        As report.json has it.
    title : str
    meaning : str
        What a reader must know.
    measure : Measure
    """

    name: str
    title: str
    meaning: str
    measure: Measure


def measures_of_kind(
    kind: Kind | None, classes: list[str], codes: IntArray, log_proba: FloatArray
) -> tuple[KindMeasure, ...]:
    """Return the measures that a kind of question has, with 95 % intervals.

    Parameters
    ----------
    kind : Ordinal, Tree or None
    classes : list of str, length n_labels
    codes : ndarray of int64, shape (n_texts,)
        Column of the true label.
    log_proba : ndarray of float64, shape (n_texts, n_labels)

    Returns
    -------
    tuple of KindMeasure
        Empty for None.
    """
    if isinstance(kind, Ordinal):
        return _ordinal(kind, classes, codes, np.exp(log_proba))
    if isinstance(kind, Tree):
        return _tree(kind, classes, codes, np.exp(log_proba))
    return ()


def _ordinal(
    kind: Ordinal, classes: list[str], codes: IntArray, proba: FloatArray
) -> tuple[KindMeasure, ...]:
    values = np.array([kind.values[name] for name in classes])
    distances = np.abs(expected_value(proba, values) - values[codes])
    order = np.argsort(values)
    true = np.argsort(order)[codes]
    ordered = proba[:, order]
    return (
        KindMeasure(
            "mean_absolute_error",
            "Mean absolute error",
            "Mean distance between the expected value and the true label’s number.",
            with_interval(np.mean, distances),
        ),
        KindMeasure(
            "quadratic_kappa",
            "Quadratic kappa",
            "Agreement of the most probable label with the true one beyond chance, "
            "weighted by the squared number of places between them: 1 is perfect, 0 "
            "is chance.",
            _kappa(true, ordered.argmax(axis=1), len(classes)),
        ),
        KindMeasure(
            "ranked_probability_score",
            "Ranked probability score",
            "Mean squared distance between the cumulated probabilities and the truth: "
            "0 is perfect, 1 the worst.",
            with_interval(ranked_probability_score, true, ordered),
        ),
    )


def _kappa(true: IntArray, predicted: IntArray, n_labels: int) -> Measure:
    places = np.arange(n_labels)
    weights = (places[:, None] - places) ** 2

    # scikit-learn's cohen_kappa_score takes milliseconds, for each of the resamples.
    def kappa(true: IntArray, predicted: IntArray) -> float:
        counts = confusion_counts(true, predicted, n_labels)
        chance = np.outer(counts.sum(axis=1), counts.sum(axis=0)) / len(true)
        expected = float((weights * chance).sum())
        # In a resample of one label, which is always right, there is no chance to err.
        return 1.0 - float((weights * counts).sum()) / expected if expected else 1.0

    if len({*true.tolist(), *predicted.tolist()}) == 1:
        return Measure(None, reason="all texts have the same true and predicted label")
    return with_interval(kappa, true, predicted)


def _tree(
    kind: Tree, classes: list[str], codes: IntArray, proba: FloatArray
) -> tuple[KindMeasure, ...]:
    tree = kind.tree
    paths = [tree.path(leaf) for leaf in tree.leaves]
    columns = kind.leaf_columns(classes)
    measures = []
    for level in range(1, max(map(len, paths)) + 1):
        # The node of each column on this level; of a shorter path, its end.
        node_of = np.empty(len(classes), dtype=np.int64)
        node_of[columns] = [path[min(level, len(path)) - 1] for path in paths]
        nodes = np.zeros((len(proba), len(tree.parents)))
        for column, node in enumerate(node_of.tolist()):
            nodes[:, node] += proba[:, column]
        n_hits = int((nodes.argmax(axis=1) == node_of[codes]).sum())
        measures.append(
            KindMeasure(
                f"accuracy_level_{level}",
                f"Accuracy, level {level}",
                "Share of the texts whose most probable node on this level of the tree "
                "is the true label or one of its ancestors.",
                share_of(n_hits, len(codes), nothing="there is no text"),
            )
        )
    return tuple(measures)
