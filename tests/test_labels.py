import re

import numpy as np
import pandas as pd
import pytest

from classify import Label, LabelSet
from classify.errors import ConfigError, InputError, LabelError


def raises(message: str):
    return pytest.raises(LabelError, match=r"^" + re.escape(message) + "$")


def raises_input(message: str):
    return pytest.raises(InputError, match=r"^" + re.escape(message) + "$")


def test_words_default_to_the_name():
    assert Label("billing").words == ("billing",)
    assert Label("positive", words=["good", "great"]).words == ("good", "great")


@pytest.mark.parametrize(
    "value",
    [
        ["a", "b"],
        ("a", "b"),
        np.array(["a", "b"]),
        np.array(["a", "b"], dtype=object),
        pd.Series(["a", "b"]),
        pd.Index(["a", "b"]),
        pd.Categorical(["a", "b"]),
        {"a": None, "b": None},
        [{"name": "a"}, {"b": None}],
        [Label("a"), Label("b")],
        LabelSet([Label("a"), Label("b")]),
    ],
    ids=range(11),
)
def test_every_way_to_write_the_same_labels(value):
    assert LabelSet.parse(value) == LabelSet([Label("a"), Label("b")])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            {"a"},
            (
                "Labels must have an order, which the prompt keeps, and a set has "
                "none. Got {'a'} instead: write them in a list."
            ),
        ),
        (
            frozenset(["a"]),
            (
                "Labels must have an order, which the prompt keeps, and a set has "
                "none. Got frozenset({'a'}) instead: write them in a list."
            ),
        ),
        (
            {"a": 1}.keys(),
            (
                "Labels must be a list. Got dict_keys(['a']) instead: write list(…) "
                "around it."
            ),
        ),
        (
            pd.DataFrame({"a": ["x"], "b": ["y"]}),
            (
                "Labels must have one dimension. Got a DataFrame instead: write a "
                "list of names."
            ),
        ),
    ],
    ids=range(4),
)
def test_labels_need_an_order_that_stays(value, message):
    with raises(message):
        LabelSet.parse(value)


def test_keys_of_yaml_that_are_no_strings_name_no_numbers(tmp_path):
    path = tmp_path / "labels.yaml"
    path.write_text("yes: agreed\nno: refused\n")
    with raises_input(
        f"Label file '{path}': a label or word is a boolean: YAML reads yes, on or "
        'true so. Put it in quotes, such as "yes".'
    ):
        LabelSet.from_yaml(path)


def test_mapping_values_are_descriptions_words_or_both():
    labels = LabelSet.parse(
        {
            "a": "What a is",
            "b": ["bee", "be"],
            "c": {"description": "C", "words": "see"},
        }
    )
    assert labels["a"] == Label("a", description="What a is")
    assert labels["b"] == Label("b", words=("bee", "be"))
    assert labels["c"] == Label("c", description="C", words=("see",))


def test_declared_order_is_kept():
    assert LabelSet.parse(["z", "a", "m"]).names == ("z", "a", "m")


def test_subset_keeps_the_declared_order():
    assert LabelSet.parse(["z", "a", "m"]).subset(["m", "z"]).names == ("z", "m")


def test_yaml(tmp_path):
    path = tmp_path / "labels.yaml"
    path.write_text("labels:\n  - a\n  - b: {description: B, words: [bee]}\n")
    assert LabelSet.from_yaml(path) == LabelSet(
        [Label("a"), Label("b", description="B", words=("bee",))]
    )


def test_missing_yaml(tmp_path):
    with pytest.raises(
        ConfigError, match=r"^There is no label file '.*absent\.yaml'\.$"
    ):
        LabelSet.from_yaml(tmp_path / "absent.yaml")


def test_broken_yaml(tmp_path):
    path = tmp_path / "labels.yaml"
    path.write_text("[a, b")
    with pytest.raises(ConfigError, match="is not YAML"):
        LabelSet.from_yaml(path)


def test_a_key_that_occurs_twice_is_not_the_last_one(tmp_path):
    path = tmp_path / "labels.yaml"
    path.write_text("a: [x]\nb: [y]\na: [z]\n")
    with pytest.raises(ConfigError, match="the key 'a' occurs twice"):
        LabelSet.from_yaml(path)


def test_empty_yaml(tmp_path):
    path = tmp_path / "labels.yaml"
    path.write_text("labels:\n")
    with raises(f"There are no labels in label file '{path}': list their names."):
        LabelSet.from_yaml(path)


def test_duplicates_are_named():
    with raises(
        "Labels must be unique. 'a' declared more than once: remove or rename the "
        "repeats."
    ):
        LabelSet.parse(["a", "b", "a"])


def test_one_label_is_not_enough():
    with raises(
        "Classification needs at least two labels. Got only 'a' instead: add the "
        "others, for example 'other'."
    ):
        LabelSet.parse(["a"])


def test_a_word_belongs_to_one_label():
    with raises(
        "The word 'good' stands for label 'a' and for label 'b': an answer could not "
        "be told apart. Give each label words of its own."
    ):
        LabelSet.parse({"a": ["good"], "b": ["fine", "good"]})


def test_repeated_word():
    with raises(
        "Label 'a' has the word 'x' more than once: its probability would be counted "
        "twice. Name it once."
    ):
        Label("a", words=("x", "x"))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("", "must not be empty. Got '' instead."),
        (" ", "must not be empty. Got ' ' instead."),
        (3, "must be a string. Got 3 of type int instead. Write it in quotes."),
        (True, "must be a string. Got True of type bool instead. Write it in quotes."),
        (None, "must be a string. Got None of type NoneType instead."),
        (
            " a",
            (
                "must have no white space around it. Got ' a' instead: the space "
                "before an answer is put there by the prompt."
            ),
        ),
    ],
)
def test_bad_names(value, message):
    with raises(f"A label's name {message}"):
        Label(value)


def test_words_must_not_be_one_string():
    with raises(
        "The words of label 'a' must be a sequence of strings. Got the string 'bee' "
        "instead: write ['bee']."
    ):
        Label("a", words="bee")


def test_unknown_key():
    with raises(
        "Label 'a' has the unknown key 'word'. Allowed are 'description', 'words', "
        "'value', 'parent'."
    ):
        LabelSet.parse({"a": {"word": "x"}, "b": None})


@pytest.mark.parametrize("value", ["a,b", 3, None])
def test_what_holds_no_labels(value):
    with pytest.raises(
        LabelError, match=r"^Labels cannot be read from .* Allowed are:"
    ):
        LabelSet.parse(value)


def test_unknown_name_suggests_the_nearest():
    labels = LabelSet.parse(["billing", "shipping"])
    with raises(
        "'biling' is not one of the labels: 'billing', 'shipping'. Did you mean "
        "'billing'?"
    ):
        labels["biling"]
