"""Ordinal questions, trees and the escape, through estimator, jobs and commands."""

import csv
import json
import re

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from classify import Label, LabelSet, PromptTemplate, ZeroShotClassifier
from classify.cli import app
from classify.errors import ConfigError, LabelError
from classify.jobs import JobRun, check_table, open_table, read_labelled, run_job
from tests.tiny_tokenizers import byte_level
from tests.toy_jobs import asked, job_of
from tests.toy_jobs import make as make_listed
from tests.toy_model import hashed_engine

TEXTS = ["a", "bb", "ccc", "dddd"]
SCALE = {"low": {"value": 1}, "middle": {"value": 2.5}, "high": {"value": 10}}
TREE = ["pet/dog", "pet/cat", "car/red/dark", "car/red/light", "car/blue"]


def make(labels, **options):
    """Return a classifier over a hash function."""
    return ZeroShotClassifier(
        labels,
        engine=hashed_engine(len(byte_level())),
        tokenizer=byte_level(),
        prompt=options.pop("prompt", PromptTemplate("{text}\nTopic:", chat=False)),
        tolerance=0.0,
        **options,
    )


def raises(message, error=LabelError):
    return pytest.raises(error, match=r"^" + re.escape(message) + "$")


def probabilities(classifier):
    found = classifier.label_logprobs(TEXTS)
    return [dict(zip(found.classes.tolist(), row, strict=True)) for row in found.proba]


def test_expected_values_are_those_of_the_probabilities():
    clf = make(SCALE, kind="ordinal")
    frame = clf.classify_frame(pd.DataFrame({"text": TEXTS}))
    assert frame.columns.tolist()[1:8] == [
        *("label", "probability", "expected", "standard_deviation"),
        *("q10", "q50", "q90"),
    ]
    for row, proba in zip(frame.itertuples(), probabilities(clf), strict=True):
        values = {name: SCALE[name]["value"] for name in SCALE}
        mean = sum(proba[name] * value for name, value in values.items())
        square = sum(proba[name] * value**2 for name, value in values.items())
        assert row.expected == pytest.approx(mean)
        assert row.standard_deviation == pytest.approx(np.sqrt(square - mean**2))
        assert row.label == max(proba, key=proba.get)
        reached = np.cumsum([proba[name] for name in SCALE])
        for level, found in ((0.1, row.q10), (0.5, row.q50), (0.9, row.q90)):
            at = int(np.flatnonzero(reached >= level)[0])
            assert found == list(values.values())[at]
    # The kind changes what is said of a text, not how it is scored.
    assert probabilities(clf) == probabilities(make(SCALE))
    assert clf.classes_.tolist() == [1, 2.5, 10]
    assert set(clf.predict(TEXTS)) <= {1, 2.5, 10}


def test_the_leaves_of_a_tree_are_asked_as_whole_paths():
    clf = make(TREE, kind="tree", min_node_probability=0.5)
    frame = clf.classify_frame(pd.DataFrame({"text": TEXTS}), probabilities=True)
    alone = make(TREE)
    assert probabilities(clf) == probabilities(alone)
    for row, proba in zip(frame.to_dict("records"), probabilities(alone), strict=True):
        nodes = {
            node: sum(
                p for name, p in proba.items() if f"{name}/".startswith(f"{node}/")
            )
            for node in (*TREE, "pet", "car", "car/red")
        }
        sure = [node for node, p in nodes.items() if p >= 0.5]
        deepest = max(sure, key=lambda node: node.count("/"), default=None)
        assert row["node"] == deepest
        if deepest is None:
            assert np.isnan(row["node_probability"])
        else:
            assert row["node_probability"] == pytest.approx(nodes[deepest])
        assert row["label"] == max(proba, key=proba.get)


def test_parents_make_paths_of_words():
    labels = [
        *(Label("pet"), Label("dog", parent="pet", words=("dog", "puppy"))),
        *(Label("cat", parent="pet"), Label("car")),
    ]
    clf = make(labels, kind="tree")
    spelled = [
        Label("dog", words=("pet/dog", "pet/puppy")),
        *(Label("cat", words=("pet/cat",)), Label("car")),
    ]
    assert clf.classes_.tolist() == ["car", "cat", "dog"]
    assert clf.scorer().declared == LabelSet(spelled)
    assert probabilities(clf) == probabilities(make(spelled))


def test_leaves_that_are_learnt_from_y():
    clf = make(None, kind="tree").fit(TEXTS, ["pet/dog", "pet/cat", "car", "car"])
    frame = clf.classify_frame(pd.DataFrame({"text": TEXTS}))
    assert "node" in frame
    assert clf.classes_.tolist() == ["car", "pet/cat", "pet/dog"]


@pytest.mark.parametrize("kind", ["choice", "tree"])
def test_the_escape_is_one_more_label(kind):
    prompt = PromptTemplate("{text}\nOne of {labels}:", chat=False)
    clf = make(TREE, kind=kind, escape="none of these", prompt=prompt)
    found = probabilities(clf)
    assert found == probabilities(make([*TREE, "none of these"], prompt=prompt))
    assert asked(clf.engine)[0].endswith(f"{', '.join([*TREE, 'none of these'])}:")
    assert clf.classes_.tolist() == sorted([*TREE, "none of these"])


