"""Labelled rows out of any table: checked, scored, and what is left out counted."""

import json
import re
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from classify import (
    PromptTemplate,
    ZeroShotClassifier,
    ZeroShotMultiLabelClassifier,
)
from classify.engines import FakeEngine
from classify.errors import DataError, LabelError
from classify.jobs import open_table, read_labelled, score_labelled
from classify.jobs.labelled import score_together, usable_texts
from classify.labels import LabelSet
from tests.tiny_tokenizers import byte_level
from tests.toy_model import hashed_engine, hashed_logprobs

LABELS = LabelSet.parse(["billing", "shipping"])


def raises(message, error=DataError):
    return pytest.raises(error, match=r"^" + re.escape(message) + "$")


def read(source, *, fields=("text",), label_column="label"):
    return read_labelled(
        open_table(source),
        LABELS,
        fields=fields,
        text_column="body",
        label_column=label_column,
    )


def write(path, text):
    path.write_bytes(text.encode("latin-1"))
    return path


def test_rows_have_what_the_prompt_needs():
    frame = pd.DataFrame(
        {
            "body": ["a", "b", None, "d"],
            "title": ["x", None, "z", "w"],
            "label": [" billing ", None, "shipping", "NaN"],
        }
    )
    labelled = read(frame, fields=("title", "text"))
    assert labelled.rows[0] == {"title": "x", "text": "a"}
    assert str(labelled.rows[1]) == "there is no text: it is empty or missing."
    assert labelled.labels.tolist() == ["billing", "shipping"]
    assert (labelled.unlabelled.total(), labelled.unreadable) == (2, {})
    everything = read(frame, label_column=None)
    assert (len(everything.rows), everything.labels) == (4, None)


def test_every_format_gives_the_same_rows(tmp_path):
    rows = [
        {"body": "a", "label": "billing"},
        {"body": "b", "label": None},
        {"body": "c", "label": "shipping"},
    ]
    frame = pd.DataFrame(rows)
    frame.to_csv(tmp_path / "in.csv", index=False)
    frame.to_csv(tmp_path / "in.tsv.gz", index=False, sep="\t")
    frame.to_parquet(tmp_path / "in.parquet", index=False)
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for name in ("in.csv", "in.tsv.gz", "in.parquet", "in.jsonl"):
        labelled = read(tmp_path / name)
        assert labelled.rows == [{"text": "a"}, {"text": "c"}]
        assert labelled.labels.tolist() == ["billing", "shipping"]
        assert labelled.unlabelled.total() == 1


def test_rows_that_cannot_be_read_are_set_aside_with_their_reason(tmp_path):
    path = write(tmp_path / "in.csv", "body,label\na,billing\nb\n\xe9,\nc,shipping\n")
    labelled = read(path)
    width = (
        "it has 1 field, but the header names 2 columns: a field that contains a comma "
        "or a line break must be in quotes."
    )
    byte = (
        "byte 0xe9 in column 'body' is not utf-8. Name the file's encoding, for "
        "example encoding='cp1252'."
    )
    assert labelled.unreadable == {width: 1, byte: 1}
    assert (len(labelled.rows), labelled.unlabelled.total()) == (2, 0)
    classifier = ZeroShotClassifier(
        LABELS.names,
        engine=hashed_engine(len(byte_level())),
        tokenizer=byte_level(),
        prompt=PromptTemplate("{text}\nTopic:", chat=False),
    )
    scored = score_labelled(classifier, labelled)
    assert scored.set_aside == {width: 1, byte: 1}
    assert scored.labels.tolist() == ["billing", "shipping"]


def test_all_values_that_are_not_labels_are_listed(tmp_path):
    path = write(tmp_path / "one.csv", "body,label\nbad\n\na,billing\nb,refunds\n")
    with raises(
        f"Column 'label' of '{path}' holds a value that is not a label. 'refunds': row "
        "3. The labels are 'billing', 'shipping'. Correct these cells, or empty them "
        "to leave their rows out.",
        LabelError,
    ):
        read(path)
    cells = ["billing", "Biling", "refunds", "refunds", "bill\xa0ing", "", "shipping"]
    path = tmp_path / "many.csv"
    path.write_text("body,label\n" + "".join(f"a,{cell}\n" for cell in cells))
    with raises(
        f"Column 'label' of '{path}' holds 3 values that are not labels. 'refunds': 2 "
        "rows, the first is row 3. 'Biling': row 2. Did you mean 'billing'? "
        "'bill\\xa0ing': row 5. Did you mean 'billing'? The labels are 'billing', "
        "'shipping'. Correct these cells, or empty them to leave their rows out.",
        LabelError,
    ):
        read(path)
    frame = pd.DataFrame({"body": "a", "label": [f"topic {n}" for n in range(22)]})
    with pytest.raises(LabelError, match=r"holds 22 values .* And 2 more\. The labels"):
        read(frame)


