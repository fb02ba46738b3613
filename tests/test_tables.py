"""Tables out of files: which files, streams and frames; what is said of the rest."""

import gzip
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
import tracemalloc

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from classify.errors import ConfigError, DataError
from classify.tables import Unreadable, joined, open_table


def raises(message, error=DataError):
    return pytest.raises(error, match=r"^" + re.escape(message) + "$")


def write(path, content, encoding="utf-8"):
    path.write_bytes(
        content if isinstance(content, bytes) else content.encode(encoding)
    )
    return path


def whole(source, **options):
    """Return a whole table as one chunk, read three rows at a time."""
    table = open_table(source, **options)
    return joined([table.no_rows(), *table.chunks(3)])


def csv_chunk(tmp_path, content, **options):
    return whole(write(tmp_path / "in.csv", content), **options)


# --------------------------------------------------------------------------- JSONL


def test_jsonl_keeps_kinds_keys_and_their_order(tmp_path):
    lines = [
        '{"text": "a", "n": 1, "x": 1.0}',
        "",
        '{"n": 123456789012345678901234567890, "text": null, "deep": {"b": [1, {}]}}',
        ' {"x": NaN,\r "text": "\\u00e9\\ud83d\\ude42"} \r',
    ]
    path = write(tmp_path / "in.jsonl", "\ufeff" + "\n".join(lines))
    chunk = whole(path)
    assert chunk.columns == ("text", "n", "x", "deep")
    assert [list(row) for row in chunk.dicts()] == [
        ["text", "n", "x"],
        ["n", "text", "deep"],
        ["x", "text"],
    ]
    assert chunk.cells("n") == [1, 123456789012345678901234567890, None]
    assert chunk.cells("deep") == [None, {"b": [1, {}]}, None]
    assert chunk.cells("text") == ["a", None, "é🙂"]
    assert isinstance(chunk.cells("x")[0], float)
    assert np.isnan(chunk.cells("x")[2])
    assert chunk.lists()[0] == ["a", 1, 1.0, None]
    assert open_table(path).n_rows == 3


def test_lines_that_are_no_rows_are_set_aside(tmp_path):
    lines = {
        b'{"a": 1, "b": {"c": 1, "c": 2}}': "its key 'c' appears more than once.",
        b'{"a": 1': "it is not valid JSON: Expecting ',' delimiter at character 8.",
        b"[1]": "it is not a JSON object: it must begin with '{'.",
        b'{"a": "\xe9"}': "byte 0xe9 in it is not utf-8. Name the file's encoding, for "
        "example encoding='cp1252'.",
        b'{"a": "\\ud83d"}': "it contains a lone surrogate: \\ud800 to \\udfff must "
        "come in pairs.",
        b'{"a": ' + b"9" * 5000 + b"}": "it contains a number with too many digits.",
        b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}": "its values are nested too "
        "deeply.",
    }
    content = b'{"a": 0}\n' + b"\n".join(lines) + b'\n{"a": 9}\n'
    chunk = whole(write(tmp_path / "in.jsonl", content))
    assert chunk.cells("a") == [0, 9]
    assert chunk.numbers.tolist() == [0, 8]
    assert [bad.reason for bad in chunk.unreadable] == list(lines.values())
    assert [bad.number for bad in chunk.unreadable] == list(range(1, 8))
    assert chunk.unreadable[3].place == f"line 5 of {str(tmp_path / 'in.jsonl')!r}"
    assert chunk.unreadable[3].raw == r'{"a": "\xe9"}'
    start = open_table(tmp_path / "in.jsonl").chunks(9, start=8)
    assert [each.cells("a") for each in start] == [[9]]


def test_an_empty_jsonl_file(tmp_path):
    path = write(tmp_path / "in.jsonl", "\n\n")
    with raises(f"{str(path)!r} is empty: each of its lines must be a JSON object."):
        open_table(path)


# ------------------------------------------------------------------------- Parquet


