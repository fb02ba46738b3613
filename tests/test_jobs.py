"""Files through a classifier: no row lost, no cell changed, no half-written output."""

import csv
import io
import re
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classify import PromptTemplate, ZeroShotClassifier
from classify.engines import FakeEngine
from classify.errors import ConfigError, DataError, EngineError
from classify.jobs import (
    CsvTable,
    OutputCsv,
    Summary,
    check_table,
    classify_table,
    results_of,
    write_csv,
)
from tests.tiny_tokenizers import byte_level
from tests.toy_model import hashed_engine, hashed_logprobs

ADDED = ["label", "probability", "label_mass", "unresolved", "truncated", "error"]
NO_TEXT = "there is no text: it is empty or missing."


def make(labels=("billing", "shipping"), template="{text}\nTopic:", **options):
    return ZeroShotClassifier(
        None if labels is None else list(labels),
        engine=hashed_engine(len(byte_level()), **options),
        tokenizer=byte_level(),
        prompt=PromptTemplate(template, chat=False),
    )


def raises(message, error=DataError):
    return pytest.raises(error, match=r"^" + re.escape(message) + "$")


def write(path, content, encoding="utf-8"):
    path.write_bytes(content.encode(encoding))
    return path


def rows_of(path, encoding="utf-8"):
    with path.open(encoding=encoding, newline="") as file:
        return list(csv.reader(file))


def classify_file(classifier, source, output, **options):
    table = CsvTable(source)
    summary = Summary()
    with OutputCsv(output, source=table.path) as writer:
        for frame in classify_table(classifier, table, summary=summary, **options):
            writer.write(frame)
    return summary


# ------------------------------------------------------------------------- reading


def test_a_table_knows_its_columns_and_counts_its_records(tmp_path):
    path = write(tmp_path / "in.csv", 'id,text\r\n1,"two\r\nlines"\r\n2,"a ""b"""\r\n')
    table = CsvTable(path)
    assert table.columns == ("id", "text")
    assert table.n_rows == 2
    [frame] = table.chunks(10)
    assert frame.to_numpy().tolist() == [["1", "two\r\nlines"], ["2", 'a "b"']]


def test_cells_stay_text(tmp_path):
    path = write(tmp_path / "in.csv", "a,b,c\n007,NA,\n1.50,None, x \n")
    [frame] = CsvTable(path).chunks(10)
    assert frame.to_numpy().tolist() == [["007", "NA", ""], ["1.50", "None", " x "]]


def test_chunks_hold_all_rows_once(tmp_path):
    path = write(tmp_path / "in.csv", "n\n" + "\n".join(map(str, range(25))))
    sizes = [len(frame) for frame in CsvTable(path).chunks(10)]
    assert sizes == [10, 10, 5]
    chunks = CsvTable(path, limit=12).chunks(10)
    assert [n for frame in chunks for n in frame["n"]] == [str(n) for n in range(12)]


def test_blank_lines_are_rows_in_a_single_column_only(tmp_path):
    one = CsvTable(write(tmp_path / "one.csv", "text\na\n\n\nb\n\n\n"))
    assert [text for frame in one.chunks(9) for text in frame["text"]] == [
        *("a", "", "", "b")
    ]
    two = CsvTable(write(tmp_path / "two.csv", "\nid,text\n\n1,a\n\n2,b\n\n"))
    assert two.n_rows == 2


def test_byte_order_marks_and_encodings(tmp_path):
    marked = write(tmp_path / "bom.csv", "\ufefftext\nä\n")
    assert CsvTable(marked).columns == ("text",)
    for encoding in ("utf-16", "cp1252", "latin-1"):
        path = write(tmp_path / f"{encoding}.csv", "text\nä\n", encoding)
        [frame] = CsvTable(path, encoding=encoding).chunks(1)
        assert frame["text"].tolist() == ["ä"]


def test_a_long_cell_is_read(tmp_path):
    path = write(tmp_path / "in.csv", f"text\n{'x' * 1_000_000}\n")
    [frame] = CsvTable(path).chunks(1)
    assert len(frame["text"][0]) == 1_000_000


def test_files_that_are_none(tmp_path):
    near = write(tmp_path / "tickets.csv", "text\na\n")
    missing = tmp_path / "ticket.csv"
    with raises(f"There is no file '{missing}'. Did you mean '{near}'?"):
        CsvTable(missing)
    with raises(
        f"There is no file '{tmp_path}/x/y.csv'. There is no folder '{tmp_path}/x' "
        "either."
    ):
        CsvTable(tmp_path / "x" / "y.csv")
    with raises(f"'{tmp_path}' is a folder, not a CSV file."):
        CsvTable(tmp_path)
    for content in ("", "\n\n"):
        empty = write(tmp_path / "empty.csv", content)
        with raises(f"'{empty}' is empty: its first line must name the columns."):
            CsvTable(empty)


