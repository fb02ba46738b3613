"""Tables into files: what was read stands there again, and results behind it."""

import csv
import gzip
import io
import json
import math
import re
import subprocess
import sys

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from classify.errors import ConfigError, DataError
from classify.files.atomic import atomic_file
from classify.tables import (
    csv_bytes,
    joined,
    open_table,
    output_format,
)

KINDS = {
    "label": "str",
    "probability": "float",
    "truncated": "bool",
    "label_set": "list",
}


def raises(message, error=DataError):
    return pytest.raises(error, match=r"^" + re.escape(message) + "$")


def results_of(n_rows):
    """Return a result of each kind for each row; every third one has none."""
    values = {
        "label": ["billing", 'a "b",\r\n', "ä|株"],
        "probability": [1 / 3, 5e-324, 1.0],
        "truncated": [True, False, True],
        "label_set": [["a", "b"], [], ["ä"]],
    }
    return {
        name: [None if at % 3 == 2 else some[at % 2] for at in range(n_rows)]
        for name, some in values.items()
    }


def written(table, path, *, rows_a_part=2, kinds=KINDS, results=results_of):
    """Write a table in parts, and put them together."""
    output = output_format(path)
    output.check_columns(table.columns, table.name)
    parts = []
    for chunk in [*table.chunks(rows_a_part)] or [table.no_rows()]:
        own = results(len(chunk))
        parts.append(output.encode(chunk, own, kinds))
        assert parts[-1] == output.encode(chunk, own, kinds)
    with atomic_file(path) as file:
        output.assemble(parts, output.header(table.columns, list(kinds)), file)
    return path


def only_input(table, path):
    """Write a table without results, and read it again, whole."""
    written(table, path, kinds={}, results=lambda n_rows: {})
    again = open_table(path)
    return joined([again.no_rows(), *again.chunks(3)])


# ----------------------------------------------------------------------------- CSV

cells = st.text(
    st.one_of(
        st.sampled_from(list(" ,\"'\n\r\t;|\0ä株🙂\ufeff\u2028")),
        st.characters(exclude_categories=["Cs"]),
    ),
    max_size=8,
)
missing = st.none()
values = st.one_of(cells, missing, st.floats(allow_nan=False), st.booleans())


@given(
    rows=st.integers(1, 4).flatmap(
        lambda width: st.lists(
            st.lists(values, min_size=width, max_size=width), min_size=1, max_size=5
        )
    ),
    separator=st.sampled_from(",\t"),
)
@settings(max_examples=300)
def test_lines_are_those_of_the_csv_module(rows, separator):
    file = io.StringIO()
    csv.writer(file, delimiter=separator, lineterminator="\r\n").writerows(rows)
    columns = [list(column) for column in zip(*rows, strict=True)]
    own = csv_bytes(columns, separator=separator).decode()
    # It ends lines in a line feed only; a line end in a cell is in quotes and stays.
    read = list(csv.reader(io.StringIO(own, newline=""), delimiter=separator))
    assert read == list(
        csv.reader(io.StringIO(file.getvalue(), newline=""), delimiter=separator)
    )
    assert len(own) == len(file.getvalue()) - len(rows)
    assert own.replace("\r\n", "\n") == file.getvalue().replace("\r\n", "\n")


def test_csv_holds_what_is_nested_as_json(tmp_path):
    frame = pd.DataFrame(
        {
            "text": ["a", None],
            "deep": [{"b": [1, "ä"], "when": pd.Timestamp("2020-01-02")}, [b"\x01"]],
            "when": pd.to_datetime(["2020-01-02", None]),
            "raw": [b"a\xff", None],
            "many": [np.array([1, 2]), None],
            "n": pd.array([2**53 + 1, None], dtype="Int64"),
        }
    )
    out = written(open_table(frame), tmp_path / "out.tsv")
    with out.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file, delimiter="\t")
    assert header == [*frame.columns, *KINDS]
    day = "2020-01-02 00:00:00"
    deep = '{"b": [1, "ä"], "when": "2020-01-02T00:00:00"}'
    own = ["billing", repr(1 / 3), "True", "a|b"]
    assert rows[0] == ["a", deep, day, "a\\xff", "[1, 2]", "9007199254740993", *own]
    assert rows[1] == [
        "",
        r'["\u0001"]',
        "",
        "",
        "",
        "",
        'a "b",\r\n',
        "5e-324",
        "False",
        "[]",
    ]


# --------------------------------------------------------------------------- JSONL


