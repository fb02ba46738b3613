"""Hostile files: every line comes out once, as part of a row, of a defect, or blank."""

import csv
import gzip
import io
import json
import re

import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from classify.errors import DataError
from classify.tables import joined, open_table
from classify.tables.csv_file import CsvFile
from classify.tables.csv_records import CsvDialect, read_records
from classify.tables.sources import FileSource, marked_bytes, text_lines

# What a CSV file trips over, alone and side by side.
PIECES = [
    *(b'"', b'""', b'"""', b",", b";", b"\n", b"\r\n", b"\r", b"\\", b" ", b"'"),
    *(b"a", b"text", b"1", b"\0", b"\xef\xbb\xbf", b"\xe9", b"\xff\xfe", b"\xc3\xa9"),
    *("株🙂\u2028\x85".encode(), b"\xed\xb2\x80", b'"\n"', b',"', b'",'),
]
hostile = st.lists(st.sampled_from(PIECES), max_size=40).map(b"".join)
dialects = st.builds(
    CsvDialect,
    separator=st.sampled_from(",;\t"),
    quote_char=st.sampled_from("\"'"),
    escape_char=st.sampled_from([None, "\\"]),
)
cells = st.text(
    st.one_of(
        st.sampled_from(list(" ,\"'\n\r\t;|\0ä株🙂\ufeff\u2028\\")),
        st.characters(exclude_categories=["Cs"]),
    ),
    max_size=12,
)


