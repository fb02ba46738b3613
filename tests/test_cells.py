"""Cells: what is missing, what is a text, what cannot be one."""

import re
import tracemalloc
import unicodedata
from decimal import Decimal
from enum import Enum

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from classify import ZeroShotClassifier
from classify.cells import (
    column_list,
    is_missing,
    no_text,
    text_of,
    written_text,
)
from classify.errors import DataError, InputError
from classify.rows.from_cells import candidates_of_cells, rows_of_cells, rows_of_texts
from tests.tiny_tokenizers import byte_level
from tests.toy_model import hashed_engine

EMPTY = "there is no text: it is empty or missing."
INVISIBLE = "there is no text: it has only invisible characters."
HALF = "contains a lone surrogate: \\ud800 to \\udfff must come in pairs."
NOT_UTF8 = (
    "holds bytes that are not UTF-8: decode them first, with the encoding that they "
    "have."
)


def raises(message, error=DataError):
    return pytest.raises(error, match=r"^" + re.escape(message) + "$")


MISSING = [
    *(None, float("nan"), np.float32("nan"), np.ma.masked, pd.NA, pd.NaT),
    *(np.datetime64("NaT"), np.timedelta64("NaT"), Decimal("NaN"), Decimal("sNaN")),
]


@pytest.mark.parametrize("value", MISSING, ids=repr)
def test_every_missing_value_is_no_text(value):
    assert text_of(value) == ""
    for made in (rows_of_cells({"text": [value]}), rows_of_texts([value], ["text"])):
        assert [str(each) for each in made] == [EMPTY]
    # In another column of the prompt it is nothing, and never a word like "nan".
    assert rows_of_cells({"text": ["a"], "title": [value]}) == [
        {"text": "a", "title": ""}
    ]
    (none,) = candidates_of_cells([value], "labels")
    assert str(none) == "there are no labels in column 'labels'."


@pytest.mark.parametrize("word", ["nan", "None", "NULL", "<NA>", "NaT", "N/A", "null"])
def test_words_for_nothing_are_words(word):
    assert not is_missing(word)
    assert rows_of_cells({"text": [word]}) == [{"text": word}]


def test_values_that_are_there():
    for value in (0, False, 0.0, "", b"", [], [np.nan], np.array([np.nan]), {}):
        assert not is_missing(value)
    numbers = [0, 1.5, True, Decimal("1.50"), np.int64(3)]
    assert list(map(text_of, numbers)) == ["0", "1.5", "True", "1.50", "3"]

    class Name(str, Enum):  # noqa: UP042 not a StrEnum
        A = "a"

    assert text_of(Name.A) == text_of(np.str_("a")) == "a"


INVISIBLE_TEXTS = [
    *("\u200b", "\ufeff", "\u200e\u200f", "\u2060", "\u00ad", "\ufe0f", "\u200d"),
    *("\u2800", "\u115f", "\u1160", "\u3164", "\uffa0", "\u034f", "\u180e", "\u17b5"),
    *("\0", "\x07\x1b", "\x7f\x9f", "\u0301", "\u20dd", "\U000e0020", "\U000e0fff"),
    *("\ufff0", "\ufff9", "\ufffc", "\u2065", "\u061c", "\u202a\u202c", "\u2066"),
    *(" \u200b ", "\u00a0\ufeff", "\u3000\u200b\n"),
]


@pytest.mark.parametrize("text", INVISIBLE_TEXTS, ids=ascii)
def test_texts_with_nothing_to_see_are_none(text):
    assert no_text(text) == INVISIBLE
    made = rows_of_cells({"text": [text, f"a{text}", f"{text}a"]})
    assert str(made[0]) == INVISIBLE
    assert made[1:] == [{"text": f"a{text}"}, {"text": f"{text}a"}]
    (none,) = candidates_of_cells([text], "labels")
    assert str(none) == "there are no labels in column 'labels'."


@pytest.mark.parametrize(
    "text", ["", " ", "\t\r\n", "\u00a0", "\u3000\u2003", "\u2028"]
)
def test_white_space_is_no_text(text):
    assert no_text(text) == EMPTY


@pytest.mark.parametrize(
    "text",
    [
        *("!", "。", "0", "é", "e\u0301", "का", "\u0903", "⠿", "한", "\ufffd"),
        *("\ue000", "👨\u200d👩\u200d👧", "❤\ufe0f", "\N{WAVING BLACK FLAG}\U000e0067"),
        *("\U0001fbff", "_", "ª", "×"),
    ],
)
def test_one_visible_character_makes_a_text(text):
    assert no_text(text) == no_text(f"\u200b {text}") == ""


def test_every_letter_digit_and_sign_is_visible_but_for_the_known_blanks():
    kinds = ("L", "N", "P", "S", "Co", "Mc")
    blank = [
        chr(code)
        for code in range(0x110000)
        if unicodedata.category(chr(code)).startswith(kinds) and no_text(chr(code))
    ]
    assert blank == ["\u115f", "\u1160", "\u2800", "\u3164", "\uffa0", "\ufffc"]


def test_bytes_are_read_as_utf8():
    text = "Où est mon colis ?"
    for value in (text.encode(), bytearray(text.encode()), np.bytes_(text.encode())):
        assert text_of(value) == text
    assert rows_of_texts([text.encode()], ["text"]) == [{"text": text}]
    assert rows_of_texts(np.array([b"a", b"b"]), ["text"]) == [
        {"text": "a"},
        {"text": "b"},
    ]
    assert candidates_of_cells([b"a|b", [b"a", "b"]], "labels") == [
        ["a", "b"],
        ["a", "b"],
    ]