def test_jsonl_comes_out_as_it_went_in(tmp_path):
    lines = [
        '{"text": "ä\\n🙂", "n": 123456789012345678901234567890, "x": 1.0}',
        '{"x": NaN, "deep": {"b": [1, null, {}]}, "t": true}',
        '{"n": -Infinity}',
    ]
    path = tmp_path / "in.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    out = written(open_table(path), tmp_path / "out.jsonl")
    first = (
        ', "label": "billing", "probability": 0.3333333333333333, "truncated": true, '
        '"label_set": ["a", "b"]}'
    )
    second = (
        ', "label": "a \\"b\\",\\r\\n", "probability": 5e-324, "truncated": false, '
        '"label_set": []}'
    )
    # The third row is the first of its part.
    assert out.read_text(encoding="utf-8").splitlines() == [
        line[:-1] + own for line, own in zip(lines, [first, second, first], strict=True)
    ]
    three = written(open_table(path), tmp_path / "three.jsonl", rows_a_part=3)
    last = json.loads(three.read_text(encoding="utf-8").splitlines()[-1])
    assert last == {"n": -math.inf, **dict.fromkeys(KINDS)}


def test_names_that_repeat_are_for_csv(tmp_path):
    path = tmp_path / "in.csv"
    path.write_text("x,text,x\n1,a,2\n")
    table = open_table(path)
    out = written(table, tmp_path / "out.csv")
    assert out.read_text().splitlines()[0] == f"x,text,x,{','.join(KINDS)}"
    for suffix, name in ((".jsonl", "JSONL"), (".parquet", "Parquet")):
        with raises(
            f"{table.name} has more than one column 'x', which {name} cannot hold: "
            "rename one, or write CSV."
        ):
            written(table, tmp_path / f"out{suffix}")


# ------------------------------------------------------------------------- Parquet


def test_parquet_holds_results_with_their_types(tmp_path):
    path = tmp_path / "in.csv"
    path.write_text("id,text\n" + "".join(f"{n},x\n" for n in range(5)))
    table = pq.read_table(written(open_table(path), tmp_path / "out.parquet"))
    assert table.schema.equals(
        pa.schema(
            [
                *(("id", pa.string()), ("text", pa.string()), ("label", pa.string())),
                *(("probability", pa.float64()), ("truncated", pa.bool_())),
                ("label_set", pa.list_(pa.string())),
            ]
        )
    )
    assert table["id"].to_pylist() == list("01234")
    assert table["probability"].to_pylist() == [1 / 3, 5e-324, 1 / 3, 5e-324, 1 / 3]
    assert table["label_set"].to_pylist() == [
        ["a", "b"],
        [],
        ["a", "b"],
        [],
        ["a", "b"],
    ]


def test_parquet_parts_of_other_types_become_one(tmp_path):
    rows = [
        {"late": None, "n": 1, "deep": {"a": 1}, "big": 2**53 + 1, "mixed": 1, "e": {}},
        {"late": None, "n": 2, "deep": {"a": 2}, "big": 1, "mixed": 2, "e": {}},
        {"late": "x", "n": 0.5, "deep": {"b": "c"}, "big": 0.5, "mixed": [True]},
        {"n": 2, "mixed": "b", "e": {"a": 1}},
        {"n": None, "mixed": None},
    ]
    path = tmp_path / "in.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    table = pq.read_table(written(open_table(path), tmp_path / "out.parquet"))
    types = dict(zip(table.column_names, table.schema.types, strict=True))
    assert types["late"] == types["big"] == types["mixed"] == types["e"] == pa.string()
    assert types["n"] == pa.float64()
    assert table["late"].to_pylist() == [None, None, "x", None, None]
    assert table["n"].to_pylist() == [1.0, 2.0, 0.5, 2.0, None]
    assert table["big"].to_pylist() == ["9007199254740993", "1", "0.5", None, None]
    assert table["mixed"].to_pylist() == ["1", "2", "[true]", "b", None]
    assert table["e"].to_pylist() == ["{}", "{}", None, '{"a": 1}', None]
    assert table["deep"].to_pylist() == [
        *({"a": 1, "b": None}, {"a": 2, "b": None}, {"a": None, "b": "c"}),
        *(None, None),
    ]


def test_parquet_merges_small_groups(tmp_path):
    frame = pd.DataFrame({"n": range(250_000)})
    out = written(open_table(frame), tmp_path / "out.parquet", rows_a_part=30_000)
    groups = pq.ParquetFile(out).metadata
    sizes = [groups.row_group(at).num_rows for at in range(groups.num_row_groups)]
    assert sizes == [120_000, 120_000, 10_000]
    assert pq.read_table(out)["n"].to_pylist() == list(range(250_000))


# ------------------------------------------------------------------------ the whole


def typed_frame():
    return pd.DataFrame(
        {
            "text": ["a", 'ä, \r\n"b"', None, "d", ""],
            "n": [1, 2, 3, 4, 2**60],
            "x": [1.5, np.nan, 0.1, 1e300, -0.0],
            "flag": [True, False, True, True, False],
            "tags": [["a"], [], None, ["b", "c"], ["d"]],
        }
    )


def inputs(tmp_path):
    """Return the same rows, from every kind of input."""
    frame = typed_frame()
    csv_path, jsonl = tmp_path / "in.csv", tmp_path / "in.jsonl.gz"
    frame.to_csv(csv_path, index=False)
    rows = joined([*open_table(frame).chunks(9)]).dicts()
    jsonl.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    frame.to_parquet(tmp_path / "in.parquet", index=False)
    return {
        "csv": csv_path,
        "jsonl": jsonl,
        "parquet": tmp_path / "in.parquet",
        "frame": frame,
        "dataset": datasets.Dataset.from_dict(
            {
                name: list(column)
                for name, column in zip(
                    rows[0],
                    zip(*(row.values() for row in rows), strict=True),
                    strict=True,
                )
            }
        ),
    }


