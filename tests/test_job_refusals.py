"""Rows that are set aside and listed; tables and outputs that are refused."""

import os
import threading

import pytest

from classify.errors import ConfigError, TooManyErrorsError
from classify.jobs import (
    ErrorLimit,
    JobRun,
    check_output,
    check_table,
    open_table,
    output_format,
    run_job,
    stream_rows,
)
from tests.tiny_tokenizers import byte_level
from tests.toy_jobs import (
    NO_TEXT,
    Countdown,
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

RAGGED = (
    "it has 1 field, but the header names 2 columns: a field that contains a comma or "
    "a line break must be in quotes."
)
QUOTE = (
    "it has an opening quote that is never closed: the lines after it are read as "
    "rows of their own."
)
BYTE = (
    "byte 0xe9 in column 'text' is not utf-8. Name the file's encoding, for example "
    "encoding='cp1252'."
)

# ------------------------------------------------------------------ rows set aside


def test_rows_that_are_set_aside_are_listed(tmp_path):
    source = tmp_path / "in.csv"
    source.write_bytes(b'id,text\n1,a\n2\n3,"b\nc"\n4,\n"5,x\n6,caf\xe9\n7,d\n')
    outcome = run(source, tmp_path / "out.csv", part_rows=2)
    assert outcome.errors == tmp_path / "out.csv.errors.csv"
    assert [row[0] for row in rows_of(tmp_path / "out.csv")] == [
        *("id", "1", "3", "4", "7")
    ]
    assert rows_of(outcome.errors) == [
        ["row", "place", "error", "content"],
        ["2", f"line 3 of '{source}'", RAGGED, "2"],
        ["4", "", NO_TEXT, ""],
        [
            *("5", f"line 7 of '{source}'"),
            QUOTE,
            '"5,x',
        ],
        [
            *("6", f"line 8 of '{source}'"),
            BYTE,
            r"6,caf\xe9",
        ],
    ]
    summary = outcome.summary
    assert (summary.n_rows, summary.n_labelled, summary.n_unreadable) == (7, 3, 3)
    assert summary.reasons.total() == summary.n_set_aside == 4
    assert summary.reasons[NO_TEXT] == summary.reasons[RAGGED] == 1


def test_a_list_of_rows_set_aside_goes_when_there_are_none(tmp_path):
    source, output = tmp_path / "in.csv", tmp_path / "out.csv"
    assert run(write(source, "id,text\n1\n2,a\n"), output).errors is not None
    assert run(write(source, "id,text\n1,b\n2,a\n"), output).errors is None
    assert names(tmp_path) == ["in.csv", "out.csv"]


def test_too_many_rows_set_aside(tmp_path):
    rows = [["a"], [""], [""], ["b"], [""], ["c"]]
    source, output = csv_of(tmp_path / "in.csv", rows), tmp_path / "out.csv"
    whole = tmp_path / "whole.csv"
    run(source, whole)
    with raises(
        f"2 of 4 rows could not be classified, and max_errors allows 1. 2 of them: "
        f"{NO_TEXT} The rows finished so far are kept in '{output}.job': fix the "
        "input and start over with restart=True, or allow more errors and run the job "
        "again to resume.",
        TooManyErrorsError,
    ):
        run(source, output, part_rows=2, max_errors=ErrorLimit(1))
    assert not output.exists()
    engine = hashed_engine(len(byte_level()))
    job = job_of(make(engine=engine))
    outcome = run(source, output, job, max_errors=ErrorLimit(3))
    assert outcome.n_resumed == 4
    assert engine.n_requests == 1
    assert output.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize(("share", "allowed"), [(0.5, True), (0.49, False)])
def test_a_share_of_rows_set_aside(tmp_path, share, allowed):
    # The first part is all bad, which is no reason to stop while there is more.
    rows = [[""], [""], [""], ["a"], ["b"], ["c"]]
    source, output = csv_of(tmp_path / "in.csv", rows), tmp_path / "out.csv"
    limit = {"part_rows": 2, "max_errors": ErrorLimit(share, is_share=True)}
    if allowed:
        assert run(source, output, **limit).is_complete
        return
    with pytest.raises(
        TooManyErrorsError, match=r"^3 of 4 rows .* allows 49\.0000%\. 3 of them"
    ):
        run(source, output, **limit)


def test_a_share_of_rows_of_a_stream_is_known_at_its_end(tmp_path):
    rows = [[""], [""], ["a"], ["b"]]

    def stream(share, **options):
        run_with = JobRun(max_errors=ErrorLimit(share, is_share=True), **options)
        table = piped(tmp_path, csv_of(tmp_path / "in.csv", rows).read_bytes())
        return stream_rows(job_of(), table, repr, run=run_with, part_rows=2)

    assert stream(0.5).is_complete
    with raises(
        f"2 of 4 rows could not be classified, and max_errors allows 40.0000%. 2 of "
        f"them: {NO_TEXT}",
        TooManyErrorsError,
    ):
        stream(0.4)
    # Two bad ones of two: what is left of the stream might make up for them.
    stopped = stream(0.4, stopping=Countdown(1))
    assert (stopped.is_complete, stopped.summary.n_rows) == (False, 2)


# ---------------------------------------------------------------- streams and refusals


def piped(folder, content):
    """Return the table of a named pipe that `content` is written into."""
    pipe = folder / "pipe"
    pipe.unlink(missing_ok=True)
    os.mkfifo(pipe)
    thread = threading.Thread(target=pipe.write_bytes, args=(content,), daemon=True)
    thread.start()
    return open_table(pipe)


def test_a_stream_is_read_once(tmp_path):
    content = csv_of(tmp_path / "in.csv", [["a"], ["b"], ["c"]]).read_bytes()
    output = tmp_path / "out.csv"
    run(tmp_path / "in.csv", tmp_path / "whole.csv")
    # Asked before each chunk, text and batch: the second chunk is not begun.
    stop = JobRun(stopping=Countdown(4))
    stopped = run_job(job_of(), piped(tmp_path, content), output, run=stop, part_rows=2)
    assert (stopped.is_complete, stopped.summary.n_rows) == (False, 2)
    with raises(
        f"The job in '{output}.job' cannot be resumed: its rows came from "
        f"'{tmp_path / 'pipe'}', which cannot be read again. Start over with "
        "restart=True.",
        ConfigError,
    ):
        run_job(job_of(), again := piped(tmp_path, content), output)
    assert [len(chunk) for chunk in again.chunks(9)] == [3]
    outcome = run_job(job_of(), piped(tmp_path, content), output, restart=True)
    assert (outcome.is_complete, outcome.n_resumed) == (True, 0)
    assert output.read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_outputs_that_cannot_be(tmp_path):
    source = write(tmp_path / "in.csv", "text\na\n")
    link = tmp_path / "link.csv"
    link.symlink_to(source)
    refused = {
        source: f"The output '{source}' is the input: give it another name.",
        link: f"The output '{link}' is the input: give it another name.",
        tmp_path: f"The output '{tmp_path}' is a folder: name a file in it.",
        tmp_path / "no" / "out.csv": (
            f"There is no folder '{tmp_path}/no' for the output: create it first."
        ),
    }
    csv = output_format("out.csv")
    for output, message in refused.items():
        with raises(message):
            check_output(output, csv, open_table(source))
        with raises(message):
            run(source, output, output_as=csv)
    bad = write(tmp_path / "out.csv.errors.csv", "text\na\n")
    with raises(
        f"The input '{bad}' is where the output '{tmp_path}/out.csv' lists its invalid "
        "rows: give the output another name."
    ):
        run(bad, tmp_path / "out.csv")
    assert names(tmp_path) == ["in.csv", "link.csv", "out.csv.errors.csv"]


def test_a_link_is_followed(tmp_path):
    source = write(tmp_path / "in.csv", "text\na\n")
    target, link = write(tmp_path / "target.csv", "old"), tmp_path / "link.csv"
    link.symlink_to(target)
    run(source, link)
    assert link.is_symlink()
    assert rows_of(target)[1][0] == "a"


def test_columns_are_checked_by_name(tmp_path):
    table = open_table(write(tmp_path / "in.csv", "Text,label,label\na,b,c\n"))
    with raises(
        f"There is no column 'text' with the text in {table.name}. Columns: 'Text', "
        "'label', 'label'. Did you mean 'Text'? Then give text_column='Text'."
    ):
        job_of().check(table)
    with raises(f"'{tmp_path}/in.csv' has more than one column 'label': rename one."):
        job_of(text="label").check(table)
    with raises(
        f"There is no column 'title' for the prompt's {{title}} in {table.name}. "
        "Columns: 'Text', 'label', 'label'."
    ):
        check_table(table, make(template="{title} {text}"), text_column="Text")


def test_labels_are_needed_from_somewhere(tmp_path):
    table = open_table(write(tmp_path / "in.csv", "text,options\na,x|y\n"))
    with raises(
        "There are no labels: give labels, or labels_column, the column with the "
        "labels of each row.",
        ConfigError,
    ):
        check_table(table, make(labels=None))
    with raises(
        "probabilities has a column for each label, and the labels are not known "
        "beforehand: give labels together with labels_column.",
        ConfigError,
    ):
        check_table(
            table, make(labels=None), labels_column="options", probabilities=True
        )
    check_table(table, make(labels=None), labels_column="options")


def test_the_cache_is_not_where_the_output_is(tmp_path):
    source, output = csv_of(tmp_path / "in.csv", ["a"]), tmp_path / "out.csv"
    with raises(f"{str(output)!r} is the output: give the cache another name."):
        run(source, output, cache=output)
    assert names(tmp_path) == ["in.csv"]


def test_a_job_checks_the_columns_of_its_table(tmp_path):
    source = csv_of(tmp_path / "in.csv", ["a"], columns=["body"])
    table = open_table(source)
    said = (
        f"There is no column 'text' with the text in {table.name}. Columns: 'body'. "
        "Did you mean 'body'? Then give text_column='body'."
    )
    with raises(said):
        run(source, tmp_path / "out.csv")
    with raises(said):
        stream_rows(job_of(), table, pytest.fail)
    assert names(tmp_path) == ["in.csv"]
