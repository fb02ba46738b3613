"""Names of labels: matched in every normal form, listed so that they can be read."""

import json
import re
import unicodedata
from itertools import combinations

import pandas as pd
import pytest

from classify import ZeroShotClassifier
from classify.calibration import LabelCalibrator
from classify.cells import join_names, need_json
from classify.decision import SplitConformalSets
from classify.errors import LabelError
from classify.labels import Label, LabelSet
from classify.labels.names import positions, suggestion
from classify.metrics import log_loss_from_log_proba
from classify.rows.from_cells import candidates_of_cells
from tests.tiny_tokenizers import byte_level
from tests.toy_model import hashed_engine

NFC, NFD = "caf\u00e9", "cafe\u0301"


def raises(message):
    return pytest.raises(LabelError, match=r"^" + re.escape(message) + "$")


# ------------------------------------------------------------------- normal forms


def test_labels_are_found_in_every_normal_form():
    for declared, given in ((NFC, NFD), (NFD, NFC), ("Å", "\u212b"), ("각", "각")):
        given = unicodedata.normalize("NFD", given) if given == "각" else given
        labels = LabelSet.parse([declared, "bar"])
        assert labels.find(given) == declared
        assert given in labels
        assert labels[given].name == declared
        assert labels.subset(["bar", given]).names == (declared, "bar")
    assert LabelSet.parse([NFC, "bar"]).find("Bar") is None
    assert LabelSet.parse([NFC, "bar"]).find(3) is None


def test_labels_that_differ_in_their_normal_form_only_collide():
    with raises(
        f"Labels must be unique. {NFC!r} and {NFD!r} are one text in two Unicode "
        "normal forms: remove or rename one of them."
    ):
        LabelSet.parse([NFC, "bar", NFD])
    with raises(
        r"Labels must be unique. 'bar' and 'b\u200bar' differ in invisible characters "
        "only: remove or rename one of them."
    ):
        LabelSet.parse(["bar", "b\u200bar"])
    with raises(
        f"The word {NFD!r} stands for label 'a' and for label 'b': an answer could not "
        "be told apart. Give each label words of its own."
    ):
        LabelSet.parse({"a": [NFC], "b": [NFD]})
    # One label may be spelled in both ways in an answer.
    assert Label("a", words=(NFC, NFD)).words == (NFC, NFD)
    with raises("Candidate labels must be unique. Got ['café', 'café'] instead."):
        LabelSet.parse([NFC, "bar"]).subset([NFC, NFD])


def test_candidates_true_labels_and_y_match_in_every_normal_form():
    texts = [f"text {n}" for n in range(20)]
    y = [NFD, "bar"] * 10
    clf = ZeroShotClassifier(
        [NFC, "bar"],
        engine=hashed_engine(len(byte_level())),
        tokenizer=byte_level(),
        prompt="{text}\nTopic:",
    )
    assert set(clf.fit(texts, y).predict(texts)) <= {NFC, "bar"}
    scores = clf.label_logprobs(texts)
    listed = clf.label_logprobs(texts, labels=[[NFD, "bar"]] * 20)
    assert listed.classes.tolist() == ["bar", NFC]
    assert (listed.values == scores.values).all()
    own = LabelCalibrator("temperature").fit(scores, y)
    same = LabelCalibrator("temperature").fit(scores, [NFC, "bar"] * 10)
    assert own.temperature_ == same.temperature_
    log_proba = clf.predict_log_proba(texts)
    assert log_loss_from_log_proba(y, log_proba, classes=clf.classes_) == (
        log_loss_from_log_proba([NFC, "bar"] * 10, log_proba, classes=clf.classes_)
    )


def test_positions():
    assert positions([NFD, "bar", "x", 1, True, None], [NFC, "bar", 2]) == [
        *(0, 1, None, None, None, None)
    ]
    # Where both forms are known, each is itself.
    assert positions([NFD, NFC], [NFC, NFD]) == [1, 0]


# ----------------------------------------------------------------------- others


