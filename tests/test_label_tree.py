import json
import re

import pandas as pd
import pytest

from classify import Label, LabelSet
from classify.config import Task
from classify.config.writing import task_yaml
from classify.errors import ConfigError, DataError, LabelError
from classify.labels.tree import LabelTree


def raises(message: str):
    return pytest.raises(LabelError, match=r"^" + re.escape(message) + "$")


def test_paths_in_names_make_a_tree():
    tree = LabelTree.of(
        LabelSet.parse({"a/x/1": None, "b": "about b", "a": "about a", "a/x/2": "2nd"})
    )
    assert tree.names == ("a", "a/x", "a/x/1", "a/x/2", "b")
    assert tree.parents == (-1, 0, 1, 1, -1)
    assert [tree.names[at] for at in tree.leaves] == ["a/x/1", "a/x/2", "b"]
    assert tree.labels[0].description == "about a"
    assert tree.path(3) == (0, 1, 3)
    assert tree.paths == LabelSet(
        [Label("a/x/1"), Label("a/x/2", "2nd"), Label("b", "about b")]
    )
    # Below "a" there is only one label, so that nothing is asked.
    assert tree.questions == {
        -1: LabelSet([Label("a", "about a"), Label("b", "about b")]),
        1: LabelSet(
            [Label("a/x/1", words=("1",)), Label("a/x/2", "2nd", words=("2",))]
        ),
    }


def test_parents_make_the_same_tree_in_any_order():
    labels = {
        "dog": {"parent": "pet"},
        "car": None,
        "cat": {"parent": "pet", "words": ["cat", "kitten"]},
        "pet": {"words": ["animal"]},
    }
    tree = LabelTree.of(LabelSet.parse(labels))
    assert tree.names == ("car", "pet", "dog", "cat")
    assert [label.words for label in tree.paths] == [
        ("car",),
        ("animal/dog",),
        ("animal/cat", "animal/kitten"),
    ]
    assert [label.parent for label in tree.paths] == [None] * 3


def test_paths_in_two_normal_forms_have_one_parent():
    one, other = "cafe\u0301", "caf\u00e9"
    tree = LabelTree.of(LabelSet.parse([f"{one}/x", f"{other}/y", "b"]))
    assert tree.names == (one, f"{one}/x", f"{other}/y", "b")
    assert tree.parents == (-1, 0, 0, -1)
    declared = LabelTree.of(LabelSet.parse([f"{one}/x", other, f"{one}/y"]))
    assert declared.names == (other, f"{one}/x", f"{one}/y")
    assert [label.words for label in declared.labels] == [(other,), ("x",), ("y",)]
    assert declared.paths.names == (f"{one}/x", f"{one}/y")


def test_a_slash_is_a_character_where_labels_have_parents():
    labels = [Label("I/O"), Label("disk", parent="I/O"), Label("net", parent="I/O")]
    assert LabelTree.of(LabelSet(labels)).names == ("I/O", "disk", "net")


def test_children_of_two_parents_may_share_words():
    labels = [
        *(Label("billing"), Label("shipping")),
        Label("other bill", words=("other",), parent="billing"),
        Label("other parcel", words=("other",), parent="shipping"),
    ]
    tree = LabelTree.of(LabelSet(labels))
    assert [label.words for label in tree.paths] == [
        ("billing/other",),
        ("shipping/other",),
    ]
    with raises(
        "The word 'other' stands for label 'other bill' and for label 'other parcel': "
        "an answer could not be told apart. Give each label words of its own."
    ):
        LabelSet(labels).subset(["other bill", "other parcel"])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            [Label("a", parent="Pets"), Label("b"), Label("pets")],
            (
                "The parent of label 'a', 'Pets', is not one of the labels: 'a', 'b', "
                "'pets'. Did you mean 'pets'? Declare it as a label too, without a "
                "parent if it is at the top."
            ),
        ),
        (
            [Label("a", parent="b"), Label("b", parent="c"), Label("c", parent="b")],
            (
                "The parents of labels form a cycle: 'b' is below 'c' is below 'b'. "
                "Remove the parent of the label at the top."
            ),
        ),
        (
            [Label("a", parent="a"), Label("b")],
            (
                "The parents of labels form a cycle: 'a' is below 'a'. Remove the "
                "parent of the label at the top."
            ),
        ),
    ],
    ids=["orphan", "cycle", "itself"],
)
def test_parents_that_make_no_tree(labels, message):
    with raises(message):
        LabelSet(labels)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["a", "b"],
            (
                "A tree needs labels below others, but none of these has a parent: "
                "'a', 'b'. Write their names as 'parent/child', or give them a parent."
            ),
        ),
        (
            ["a", "a/b"],
            (
                "A tree needs at least two labels with nothing below them. Got only "
                "'a/b' instead."
            ),
        ),
        *(
            (
                [name, "b"],
                (
                    f"Label {name!r} cannot be read as a path in a tree: the names "
                    "between its slashes must not be empty, nor have white space "
                    "around them."
                ),
            )
            for name in ("a//c", "/a", "a/", "a / b")
        ),
    ],
)
def test_names_that_make_no_tree(names, message):
    with raises(message):
        LabelTree.of(LabelSet.parse(names))


