"""CSV files: cells as they stand, and every malformed row set aside by itself."""

import gzip
import hashlib
import re

import pyarrow as pa
import pytest

from classify.errors import ConfigError, DataError
from classify.tables import Unreadable, joined, open_table
from classify.tables.csv_file import CsvFile
from classify.tables.csv_records import CsvDialect
from classify.tables.sources import FileSource


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


def test_cells_stay_text_and_rows_keep_their_numbers(tmp_path):
    path = write(
        tmp_path / "in.csv", 'a,b\r\n007,NA\r\n1.50,"two\r\nlines"\r\n,""""\r\n'
    )
    table = open_table(path)
    assert (table.name, table.columns) == (repr(str(path)), ("a", "b"))
    assert (table.n_rows, table.resumable) == (3, True)
    chunk = whole(path)
    assert chunk.lists() == [["007", "NA"], ["1.50", "two\r\nlines"], ["", '"']]
    assert chunk.dicts()[1] == {"a": "1.50", "b": "two\r\nlines"}
    assert chunk.cells("a") == ["007", "1.50", ""]
    assert chunk.arrow().schema == pa.schema([("a", pa.string()), ("b", pa.string())])
    assert chunk.numbers.tolist() == [0, 1, 2]
    assert chunk.take([2, 0]).cells("b") == ['"', "NA"]


def test_a_table_says_what_its_input_is(tmp_path):
    content = b"text\na\n"
    for name, stored in (("in.csv", content), ("in.csv.gz", gzip.compress(content))):
        path = write(tmp_path / name, stored)
        assert open_table(str(path)).inputs() == [
            {
                "path": str(path),
                "size": len(stored),
                "digest": hashlib.sha256(stored).hexdigest(),
            }
        ]


@pytest.mark.parametrize("start", [0, 1, 4, 10, 24, 25, 40])
def test_chunks_go_on_from_any_row(tmp_path, start):
    lines = [f"{n},x" if n % 3 else str(n) for n in range(25)]
    path = write(tmp_path / "in.csv", "n,x\n" + "\n".join(lines))
    chunks = list(open_table(path).chunks(10, start=start))
    assert [each.n_rows for each in chunks] == [
        len(range(25)[at : at + 10]) for at in range(start, 25, 10)
    ]
    good = [n for each in chunks for n in each.numbers.tolist()]
    bad = [row.number for each in chunks for row in each.unreadable]
    assert good == [n for n in range(start, 25) if n % 3]
    assert bad == [n for n in range(start, 25) if not n % 3]


def test_blank_lines_are_rows_in_a_single_column_only(tmp_path):
    assert csv_chunk(tmp_path, "text\na\n\n\nb\n\n\n").cells("text") == [
        *("a", "", "", "b")
    ]
    two = csv_chunk(tmp_path, "\nid,text\n\n1,a\n\n2,b\n\n")
    assert two.lists() == [["1", "a"], ["2", "b"]]


def test_byte_order_marks_and_encodings(tmp_path):
    for encoding in ("utf-8-sig", "utf-16", "utf-32", "cp1252", "latin-1"):
        path = write(tmp_path / "in.csv", "text\nä\n\n", encoding)
        chunk = whole(path, encoding=encoding.removesuffix("-sig"))
        assert (chunk.columns, chunk.cells("text")) == (("text",), ["ä"])
    # Only the first one is a mark.
    chunk = csv_chunk(tmp_path, "\ufefftext\n\ufeffa\n")
    assert (chunk.columns, chunk.cells("text")) == (("text",), ["\ufeffa"])