@pytest.mark.parametrize(
    ("labels", "options", "message", "error"),
    [
        (
            ["a", "b"],
            {"kind": "ordinal"},
            (
                "An ordinal question needs a number for each label, such as "
                "{a: {value: 1}}. Got none for 'a', 'b'."
            ),
            LabelError,
        ),
        (
            ["a", "b"],
            {"kind": "tree"},
            (
                "A tree needs labels below others, but none of these has a parent: "
                "'a', 'b'. Write their names as 'parent/child', or give them a parent."
            ),
            LabelError,
        ),
        (
            [Label("a", parent="b"), Label("b")],
            {},
            (
                "Label 'a' has a parent, 'b', which has an effect with kind='tree' "
                "only: use that, or leave parents out."
            ),
            LabelError,
        ),
        (
            SCALE,
            {"escape": "cannot tell"},
            (
                "escape='cannot tell' adds a label without a number, but the labels "
                "have numbers: leave escape out, or declare such a label with a number "
                "of its own."
            ),
            LabelError,
        ),
        (
            ["a", "b"],
            {"min_node_probability": 0.5},
            (
                "min_node_probability is for kind='tree': give that, or drop "
                "min_node_probability."
            ),
            ConfigError,
        ),
        (
            ["a", "b"],
            {"kind": "scale"},
            (
                "The 'kind' parameter of ZeroShotClassifier must be one of 'choice', "
                "'multi', 'ordinal', 'tree'. Got 'scale' instead."
            ),
            ConfigError,
        ),
        (
            ["a", "b"],
            {"escape": " none"},
            (
                "A label's name must have no white space around it. Got ' none' "
                "instead: the space before an answer is put there by the prompt."
            ),
            LabelError,
        ),
    ],
)
def test_labels_that_do_not_fit_the_kind(labels, options, message, error):
    clf = make(labels, **options)
    with raises(message, error):
        clf.predict(TEXTS)
    assert not clf.engine.requests


def test_candidates_of_each_row(tmp_path):
    path = tmp_path / "in.csv"
    path.write_text("text,which\nx,a|b\n")
    message = "kind='ordinal' needs to know all labels in advance: give labels."
    with raises(message, ConfigError):
        make(None, kind="ordinal").question_kind()
    message = (
        "escape='none' adds a label to all rows, but labels_column gives each row its "
        "own: write it into that column, and leave escape out."
    )
    levels = make_listed(TREE, kind="tree", tree_scoring="levels")
    with raises(
        "tree_scoring='levels' asks for all labels of a level, but labels_column gives "
        "each row some: use tree_scoring='paths'.",
        ConfigError,
    ):
        check_table(open_table(path), levels, labels_column="which")
    clf = make_listed(["a", "b"], escape="none")
    with raises(message, ConfigError):
        check_table(open_table(path), clf, labels_column="which")


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_jobs_write_the_columns_of_a_kind(tmp_path, suffix):
    path = tmp_path / "in.csv"
    path.write_text("text\n" + "\n".join([*TEXTS, '""']) + "\n")
    for clf in (make(SCALE, kind="ordinal"), make(TREE, kind="tree")):
        output = tmp_path / f"{clf.kind}{suffix}"
        run_job(job_of(clf), open_table(path), output, run=JobRun())
        if suffix == ".csv":
            rows = list(csv.DictReader(output.read_text().splitlines()))
        elif suffix == ".jsonl":
            rows = [json.loads(line) for line in output.read_text().splitlines()]
        else:
            rows = pd.read_parquet(output).to_dict("records")
        expected = clf.classify_frame(pd.DataFrame({"text": TEXTS}))
        for name in clf.question_kind().columns:
            assert name in rows[0]
            for row, cell in zip(rows, expected[name], strict=False):
                if isinstance(cell, str) or cell is None:
                    assert (row[name] or None) == cell
                elif np.isnan(cell):
                    assert row[name] in ("", None) or np.isnan(row[name])
                else:
                    assert float(row[name]) == pytest.approx(cell)
        assert pd.isna(rows[-1]["label"] or None)


def test_a_job_whose_rows_cannot_be_asked(tmp_path):
    path = tmp_path / "in.csv"
    path.write_text('text\n""\n""\n')
    clf = make(SCALE, kind="ordinal")
    run_job(job_of(clf), open_table(path), tmp_path / "out.csv", run=JobRun())
    [*rows] = csv.DictReader((tmp_path / "out.csv").read_text().splitlines())
    assert [row["expected"] for row in rows] == ["", ""]


def test_a_job_does_not_go_on_with_another_level(tmp_path):
    path = tmp_path / "in.csv"
    path.write_text("text\n" + "\n".join(TEXTS) + "\n")
    first = make(TREE, kind="tree")
    options = {"output": tmp_path / "out.csv", "keep": True}
    run_job(job_of(first), open_table(path), run=JobRun(), **options)
    with pytest.raises(ConfigError, match=r"kind: was [0-9a-f]+, now [0-9a-f]+"):
        run_job(
            job_of(make(TREE, kind="tree", min_node_probability=0.3)),
            open_table(path),
            run=JobRun(),
            **options,
        )


