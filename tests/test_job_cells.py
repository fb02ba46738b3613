"""What cells hold that are no plain strings: through a job, into every format."""

import csv
import io
import json
import os
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from classify.decision import SplitConformalSets
from classify.jobs import Classification, RowColumns, open_table
from tests.toy_jobs import NO_TEXT, job_of, make, run

TEXTS = ["Where is my parcel?", "Où est-il ?", "", "The invoice is wrong."]
HALF = "contains a lone surrogate: \\ud800 to \\udfff must come in pairs."
NOT_UTF8 = (
    "holds bytes that are not UTF-8: decode them first, with the encoding that they "
    "have."
)


def read(path):
    """Return the rows of an output of any format, with empty cells as None."""
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    lines = csv.DictReader(io.StringIO(path.read_text("utf-8")))
    return [{name: cell or None for name, cell in row.items()} for row in lines]


def outputs(folder, source, job=None):
    for suffix in (".csv", ".jsonl", ".parquet"):
        output = folder / f"out{suffix}"
        run(source, output, job or job_of())
        yield suffix, read(output)


BINARY = {
    "binary": pa.binary(),
    "large_binary": pa.large_binary(),
    "binary_view": pa.binary_view(),
    "dictionary": pa.dictionary(pa.int32(), pa.binary()),
    "large_string": pa.large_string(),
    "string_view": pa.string_view(),
    "dictionary of strings": pa.dictionary(pa.int8(), pa.string()),
}


@pytest.mark.parametrize("kind", BINARY)
def test_text_in_every_arrow_type_is_text(tmp_path, kind):
    plain = pa.array(TEXTS)
    typed = plain.dictionary_encode() if "dictionary" in kind else plain
    pq.write_table(pa.table({"text": plain}), tmp_path / "plain.parquet")
    column = typed.cast(BINARY[kind])
    pq.write_table(pa.table({"text": column, "id": column}), tmp_path / "in.parquet")
    run(tmp_path / "plain.parquet", tmp_path / "plain.jsonl")
    expected = read(tmp_path / "plain.jsonl")
    assert [row["error"] for row in expected] == [None, None, NO_TEXT, None]
    for suffix, rows in outputs(tmp_path, tmp_path / "in.parquet"):
        for row, plain_row in zip(rows, expected, strict=True):
            assert row["label"] == plain_row["label"]
            shown = [row["text"], row["id"]]
            if suffix == ".parquet":  # which keeps the type
                shown = [s.decode() if isinstance(s, bytes) else s for s in shown]
            assert [cell or "" for cell in shown] == [plain_row["text"]] * 2


def test_bytes_of_a_fixed_length_and_those_that_are_not_utf8(tmp_path):
    text = [b"bill", b"caf\xe9", None, "é€".encode()[:4]]
    table = pa.table(
        {
            "text": pa.array(text, pa.binary(4)),
            "raw": [b"\x89PNG", b"ok", None, b"\xff"],
            "many": [[b"a", b"\xe9"], None, [], [b"b"]],
        }
    )
    pq.write_table(table, tmp_path / "in.parquet")
    for suffix, rows in outputs(tmp_path, tmp_path / "in.parquet"):
        assert [row["error"] for row in rows] == [
            None,
            f"the text {NOT_UTF8}",
            NO_TEXT,
            f"the text {NOT_UTF8}",
        ]
        if suffix == ".parquet":
            assert [row["text"] for row in rows] == text
            continue
        assert [row["text"] for row in rows] == [
            *("bill", "caf\\xe9", None, "é\\xe2\\x82")
        ]
        assert [row["raw"] for row in rows] == ["\\x89PNG", "ok", None, "\\xff"]
        first = rows[0]["many"]
        assert (json.loads(first) if suffix == ".csv" else first) == ["a", "\\xe9"]


def test_strings_that_are_not_utf8_stop_no_job(tmp_path):
    wrong = pa.array([b"good", b"caf\xe9", b"too"]).view(pa.string())
    nested = pa.ListArray.from_arrays([0, 1, 2, 3], wrong)
    table = pa.table({"text": wrong, "id": wrong, "many": nested})
    pq.write_table(table, tmp_path / "in.parquet")
    for suffix in (".csv", ".jsonl"):
        run(tmp_path / "in.parquet", tmp_path / f"out{suffix}")
        rows = read(tmp_path / f"out{suffix}")
        assert [row["error"] for row in rows] == [None, f"the text {NOT_UTF8}", None]
        assert [row["id"] for row in rows] == ["good", "caf\\xe9", "too"]
    assert rows[1]["many"] == ["caf\\xe9"]


def test_values_that_python_has_not_are_text(tmp_path):
    far = pa.array([253402300800_000, 0], pa.timestamp("ms"))
    table = pa.table({"text": ["a", "b"], "when": far})
    pq.write_table(table, tmp_path / "in.parquet")
    run(tmp_path / "in.parquet", tmp_path / "out.csv")
    rows = read(tmp_path / "out.csv")
    assert [row["when"] for row in rows] == [
        *("10000-01-01 00:00:00.000", "1970-01-01 00:00:00")
    ]
    assert [row["error"] for row in rows] == [None, None]


