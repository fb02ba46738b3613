"""The arithmetic of ordinal questions and of trees, against slow references."""

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classify import LabelSet
from classify.decision.posteriors import Posteriors
from classify.errors import InputError
from classify.labels.tree import LabelTree
from classify.metrics import ranked_probability_score
from classify.questions.ordinal import (
    Ordinal,
    expected_value,
    quantiles,
    standard_deviation,
)
from classify.questions.tree import Tree, deepest_sure, node_log_proba

VALUES = st.floats(-1e6, 1e6)
LOGITS = st.floats(-50, 50)


@st.composite
def distributions(draw):
    """Probabilities of one text, and the values of its labels."""
    n_labels = draw(st.integers(2, 8))
    many = {"min_size": n_labels, "max_size": n_labels}
    logits = np.array(draw(st.lists(LOGITS, **many)))
    values = draw(st.lists(VALUES, unique=True, **many))
    proba = np.exp(logits - logits.max())
    return proba / proba.sum(), values


@given(distributions())
def test_moments_are_those_of_the_distribution(drawn):
    proba, values = drawn
    mean = math.fsum(p * v for p, v in zip(proba, values, strict=True))
    spread = math.fsum(p * (v - mean) ** 2 for p, v in zip(proba, values, strict=True))
    scale = max(values) - min(values)
    [expected] = expected_value([proba], values)
    [deviation] = standard_deviation([proba], values)
    assert min(values) <= expected <= max(values) or expected == pytest.approx(mean)
    assert expected == pytest.approx(mean, abs=1e-9 * scale + 1e-9)
    assert deviation == pytest.approx(math.sqrt(spread), abs=1e-6 * scale + 1e-9)
    assert 0 <= deviation <= scale / 2 + 1e-9 * scale


@given(distributions(), st.floats(0.01, 0.99))
def test_a_quantile_is_the_least_value_that_reaches_its_level(drawn, level):
    proba, values = drawn
    ordered = sorted(zip(values, proba, strict=True))
    reached = [
        value
        for value, _ in ordered
        if math.fsum(p for v, p in ordered if v <= value) >= level - 1e-12
    ]
    [[found]] = quantiles([proba], values, [level])
    assert found in values
    assert found == (reached or [max(values)])[0]


def test_one_label_that_is_certain():
    kind = Ordinal.of(LabelSet.parse({1: "bad", 3: "good"}))
    found = kind.results(
        Posteriors(np.array([[0.0, -np.inf]]), np.array(["bad", "good"]), None)
    )
    assert {name: float(values[0]) for name, values in found.items()} == {
        "expected": 1.0,
        "standard_deviation": 0.0,
        "q10": 1.0,
        "q50": 1.0,
        "q90": 1.0,
        "expected_lower": 1.0,
        "expected_upper": 1.0,
    }
    assert [*kind.columns, *kind.bounds] == list(found)


def test_columns_follow_names_and_not_values():
    kind = Ordinal.of(LabelSet.parse({10: "a", -10: "b", 0: "c"}))
    with np.errstate(divide="ignore"):
        log_proba = np.log([[0.0, 1.0, 0.0], [0.5, 0.25, 0.25]])
    found = kind.results(Posteriors(log_proba, np.array(["a", "b", "c"]), None))
    assert found["expected"].tolist() == [-10.0, 2.5]
    assert found["q50"].tolist() == [-10.0, 0.0]


NAMES = ["a/x/1", "a/x/2", "a/y", "b/z", "b/w/3", "c"]
TREE = LabelTree.of(LabelSet.parse(NAMES))


@given(st.lists(LOGITS, min_size=6, max_size=6))
def test_children_sum_to_their_parents(logits):
    values = np.array([logits]) - np.logaddexp.reduce(logits)
    nodes = np.exp(node_log_proba(values, TREE)[0])
    for node in range(len(TREE.names)):
        if children := TREE.children(node):
            assert nodes[node] == pytest.approx(nodes[list(children)].sum(), rel=1e-12)
    assert nodes[list(TREE.children(-1))].sum() == pytest.approx(1.0)
    by_name = dict(zip(NAMES, values[0], strict=True))
    for name, value in zip(TREE.names, nodes, strict=True):
        leaves = [
            math.exp(p)
            for leaf, p in by_name.items()
            if leaf == name or leaf.startswith(f"{name}/")
        ]
        assert value == pytest.approx(math.fsum(leaves), rel=1e-12)


@given(st.lists(LOGITS, min_size=6, max_size=6), st.floats(0.05, 0.99))
def test_the_deepest_node_that_is_sure_enough(logits, level):
    values = np.array([logits]) - np.logaddexp.reduce(logits)
    nodes = node_log_proba(values, TREE)
    [found] = deepest_sure(nodes, TREE, level)
    sure = [at for at in range(len(TREE.names)) if nodes[0, at] >= np.log(level)]
    if not sure:
        assert found == -1
        return
    depth = max(len(TREE.path(at)) for at in sure)
    deepest = [at for at in sure if len(TREE.path(at)) == depth]
    assert found in deepest
    assert nodes[0, found] == max(nodes[0, at] for at in deepest)


def test_columns_of_a_tree():
    classes = sorted(NAMES)
    proba = np.array([[0.1, 0.2, 0.6, 0.05, 0.03, 0.02], [0.3, 0.2, 0, 0, 0.5, 0]])
    with np.errstate(divide="ignore"):
        log_proba = np.log(proba)
    posteriors = Posteriors(log_proba, np.array(classes), None)
    kind = Tree(TREE, level=0.8)
    found = kind.results(posteriors)
    assert found["node"].tolist() == ["a", None]
    assert found["node_probability"][0] == pytest.approx(0.9)
    assert np.isnan(found["node_probability"][1])
    assert [*kind.columns, *kind.bounds] == list(found)
    assert Tree(TREE, 0.3).results(posteriors)["node"].tolist() == [
        "a/y",
        "a/x/1",
    ]


@given(
    st.lists(st.lists(LOGITS, min_size=4, max_size=4), min_size=1, max_size=5),
    st.data(),
)
def test_ranked_probability_score_is_the_sum_over_thresholds(logits, data):
    proba = np.exp(np.array(logits) - np.max(logits, axis=1, keepdims=True))
    proba /= proba.sum(axis=1, keepdims=True)
    y = [data.draw(st.sampled_from("abcd")) for _ in logits]
    total = 0.0
    for true, row in zip(y, proba.tolist(), strict=True):
        for at, name in enumerate("abc"):
            total += (sum(row[: at + 1]) - (true <= name)) ** 2 / 3
    score = ranked_probability_score(y, proba, classes=list("abcd"))
    assert score == pytest.approx(total / len(y), abs=1e-12)
    assert 0 <= score <= 1 + 1e-12


def test_ranked_probability_score_needs_two_classes():
    message = "A ranked probability score needs at least two classes. Got one column."
    with pytest.raises(InputError, match=rf"^{re.escape(message)}$"):
        ranked_probability_score([0], [[1.0]])