def test_parquet_keeps_types(tmp_path):
    table = pa.table(
        {
            "text": pa.array(["a", None, "c"] * 4),
            "n": pa.array(range(12), pa.int16()),
            "when": pa.array([pd.Timestamp("2020-01-02")] * 12, pa.timestamp("ms")),
            "tags": pa.array([["x"], [], None] * 4),
        }
    )
    path = tmp_path / "in.parquet"
    pq.write_table(table, path, row_group_size=5)
    opened = open_table(path)
    assert (opened.n_rows, opened.columns) == (12, ("text", "n", "when", "tags"))
    for start in (0, 1, 4, 5, 6, 11, 12):
        chunks = list(opened.chunks(4, start=start))
        assert [each.n_rows for each in chunks] == [
            len(range(12)[at : at + 4]) for at in range(start, 12, 4)
        ]
        read = joined([opened.no_rows(), *chunks])
        assert read.arrow().equals(table.slice(start))
        assert read.numbers.tolist() == list(range(start, 12))
    assert whole(path).cells("tags")[:3] == [["x"], [], None]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert opened.inputs() == [
        {"path": str(path), "size": path.stat().st_size, "digest": digest}
    ]


def test_a_damaged_parquet_file(tmp_path):
    path = write(tmp_path / "in.parquet", b"PAR1 nothing")
    with pytest.raises(
        DataError, match=rf"^'{re.escape(str(path))}' is not a valid Parquet file: "
    ):
        open_table(path)


# ------------------------------------------------------------- DataFrames, datasets


def test_a_frame_is_a_table():
    frame = pd.DataFrame(
        {
            "text": ["a", None, "c"],
            "n": [1, 2, 3],
            "x": [1.5, np.nan, 3.0],
            "maybe": pd.array([1, None, 3], dtype="Int64"),
            "when": pd.to_datetime(["2020-01-02", None, "2021-01-01"]),
            "kind": pd.Categorical(["u", "v", None]),
            7: [[1], [2, 3], None],
        },
        index=[5, 5, 9],
    )
    table = open_table(frame)
    assert table.columns == ("text", "n", "x", "maybe", "when", "kind", "7")
    chunk = joined(list(table.chunks(2)))
    assert chunk.lists() == [
        ["a", 1, 1.5, 1, pd.Timestamp("2020-01-02"), "u", [1]],
        [None, 2, None, None, None, "v", [2, 3]],
        ["c", 3, 3.0, 3, pd.Timestamp("2021-01-01"), None, None],
    ]
    assert [type(cell) for cell in chunk.lists()[0][:4]] == [str, int, float, int]
    types = dict(zip(chunk.columns, chunk.arrow().schema.types, strict=True))
    assert types["n"] == types["maybe"] == pa.int64()
    assert types["x"] == pa.float64()
    assert pa.types.is_timestamp(types["when"])
    assert pa.types.is_dictionary(types["kind"])
    assert types["7"] == pa.list_(pa.int64())
    assert [each.numbers.tolist() for each in table.chunks(2, start=1)] == [[1, 2]]
    [described] = table.inputs()
    assert (described["path"], described["size"]) == ("a DataFrame", 3)
    assert open_table(frame.copy()).inputs() == [described]
    changed = frame.assign(n=[1, 2, 4])
    assert open_table(changed).inputs() != [described]


def test_a_dataset_is_a_table():
    columns = {"text": ["a", "b", None, "d", "e"], "n": [1, 2, 3, 4, 5]}
    dataset = datasets.Dataset.from_dict(columns)
    table = open_table(dataset)
    assert (table.n_rows, table.resumable) == (5, True)
    assert table.inputs() == open_table(datasets.Dataset.from_dict(columns)).inputs()
    assert table.inputs()[0]["size"] == 5
    assert whole(dataset).lists() == [
        list(row) for row in zip(*columns.values(), strict=True)
    ]
    assert [each.cells("n") for each in table.chunks(3, start=1)] == [[2, 3, 4], [5]]
    assert table.no_rows().columns == ("text", "n")
    shuffled = dataset.select([4, 0, 2])
    assert whole(shuffled).cells("n") == [5, 1, 3]
    assert open_table(dataset.select([])).n_rows == 0


