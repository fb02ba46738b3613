"""A table through a classifier: no row lost, no cell changed, nothing half-written."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classify import PromptTemplate
from classify.decision import SelectiveClassifier, SplitConformalSets
from classify.jobs import (
    JobWatcher,
    open_table,
    output_format,
    run_job,
    select_rows,
    stream_rows,
)
from classify.jobs.summary import Summary
from tests.tiny_tokenizers import byte_level
from tests.toy_jobs import (
    ADDED,
    NO_TEXT,
    NO_VISIBLE_TEXT,
    csv_of,
    job_of,
    make,
    names,
    raises,
    rows_of,
    run,
    write,
)
from tests.toy_model import hashed_engine

# ------------------------------------------------------------------------- results


def test_rows_come_out_with_their_results(tmp_path):
    source = write(tmp_path / "in.csv", 'id,text\n1,My invoice\n2,"  "\n3,A parcel\n')
    job = job_of(probabilities=True)
    outcome = run(source, tmp_path / "out.csv", job)
    header, *rows = rows_of(tmp_path / "out.csv")
    own = ["p(billing)", "p(shipping)"]
    assert header == ["id", "text", *ADDED[:2], *own, *ADDED[2:]]
    assert [row[:2] for row in rows] == [
        ["1", "My invoice"],
        ["2", "  "],
        ["3", "A parcel"],
    ]
    assert rows[1][2:] == ["", "", "", "", "", "", "", NO_TEXT]
    expected = make().predict_proba(["My invoice", "A parcel"])
    for row, proba in zip([rows[0], rows[2]], expected, strict=True):
        assert [float(cell) for cell in row[4:6]] == pytest.approx(
            list(proba), abs=1e-12
        )
        assert float(row[3]) == max(float(cell) for cell in row[4:6])
        assert row[2] == ["billing", "shipping"][int(proba.argmax())]
        assert row[-2:] == ["False", ""]
    summary = outcome.summary
    assert (summary.n_rows, summary.n_labelled, summary.n_set_aside) == (3, 2, 1)
    assert summary.reasons == {NO_TEXT: 1}
    assert sum(summary.label_counts.values()) == 2
    assert 0 < summary.mean_label_mass < 1
    assert (outcome.is_complete, outcome.n_resumed, outcome.folder) == (True, 0, None)
    assert outcome.seconds > 0
    assert names(tmp_path) == ["in.csv", "out.csv", "out.csv.errors.csv"]


@pytest.mark.parametrize("part_rows", [1, 2, 7, 29, 30, 31])
def test_the_size_of_parts_changes_nothing(tmp_path, part_rows):
    texts = [["" if n % 11 == 5 else f"text number {n % 7}"] for n in range(30)]
    source = csv_of(tmp_path / "in.csv", texts)
    whole = run(source, tmp_path / "whole.csv").summary
    outcome = run(source, tmp_path / "parts.csv", part_rows=part_rows)
    for suffix in ("", ".errors.csv"):
        whole_bytes = (tmp_path / f"whole.csv{suffix}").read_bytes()
        assert (tmp_path / f"parts.csv{suffix}").read_bytes() == whole_bytes
    found = outcome.summary.as_json() | {"sum_label_mass": None}
    assert found == whole.as_json() | {"sum_label_mass": None}
    assert outcome.summary.sum_label_mass == pytest.approx(whole.sum_label_mass)


def test_rows_that_are_handed_out_are_those_of_the_file(tmp_path):
    source = csv_of(tmp_path / "in.csv", [[f"text {n}"] for n in range(10)])
    run(source, tmp_path / "out.csv")
    table, job, written = open_table(source), job_of(), output_format("-")
    parts = [written.header(table.columns, list(job.kinds(table.columns)))]
    kinds = job.kinds(table.columns)
    outcome = stream_rows(
        job,
        table,
        lambda each: parts.append(written.encode(each.chunk, each.results, kinds)),
        part_rows=3,
    )
    assert b"".join(parts) == (tmp_path / "out.csv").read_bytes()
    assert len(parts) == 5
    assert (outcome.is_complete, outcome.summary.n_rows) == (True, 10)
    assert names(tmp_path) == ["in.csv", "out.csv"]


def test_columns_that_the_input_has_already_are_kept(tmp_path):
    source = write(tmp_path / "in.csv", "text,label,error\na,theirs,\n")
    summary = run(source, tmp_path / "out.csv").summary
    header, row = rows_of(tmp_path / "out.csv")
    assert header[:4] == ["text", "label", "error", "predicted_label"]
    assert row[:3] == ["a", "theirs", ""]
    assert summary.n_labelled == 1
    renamed = {"label": "predicted_label", "error": "predicted_error"}
    assert job_of().renamed(open_table(source).columns) == renamed


def test_repeated_column_names_are_kept(tmp_path):
    source = write(tmp_path / "in.csv", "x,text,x\n1,a,2\n")
    run(source, tmp_path / "out.csv")
    header, row = rows_of(tmp_path / "out.csv")
    assert header == ["x", "text", "x", *ADDED]
    assert row[:3] == ["1", "a", "2"]


def test_candidate_labels_of_each_row(tmp_path):
    source = write(
        tmp_path / "in.csv", "text,options\na,x|y\nb,\nc,x|x\nd,y | z\ne,x\n"
    )
    job = job_of(make(labels=None), labels="options")
    summary = run(source, tmp_path / "out.csv", job).summary
    _, *rows = rows_of(tmp_path / "out.csv")
    assert [bool(row[2]) for row in rows] == [True, False, False, True, False]
    assert rows[0][2] in ("x", "y")
    assert rows[3][2] in ("y", "z")
    assert rows[1][-1] == "there are no labels in column 'options'."
    assert summary.n_set_aside == 3
    expected = make(labels=None).predict_proba(
        ["a", "d"], labels=[["x", "y"], ["y", "z"]]
    )
    found = [float(rows[at][3]) for at in (0, 3)]
    assert found == pytest.approx(expected.max(axis=1).tolist(), abs=1e-12)


def test_candidate_labels_among_declared_ones(tmp_path):
    source = write(
        tmp_path / "in.csv", "text,options\na,x|y\na,x|y|z\na,z|y|x\nb,x|other\n"
    )
    classifier = make(labels=("x", "y", "z"))
    job = job_of(classifier, labels="options", probabilities=True)
    run(source, tmp_path / "out.csv", job)
    _, *rows = rows_of(tmp_path / "out.csv")
    proba = [[float(cell) for cell in row[4:7]] for row in rows[:3]]
    expected = classifier.predict_proba(
        ["a", "a", "a"], labels=[["x", "y"], ["x", "y", "z"], ["z", "y", "x"]]
    )
    assert np.array(proba) == pytest.approx(expected, abs=1e-12)
    assert proba[0][2] == 0
    assert rows[3][2] == ""
    assert "'other'" in rows[3][-1]


def test_truncated_rows_are_counted(tmp_path):
    source = write(tmp_path / "in.csv", f"text\nshort\n{'long ' * 100}\n")
    engine = hashed_engine(len(byte_level()), context_length=60)
    summary = run(source, tmp_path / "out.csv", job_of(make(engine=engine))).summary
    assert [row[-2] for row in rows_of(tmp_path / "out.csv")[1:]] == ["False", "True"]
    assert summary.n_truncated == 1


def test_decisions_have_columns_of_their_own(tmp_path):
    clf = make(("billing", "shipping", "refund"))
    texts = [f"text {n}" for n in range(300)]
    proba, y = clf.predict_proba(texts), clf.predict(texts)
    selective = SelectiveClassifier(target_risk=0.2, classes=clf.classes_)
    selective.fit(proba, np.where(proba.max(axis=1) > 0.7, y, "billing"))
    sets = SplitConformalSets(0.9, classes=clf.classes_).fit(proba, y)
    source = csv_of(tmp_path / "in.csv", [[text] for text in (*texts[:40], "")])
    job = job_of(clf, probabilities=True, selective=selective, sets=sets)
    outcome = run(source, tmp_path / "out.csv", job, part_rows=7)
    frame = pd.read_csv(tmp_path / "out.csv", keep_default_na=False, dtype=str)
    p = [f"p({name})" for name in clf.classes_]
    kinds = job.kinds(["text"])
    assert list(frame.columns) == ["text", *kinds]
    assert list(kinds) == [
        *("label", "probability", "abstained", "label_set"),
        *(*p, "label_mass", "unresolved", "truncated", "error"),
    ]
    assert {name for name, kind in kinds.items() if kind == "float"} == {
        *("probability", *p, "label_mass", "unresolved")
    }
    scored = frame[:40]
    decided = selective.decide(proba[:40])
    expected = [label or "" for label in decided.label]
    assert scored["label"].tolist() == expected
    assert scored["abstained"].tolist() == [reason or "" for reason in decided.reason]
    members = [set(clf.classes_[row]) for row in sets.predict_set(proba[:40])]
    assert [set(cell.split("|")) - {""} for cell in scored["label_set"]] == members
    assert scored[p].astype(float).to_numpy() == pytest.approx(proba[:40], abs=1e-12)
    assert frame.iloc[40].tolist() == ["", *[""] * 10, NO_TEXT]
    summary = outcome.summary
    n_withheld = int(scored["abstained"].ne("").sum())
    assert 0 < n_withheld < 40
    assert summary.abstained.total() == n_withheld
    assert (summary.n_labelled, summary.n_scored) == (40 - n_withheld, 40)
    assert sum(summary.label_counts.values()) == summary.n_labelled


@pytest.mark.parametrize("name", ["out.csv", "out.tsv", "out.jsonl", "out.parquet"])
def test_a_header_alone_gives_a_header(tmp_path, name):
    source = write(tmp_path / "in.csv", "id,text\n")
    outcome = run(source, tmp_path / name)
    readers = {"csv": pd.read_csv, "parquet": pd.read_parquet}
    kind = name.removeprefix("out.")
    if kind == "jsonl":
        assert (tmp_path / name).read_bytes() == b""
    else:
        options = {"sep": "\t"} if kind == "tsv" else {}
        frame = readers.get(kind, pd.read_csv)(tmp_path / name, **options)
        assert (list(frame.columns), len(frame)) == (["id", "text", *ADDED], 0)
    assert (outcome.is_complete, outcome.summary) == (True, Summary())
    assert outcome.summary.mean_label_mass == 0.0
    assert names(tmp_path) == ["in.csv", name]


# ---------------------------------------------------------------------- what is told


class Told(JobWatcher):
    def __init__(self):
        self.begun, self.n_rows, self.n_tokens, self.n_finished = [], 0, 0, []

    def begins(self, n_rows, n_done):
        self.begun.append((n_rows, n_done))

    def progressed(self, n_rows, n_tokens):
        self.n_rows += n_rows
        self.n_tokens += n_tokens

    def finished(self, summary):
        self.n_finished.append(summary.n_rows)


def test_a_watcher_is_told_of_every_row_once(tmp_path):
    rows = [["a"], ["a"], [""], ["long " * 40], ["b"], ["a"], ["b"]]
    source = csv_of(tmp_path / "in.csv", rows)
    engine = hashed_engine(len(byte_level()), context_length=60)
    template = PromptTemplate("{text}\nTopic:", chat=False, too_long="error")
    classifier = make(engine=engine).set_params(prompt=template)
    told = Told()
    run(source, tmp_path / "out.csv", job_of(classifier), watcher=told, part_rows=3)
    assert told.begun == [(7, 0)]
    assert (told.n_rows, told.n_finished) == (7, [3, 6, 7])
    prompts = {each.prompt_token_ids for each in engine.requests}
    assert told.n_tokens == sum(map(len, prompts))


# ------------------------------------------------------------------- whatever comes in

PIECES = [
    *(b'"', b'""', b",", b"\n", b"\r\n", b"\r", b" ", b"a", b"text", b"1", b"\0"),
    *(b"\xef\xbb\xbf", b"\xe9", b"\xff\xfe", b"\xc3\xa9", "株🙂\u2028".encode()),
    *(b"\xed\xb2\x80", b'"\n"', b',"', b'",', b"x" * 5_000),
]


def why_not(text):
    if text.strip(" \t\r\n\u2028\0\ufeff"):
        return ""
    return NO_VISIBLE_TEXT if text.strip() else NO_TEXT


@given(
    body=st.lists(st.sampled_from(PIECES), max_size=40).map(b"".join),
    header=st.sampled_from([b"text", b"id,text", b"\xef\xbb\xbftext,a,a", b",text,"]),
    part_rows=st.integers(1, 4),
)
@settings(max_examples=60)
def test_every_row_of_a_hostile_file_is_a_result_or_an_error(
    tmp_path_factory, body, header, part_rows
):
    folder = tmp_path_factory.mktemp("hostile")
    source, output = folder / "in.csv", folder / "out.csv"
    source.write_bytes(header + b"\n" + body)
    table = open_table(source)
    outcome = run_job(job_of(), table, output, part_rows=part_rows)
    cells, numbers, blank = [], [], []
    for chunk in table.chunks(1000):
        cells += chunk.lists()
        numbers += chunk.numbers.tolist()
        texts = chunk.cells("text")
        blank += [n for n, text in zip(numbers, texts, strict=True) if why_not(text)]
    written, *rows = rows_of(output)
    n_columns = len(table.columns)
    assert written == [*table.columns, *ADDED]
    assert [row[:n_columns] for row in rows] == cells
    for row in rows:
        text = row[table.columns.index("text")]
        label, error = row[n_columns], row[-1]
        assert (label in ("billing", "shipping")) == (not why_not(text))
        assert error == why_not(text)
    listed = [] if outcome.errors is None else rows_of(outcome.errors)[1:]
    set_aside = [int(row[0]) - 1 for row in listed]
    unreadable = sorted(set(range(table.n_rows)) - set(numbers))
    assert set_aside == sorted([*unreadable, *blank])
    assert outcome.summary.n_rows == table.n_rows == len(cells) + len(unreadable)
    assert outcome.summary.n_labelled + len(set_aside) == table.n_rows


def test_a_cell_of_a_megabyte_comes_out_as_it_went_in(tmp_path):
    long = 'a "long" text,\n' * 70_000
    source = csv_of(tmp_path / "in.csv", [["1", long], ["2", "b"]], ("id", "text"))
    engine = hashed_engine(len(byte_level()), context_length=500)
    run(source, tmp_path / "out.csv", job_of(make(engine=engine)))
    _, first, second = rows_of(tmp_path / "out.csv")
    assert (first[1], second[1]) == (long, "b")
    assert (first[-2], second[-2]) == ("True", "False")


def test_some_of_the_rows(tmp_path):
    source = csv_of(tmp_path / "in.csv", [[f"text {n}"] for n in range(20)])
    run(source, tmp_path / "all.csv")
    header, *rows = rows_of(tmp_path / "all.csv")
    shards = []
    for at in (1, 2, 3):
        table = select_rows(open_table(source), shard=(at, 3))
        run_job(job_of(), table, tmp_path / f"{at}.csv", part_rows=4)
        own, *some = rows_of(tmp_path / f"{at}.csv")
        assert own == header
        shards += some
    assert shards == rows


def test_jsonl_keeps_types(tmp_path):
    lines = [{"text": "a", "n": 1, "x": [1, {"y": None}]}, {"text": "b", "n": 2.5}]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    source = write(tmp_path / "in.jsonl", text)
    run(source, tmp_path / "out.jsonl")
    out = map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())
    pairs = list(zip(out, lines, strict=True))
    assert [{name: row[name] for name in line} for row, line in pairs] == lines
    assert [list(row) for row, _ in pairs] == [[*line, *ADDED] for line in lines]
    twice = write(tmp_path / "in.csv", "text,a,a\n1,2,3\n")
    with raises(
        f"'{twice}' has more than one column 'a', which JSONL cannot hold: rename "
        "one, or write CSV."
    ):
        run(twice, tmp_path / "out2.jsonl")