def test_dialects(tmp_path):
    tabs = write(tmp_path / "in.tsv", 'id\ttext\n1\t"a\tb"\n')
    assert whole(tabs).lists() == [["1", "a\tb"]]
    assert csv_chunk(tmp_path, "id;text\n1;a,b\n", separator=";").lists() == [
        ["1", "a,b"]
    ]
    assert csv_chunk(tmp_path, "id\ttext\n1\ta\n", separator=r"\t").lists() == [
        ["1", "a"]
    ]
    escaped = csv_chunk(
        tmp_path, "id,text\n1,'a\\'b''c\nd'\n", quote_char="'", escape_char="\\"
    )
    assert escaped.lists() == [["1", "a'b'c\nd"]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"separator": "::"},
            (
                "The separator must be a single character other than a line break. Got "
                "'::' instead."
            ),
        ),
        (
            {"separator": '"'},
            "The quote character and the separator must differ. Got '\"' for both.",
        ),
        (
            {"encoding": "utf-9"},
            "Unknown encoding 'utf-9'. Common ones are utf-8, utf-16 and cp1252.",
        ),
        (
            {"input_format": "xls"},
            "input_format must be csv, tsv, jsonl or parquet. Got 'xls' instead.",
        ),
    ],
)
def test_options_that_are_not_allowed(tmp_path, options, message):
    path = write(tmp_path / "in.csv", "text\na\n")
    with raises(message, ConfigError):
        open_table(path, **options)


def test_ragged_rows_are_set_aside(tmp_path):
    chunk = csv_chunk(tmp_path, 'id,text\n1,a\n2\n3,"b\nc",d\n4,e\n')
    name = repr(str(tmp_path / "in.csv"))
    hint = "a field that contains a comma or a line break must be in quotes."
    assert chunk.lists() == [["1", "a"], ["4", "e"]]
    assert chunk.numbers.tolist() == [0, 3]
    assert chunk.n_rows == 4
    assert chunk.unreadable == (
        Unreadable(
            1,
            f"line 3 of {name}",
            f"it has 1 field, but the header names 2 columns: {hint}",
            "2",
        ),
        Unreadable(
            2,
            f"lines 4 to 5 of {name}",
            f"it has 3 fields, but the header names 2 columns: {hint}",
            '3,"b\nc",d',
        ),
    )
    [bad] = csv_chunk(tmp_path, "id;text\n1;a;b\n", separator=";").unreadable
    assert bad.reason == (
        "it has 3 fields, but the header names 2 columns: a field that contains ';' or "
        "a line break must be in quotes."
    )


def test_bytes_that_are_no_text_are_set_aside_with_their_column(tmp_path):
    chunk = csv_chunk(tmp_path, b"id,text\n1,caf\xc3\xa9\n2,caf\xe9 \\xff\r\n3,b\n")
    assert chunk.lists() == [["1", "café"], ["3", "b"]]
    [bad] = chunk.unreadable
    assert (bad.number, bad.raw) == (1, r"2,caf\xe9 \xff")
    assert bad.reason == (
        "byte 0xe9 in column 'text' is not utf-8. Name the file's encoding, for "
        "example encoding='cp1252'."
    )
    two_lines = csv_chunk(tmp_path, b'id,text\n1,"\xe9\n a"\n2,"a\n \xe9"\n3,b\n')
    assert two_lines.lists() == [["3", "b"]]
    content = (
        "text\na\n".encode("utf-16-le") + b"\x00\xdc\n\0" + "b\n".encode("utf-16-le")
    )
    sixteen = csv_chunk(tmp_path, content, encoding="utf-16-le")
    assert sixteen.cells("text") == ["a", "b"]
    assert [bad.raw for bad in sixteen.unreadable] == [r"\x00\xdc"]
    [bad] = csv_chunk(tmp_path, b"text\n\x81\n", encoding="cp1252").unreadable
    assert bad.reason == (
        "byte 0x81 in column 'text' is not cp1252. Name the file's encoding, for "
        "example encoding='utf-8'."
    )


def test_malformed_quotes_are_set_aside(tmp_path):
    chunk = csv_chunk(tmp_path, 'id,text\n1,"a" b\n2,"c\nd"e\n3,f\n')
    assert chunk.lists() == [["3", "f"]]
    assert [bad.raw for bad in chunk.unreadable] == ['1,"a" b', '2,"c\nd"e']
    assert chunk.unreadable[0].reason == (
        "it is not valid CSV: ',' expected after '\"'; a quote within a quoted field "
        "must be doubled."
    )


def test_a_quote_that_is_never_closed_costs_its_own_line_only(tmp_path):
    chunk = csv_chunk(tmp_path, 'id,text\n1,a\n2,"b\n3,""c\n4,d\n')
    assert chunk.lists() == [["1", "a"], ["4", "d"]]
    assert [(bad.number, bad.raw) for bad in chunk.unreadable] == [
        (1, '2,"b'),
        (2, '3,""c'),
    ]
    assert chunk.unreadable[0].reason == (
        "it has an opening quote that is never closed: the lines after it are read as "
        "rows of their own."
    )
    assert chunk.unreadable[1].reason.startswith("it is not valid CSV: ")