def test_values_and_parents_survive_a_task_file(tmp_path):
    labels = LabelSet.parse({"low": {"value": 0.5}, "high": {"value": 2}})
    tree = LabelSet.parse(["top", {"name": "a", "parent": "top"}, "b"])
    for each in (labels, tree):
        path = tmp_path / "task.yaml"
        path.write_text(task_yaml(Task(labels=each)))
        assert Task.from_yaml(path).labels == each
    assert labels.values == {0.5: "low", 2: "high"}


@pytest.mark.parametrize("value", ["3", float("nan"), float("inf"), 10**400, [1]])
def test_a_value_is_a_number(value):
    with raises(
        "The value of label 'a' must be a finite number or a boolean. Got "
        f"{value!r} instead."
    ):
        LabelSet.parse({"a": {"value": value}, "b": {"value": 1}})


TABLE = (
    "name,description,words,parent,value\n"
    "pet,Animals at home,,,\n"
    'dog,,dog|puppy,pet,\ncat,,"[""cat""]",pet,\n'
)


def test_a_table_of_labels(tmp_path):
    csv = tmp_path / "labels.csv"
    csv.write_text(TABLE)
    labels = LabelSet.from_file(csv)
    assert labels == LabelSet(
        [
            Label("pet", "Animals at home"),
            Label("dog", words=("dog", "puppy"), parent="pet"),
            Label("cat", parent="pet"),
        ]
    )
    tsv = tmp_path / "labels.tsv"
    tsv.write_text(TABLE.replace(",", "\t"))
    jsonl = tmp_path / "labels.jsonl"
    jsonl.write_text(
        "".join(
            json.dumps(each) + "\n"
            for each in (
                {"name": "pet", "description": "Animals at home"},
                {"name": "dog", "words": ["dog", "puppy"], "parent": "pet"},
                {"name": "cat", "words": [], "parent": "pet"},
            )
        )
    )
    parquet = tmp_path / "labels.parquet"
    pd.read_csv(csv).to_parquet(parquet)
    for path in (tsv, jsonl, parquet):
        assert LabelSet.from_file(path) == labels
        assert Task.parse({"labels": str(path)}).labels == labels


def test_values_in_a_table(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("name,value\nlow,1\nhigh,2.5\n")
    assert LabelSet.from_file(path).values == {1: "low", 2.5: "high"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "name,value\na,1\nb,two\n",
            "Row 2: column 'value' holds 'two', which is not a number.",
        ),
        (
            "name,value\na,1\nb,nan\n",
            (
                "Row 2: The value of label 'b' must be a finite number or a boolean. "
                "Got nan instead."
            ),
        ),
        (
            "name,value\na,1\nb,\n",
            (
                "Label 'b' has no value, but others do: give each label a number, or "
                "none."
            ),
        ),
        (
            "name,descripton\na,1\n",
            (
                "the column 'descripton' is unknown. Did you mean 'description'? "
                "Allowed are 'name', 'description', 'words', 'parent', 'value'."
            ),
        ),
        (
            "name,value\n,1\nb,2\n",
            "Row 1: A label's name must not be empty. Got '' instead.",
        ),
        (
            "name\na\na\nb\n",
            (
                "Labels must be unique. 'a' declared more than once: remove or rename "
                "the repeats."
            ),
        ),
        (
            "name,parent\na,b\nc,\n",
            (
                "The parent of label 'a', 'b', is not one of the labels: 'a', 'c'. "
                "Declare it as a label too, without a parent if it is at the top."
            ),
        ),
        (
            'name,words\na,"[1"\nb,\n',
            (
                "Row 1: column 'words' holds '[1', which is not a list: Expecting ',' "
                "delimiter: line 1 column 3 (char 2)."
            ),
        ),
    ],
)
def test_bad_tables(content, message, tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text(content)
    with raises(f"Label table {str(path)!r}: {message}"):
        LabelSet.from_file(path)


def test_rows_that_cannot_be_read(tmp_path):
    path = tmp_path / "labels.jsonl"
    path.write_text('{"name": "a"}\n{"name": \n')
    with pytest.raises(
        DataError,
        match=rf"^Label table {str(path)!r}, row 2: it is not valid JSON: .*$",
    ):
        LabelSet.from_file(path)


def test_no_such_file(tmp_path):
    with raises(
        "There is no label file 'billing, shipping'. For the names of labels, write a "
        "list, such as [billing, shipping]."
    ):
        Task.parse({"labels": "billing, shipping"})
    with pytest.raises(ConfigError, match=r"^There is no label file '.*'\.$"):
        LabelSet.from_file(tmp_path / "none.yaml")
