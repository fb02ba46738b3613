"""Files that are not what their names say, and encodings that a file tells itself."""

import bz2
import gzip
import io
import json
import lzma
import re
import sqlite3
import tarfile
import zipfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.orc
import pytest
import zstandard

from classify.errors import ConfigError, DataError, LabelError
from classify.jobs import open_table
from classify.labels.table import read_label_table
from classify.prompts.example_table import ExampleTable
from classify.tables.chunk import joined
from classify.tables.sources import StreamSource
from tests.toy_jobs import csv_of, rows_of, run

WORKBOOK = (
    "Save its sheet as CSV, or read it with pandas.read_excel and use classify_frame."
)
NO_TABLE = "The input must be a table: CSV, TSV, JSONL or Parquet."
TO_PARQUET = "Convert it to Parquet first, for example with pandas."
PAGE = "Save its table as CSV, for example with pandas.read_html."
FRAME = pd.DataFrame({"text": ["a", "b"]})


def raises(message, error=DataError):
    return pytest.raises(error, match=r"^" + re.escape(message) + "$")


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def cells(table, column="text"):
    return joined([table.no_rows(), *table.chunks(99)]).cells(column)


def in_zip(*names):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    return file.getvalue()


def in_tar():
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("in.csv"))
    return file.getvalue()


def database(folder):
    with sqlite3.connect(folder / "made.db") as connection:
        connection.execute("create table t (text)")
    connection.close()
    return (folder / "made.db").read_bytes()


def saved(folder, save):
    save(pa.table({"text": ["a"]}), str(folder / "made"))
    return (folder / "made").read_bytes()


def array(folder):
    np.save(folder / "made.npy", np.zeros(2))
    return (folder / "made.npy").read_bytes()