@pytest.mark.parametrize("n_before", [0, 3_000_000])
def test_a_wrong_byte_is_named_with_its_line(tmp_path, n_before):
    path = tmp_path / "in.csv"
    path.write_bytes(b"text\n" + b"x" * n_before + b"\ncaf\xe9\n")
    with raises(
        f"'{path}' is not utf-8: byte {9 + n_before} (0xe9, line 3) cannot be "
        "decoded. Name the file's encoding, for example --encoding cp1252."
    ):
        CsvTable(path)


def test_a_character_cut_at_a_blocks_end_does_not_move_the_byte(tmp_path):
    path = tmp_path / "in.csv"
    path.write_bytes(b"t\n" + b"x" * ((1 << 20) - 3) + "é".encode() + b"\n\xe9\n")
    with raises(
        f"'{path}' is not utf-8: byte {(1 << 20) + 2} (0xe9, line 3) cannot be "
        "decoded. Name the file's encoding, for example --encoding cp1252."
    ):
        CsvTable(path)


def test_utf_16_is_guessed_from_its_mark(tmp_path):
    path = write(tmp_path / "in.csv", "text\na\n", "utf-16")
    with raises(
        f"'{path}' is not utf-8: byte 0 (0xff, line 1) cannot be decoded. Name the "
        "file's encoding, for example --encoding utf-16."
    ):
        CsvTable(path)


def test_an_unknown_encoding(tmp_path):
    with raises(
        "Unknown encoding 'utf-9'. Common ones are utf-8, utf-16 and cp1252.",
        ConfigError,
    ):
        CsvTable(tmp_path / "in.csv", encoding="utf-9")


@pytest.mark.parametrize(
    ("row", "fields"), [("1,a,b", "3 fields"), ("1", "1 field")], ids=["long", "short"]
)
def test_ragged_rows_are_named_before_any_model_runs(tmp_path, row, fields):
    path = write(tmp_path / "in.csv", f'id,text\n1,"two\nlines"\n{row}\n')
    with raises(
        f"Line 4 of '{path}' has {fields}, but the header names 2 columns: a field "
        "that holds a comma or a line break must be in double quotes."
    ):
        CsvTable(path)


def test_a_quote_that_is_never_closed(tmp_path):
    path = write(tmp_path / "in.csv", 'text\n"a\nb\n')
    with raises(
        f"'{path}' is no proper CSV file: line 3: unexpected end of data. A quote "
        "within a quoted field must be doubled."
    ):
        CsvTable(path)


def test_columns_are_checked_by_name(tmp_path):
    table = CsvTable(write(tmp_path / "in.csv", "Text,label,label\na,b,c\n"))
    with raises(
        f"There is no column 'text' with the text in '{table.path}'. Did you mean "
        "'Text'? Columns: 'Text', 'label', 'label'."
    ):
        check_table(table, make())
    with raises(f"'{table.path}' has more than one column 'label': rename one."):
        check_table(table, make(), text_column="label")
    with raises(
        f"There is no column 'title' for the prompt's {{title}} in '{table.path}'. "
        "Columns: 'Text', 'label', 'label'."
    ):
        check_table(table, make(template="{title} {text}"), text_column="Text")
    semicolons = CsvTable(write(tmp_path / "semi.csv", "id;text\n1;a\n"))
    with raises(
        f"There is no column 'text' with the text in '{semicolons.path}'. Its "
        "separator seems to be ';': save it with commas. Columns: 'id;text'."
    ):
        check_table(semicolons, make())


def test_labels_are_needed_from_somewhere(tmp_path):
    table = CsvTable(write(tmp_path / "in.csv", "text,options\na,x|y\n"))
    with raises(
        "There are no labels: give --labels, --labels-file, a --task that has them, or "
        "--labels-column.",
        ConfigError,
    ):
        check_table(table, make(labels=None))
    with raises(
        "--probabilities needs to know all labels beforehand, for its columns: give "
        "--labels beside --labels-column.",
        ConfigError,
    ):
        check_table(
            table, make(labels=None), labels_column="options", probabilities=True
        )
    check_table(table, make(labels=None), labels_column="options")


# ------------------------------------------------------------------------- writing


def test_an_output_appears_only_when_it_is_complete(tmp_path):
    output = write(tmp_path / "out.csv", "old")
    with ExitStack() as stack:
        stack.enter_context(pytest.raises(RuntimeError))
        stack.enter_context(OutputCsv(output)).write(pd.DataFrame({"a": [1]}))
        raise RuntimeError
    assert output.read_text() == "old"
    with OutputCsv(output) as writer:
        writer.write(pd.DataFrame({"a": [1]}))
        assert output.read_text() == "old"
        writer.write(pd.DataFrame({"a": [2]}))
    assert output.read_text() == "a\n1\n2\n"
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]


