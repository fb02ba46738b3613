"""What a report measures of ordinal questions and trees, against slow references."""

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from classify import LabelSet
from classify.labels.tree import LabelTree
from classify.labels.use import LabelUse
from classify.questions.kinds import Tree, kind_of
from classify.report import Evaluation
from classify.report.json_form import as_json
from classify.report.of_kind import measures_of_kind
from classify.report.page import notebook_html
from classify.scoring import LabelLogprobs

VALUES = {"high": 10.0, "low": 1.0, "middle": 2.5}  # columns are sorted by name
NAMES = sorted(VALUES)
ORDER = ["low", "middle", "high"]


def drawn(n_labels, n_texts=60):
    rng = np.random.default_rng(0)
    proba = rng.dirichlet(np.ones(n_labels), size=n_texts)
    codes = np.array([rng.choice(n_labels, p=row) for row in proba])
    return codes, proba


def measured(kind, names, codes, proba):
    found = measures_of_kind(kind, names, codes, np.log(proba))
    for each in found:
        assert each.measure.low <= each.measure.value <= each.measure.high
    return {each.name: each.measure.value for each in found}


def test_an_ordinal_question():
    codes, proba = drawn(3)
    kind = kind_of(LabelUse(kind="ordinal"), {v: name for name, v in VALUES.items()})
    found = measured(kind, NAMES, codes, proba)
    errors, scores, ranks = [], [], []
    for code, row in zip(codes, proba, strict=True):
        p = dict(zip(NAMES, row, strict=True))
        true = NAMES[code]
        errors.append(abs(sum(p[name] * VALUES[name] for name in p) - VALUES[true]))
        below = [p["low"], p["low"] + p["middle"]]
        reached = [true == "low", true in ("low", "middle")]
        scores.append(
            sum((b - r) ** 2 for b, r in zip(below, reached, strict=True)) / 2
        )
        ranks.append((ORDER.index(true), ORDER.index(max(p, key=p.get))))
    kappa = cohen_kappa_score(*zip(*ranks, strict=True), weights="quadratic")
    assert found == {
        "mean_absolute_error": pytest.approx(np.mean(errors)),
        "quadratic_kappa": pytest.approx(kappa),
        "ranked_probability_score": pytest.approx(np.mean(scores)),
    }


def test_accuracy_on_each_level_of_a_tree():
    names = sorted(["a/x/1", "a/x/2", "a/y", "b", "c/z"])
    codes, proba = drawn(5)
    kind = Tree(LabelTree.of(LabelSet.parse(names)))
    found = measured(kind, names, codes, proba)
    expected = {}
    for level in (1, 2, 3):
        hits = 0
        for code, row in zip(codes, proba, strict=True):
            sums = {}
            for name, p in zip(names, row, strict=True):
                node = "/".join(name.split("/")[:level])
                sums[node] = sums.get(node, 0) + p
            true = "/".join(names[code].split("/")[:level])
            hits += max(sums, key=sums.get) == true
        expected[f"accuracy_level_{level}"] = hits / len(codes)
    assert found == pytest.approx(expected)
    assert expected["accuracy_level_3"] == (proba.argmax(axis=1) == codes).mean()


def evaluation(kind, proba, codes):
    n_texts = len(proba)
    scores = LabelLogprobs(
        values=np.log(proba),
        classes=np.array(NAMES),
        lower=np.log(proba),
        upper=np.log(proba),
        unresolved=np.zeros(n_texts),
        truncated=np.zeros(n_texts, dtype=bool),
        n_reads=np.ones(n_texts, dtype=int),
    )
    true = [NAMES[code] for code in codes]
    return Evaluation.of(["a text"] * n_texts, true, scores, kind=kind)


def test_reports_show_the_figures_of_a_kind():
    kind = kind_of(LabelUse(kind="ordinal"), {v: name for name, v in VALUES.items()})
    codes, proba = drawn(3)
    found = evaluation(kind, proba, codes)
    names = [each.name for each in found.before.of_kind]
    content = as_json(found)["before"]
    for each in found.before.of_kind:
        assert content[each.name]["value"] == each.measure.value
    page = notebook_html(found)
    assert [page.count(each.title) for each in found.before.of_kind] == [2] * len(names)


def test_a_kappa_that_is_not_defined_has_its_reason():
    kind = kind_of(LabelUse(kind="ordinal"), {v: name for name, v in VALUES.items()})
    proba = np.tile([0.1, 0.8, 0.1], (20, 1))
    found = measures_of_kind(kind, NAMES, np.ones(20, dtype=int), np.log(proba))
    kappa = {each.name: each.measure for each in found}["quadratic_kappa"]
    assert (kappa.value, kappa.reason) == (
        None,
        "all texts have the same true and predicted label",
    )