def test_texts_of_other_types(tmp_path):
    day = pa.array([0], pa.date32())
    for column, error in (
        (pa.nulls(1), NO_TEXT),
        (day, None),
        (pa.array([Decimal("1.50")]), None),
        (pa.array([["a"]]), f"the text {NESTED.format('list')}"),
        (pa.array([{"a": 1}]), f"the text {NESTED.format('dict')}"),
    ):
        pq.write_table(pa.table({"text": column}), tmp_path / "in.parquet")
        run(tmp_path / "in.parquet", tmp_path / "out.jsonl")
        (row,) = read(tmp_path / "out.jsonl")
        assert row["error"] == error


NESTED = "holds a value of type {}, not a string: convert it first."


def test_halves_of_characters_in_a_frame(tmp_path):
    frame = pd.DataFrame(
        {
            "text": pd.Series(["a", "half \ud83d", "c"], dtype=object),
            "id": pd.Series(["x", "y", "b\udc80"], dtype=object),
            "deep": [{"k\ud83d": ["\udfff"]}, None, ["ok"]],
            "odd": [1, 2, 3],
        }
    )
    frame.columns = pd.Index(["text", "id", "deep", "odd\udcff"], dtype=object)
    for suffix, rows in outputs(tmp_path, frame):
        assert [row["error"] for row in rows] == [None, f"the text {HALF}", None]
        assert [row["text"] for row in rows] == ["a", "half \\ud83d", "c"]
        assert [row["id"] for row in rows] == ["x", "y", "b\\udc80"]
        assert [str(row["odd\\udcff"]) for row in rows] == ["1", "2", "3"]
        deep = rows[0]["deep"]
        assert (deep if suffix == ".jsonl" else json.loads(deep)) == {
            "k\\ud83d": ["\\udfff"]
        }
    # The rows of a frame can be had again, so that a job on them can go on.
    same = frame.copy()
    assert open_table(same).inputs() == open_table(frame).inputs()
    same.loc[2, "id"] = "other"
    assert open_table(same).inputs() != open_table(frame).inputs()


def test_bytes_in_a_frame(tmp_path):
    frame = pd.DataFrame(
        {"text": [each.encode() for each in TEXTS], "title": [b"a", "b", None, np.nan]}
    )
    for suffix, rows in outputs(tmp_path, frame):
        cells = [row[name] for row in rows for name in ("text", "title")]
        if suffix == ".parquet":  # where bytes stay bytes
            cells = [cell and cell.decode() for cell in cells]
        assert [cell or "" for cell in cells[::2]] == TEXTS
        assert cells[1::2] == ["a", "b", None, None]
        assert [row["error"] for row in rows] == [None, None, NO_TEXT, None]


def test_candidates_as_bytes(tmp_path):
    cells = [[b"billing", b"shipping"], [b"billing", b"refund"], [b"\xff", b"a"]]
    table = pa.table({"text": ["a", "b", "c"], "options": cells})
    pq.write_table(table, tmp_path / "in.parquet")
    job = Classification(
        classifier=make(("billing", "shipping", "refund")),
        columns=RowColumns(labels="options"),
    )
    run(tmp_path / "in.parquet", tmp_path / "out.jsonl", job)
    rows = read(tmp_path / "out.jsonl")
    assert [row["label"] in cell for row, cell in zip(rows, OPTIONS, strict=True)] == [
        *(True, True, False)
    ]
    assert rows[2]["error"] == f"column 'options' {NOT_UTF8}"


OPTIONS = (["billing", "shipping"], ["billing", "refund"], [])


def test_names_of_files_that_are_not_utf8(tmp_path):
    name = os.fsdecode(b"caf\xe9.csv")
    (tmp_path / name).write_text("text\na\n\n")
    outcome = run(tmp_path / name, tmp_path / os.fsdecode(b"out\xe9.csv"))
    assert outcome.summary.n_rows == 1
    assert os.fsencode(tmp_path / name) in map(
        os.fsencode, [each["path"] for each in open_table(tmp_path / name).inputs()]
    )


# ------------------------------------------------------------------- sets of labels


def test_sets_can_be_given_back_as_candidates(tmp_path):
    names = ("C", "C++", "C|C++")
    classifier = make(names)
    texts = [f"text {n}" for n in range(40)]
    y = [names[n % 3] for n in range(40)]
    scores = classifier.label_logprobs(texts)
    sets = SplitConformalSets(0.8).conformalize(scores, y)
    expected = [classifier.classes_[row].tolist() for row in sets.predict_set(scores)]
    job = Classification(classifier=classifier, sets=sets)
    for suffix, rows in outputs(tmp_path, pd.DataFrame({"text": texts}), job):
        cells = [row["label_set"] for row in rows]
        if suffix == ".csv":
            cells = list(map(json.loads, cells))
        assert cells == expected
        again = Classification(
            classifier=classifier, columns=RowColumns(labels="label_set")
        )
        run(tmp_path / f"out{suffix}", tmp_path / "again.jsonl", again)
        for row, allowed in zip(read(tmp_path / "again.jsonl"), expected, strict=True):
            if len(allowed) > 1:
                assert row["predicted_label"] in allowed
            else:
                assert "at least two labels" in row["predicted_error"]