def classifier_that_fails_at(text):
    """Return a classifier whose engine dies of a text."""
    next_logprobs = hashed_logprobs(len(byte_level()))

    def dying(token_ids):
        if text in byte_level().decode(token_ids):
            raise EngineError("The engine died.")
        return next_logprobs(token_ids)

    engine = FakeEngine.from_function(dying, len(byte_level()))
    return make().set_params(engine=engine)


def test_rows_that_an_engine_finished_before_it_failed_are_kept(tmp_path):
    texts = "".join(f"text {n}\n" for n in range(6))
    source, output = write(tmp_path / "in.csv", f"text\n{texts}"), tmp_path / "out.csv"
    classify_file(make(), source, tmp_path / "whole.csv", chunk_rows=2)
    write(output, "old")
    with pytest.raises(EngineError) as failed:
        classify_file(classifier_that_fails_at("text 5"), source, output, chunk_rows=2)
    kept = tmp_path / "out.csv.part"
    assert str(failed.value) == "The engine died."
    assert failed.value.__notes__ == [f"The 4 rows finished before are in '{kept}'."]
    assert rows_of(kept) == rows_of(tmp_path / "whole.csv")[:5]
    assert output.read_text() == "old"
    names = ["in.csv", "out.csv", "out.csv.part", "whole.csv"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names


def test_an_engine_that_finished_no_row_leaves_nothing(tmp_path):
    source = write(tmp_path / "in.csv", "text\na\n")
    with pytest.raises(EngineError) as failed:
        classify_file(classifier_that_fails_at("a"), source, tmp_path / "out.csv")
    assert not hasattr(failed.value, "__notes__")
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


def test_what_went_to_a_device_is_not_kept_elsewhere(tmp_path):
    source = write(tmp_path / "in.csv", "text\nfirst\nsecond\n")
    clf = classifier_that_fails_at("second")
    with pytest.raises(EngineError) as failed:
        classify_file(clf, source, Path("/dev/null"), chunk_rows=1)
    assert failed.value.__notes__ == ["The 1 row finished before went to '/dev/null'."]


def test_a_link_is_followed(tmp_path):
    target, link = tmp_path / "target.csv", tmp_path / "link.csv"
    link.symlink_to(target)
    with OutputCsv(link) as writer:
        writer.write(pd.DataFrame({"a": [1]}))
    assert link.is_symlink()
    assert target.read_text() == "a\n1\n"


def test_a_device_is_written_in_place():
    with OutputCsv("/dev/null") as writer:
        writer.write(pd.DataFrame({"a": [1]}))


def test_outputs_that_cannot_be(tmp_path):
    source = write(tmp_path / "in.csv", "text\na\n")
    link = tmp_path / "link.csv"
    link.symlink_to(source)
    for output in (source, link):
        with raises(f"The output '{output}' is the input: give it another name."):
            OutputCsv(output, source=source)
    with raises(f"The output '{tmp_path}' is a folder: name a file in it."):
        OutputCsv(tmp_path)
    with raises(f"There is no folder '{tmp_path}/no' for the output: create it first."):
        OutputCsv(tmp_path / "no" / "out.csv")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux")
def test_an_output_that_cannot_be_written():
    with pytest.raises(
        DataError, match=r"^The output '/proc/out\.csv' cannot be written: [A-Z].*\.$"
    ):
        OutputCsv("/proc/out.csv").__enter__()


def test_floats_keep_all_digits_and_what_is_missing_is_empty():
    file = io.StringIO()
    third = 1 / 3
    frame = pd.DataFrame(
        {
            "f": [third, np.nan, 5e-324],
            "b": pd.array([True, None, False], dtype="boolean"),
            "o": ["x", None, ""],
        }
    )
    write_csv(frame, file, header=True)
    assert file.getvalue() == f"f,b,o\n{third!r},True,x\n,,\n5e-324,False,\n"


# ------------------------------------------------------------------------ the whole


def test_rows_come_out_with_their_results(tmp_path):
    source = write(tmp_path / "in.csv", 'id,text\n1,My invoice\n2,"  "\n3,A parcel\n')
    summary = classify_file(make(), source, tmp_path / "out.csv", probabilities=True)
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
    assert (summary.n_rows, summary.n_labelled, summary.n_set_aside) == (3, 2, 1)
    assert summary.reasons == {NO_TEXT: 1}
    assert sum(summary.label_counts.values()) == 2
    assert 0 < summary.mean_label_mass < 1
    assert summary.rows_per_second > 0


def test_chunks_change_nothing(tmp_path):
    texts = [f"text number {n % 7}" for n in range(30)]
    source = write(tmp_path / "in.csv", "text\n" + "\n".join(texts) + "\n")
    classify_file(make(), source, tmp_path / "whole.csv")
    counted = []
    summary = classify_file(
        make(), source, tmp_path / "parts.csv", chunk_rows=7, progress=counted.append
    )
    assert (tmp_path / "parts.csv").read_text() == (tmp_path / "whole.csv").read_text()
    assert sum(counted) == summary.n_rows == 30


def test_a_header_alone_gives_a_header(tmp_path):
    source = write(tmp_path / "in.csv", "id,text\n")
    summary = classify_file(make(), source, tmp_path / "out.csv")
    assert rows_of(tmp_path / "out.csv") == [["id", "text", *ADDED]]
    assert summary.n_rows == 0
    assert summary.mean_label_mass == summary.rows_per_second == 0.0


def test_columns_that_the_input_has_already_are_kept(tmp_path):
    source = write(tmp_path / "in.csv", "text,label,error\na,theirs,\n")
    summary = classify_file(make(), source, tmp_path / "out.csv")
    header, row = rows_of(tmp_path / "out.csv")
    assert header[:4] == ["text", "label", "error", "predicted_label"]
    assert row[:3] == ["a", "theirs", ""]
    assert summary.renamed == {"label": "predicted_label", "error": "predicted_error"}
    assert summary.n_labelled == 1


def test_repeated_column_names_are_kept(tmp_path):
    source = write(tmp_path / "in.csv", "x,text,x\n1,a,2\n")
    classify_file(make(), source, tmp_path / "out.csv")
    header, row = rows_of(tmp_path / "out.csv")
    assert header == ["x", "text", "x", *ADDED]
    assert row[:3] == ["1", "a", "2"]


def test_candidate_labels_of_each_row(tmp_path):
    source = write(
        tmp_path / "in.csv", "text,options\na,x|y\nb,\nc,x|x\nd,y | z\ne,x\n"
    )
    summary = classify_file(
        make(labels=None), source, tmp_path / "out.csv", labels_column="options"
    )
    _, *rows = rows_of(tmp_path / "out.csv")
    assert [bool(row[2]) for row in rows] == [True, False, False, True, False]
    assert rows[0][2] in ("x", "y")
    assert rows[3][2] in ("y", "z")
    assert rows[1][-1] == "there are no labels in column 'options'."
    assert summary.n_set_aside == 3


def test_truncated_rows_are_counted(tmp_path):
    source = write(tmp_path / "in.csv", f"text\nshort\n{'long ' * 100}\n")
    summary = classify_file(make(context_length=60), source, tmp_path / "out.csv")
    assert [row[-2] for row in rows_of(tmp_path / "out.csv")[1:]] == ["False", "True"]
    assert summary.n_truncated == 1


def test_results_are_found_under_their_own_names():
    frame = pd.DataFrame({"text": ["a"], "label": ["theirs"]})
    classified = make().classify_frame(frame, probabilities=True, on_error="set_aside")
    results = results_of(classified, 2)
    own = ["p(billing)", "p(shipping)"]
    assert list(results) == [*ADDED[:2], *own, *ADDED[2:]]
    assert results["label"][0] in ("billing", "shipping")


cells = st.text(
    st.one_of(
        st.sampled_from(list(" ,\"'\n\r\t;|\0ä株🙂\ufeff\u2028")),
        st.characters(exclude_categories=["Cs"]),
    ),
    max_size=12,
)


@given(
    data=st.data(),
    columns=st.lists(
        cells.filter(lambda name: name not in ("text", *ADDED)), max_size=3
    ),
    n_rows=st.integers(0, 5),
)
@settings(max_examples=60)
def test_every_row_comes_out_once_with_its_cells_unchanged(
    tmp_path_factory, data, columns, n_rows
):
    header = [*columns, "text"]
    rows = data.draw(
        st.lists(
            st.lists(cells, min_size=len(header), max_size=len(header)),
            min_size=n_rows,
            max_size=n_rows,
        )
    )
    folder = tmp_path_factory.mktemp("csv")
    with (folder / "in.csv").open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    summary = classify_file(make(), folder / "in.csv", folder / "out.csv", chunk_rows=2)
    written, *out = rows_of(folder / "out.csv")
    assert written == [*header, *ADDED]
    assert [row[: len(header)] for row in out] == rows
    for row, result in zip(rows, out, strict=True):
        assert bool(result[-1]) == (not row[-1].strip())
        assert bool(result[-1]) != bool(result[len(header)])
    assert summary.n_rows == n_rows