@pytest.mark.parametrize(
    ("given", "known", "hint"),
    [
        ("Billing", "billing", ""),
        ("biling", "billing", ""),
        (
            "not\u00a0paid",
            "not paid",
            " Character 4 is U+00A0 (NO-BREAK SPACE), not U+0020 (SPACE).",
        ),
        (
            " billing",
            "billing",
            " Character 1 is U+0020 (SPACE), not U+0062 (LATIN SMALL LETTER B).",
        ),
        (
            "bill\u200bing",
            "billing",
            (
                " Character 5 is U+200B (ZERO WIDTH SPACE), not U+0069 (LATIN SMALL "
                "LETTER I)."
            ),
        ),
        (
            "billing\ufeff",
            "billing",
            (
                " Character 8 is U+FEFF (ZERO WIDTH NO-BREAK SPACE), which does not "
                "belong there."
            ),
        ),
        (
            "billing",
            "billing\u2060",
            " Character 8, U+2060 (WORD JOINER), is missing.",
        ),
        (
            "\u0441at",
            "cat",
            (
                " Character 1 is U+0441 (CYRILLIC SMALL LETTER ES), not U+0063 (LATIN "
                "SMALL LETTER C)."
            ),
        ),
        (
            "\uff21",
            "A",
            (
                " Character 1 is U+FF21 (FULLWIDTH LATIN CAPITAL LETTER A), not U+0041 "
                "(LATIN CAPITAL LETTER A)."
            ),
        ),
        (
            "a\tb",
            "a b",
            " Character 2 is U+0009 (a control character), not U+0020 (SPACE).",
        ),
        ("доставка", "доставки", ""),
    ],
)
def test_what_looks_alike_is_told_apart(given, known, hint):
    assert suggestion(given, ["zzz", known]) == f" Did you mean {known!r}?{hint}"
    labels = LabelSet.parse([known, "zzz"])
    with raises(
        f"{given!r} is not one of the labels: {known!r}, 'zzz'. Did you mean "
        f"{known!r}?{hint}"
    ):
        labels.subset([given, "zzz"])


def test_nothing_is_suggested_where_nothing_is_near():
    for given in ("weather", "是", 3, None):
        assert suggestion(given, ["billing", "a"]) == ""


def test_half_a_character_and_a_null_are_no_names():
    with raises(
        "A label's name must not contain a lone surrogate: \\ud800 to \\udfff must "
        "come in pairs. Got 'a\\ud83d' instead."
    ):
        LabelSet.parse(["a\ud83d", "b"])
    with raises(
        "A label's name must not hold the character U+0000. Got 'a\\x00' instead."
    ):
        LabelSet.parse(["a\0", "b"])


# ------------------------------------------------------------------------- lists

ODD = ["C", "C++", "C|C++", "[C]", "[C", "a\\", "\\|", '["C"]', "a,b", 'a"b', "a\nb"]


def test_every_list_of_names_is_read_as_it_was_written():
    written = {}
    for n in (1, 2, 3):
        for names in combinations(ODD, n):
            for as_json in (False, True):
                text = join_names(names, as_json=as_json)
                assert candidates_of_cells([text], "labels") == [list(names)]
                assert written.setdefault(text, names) == names


def test_plain_lists_stay_plain():
    assert join_names(["billing", "re fund"]) == "billing|re fund"
    assert (join_names([]), join_names([], as_json=True)) == ("[]", "[]")
    assert not need_json(["a\\", "a,b", 'a"b', "a]["])


def test_lists_in_cells():
    cells = ["a|b", " a | b ", '["a", "b"]', ["a", "b"], ("a", "b"), b"a|b", "a\\|b"]
    assert candidates_of_cells(cells, "labels") == [
        *([["a", "b"]] * 6),
        ["a\\", "b"],
    ]
    (odd,) = candidates_of_cells(["[a|b"], "labels")
    assert str(odd) == (
        "column 'labels' holds '[a|b', which is not a list: Expecting value: line 1 "
        "column 2 (char 1)."
    )
    assert candidates_of_cells(['["a", null, 1]'], "labels") == [["a", "", "1"]]


def test_a_frames_sets_can_be_given_back_as_candidates():
    names = ["C", "C++", "C|C++"]
    clf = ZeroShotClassifier(
        names,
        engine=hashed_engine(len(byte_level())),
        tokenizer=byte_level(),
        prompt="{text}\nTopic:",
    )
    texts = [f"text {n}" for n in range(40)]
    y = [names[n % 3] for n in range(40)]
    sets = SplitConformalSets(0.8).conformalize(clf.label_logprobs(texts), y)
    member = sets.predict_set(clf.label_logprobs(texts))
    found = clf.classify_frame(pd.DataFrame({"text": texts}), sets=sets)
    expected = [clf.classes_[row].tolist() for row in member]
    assert [json.loads(cell) for cell in found["label_set"]] == expected
    assert len({len(each) for each in expected}) > 1