def test_an_iterable_dataset_is_a_table():
    dataset = datasets.Dataset.from_dict({"text": list("abcd")}).to_iterable_dataset()
    table = open_table(dataset)
    assert (table.n_rows, table.resumable) == (None, False)
    assert table.inputs() == [{"path": "a dataset", "size": None, "digest": None}]
    assert [each.cells("text") for each in table.chunks(3)] == [["a", "b", "c"], ["d"]]


def test_a_dataset_without_features_is_a_table():
    rows = [{"text": None}, {"text": "a"}] * 600 + [{"text": "b", "n": 1}, {"text": 2}]
    table = open_table(datasets.IterableDataset.from_generator(lambda: iter(rows)))
    assert (table.columns, table.n_rows, table.resumable) == (("text",), None, False)
    chunk = joined(list(table.chunks(100, start=1)))
    assert chunk.cells("text") == [row["text"] for row in rows[1:1200]] + [2]
    assert chunk.numbers.tolist() == [*range(1, 1200), 1201]
    assert chunk.unreadable == (
        Unreadable(
            1200,
            "row 1,201 of the dataset",
            "its key 'n' is in none of the first 1,000 rows, which define the columns: "
            "give the dataset features.",
            '{"text": "b", "n": 1}',
        ),
    )


def test_what_is_no_table():
    with raises(
        "A table is a path, a list of paths, a DataFrame or a Dataset. Got 3 of type "
        "int instead.",
        ConfigError,
    ):
        open_table(3)
    with raises("There is no input: name a file, or - for stdin.", ConfigError):
        open_table([])


# ------------------------------------------------------------ files, names, streams


def test_files_that_are_none(tmp_path):
    near = write(tmp_path / "tickets.csv", "text\na\n")
    missing = tmp_path / "ticket.csv"
    with raises(f"There is no file '{missing}'. Did you mean '{near}'?"):
        open_table(missing)
    with raises(
        f"There is no file '{tmp_path}/x/y.csv'. There is no folder '{tmp_path}/x' "
        "either."
    ):
        open_table(tmp_path / "x" / "y.csv")
    (tmp_path / "folder.csv").mkdir()
    with raises(f"'{tmp_path}/folder.csv' is a folder, not a file."):
        open_table(tmp_path / "folder.csv")
    with raises(
        f"The name '{tmp_path}/notes.txt' does not show the format of the file: give "
        "input_format, which is csv, tsv, jsonl or parquet, or a name that ends in "
        ".csv, .tsv, .tab, .jsonl, .ndjson, .parquet or .pq.",
        ConfigError,
    ):
        open_table(write(tmp_path / "notes.txt", "text\na\n"))
    with raises(
        f"'{tmp_path}/in.parquet.gz' cannot be read or written: Parquet is compressed "
        "inside its file. Remove the .gz.",
        ConfigError,
    ):
        open_table(write(tmp_path / "in.parquet.gz", gzip.compress(b"")))