def test_lines_of_a_closed_quote_before_an_open_one_are_no_rows(tmp_path):
    chunk = csv_chunk(tmp_path, 'id,text\n"1\n8,x\n""9\n","open\n2,b\n3,c\n')
    assert chunk.lists() == [["2", "b"], ["3", "c"]]
    [bad] = chunk.unreadable
    assert (bad.number, bad.raw) == (0, '"1\n8,x\n""9\n","open')
    escaped = csv_chunk(
        tmp_path, 'id,text\n"1\n8,\\"\n","open\n2,b\n', escape_char="\\"
    )
    assert escaped.lists() == [["2", "b"]]


def small(path, content, most):
    source = FileSource(str(write(path, content)), "")
    file = CsvFile(source, CsvDialect(), encoding="utf-8", most_characters=most)
    file.scan(hashlib.sha256())
    return list(file.rows())


def test_rows_beyond_the_bound_are_set_aside(tmp_path):
    content = f'id,text\n1,{"x" * 200}\n2,a\n3,"b\n' + "4,d\n" * 40
    rows = small(tmp_path / "in.csv", content, 100)
    assert rows[0].reason == "it has more than 100 characters, the maximum for a row."
    assert rows[1] == ["2", "a"]
    assert rows[2].reason == (
        "it has an opening quote that is not closed within 100 characters: the lines "
        "after it are read as rows of their own."
    )
    assert rows[2].raw == '3,"b'
    assert rows[3:] == [["4", "d"]] * 40
    # A long line is cut as it is read, and its rest is no line of its own.
    assert len(small(tmp_path / "in.csv", f"id,text\n{'x' * 1000}\n1,a", 100)) == 2
    assert small(tmp_path / "in.csv", f"id,text\n1,{'x' * 97}\n", 100) == [
        ["1", "x" * 97]
    ]


def test_long_texts_are_shown_in_part(tmp_path):
    long = "x" * 20_000
    [bad] = csv_chunk(tmp_path, f"id,text\n{long}\n").unreadable
    assert bad.raw == "x" * 10_000 + "…"


def test_long_cells_and_nulls_are_kept(tmp_path):
    chunk = csv_chunk(tmp_path, f"text,n\n{'x' * 1_000_000},\0\n")
    assert [len(cell) for cell in chunk.lists()[0]] == [1_000_000, 1]
    assert chunk.cells("n") == ["\0"]


def test_headers_that_are_none(tmp_path):
    path = tmp_path / "in.csv"
    name = repr(str(path))
    for content in ("", "\n\n"):
        with raises(f"{name} is empty: its first line must name the columns."):
            csv_chunk(tmp_path, content)
    with raises(
        f"{name} is not utf-8: byte 0xe9 in line 2, which must name the columns, "
        "cannot be decoded. Name the file's encoding, for example encoding='cp1252'."
    ):
        csv_chunk(tmp_path, b"\n\xe9\na\n")
    with raises(
        f"{name} has no proper header in line 1: it has an opening quote that is never "
        "closed: the lines after it are read as rows of their own."
    ):
        csv_chunk(tmp_path, '"text\na\n')


def test_columns_are_checked_by_name(tmp_path):
    table = open_table(write(tmp_path / "in.csv", "Text,label,label\na,b,c\n"))
    table.check_column("Text", "with the text")
    with raises(
        f"There is no column 'text' with the text in {table.name}. Columns: 'Text', "
        "'label', 'label'. Did you mean 'Text'?"
    ):
        table.check_column("text", "with the text")
    with raises(f"{table.name} has more than one column 'label': rename one."):
        table.check_column("label", "with the text")
    semicolons = open_table(write(tmp_path / "semi.csv", "id;text\n1;a\n"))
    with raises(
        f"There is no column 'text' with the text in {semicolons.name}. Columns: "
        "'id;text'. Its separator seems to be ';': give separator=';'."
    ):
        semicolons.check_column("text", "with the text")