def test_labels_match_in_every_normal_form(tmp_path):
    labels = LabelSet.parse(["caf\u00e9", "bar"])
    frame = pd.DataFrame({"body": "a", "label": ["cafe\u0301", "bar", "caf\u00e9"]})
    frame.to_csv(tmp_path / "in.csv", index=False)
    for source in (frame, tmp_path / "in.csv"):
        labelled = read_labelled(
            open_table(source),
            labels,
            fields=("text",),
            text_column="body",
            label_column="label",
        )
        assert labelled.labels.tolist() == ["caf\u00e9", "bar", "caf\u00e9"]


def test_labels_of_every_kind_of_cell():
    cells = [b"billing", " billing\n", "\u200b", pd.NA, pd.NaT, Decimal("NaN"), "nan"]
    frame = pd.DataFrame({"body": "a", "label": pd.Series(cells, dtype=object)})
    labelled = read(frame)
    assert labelled.labels.tolist() == ["billing", "billing"]
    assert labelled.unlabelled.total() == 5
    odd = pd.DataFrame({"body": "a", "label": [["billing", "x"], b"\xff", "\ud83d"]})
    with pytest.raises(LabelError) as failed:
        read(odd)
    for value in ("\"['billing', 'x']\"", "'\\\\xff'", "'\\\\ud83d'"):
        assert f"{value}: row " in str(failed.value)


def test_a_label_may_be_called_nan():
    labels = LabelSet.parse(["nan", "a|b"])
    frame = pd.DataFrame({"body": "a", "label": ["nan", "a|b", '["nan", "a|b"]', ""]})
    options = {"fields": ("text",), "text_column": "body", "label_column": "label"}
    several = read_labelled(open_table(frame), labels, any_number=True, **options)
    assert several.labels.tolist() == [[0, 1], [1, 0], [1, 1]]
    one = read_labelled(open_table(frame[:2]), labels, **options)
    assert one.labels.tolist() == ["nan", "a|b"]
    assert several.unlabelled.total() == 1


def test_tables_without_rows_to_use(tmp_path):
    empty = write(tmp_path / "empty.csv", "body,label\n")
    for column in ("label", None):
        with raises(f"There are no rows in '{empty}'."):
            read(empty, label_column=column)
    unlabelled = write(tmp_path / "unlabelled.csv", "body,label\na,\n")
    with raises(
        f"There are no labels in column 'label' of '{unlabelled}': fill in those of "
        "some rows."
    ):
        read(unlabelled)
    with raises(
        f"None of the 1 rows of '{tmp_path}/ragged.csv' can be read: it has 1 field, "
        "but the header names 2 columns: a field that contains a comma or a line break "
        "must be in quotes."
    ):
        read(write(tmp_path / "ragged.csv", "body,label\na\n"))


class Noting(FakeEngine):
    """Notes the prompts in the order in which they come."""

    def submit(self, request):
        self.prompts = [*getattr(self, "prompts", []), request.prompt_token_ids]
        return super().submit(request)


def test_questions_about_a_table_are_asked_row_by_row():
    """Whatever rows have a label: then an engine computes each text once."""
    frame = pd.DataFrame(
        {
            "body": ["first text", "second text", "third text"],
            "label": ["billing", None, "shipping"],
            "tone": [None, "angry", "calm"],
        }
    )
    tones = LabelSet.parse(["angry", "calm"])
    tokenizer = byte_level()
    engine = Noting.from_function(hashed_logprobs(len(tokenizer)), len(tokenizer))
    common = {"engine": engine, "tokenizer": tokenizer}
    classifiers = [
        ZeroShotClassifier(LABELS.names, prompt="{text}\nTopic?", **common),
        ZeroShotMultiLabelClassifier(tones.names, prompt="{text}\n{label}?", **common),
    ]
    labelled = [
        read_labelled(
            open_table(frame),
            labels,
            fields=("text",),
            text_column="body",
            label_column=column,
            any_number=column == "tone",
        )
        for labels, column in ((LABELS, "label"), (tones, "tone"))
    ]
    finished = []
    found = score_together(classifiers, labelled, progress=finished.append)
    texts = [tokenizer.decode(prompt) for prompt in engine.prompts]
    places = [next(n for n, text in enumerate(frame.body) if text in w) for w in texts]
    assert places[:6] == [0, 1, 1, 2, 2, 2]
    assert sum(finished) == 2  # six prompts, three of which are about a row
    for classifier, rows, scored in zip(classifiers, labelled, found, strict=True):
        alone = score_labelled(classifier, rows)
        np.testing.assert_allclose(
            usable_texts(rows, scored).scores.log_proba, alone.scores.log_proba
        )