def test_a_format_can_be_given(tmp_path):
    path = write(tmp_path / "notes.txt.gz", gzip.compress(b'{"text": "a"}'))
    assert whole(path, input_format="jsonl").cells("text") == ["a"]


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_compressed_files(tmp_path, suffix):
    pack = {"gz": gzip.compress, "zst": zstandard.ZstdCompressor().compress}[suffix]
    head, tail = b"text\n", b"".join(b"%d\n" % n for n in range(100_000))
    path = tmp_path / f"in.csv.{suffix}"
    # Two frames in a row, as from `cat a.gz b.gz`.
    write(path, pack(head + tail) + pack(b"last\n"))
    table = open_table(path)
    assert table.n_rows == 100_001
    assert joined(list(table.chunks(50_000))).cells("text")[-2:] == ["99999", "last"]
    stored = path.read_bytes()
    assert table.inputs()[0]["digest"] == hashlib.sha256(stored).hexdigest()
    kind = {"gz": "gzip", "zst": "zstd"}[suffix]
    for cut in (len(stored) // 2, len(pack(head + tail)) - 2):
        write(path, stored[:cut])
        with raises(
            f"'{path}' ends in the middle of its {kind} data: copy it or write it "
            "again."
        ):
            open_table(path)
    write(path, b"text\nnot compressed\n")
    with pytest.raises(DataError, match="is not a valid") as failed:
        open_table(path)
    assert re.fullmatch(
        rf"'{path}' is not a valid {kind} file: .*\. If it is not compressed, rename "
        rf"it without \.{suffix}; else copy it or write it again\.",
        str(failed.value),
    )


def test_several_files_are_one_table(tmp_path):
    write(tmp_path / "b.csv", "id,text\n3,c\nbad\n")
    write(tmp_path / "a.csv.gz", gzip.compress(b"id,text\n1,a\n2,b\n"))
    write(tmp_path / "c.csv", "id,text\n4,d\n")
    table = open_table([tmp_path / "a.csv.gz", str(tmp_path / "[bc].csv")])
    assert table.n_rows == 5
    assert table.name == (
        f"the table of 3 files ('{tmp_path}/a.csv.gz' to '{tmp_path}/c.csv')"
    )
    assert [each["path"] for each in table.inputs()] == [
        f"{tmp_path}/{name}" for name in ("a.csv.gz", "b.csv", "c.csv")
    ]
    for start in range(6):
        read = joined([table.no_rows(), *table.chunks(2, start=start)])
        assert (
            read.cells("id")
            == [*"12", *"3", *"4"][min(start, 3) if start < 4 else start - 1 :]
        )
    assert whole([tmp_path / "a.csv.gz", tmp_path / "b.csv"]).numbers.tolist() == [
        0,
        1,
        2,
    ]
    [bad] = joined(list(table.chunks(9))).unreadable
    assert (bad.number, bad.place) == (3, f"line 3 of '{tmp_path}/b.csv'")


def test_several_files_of_other_formats(tmp_path):
    for name, n in (("a", 1), ("b", 2)):
        write(tmp_path / f"{name}.jsonl", json.dumps({"text": name, name: n}))
        pq.write_table(
            pa.table({"n": pa.array([n, n], pa.int32())}), tmp_path / f"{name}.parquet"
        )
    lines = whole(str(tmp_path / "*.jsonl"))
    assert lines.columns == ("text", "a", "b")
    assert lines.lists() == [["a", 1, None], ["b", None, 2]]
    parquet = str(tmp_path / "*.parquet")
    assert whole(parquet).cells("n") == [1, 1, 2, 2]
    assert [each.cells("n") for each in open_table(parquet).chunks(9, start=3)] == [[2]]


def test_several_files_that_do_not_fit(tmp_path):
    a = write(tmp_path / "a.csv", "id,text\n1,a\n")
    b = write(tmp_path / "b.csv", "id\n1\n")
    with raises(
        f"'{b}' has other columns than '{a}': column 2 is missing, not 'text'. All "
        "files must have the same columns in the same order."
    ):
        open_table([a, b])
    with raises(
        f"The input '{tmp_path}/../{tmp_path.name}/a.csv' is named twice: name it once."
    ):
        open_table([a, f"{tmp_path}/../{tmp_path.name}/a.csv"])
    with raises(f"No file matches '{tmp_path}/*.tsv'."):
        open_table(f"{tmp_path}/*.tsv")
    c = write(tmp_path / "c.jsonl", "{}")
    with raises(
        f"'{c}' is jsonl, but '{a}' is csv: files of one table must be of one format."
    ):
        open_table([a, c])
    for name, values in (("a", [1]), ("b", ["x"])):
        pq.write_table(pa.table({"n": values}), tmp_path / f"{name}.parquet")
    with pytest.raises(
        DataError,
        match=rf"^'{tmp_path}/b\.parquet' has a column of another type than the files "
        "before it: .*int64.*string.*$",
    ):
        open_table(str(tmp_path / "*.parquet"))


def test_a_name_with_brackets_is_a_name(tmp_path):
    path = write(tmp_path / "a[1].csv", "text\na\n")
    assert whole(path).cells("text") == ["a"]


@pytest.mark.parametrize("name", ["in.csv", "in.jsonl", "in.parquet"])
def test_a_file_that_changes_is_noticed(tmp_path, name):
    path = tmp_path / name
    frame = pd.DataFrame({"text": list("abcdef")})
    if name == "in.csv":
        frame.to_csv(path, index=False)
    elif name == "in.jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_parquet(path, index=False)
    table = open_table(path)
    chunks = table.chunks(2)
    next(chunks)
    os.utime(path, (1, 1))
    changed = (
        f"'{path}' changed while it was being read: start again when nothing writes "
        "to it any more."
    )
    with raises(changed):
        list(chunks)
    with raises(changed):
        list(table.chunks(2))


READER = """
import json, sys
from classify.tables import joined, open_table
table = open_table("-", **json.loads(sys.argv[1]))
print(table.name, table.n_rows, table.resumable, table.inputs())
chunk = joined([table.no_rows(), *table.chunks(2)])
print(chunk.lists(), [bad.reason for bad in chunk.unreadable])
"""


def from_stdin(content, **options):
    return (
        subprocess.run(
            [sys.executable, "-c", READER, json.dumps(options)],
            input=content,
            capture_output=True,
            check=True,
        )
        .stdout.decode()
        .splitlines()
    )


def test_stdin_is_read_once():
    content = b"id,text\n1,a\n2\n3,c\n"
    for packed in (content, gzip.compress(content)):
        first, second = from_stdin(packed)
        assert first == "stdin None False [{'path': '-', 'size': None, 'digest': None}]"
        assert second.startswith("[['1', 'a'], ['3', 'c']] ['it has 1 field, ")
    lines = b'{"a": 1}\n' * 1500 + b'{"a": 2, "late": 3}\n{"a": 4}\n'
    _, second = from_stdin(lines, input_format="jsonl")
    assert second == (
        f"{[[1]] * 1500 + [[4]]} [\"its key 'late' is in none of the first 1,000 "
        'lines, which define the columns of a stream: save it to a file first."]'
    )


def test_a_named_pipe_is_a_stream(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(b"text\na\nb\n"))
    writer.start()
    table = open_table(pipe)
    assert (table.name, table.n_rows) == (f"'{pipe}'", None)
    assert [each.cells("text") for each in table.chunks(5, start=1)] == [["b"]]
    writer.join()
    with raises(
        f"'{pipe}' is a stream, and Parquet cannot be read from a stream: save it to a "
        "file first."
    ):
        open_table(pipe, input_format="parquet")


# -------------------------------------------------------------------------- memory


def peak_of(path):
    """Return the most memory that opening and reading a table takes, in bytes."""
    tracemalloc.start()
    of_arrow = 0
    for chunk in open_table(path).chunks(2048):
        chunk.lists()
        of_arrow = max(of_arrow, pa.total_allocated_bytes())
    of_python = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return of_python + of_arrow


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["csv", "jsonl.gz", "parquet"])
def test_memory_does_not_grow_with_the_rows(tmp_path, suffix):
    peaks = []
    # Text is read slowly while memory is traced.
    n_few, spare = (30_000, 300_000) if suffix == "parquet" else (10_000, 100_000)
    for n_rows in (n_few, 10 * n_few):
        path = tmp_path / f"{n_rows}.{suffix}"
        text = "x" * 100
        if suffix == "csv":
            path.write_text(
                "id,text\n" + "".join(f"{n},{text}\n" for n in range(n_rows))
            )
        elif suffix == "parquet":
            columns = {"id": range(n_rows), "text": [text] * n_rows}
            pq.write_table(pa.table(columns), path, row_group_size=10_000)
        else:
            lines = "".join(f'{{"id": {n}, "text": "{text}"}}\n' for n in range(n_rows))
            path.write_bytes(gzip.compress(lines.encode(), 1))
        peaks.append(peak_of(path))
    assert max(peaks) < 10 << 20
    # Of Parquet 30 row groups are described, and not 3.
    assert peaks[1] < 1.02 * peaks[0] + spare