KINDS = {
    "xlsx": (
        lambda _: in_zip("[Content_Types].xml", "xl/workbook.xml"),
        f"an Excel workbook (.xlsx). {WORKBOOK}",
    ),
    "xls": (
        lambda _: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600),
        f"an old Excel workbook (.xls). {WORKBOOK}",
    ),
    "ods": (
        lambda _: in_zip("mimetype", "content.xml"),
        f"a spreadsheet of LibreOffice (.ods). {WORKBOOK}",
    ),
    "numbers": (
        lambda _: in_zip("Index/Document.iwa"),
        f"a spreadsheet of Numbers. {WORKBOOK}",
    ),
    "docx": (lambda _: in_zip("word/document.xml"), f"a Word document. {NO_TABLE}"),
    "zip": (lambda _: in_zip("in.csv"), "a ZIP archive. Unpack it first."),
    "cut zip": (
        lambda _: in_zip("xl/workbook.xml")[:40],
        f"a ZIP archive or an Excel workbook. {WORKBOOK}",
    ),
    "bz2": (lambda _: bz2.compress(b"text"), "compressed with bzip2. Unpack it first."),
    "xz": (lambda _: lzma.compress(b"text"), "compressed with xz. Unpack it first."),
    "tar": (lambda _: in_tar(), "a tar archive. Unpack it first."),
    "tar.gz": (
        lambda _: gzip.compress(in_tar()),
        "a tar archive. Unpack it first.",
    ),
    "feather": (
        lambda folder: saved(folder, pyarrow.feather.write_feather),
        f"a Feather (Arrow) file. {TO_PARQUET}",
    ),
    "orc": (
        lambda folder: saved(folder, pyarrow.orc.write_table),
        f"an ORC file. {TO_PARQUET}",
    ),
    "npy": (array, f"a NumPy file. {TO_PARQUET}"),
    "db": (database, "an SQLite database. Export its table as CSV."),
    "pdf": (lambda _: b"%PDF-1.7\n%\xe2\xe3", f"a PDF document. {NO_TABLE}"),
    "png": (lambda _: b"\x89PNG\r\n\x1a\n\0\0", f"an image. {NO_TABLE}"),
    "html": (
        lambda _: b"\xef\xbb\xbf\n<!DOCTYPE html>\n<html>",
        f"an HTML page. {PAGE}",
    ),
    "old html": (lambda _: b"<HTML><body>", f"an HTML page. {PAGE}"),
    "xml": (
        lambda _: b'<?xml version="1.0"?>\n<Workbook/>',
        "an XML file. Save its table as CSV.",
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_file_is_is_told(tmp_path, kind):
    make, told = KINDS[kind]
    content = make(tmp_path)
    for name in ("in.csv", "in.jsonl", "in.parquet", f"in.{kind}", "in"):
        path = write(tmp_path / name, content)
        with raises(f"'{path}' is {told}"):
            open_table(path)
        with raises(f"'{path}' is {told}"):
            open_table(path, input_format="csv", encoding="cp1252")


def test_a_workbook_that_comes_as_a_stream():
    for content in (in_zip("xl/workbook.xml"), b"\xd0\xcf\x11\xe0" + bytes(9)):
        stream = StreamSource("-", io.BytesIO(content), "stdin", is_ours=False)
        assert stream.start[:4] == content[:4]


def test_parquet_by_another_name(tmp_path):
    FRAME.to_parquet(tmp_path / "in.parquet")
    for name in ("in.csv", "in.jsonl", "in.data"):
        path = write(tmp_path / name, (tmp_path / "in.parquet").read_bytes())
        with raises(
            f"'{path}' is a Parquet file: name it .parquet, or give "
            "input_format='parquet'."
        ):
            open_table(path)
        assert cells(open_table(path, input_format="parquet")) == ["a", "b"]


@pytest.mark.parametrize(
    "pack", [gzip.compress, zstandard.ZstdCompressor().compress], ids=["gz", "zst"]
)
def test_compressed_files_need_no_name_for_it(tmp_path, pack):
    assert cells(open_table(write(tmp_path / "in.csv", pack(b"text\na\n")))) == ["a"]
    path = write(tmp_path / "in.jsonl", pack(b'{"text": "a"}'))
    table = open_table(path)
    assert (cells(table), table.n_rows) == (["a"], 1)


def test_json_by_another_name(tmp_path):
    lines = '{"text": "a"}\n{"text": "b"}\n'
    for name in ("in.json", "in.JSON", "in.json.gz"):
        content = gzip.compress(lines.encode()) if name.endswith("gz") else lines
        assert cells(open_table(write(tmp_path / name, content))) == ["a", "b"]
    as_csv = open_table(write(tmp_path / "in.csv", lines))
    with raises(
        f"There is no column 'text' with the text in '{tmp_path}/in.csv'. Columns: "
        '\'{"text": "a"}\'. It seems to hold JSON: if each line is an object, give '
        "input_format='jsonl'."
    ):
        as_csv.check_column("text", "with the text", "text_column")
    as_jsonl = open_table(write(tmp_path / "in.jsonl", "text,n\na,1\n"))
    with raises(
        f"There is no column 'text' with the text in '{tmp_path}/in.jsonl'. Columns: "
        "none. None of its lines is a JSON object: if it is CSV, give "
        "input_format='csv'."
    ):
        as_jsonl.check_column("text", "with the text", "text_column")


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("name", ["in.json", "in.jsonl"])
def test_a_json_array_is_told(tmp_path, name, indent):
    path = write(tmp_path / name, json.dumps([{"text": "a"}], indent=indent))
    with raises(
        f"'{path}' contains a JSON array, not an object on each line. Convert it, for "
        "example with: jq -c '.[]' FILE.json > FILE.jsonl"
    ):
        open_table(path)
    # A line with a list is a bad row, and not a file of another kind.
    listed = open_table(write(path, '["a"]\n{"text": "b"}\n'))
    assert (cells(listed), listed.n_rows) == (["b"], 2)


def test_a_json_array_that_cannot_be_read(tmp_path):
    for content in ('[{"text": ', '[{"text": ' + "[" * 200_000):
        path = write(tmp_path / "in.json", content)
        with pytest.raises(DataError, match=r"in\.json' cannot be read as JSON: .+\."):
            open_table(path)


def test_folders(tmp_path):
    with raises(f"'{tmp_path}' is a folder, not a file."):
        open_table(tmp_path)
    csv_of(tmp_path / "a.csv", [["x"]])
    with raises(
        f"'{tmp_path}' is a folder, not a file. Its files are '{tmp_path}/*.csv'."
    ):
        open_table(tmp_path)
    assert cells(open_table(tmp_path / "*.csv")) == ["x"]


def test_a_file_that_is_not_there_says_so_whatever_its_name(tmp_path):
    csv_of(tmp_path / "tickets.csv", [])
    with raises(
        f"There is no file '{tmp_path}/tickts'. Did you mean '{tmp_path}/tickets.csv'?"
    ):
        open_table(tmp_path / "tickts")


# --------------------------------------------------------------------- encodings


@pytest.mark.parametrize(
    "encoding", ["utf-8-sig", "utf-16", "utf-32", "utf-16-be", "utf-32-be"]
)
@pytest.mark.parametrize("given", ["utf-8", "cp1252"])
def test_a_byte_order_mark_tells_the_encoding(tmp_path, encoding, given):
    mark = "" if encoding in ("utf-8-sig", "utf-16", "utf-32") else "\ufeff"
    text = f"{mark}id,text\n1,Où?\n"
    path = write(tmp_path / "in.csv", text.encode(encoding))
    table = open_table(path, encoding=given)
    assert (table.columns, cells(table)) == (("id", "text"), ["Où?"])
    lines = f'{mark}{{"text": "Où?"}}\n'.encode(encoding)
    assert cells(open_table(write(tmp_path / "in.jsonl", lines))) == ["Où?"]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le"])
@pytest.mark.parametrize("text", ["id,text\n1,a\n", '"é";"text"\r\n1;a\r\n'])
def test_wide_characters_without_a_mark(tmp_path, encoding, text):
    path = write(tmp_path / "in.csv", text.encode(encoding))
    with raises(
        f"'{path}' seems to be {encoding[:6].upper()} without a byte order mark: give "
        f"encoding='{encoding}'."
    ):
        open_table(path)
    separator = ";" if ";" in text else ","
    table = open_table(path, encoding=encoding, separator=separator)
    assert cells(table) == ["a"]
    lines = '{"text": "a"}\n'.encode(encoding)
    with pytest.raises(DataError, match="without a byte order mark"):
        open_table(write(tmp_path / "in.jsonl", lines))


def test_bytes_that_are_no_text_at_all(tmp_path):
    path = write(tmp_path / "in.csv", b"\x01\x00\xfe\x00\x03\xff\n\x00\x00\n")
    with raises(f"'{path}' is not a text file. {NO_TABLE}"):
        open_table(path)


def test_nulls_in_fields_are_kept(tmp_path):
    table = open_table(write(tmp_path / "in.csv", "id,text\n1,a\0b\n"))
    assert cells(table) == ["a\0b"]


# ----------------------------------------------------------------- Excel's first line


@pytest.mark.parametrize(
    ("line", "separator"),
    [
        *(("sep=;", ";"), ('"sep=;"', ";"), ("SEP=|", "|"), ("sep=,", ",")),
        *(("sep=\t", "\t"), (r"sep=\t", "\t"), ("\ufeffsep=;", ";")),
    ],
)
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_a_line_that_names_the_separator(tmp_path, line, separator, line_end):
    rows = [["id", "text"], ["1", "a, b; c"], ["2"], ["3", "d"]]
    body = [line, *(separator.join(f'"{cell}"' for cell in row) for row in rows)]
    text = line_end.join([*body, ""])
    for suffix in (".csv", ".tsv"):
        path = write(tmp_path / f"in{suffix}", text)
        for given in (None, separator):
            table = open_table(path, separator=given)
            (chunk,) = table.chunks(9)
            assert table.columns == ("id", "text")
            assert chunk.lists() == [rows[1], rows[3]]
            assert chunk.numbers.tolist() == [0, 2]
            # The line counts, as an editor counts.
            assert chunk.unreadable[0].place == f"line 4 of '{path}'"
            holds = "a comma" if separator == "," else repr(separator)
            assert f"a field that contains {holds} or" in chunk.unreadable[0].reason
            assert cells(table) == ["a, b; c", "d"]
            (rest,) = table.chunks(9, start=2)
            assert rest.lists() == [rows[3]]


def test_a_separator_that_the_first_line_contradicts(tmp_path):
    path = write(tmp_path / "in.csv", "sep=;\nid;text\n1;a\n")
    with raises(
        f"Line 1 of '{path}' says that the separator is ';', but separator=',' is "
        "given: leave it out.",
        ConfigError,
    ):
        open_table(path, separator=",")


def test_headers_that_only_look_like_that_line(tmp_path):
    for header in ("sep=;,text", "sep=", "sep=ab", "xsep=;"):
        table = open_table(write(tmp_path / "in.csv", f"{header}\n"))
        assert table.columns == tuple(header.split(","))
    with raises(f"'{tmp_path}/in.csv' is empty: its first line must name the columns."):
        open_table(write(tmp_path / "in.csv", "sep=;\n"))


def test_files_may_have_separators_of_their_own(tmp_path):
    first = write(tmp_path / "a.csv", "sep=;\nid;text\n1;a\n")
    second = csv_of(tmp_path / "b.csv", [["2", "b"]], ("id", "text"))
    assert cells(open_table([first, second])) == ["a", "b"]


def test_a_job_on_such_a_file_is_that_on_a_plain_one(tmp_path):
    rows = [[str(n), f"text; {n}"] for n in range(20)]
    csv_of(tmp_path / "plain.csv", rows, ("id", "text"))
    lines = ["sep=;", "id;text", *(f'{n};"{text}"' for n, text in rows)]
    odd = write(tmp_path / "odd.csv", "\r\n".join(lines))
    for source in (tmp_path / "plain.csv", odd):
        run(source, tmp_path / f"{source.stem}.out.csv", part_rows=3)
    expected = (tmp_path / "plain.out.csv").read_bytes()
    assert (tmp_path / "odd.out.csv").read_bytes() == expected
    assert len(rows_of(tmp_path / "odd.out.csv")) == 21


# ------------------------------------------------------------------- missing columns

HEADER_HINT = (
    "Its first line was read as the header: if it names the columns, choose one with "
    "text_column; if it is a row of data, add a line with column names above it."
)


@pytest.mark.parametrize(
    ("columns", "hint"),
    [
        (
            ["sentence", "y"],
            "Did you mean 'sentence'? Then give text_column='sentence'.",
        ),
        (["id", "TEXT "], "Did you mean 'TEXT '? Then give text_column='TEXT '."),
        (["id", "texts"], "Did you mean 'texts'? Then give text_column='texts'."),
        (["Title", "Body"], "Did you mean 'Body'? Then give text_column='Body'."),
        (["id", "x"], "Choose one with text_column."),
        (["x"], "Did you mean 'x'? Then give text_column='x'."),
        (["1", "Where is my parcel?"], HEADER_HINT),
        (["my parcel", "shipping"], HEADER_HINT),
        (["5", "great", ""], HEADER_HINT),
        (
            ["body", "Where is my parcel?"],
            "Did you mean 'body'? Then give text_column='body'.",
        ),
        (
            ["I was charged twice on my card"],
            (
                "Did you mean 'I was charged twice on my card'? Then give "
                "text_column='I was charged twice on my card'. Its first line was read "
                "as the header: if it is a row of data, add a line with column names "
                "above it."
            ),
        ),
    ],
)
def test_a_missing_text_column_says_how_to_choose_one(tmp_path, columns, hint):
    table = open_table(csv_of(tmp_path / "in.csv", [["a"] * len(columns)], columns))
    listed = ", ".join(map(repr, columns))
    with raises(
        f"There is no column 'text' with the text in '{tmp_path}/in.csv'. Columns: "
        f"{listed}. {hint}"
    ):
        table.check_column("text", "with the text", "text_column")


FIRST_LINE = (
    " Its first line was read as the header: if it is a row of data, add a line with "
    "column names above it."
)


def test_the_first_line_of_every_text_table_is_said_to_be_the_header(tmp_path):
    tsv, other = tmp_path / "in.tsv", tmp_path / "other.tsv"
    tsv.write_text("my parcel\tshipping\nno money\trefund\n")
    other.write_text("my card\tbilling\n")
    table = open_table(tsv)
    for option, hint in (("label_column", HEADER_HINT), (None, FIRST_LINE[1:])):
        hint = hint.replace("text_column", "label_column")
        with raises(
            f"There is no column 'label' with the labels in '{tsv}'. Columns: "
            f"'my parcel', 'shipping'. {hint}"
        ):
            table.check_column("label", "with the labels", option)
    with raises(
        f"'{other}' has other columns than '{tsv}': column 1 is 'my card', not 'my "
        "parcel'. All files must have the same columns in the same order." + FIRST_LINE
    ):
        open_table([tsv, other])
    with raises(
        f"There is no column 'text' with the texts of examples in '{tsv}'. Columns: "
        f"'my parcel', 'shipping'. "
        + HEADER_HINT.replace("text_column", "example_text_column")
    ):
        ExampleTable.of(tsv).examples(("text",), "text", "label")
    with raises(
        "the column 'my parcel' is unknown. Allowed are 'name', 'description', "
        "'words', 'parent', 'value'." + FIRST_LINE,
        LabelError,
    ):
        read_label_table(tsv)


def test_names_that_are_data_where_no_line_was_read_as_a_header():
    table = open_table(pd.DataFrame([["my parcel", "shipping"]]))
    with raises(
        "There is no column 'text' with the text in the DataFrame. Columns: '0', '1'. "
        "Choose one with text_column. Its column names look like a row of data: if "
        "they are, name them."
    ):
        table.check_column("text", "with the text", "text_column")