def lines_of(text):
    """Cut a text into lines that end in any way, as the reader should."""
    return re.findall(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+", text)


def decoded(data):
    """Decode UTF-8 with a lone surrogate for every byte that is none."""
    return data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz") / "in.csv"


@given(data=hostile, dialect=dialects, most=st.sampled_from([5, 20, 10_000]))
@settings(max_examples=400)
@example(b'a,b\n"1\n2,3\n', CsvDialect(), 10_000)
@example(b'"\n' * 20, CsvDialect(), 5)
def test_lines_are_conserved(path, data, dialect, most):
    path.write_bytes(data)
    options = {"newline": "", "most_characters": 10_000}
    lines = list(text_lines(FileSource(str(path), ""), "utf-8", **options))
    assert lines == lines_of(decoded(data))
    records = list(read_records(iter(lines), dialect, most_characters=most))
    assert [line for each in records for line in each.lines] == lines
    at = 1
    for each in records:
        assert each.line == at
        assert each.lines
        assert not (each.fields and each.problem)
        at += len(each.lines)
        if not each.fields and not each.problem:
            assert [line.strip("\r\n") for line in each.lines] == [""]


@given(data=hostile, n_rows=st.integers(1, 4), start=st.integers(0, 6))
@settings(max_examples=300)
def test_every_record_is_a_row_or_unreadable(path, data, n_rows, start):
    path.write_bytes(b"id,text\n" + data)
    table = open_table(path)
    chunks = list(table.chunks(n_rows))
    chunk = joined([table.no_rows(), *chunks])
    bad = [each.number for each in chunk.unreadable]
    assert sorted([*chunk.numbers.tolist(), *bad]) == list(range(table.n_rows))
    assert [each.n_rows for each in chunks[:-1]] == [n_rows] * (len(chunks) - 1)
    assert all(len(row) == 2 for row in chunk.lists())
    assert not any(marked_bytes(cell) for row in chunk.lists() for cell in row)
    # Blank lines are no rows, and every other line is in a record.
    lines = lines_of("id,text\n" + data.decode("utf-8", "surrogateescape"))
    records = read_records(iter(lines), CsvDialect(), most_characters=999)
    assert 1 + table.n_rows == sum(
        bool(each.fields or each.problem) for each in records
    )
    later = joined([table.no_rows(), *table.chunks(n_rows, start=start)])
    assert later.lists() == [
        row for row, at in zip(chunk.lists(), chunk.numbers, strict=True) if at >= start
    ]
    assert later.unreadable == tuple(
        each for each in chunk.unreadable if each.number >= start
    )


def well_formed(header, rows, line_end):
    file = io.StringIO()
    writer = csv.writer(file, lineterminator=line_end, quoting=csv.QUOTE_ALL)
    writer.writerows([header, *rows])
    return file.getvalue()


tables = st.integers(1, 4).flatmap(
    lambda width: st.lists(
        st.lists(cells, min_size=width, max_size=width), min_size=1, max_size=6
    )
)


@given(
    table=tables,
    line_end=st.sampled_from(["\n", "\r\n", "\r"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
    packed=st.booleans(),
)
@settings(max_examples=200)
def test_well_formed_rows_are_those_of_the_csv_module(
    path, table, line_end, encoding, packed
):
    header, *rows = table
    header[0] = f"h{header[0]}"  # a mark at the very start is none of the text
    data = well_formed(header, rows, line_end).encode(encoding)
    target = path.with_name("in.csv.gz") if packed else path
    target.write_bytes(gzip.compress(data) if packed else data)
    opened = open_table(target, encoding=encoding)
    chunk = joined([opened.no_rows(), *opened.chunks(2)])
    assert opened.columns == tuple(header)
    assert chunk.unreadable == ()
    assert chunk.lists() == rows
    assert opened.n_rows == len(rows)


simple = st.text(st.sampled_from(list(' ,"\n\r;|ä株🙂ab1')), min_size=1, max_size=8)


@given(
    rows=st.lists(st.lists(simple, min_size=2, max_size=2), min_size=1, max_size=5),
    line_end=st.sampled_from(["\n", "\r\n"]),
)
@settings(max_examples=100)
def test_well_formed_rows_are_those_of_pandas(path, rows, line_end):
    data = well_formed(["id", "text"], rows, line_end).encode()
    path.write_bytes(data)
    frame = pd.read_csv(io.BytesIO(data), dtype=str, keep_default_na=False)
    [chunk] = open_table(path).chunks(9)
    assert chunk.lists() == frame.to_numpy().tolist()


def test_a_megabyte_between_hostile_rows(path):
    long = 'x"",\r\n' * 170_000
    path.write_bytes(f'id,text\n1,"{long}"\n2,"a\n3,b\n'.encode())
    [chunk] = open_table(path).chunks(9)
    assert chunk.lists() == [["1", long.replace('""', '"')], ["3", "b"]]
    assert [bad.raw for bad in chunk.unreadable] == ['2,"a']


CLEAR = "is not utf-8: byte|has no proper header|is not a text file|seems to be UTF-"


@given(data=hostile, columns=st.integers(1, 3))
@settings(max_examples=200)
def test_any_bytes_are_a_table_or_a_clear_error(path, data, columns):
    path.write_bytes(b",".join([b"a"] * columns) + data)
    message = ""
    try:
        table = open_table(path)
    except DataError as error:
        message = str(error)
    if message:
        assert re.match(rf"'{path}' ({CLEAR})", message)
    else:
        assert sum(each.n_rows for each in table.chunks(3)) == table.n_rows


json_pieces = st.sampled_from(
    [
        *(
            b'{"a": 1}',
            b'{"a": NaN, "b": [{}]}',
            b'{"a": "\\ud800"}',
            b"{",
            b"}",
            b"[]",
        ),
        *(b"\n", b"\r\n", b" ", b'"', b"\xff", b"\0", b'{"a": 1, "a": 2}', b"1e999"),
    ]
)


@given(data=st.lists(json_pieces, max_size=20).map(b"".join))
@settings(max_examples=200)
def test_every_line_of_jsonl_is_a_row_or_unreadable(path, data):
    target = path.with_name("in.jsonl")
    target.write_bytes(b'{"first": 0}\n' + data)
    table = open_table(target)
    chunk = joined(list(table.chunks(2)))
    lines = [line for line in data.split(b"\n") if line.strip(b" \t\r\n")]
    assert table.n_rows == 1 + len(lines)
    bad = [each.number for each in chunk.unreadable]
    assert sorted([*chunk.numbers.tolist(), *bad]) == list(range(table.n_rows))
    for row, at in zip(chunk.dicts()[1:], chunk.numbers[1:], strict=True):
        expected = json.loads(lines[at - 1])
        assert json.dumps(row) == json.dumps(expected)


def test_a_csv_file_can_hold_only_open_quotes(path):
    path.write_bytes(b"text\n" + b'"open\n' * 3)
    file = CsvFile(FileSource(str(path), ""), CsvDialect(), encoding="utf-8")
    assert [getattr(row, "raw", row) for row in file.rows()] == [
        '"open\n"open',
        '"open',
    ]