@pytest.mark.parametrize("source", ["csv", "jsonl", "parquet", "frame", "dataset"])
@pytest.mark.parametrize("suffix", ["csv", "tsv.zst", "jsonl", "jsonl.gz", "parquet"])
def test_every_input_goes_into_every_output(tmp_path, source, suffix):
    table = open_table(inputs(tmp_path)[source])
    before = joined([*table.chunks(9)])
    (tmp_path / "out").mkdir()
    after = only_input(table, tmp_path / "out" / f"out.{suffix}")
    assert after.columns == before.columns
    assert after.unreadable == ()
    expected = before.lists()
    if suffix.startswith(("csv", "tsv")) and source != "csv":
        expected = [
            [
                ""
                if cell is None
                else json.dumps(cell)
                if isinstance(cell, list)
                else str(cell)
                for cell in row
            ]
            for row in expected
        ]
    assert after.lists() == expected
    kinds = [[type(cell) for cell in row] for row in after.lists()]
    assert kinds == [[type(cell) for cell in row] for row in expected]


@pytest.mark.parametrize("source", ["csv", "jsonl", "frame", "dataset"])
@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_table_without_rows_has_columns(tmp_path, source, suffix):
    (tmp_path / "in.csv").write_text("id,text\n")
    (tmp_path / "in.jsonl").write_text('{"id": 1, "text": "a", "id": 2}\n')
    table = open_table(
        {
            "csv": tmp_path / "in.csv",
            "jsonl": tmp_path / "in.jsonl",
            "frame": pd.DataFrame({"id": [], "text": []}),
            "dataset": datasets.Dataset.from_dict({"id": [1], "text": ["a"]}).select(
                []
            ),
        }[source]
    )
    out = written(table, tmp_path / f"out.{suffix}")
    columns = [] if source == "jsonl" else ["id", "text"]
    if suffix == "csv":
        assert out.read_text() == ",".join([*columns, *KINDS]) + "\n"
    elif suffix == "jsonl":
        assert out.read_bytes() == b""
    else:
        read = pq.read_table(out)
        assert (read.num_rows, read.column_names) == (0, [*columns, *KINDS])


def test_compressed_outputs_are_the_same_each_time(tmp_path):
    frame = pd.DataFrame({"text": ["a", "b", "c"]})
    plain = written(open_table(frame), tmp_path / "out.csv").read_bytes()
    for suffix, unpack in (
        ("gz", gzip.decompress),
        (
            "zst",
            lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data),
        ),
    ):
        packed = [
            written(open_table(frame), tmp_path / f"{name}.csv.{suffix}").read_bytes()
            for name in ("a", "b")
        ]
        assert packed[0] == packed[1]
        assert unpack(packed[0]) == plain


def test_formats_of_outputs():
    formats = {
        "out.csv": "csv",
        "out.TSV.gz": "tsv",
        "out.ndjson.zst": "jsonl",
        "out.pq": "parquet",
        "-": "csv",
        "/dev/null": "csv",
    }
    for name, expected in formats.items():
        assert output_format(name).name == expected
    assert output_format("-", output_format="jsonl").name == "jsonl"
    with raises(
        "The name 'out' does not show the format of the file: give output_format, "
        "which is csv, tsv, jsonl or parquet, or a name that ends in .csv, .tsv, .tab, "
        ".jsonl, .ndjson, .parquet or .pq.",
        ConfigError,
    ):
        output_format("out")


# -------------------------------------------------------------------------- atomic


def fail_after_writing(path):
    with atomic_file(path) as file:
        file.write(b"new")
        raise RuntimeError


def test_a_file_appears_only_when_it_is_complete(tmp_path):
    path = tmp_path / "out.csv"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError):
        fail_after_writing(path)
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["out.csv"]
    with atomic_file(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert [each.name for each in tmp_path.iterdir()] == ["out.csv"]


def test_a_link_is_followed_and_a_device_written_in_place(tmp_path):
    target, link = tmp_path / "target.csv", tmp_path / "link.csv"
    link.symlink_to(target)
    with atomic_file(link) as file:
        file.write(b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    with atomic_file("/dev/null") as file:
        file.write(b"new")


KILLED = """
import os, signal, sys
from classify.files.atomic import atomic_file
with atomic_file(sys.argv[1]) as file:
    file.write(b"half")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_writer_leaves_the_old_file(tmp_path):
    path = tmp_path / "out.csv"
    path.write_bytes(b"old")
    subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert path.read_bytes() == b"old"
    [left] = [each for each in tmp_path.iterdir() if each != path]
    assert re.fullmatch(r"\.out\.csv\.[0-9]+\.part", left.name)