def run(*arguments, code=0):
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == code, result.output
    return result


def test_kinds_from_the_command_line(tmp_path):
    table = tmp_path / "labels.csv"
    table.write_text("name,value\nlow,1\nhigh,3\n")
    task = tmp_path / "task.yaml"
    task.write_text(f"labels: {table}\nkind: ordinal\n")
    source = tmp_path / "in.csv"
    source.write_text("text\nThe server is down!\nThanks.\n")
    rows = list(
        csv.DictReader(run("predict", source, "--task", task).stdout.split("\n"))
    )
    for row in rows:
        p = float(row["probability"])
        value = 1 if row["label"] == "low" else 3
        assert float(row["expected"]) == pytest.approx(
            p * value + (1 - p) * (4 - value)
        )
    result = run("predict", "--text", "Thanks.", "--task", task, "--json")
    assert json.loads(result.stdout)["expected"] == pytest.approx(
        float(rows[1]["expected"]), abs=1e-5
    )
    options = ("--labels", "pet/dog,pet/cat,car", "--kind", "tree", "--escape", "other")
    result = run("predict", source, *options, "--min-node-probability", 0.01)
    rows = list(csv.DictReader(result.stdout.split("\n")))
    assert {row["node"] for row in rows} <= {"pet/dog", "pet/cat", "other"}
    assert run(
        "predict", source, "--labels", "a,b", "--min-node-probability", 0.5, code=2
    ).stderr == (
        "Error: --min-node-probability is for --kind tree: give that, or drop "
        "--min-node-probability.\n"
    )


def test_questions_of_all_kinds_are_asked_together(tmp_path):
    source = tmp_path / "in.csv"
    source.write_text("text\nThe server is down!\nThanks.\n")
    questions = {
        "topic": {"labels": ["billing", "shipping"], "escape": "none of these"},
        "urgency": {"labels": SCALE, "kind": "ordinal"},
        "about": {"labels": TREE, "kind": "tree", "min_node_probability": 0.1},
    }
    task = tmp_path / "task.yaml"
    task.write_text(json.dumps({"questions": questions}))
    rows = list(
        csv.DictReader(run("predict", source, "--task", task).stdout.splitlines())
    )
    for row in rows:
        assert row["topic"] in ("billing", "shipping", "none of these")
        assert 1 <= float(row["urgency.expected"]) <= 10
        assert row["about.node"] in (*TREE, "car", "pet", "car/red")
        assert row["about"] in TREE
    shown = json.loads(
        run("predict", "--text", "Thanks.", "--task", task, "--json").stdout
    )["questions"]
    assert shown["urgency"]["expected"] == pytest.approx(
        float(rows[1]["urgency.expected"]), abs=1e-5
    )
    assert shown["about"]["node"] == rows[1]["about.node"]
    assert set(shown["topic"]["probabilities"]) == {
        *("billing", "shipping", "none of these")
    }
    task.write_text(json.dumps({"questions": questions, "escape": "other"}))
    assert run("predict", source, "--task", task, code=2).stderr == (
        f"Error: 'escape' in task file {str(task)!r} is for a task with one question, "
        "but this one has several (topic, urgency, about): leave it out, or give it to "
        "a question.\n"
    )


def test_kinds_are_evaluated_from_the_command_line(tmp_path):
    source = tmp_path / "in.csv"
    rows = [("My parcel is late.", "order/parcel"), ("Refund me.", "money/refund")] * 8
    source.write_text("text,label\n" + "".join(f"{a},{b}\n" for a, b in rows))
    options = ("--labels", "order/parcel,order/item,money/refund", "--kind", "tree")
    shown = run("evaluate", source, *options, "--escape", "other").stdout
    for level in (1, 2):
        assert re.search(rf"^Accuracy, level {level} .*\[.*\]", shown, re.MULTILINE)
    result = run("calibrate", source, *options, "-o", tmp_path / "c.json")
    assert "16 labelled rows" in result.stdout
    classes = json.loads((tmp_path / "c.json").read_text())["calibration"]["classes"]
    assert classes == ["money/refund", "order/item", "order/parcel"]


def test_true_labels_may_be_the_numbers(tmp_path):
    source = tmp_path / "in.csv"
    source.write_text("text,label\nIt burns!,3\nThanks.,1.0\nHm.,low\nHm,\n")
    labels = LabelSet.parse({1: "low", 3: "high"})
    options = {"fields": ("text",), "text_column": "text", "label_column": "label"}
    found = read_labelled(open_table(source), labels, **options)
    assert found.labels.tolist() == ["high", "low", "low"]
    source.write_text("text,label\nIt burns!,2\n")
    with pytest.raises(LabelError, match=r"holds a value that is not a label\. '2': "):
        read_labelled(open_table(source), labels, **options)
