"""Trees that are asked level by level, against the chain rule written out."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from classify import Label, LabelSet, PromptTemplate, ZeroShotClassifier
from classify.cli import app
from classify.errors import AnswerError, PromptError
from classify.labels.tree import LabelTree
from classify.scoring.masses import chained_mass
from classify.trie import LabelMass
from tests.test_kinds import TEXTS, TREE, make, probabilities, raises


def test_levels_follow_the_chain_rule():
    clf = make(TREE, kind="tree", tree_scoring="levels")
    assert clf.scorer().declared.names == LabelSet.parse(TREE).names
    nodes = {"": ["pet", "car"], "pet": ["dog", "cat"], "car": ["red", "blue"]}
    nodes["car/red"] = ["dark", "light"]
    asked_at = {}
    for node, words in nodes.items():
        names = [f"{node}/{word}".removeprefix("/") for word in words]
        labels = [Label(name, words=(w,)) for name, w in zip(names, words, strict=True)]
        asked_at[node] = make(labels).label_logprobs(TEXTS)
    found = clf.label_logprobs(TEXTS)
    np.testing.assert_array_equal(found.lower, found.upper)
    for at in range(len(TEXTS)):
        given = {}
        for node, scores in asked_at.items():
            joint = dict(zip(scores.classes.tolist(), scores.values[at], strict=True))
            total = 0 if not node else np.log(sum(np.exp([*joint.values()])))
            given |= {name: value - total for name, value in joint.items()}
        for name, value in zip(found.classes.tolist(), found.values[at], strict=True):
            parts = name.split("/")
            path = ["/".join(parts[: depth + 1]) for depth in range(len(parts))]
            assert value == pytest.approx(sum(given[node] for node in path))
        assert found.label_mass[at] == pytest.approx(asked_at[""].label_mass[at])
    assert clf.scorer().fingerprint() != make(TREE, kind="tree").scorer().fingerprint()
    assert {word.word for word in clf.audit().words} == {
        *("pet", "car", "dog", "cat", "red", "blue", "dark", "light")
    }


@given(st.integers(0, 10**6))
def test_bounds_hold_whatever_lies_between_those_of_each_level(seed):
    rng = np.random.default_rng(seed)
    tree = LabelTree.of(LabelSet.parse(TREE))
    true, known = [], []
    for labels in tree.questions.values():
        values = np.log(rng.dirichlet(np.ones(len(labels))) * rng.random())
        lower = np.where(rng.random(len(labels)) < 0.2, -np.inf, -rng.random())
        upper = rng.random(len(labels))
        true.append(LabelMass(values, values, values, 0.0))
        # What is between the bounds is not at the estimate.
        moved = values + rng.random(len(labels))
        lower, upper = values + lower, values + upper
        unresolved = float((np.exp(upper) - np.exp(lower)).sum())
        known.append(LabelMass(moved, lower, upper, unresolved))
    exact, found = chained_mass(true, tree), chained_mass(known, tree)
    assert (found.lower <= exact.estimate + 1e-9).all()
    assert (exact.estimate <= found.upper + 1e-9).all()
    np.testing.assert_allclose(exact.lower, exact.estimate, atol=1e-9)
    np.testing.assert_allclose(exact.upper, exact.estimate, atol=1e-9)
    assert found.most == pytest.approx(known[0].most)


def test_a_node_below_which_nothing_has_any_probability():
    tree = LabelTree.of(LabelSet.parse(["a/x", "a/y", "b"]))
    some, nothing = np.log([0.5, 0.5]), np.full(2, -np.inf)
    masses = [LabelMass(some, some, some, 0.0), LabelMass(*[nothing] * 3, 0.0)]
    message = r"^None of the labels below 'a' has any probability\.$"
    with pytest.raises(AnswerError, match=message):
        chained_mass(masses, tree)


def test_a_level_with_a_single_label_is_not_asked_for():
    clf = make(["a/b/x", "a/b/y"], kind="tree", tree_scoring="levels")
    below = make([Label("a/b/x", words=("x",)), Label("a/b/y", words=("y",))])
    assert probabilities(clf) == probabilities(below)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"prompt": PromptTemplate("{text} {labels}:", chat=False, n_orders=2)},
            (
                "tree_scoring='levels' needs one prompt for each level: leave out the "
                "settings that ask several times, such as n_orders."
            ),
        ),
        (
            {"prompt": PromptTemplate("{text}:", chat=False, examples=[("a", "b")])},
            (
                "tree_scoring='levels' asks for the labels of one level, and the "
                "examples have those of the last: leave examples out."
            ),
        ),
        (
            {"strategy": "reason"},
            (
                "tree_scoring='levels' asks several times about a text, and "
                "strategy='reason' once: remove one of the two."
            ),
        ),
    ],
)
def test_what_does_not_go_with_levels(options, message):
    clf = make(TREE, kind="tree", tree_scoring="levels", **options)
    with raises(message, PromptError):
        clf.predict(TEXTS)


def test_a_job_over_a_file_keeps_what_each_level_says(tmp_path):
    source, out = tmp_path / "in.csv", tmp_path / "out.csv"
    texts = ["I was charged twice.", "Where is my parcel?"]
    pd.DataFrame({"text": texts}).to_csv(source, index=False)
    labels = ["money/billing", "money/refund", "shipping"]
    arguments = [
        *("predict", source, "--labels", ",".join(labels), "--kind", "tree"),
        *("--tree-scoring", "levels", "--tolerance", "0", "--engine", "transformers"),
        *("--device", "cpu", "--cache", tmp_path / "cache", "--probabilities"),
        *("--output", out, "--overwrite"),
    ]
    written = []
    for _ in range(2):  # the second time from the cache
        result = CliRunner().invoke(app, [str(each) for each in arguments])
        assert result.exit_code == 0, result.stderr
        written.append(out.read_bytes())
    assert written[0] == written[1]
    clf = ZeroShotClassifier(
        labels, kind="tree", tree_scoring="levels", tolerance=0.0, device="cpu"
    )
    found = pd.read_csv(out)
    expected = clf.predict_proba(texts)
    for at, name in enumerate(clf.classes_):
        np.testing.assert_allclose(found[f"p({name})"], expected[:, at], atol=1e-6)