def test_what_cannot_be_a_text_is_set_aside():
    values = ["a", "half \ud83d", "\udc80", b"caf\xe9", ["a"], {"a": 1}, "b"]
    made = rows_of_cells({"text": values})
    nested = "holds a value of type {}, not a string: convert it first."
    assert [str(each) for each in made[1:6]] == [
        f"the text {HALF}",
        f"the text {HALF}",
        f"the text {NOT_UTF8}",
        f"the text {nested.format('list')}",
        f"the text {nested.format('dict')}",
    ]
    assert [made[0], made[6]] == [{"text": "a"}, {"text": "b"}]
    made = rows_of_cells({"title": values[:4], "text": ["x"] * 4})
    assert [str(each) for each in made[1:]] == [
        f"column 'title' {HALF}",
        f"column 'title' {HALF}",
        f"column 'title' {NOT_UTF8}",
    ]
    made = candidates_of_cells(["a|\udc80", [b"\xff"], [["a"]]], "labels")
    assert [str(each) for each in made] == [
        f"column 'labels' {HALF}",
        f"column 'labels' {NOT_UTF8}",
        f"column 'labels' {nested.format('list')}",
    ]


def test_a_text_that_cannot_be_written_becomes_escape_sequences():
    assert written_text("half \ud83d") == "half \\ud83d"
    assert written_text(b"caf\xe9") == "caf\\xe9"
    assert written_text("é 🙂".encode()) == written_text("é 🙂") == "é 🙂"


# --------------------------------------------------------------------- many texts


def classifier():
    return ZeroShotClassifier(
        ["billing", "shipping"],
        engine=hashed_engine(len(byte_level())),
        tokenizer=byte_level(),
        prompt="{text}\nTopic:",
    )


TEXTS = ["Where is my parcel?", "The invoice is wrong."]


@pytest.mark.parametrize(
    "texts",
    [
        tuple(TEXTS),
        np.array(TEXTS),
        np.array(TEXTS, dtype=object),
        pd.Series(TEXTS, index=[7, 3]),
        pd.Series(TEXTS, dtype="category"),
        pd.Series(TEXTS, dtype="string"),
        pd.Index(TEXTS),
        pd.array(TEXTS, dtype="string"),
        pa.array(TEXTS),
        pa.array(TEXTS).dictionary_encode(),
        pa.chunked_array([TEXTS[:1], TEXTS[1:]]),
        [each.encode() for each in TEXTS],
    ],
    ids=lambda texts: f"{type(texts).__name__} {getattr(texts, 'dtype', '')}",
)
def test_every_sequence_of_texts_gives_the_same(texts):
    assert rows_of_texts(texts, ["text"]) == [{"text": each} for each in TEXTS]


@pytest.mark.parametrize(
    ("texts", "got"),
    [
        ("one text", "Got 'one text' instead: put a single text in a list."),
        (b"one", "Got b'one' instead: pass a list."),
        (np.array("one"), "Got array('one', dtype='<U3') instead: pass a list."),
        ({"a": 1}, "Got {'a': 1} instead: pass a list."),
        ({"a"}, "Got {'a'} instead: pass a list."),
        (None, "Got None instead: pass a list."),
        (3, "Got 3 instead: pass a list."),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_sequence(texts, got):
    with raises(f"Texts must be a sequence of strings. {got}", InputError):
        rows_of_texts(texts, ["text"])


@pytest.mark.parametrize(
    ("texts", "shape"),
    [
        ([["a"], ["b"]], "(2, 1)"),
        ([["a", "b"], ["c"]], "(2, 2)"),
        (np.array([["a", "b"]]), "(1, 2)"),
        (pa.table({"a": TEXTS}), "(2, 1)"),
    ],
    ids=["lists", "ragged", "array", "table"],
)
def test_more_than_one_dimension(texts, shape):
    with raises(
        f"Texts must have one dimension. Got shape {shape} instead: pass one column.",
        InputError,
    ):
        rows_of_texts(texts, ["text"])


def test_a_long_text_that_is_no_string_is_not_shown_whole():
    long = [0] * 100_000
    with pytest.raises(InputError) as failed:
        rows_of_texts(["a", long], ["text"])
    assert str(failed.value) == (
        "Texts must be strings. Text 1 is [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, …"
        f"{repr(long)[-40:]} of type list instead: convert it first."
    )


def test_memory_follows_the_sum_of_the_lengths():
    texts = ["Where is my parcel?"] * 2_000 + ["x y " * 50_000]
    tracemalloc.start()
    rows_of_texts(texts, ["text"])
    rows_of_texts(pd.Series(texts, dtype=object), ["text"])
    column_list(texts)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # As an array of strings of one length they would be 1.6 GB.
    assert peak < 10_000_000


def test_bad_texts_in_a_prediction_name_their_place():
    hint = "Leave it out, or use classify_frame(…, on_error='set_aside'), which"
    with raises(
        f"Text 1: the text {HALF} {hint} continues with the others.", InputError
    ):
        classifier().predict(["a", "half \ud83d"])
    frame = pd.DataFrame({"text": pd.Series(["a", "\udc80", b"b"], dtype=object)})
    found = classifier().classify_frame(frame, on_error="set_aside")
    assert found["error"].tolist() == ["", f"the text {HALF}", ""]
    assert found["label"].isna().tolist() == [False, True, False]
    assert found["text"].tolist() == ["a", "\udc80", b"b"]
