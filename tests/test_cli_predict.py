"""`classify predict` with the demo model, from files to files, tables and JSON."""

import csv
import io
import json
import re
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from classify import ZeroShotClassifier
from classify.cli import app
from classify.demo import tickets_csv, tickets_yaml

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "configs"
LABELS = ("--labels", "billing,shipping,refund")
TEXTS = ["I was charged twice on my credit card.", "", "Where is my parcel?"]
NO_TEXT = "there is no text: it is empty or missing."


@pytest.fixture
def tickets(tmp_path):
    path = tmp_path / "tickets.csv"
    pd.DataFrame({"id": [7, 8, 9], "text": TEXTS}).to_csv(path, index=False)
    return path


def run(*arguments, code=0, **options):
    arguments = ["predict", *map(str, arguments)]
    result = CliRunner().invoke(app, arguments, **options)
    assert result.exit_code == code, result.output
    return result


def table(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_a_file_to_a_file(tickets, tmp_path):
    output = tmp_path / "out.csv"
    result = run(tickets, *LABELS, "--output", output, "--probabilities")
    assert result.stdout == ""
    rows = table(output.read_text())
    assert list(rows[0]) == [
        "id",
        "text",
        "label",
        "probability",
        "p(billing)",
        "p(refund)",
        "p(shipping)",
        "label_mass",
        "unresolved",
        "truncated",
        "error",
    ]
    assert [row["id"] for row in rows] == ["7", "8", "9"]
    assert [row["label"] for row in rows] == ["billing", "", "shipping"]
    assert [row["error"] for row in rows] == ["", NO_TEXT, ""]
    clf = ZeroShotClassifier(["billing", "shipping", "refund"])
    expected = clf.predict_proba([TEXTS[0], TEXTS[2]])
    for row, proba in zip([rows[0], rows[2]], expected, strict=True):
        ours = [float(row[f"p({name})"]) for name in clf.classes_]
        assert ours == pytest.approx(proba.tolist(), abs=1e-6)


def test_what_is_said_on_the_way(tickets, tmp_path):
    output = tmp_path / "out.csv"
    lines = run(tickets, *LABELS, "--output", output).stderr.splitlines()
    assert lines[0] == (
        "Using the bundled demo model, for trying out only: choose a model with "
        "--model."
    )
    assert re.fullmatch(r"Engine \w+ \([\w ]+\), context of \d+ tokens\.", lines[1])
    assert re.fullmatch(
        r"3 rows in [\d.]+ s \([\d,.]+ rows/s\): 2 labelled, 1 set aside, mean label "
        r"mass 0\.\d\d\.",
        lines[2],
    )
    assert lines[3] == "Labels: billing 1, shipping 1."
    assert lines[4] == f"Warning: 1 row without a label: {NO_TEXT}"
    assert lines[5] == f"Written to {output}."
    errors = f"{output}.errors.csv"
    assert lines[6] == f"The rows without a label are listed in {errors}."
    assert len(lines) == 7
    assert Path(errors).read_text() == f"row,place,error,content\n2,,{NO_TEXT},\n"
    assert not Path(f"{output}.job").exists()


def test_an_engine_that_was_named_needs_no_reason(tickets):
    lines = run(tickets, *LABELS, "--engine", "transformers").stderr.splitlines()
    assert re.fullmatch(r"Engine transformers, context of \d+ tokens\.", lines[1])


def test_quiet_leaves_warnings_only(tickets, tmp_path):
    result = run(tickets, *LABELS, "--quiet", "--output", tmp_path / "out.csv")
    assert result.stderr == f"Warning: 1 row without a label: {NO_TEXT}\n"


def test_a_pipe_gets_csv(tickets):
    rows = table(run(tickets, *LABELS).stdout)
    assert [row["label"] for row in rows] == ["billing", "", "shipping"]


def test_a_pipe_gets_a_table_if_asked_for(tickets):
    lines = run(tickets, *LABELS, "--table").stdout.splitlines()
    assert lines[0].split() == ["row", "text", "label", "probability", "mass"]
    assert len(lines) >= 5


def test_a_table_is_not_written(tickets, tmp_path):
    result = run(tickets, *LABELS, "--table", "--output", tmp_path / "x.csv", code=2)
    assert "--table shows the rows and --output writes them: drop one." in result.stderr


def test_limit(tickets):
    assert [row["id"] for row in table(run(tickets, *LABELS, "--limit", 1).stdout)] == [
        "7"
    ]


def test_a_header_without_rows(tmp_path):
    source, output = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text("text\n")
    result = run(source, *LABELS, "--output", output)
    assert output.read_text() == (
        "text,label,probability,label_mass,unresolved,truncated,error\n"
    )
    assert "The input has a header but no rows.\n" in result.stderr


def test_only_rows_without_text_are_a_failure(tmp_path):
    source, output = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text("id,text\n1,\n2, \n")
    result = run(source, *LABELS, "--output", output, code=1)
    assert f"Warning: 2 rows without a label: {NO_TEXT}\n" in result.stderr
    assert [row["error"] for row in table(output.read_text())] == [NO_TEXT, NO_TEXT]


def test_columns_of_the_same_name_are_noted(tmp_path):
    source = tmp_path / "in.csv"
    source.write_text("text,label\nWhere is my parcel?,theirs\n")
    result = run(source, *LABELS)
    [row] = table(result.stdout)
    assert (row["label"], row["predicted_label"]) == ("theirs", "shipping")
    assert (
        "The input has a column 'label': the result is in 'predicted_label'.\n"
        in result.stderr
    )


def test_candidate_labels_of_each_row(tmp_path):
    source = tmp_path / "in.csv"
    source.write_text(
        "text,teams\nWhere is my parcel?,billing|refund\nWhere is my parcel?,"
        "shipping|refund\n"
    )
    labels = [
        row["label"] for row in table(run(source, "--labels-column", "teams").stdout)
    ]
    assert labels[0] in ("billing", "refund")
    assert labels[1] == "shipping"


def test_a_text_too_long_is_cut_or_set_aside(tmp_path):
    source = tmp_path / "in.csv"
    source.write_text(f"text\nWhere is my parcel?\n{'My parcel is late. ' * 500}\n")
    result = run(source, *LABELS)
    assert [row["truncated"] for row in table(result.stdout)] == ["False", "True"]
    assert (
        "Warning: 1 row had a text too long for the model, which was cut (column "
        "truncated).\n" in result.stderr
    )
    rows = table(run(source, *LABELS, "--too-long", "error").stdout)
    assert [bool(row["label"]) for row in rows] == [True, False]
    assert rows[1]["error"].startswith("A prompt needs ")


def test_options_reach_the_model(tickets):
    template = ("--no-chat", "--template", r"{text}\nTopic:")
    ours = table(run(tickets, *LABELS, *template, "--tolerance", "0").stdout)
    from classify import PromptTemplate

    clf = ZeroShotClassifier(
        ["billing", "shipping", "refund"],
        prompt=PromptTemplate("{text}\nTopic:", chat=False),
        tolerance=0.0,
    )
    assert float(ours[0]["probability"]) == pytest.approx(
        clf.predict_proba(TEXTS[:1]).max(), abs=1e-6
    )


def test_generate_reports_what_it_leaves_open(tickets):
    result = run(tickets, "--labels", "billing,bill,shipping", "--strategy", "generate")
    assert all(
        float(row["unresolved"]) >= 0 for row in table(result.stdout) if row["label"]
    )


@pytest.mark.parametrize(
    ("config", "text", "label"),
    [
        (tickets_yaml(), "I forgot my password and cannot log in.", "account access"),
        ("news_topics.yaml", "The striker scored twice in the cup final.", "sports"),
        ("sentiment.yaml", "I love it, it works perfectly.", "positive"),
    ],
)
def test_the_task_files_of_the_repository(config, text, label):
    result = run("--text", text, "--task", CONFIGS / config, "--json")
    found = json.loads(result.stdout)
    assert found["label"] == label
    assert found["probability"] > 0.5


def test_the_bundled_tickets():
    result = run(tickets_csv(), "--task", tickets_yaml())
    assert all(row["label"] for row in table(result.stdout))


# -------------------------------------------------------------------------- one text


def test_one_text_as_json():
    result = run("--text", "Where is my parcel?", *LABELS, "--json")
    found = json.loads(result.stdout)
    assert list(found) == [
        "text",
        "label",
        "probability",
        "probabilities",
        "label_mass",
        "unresolved",
        "truncated",
    ]
    assert list(found["probabilities"]) == ["billing", "shipping", "refund"]
    assert found["label"] == "shipping"
    assert found["probability"] == found["probabilities"]["shipping"]
    assert sum(found["probabilities"].values()) == pytest.approx(1.0)
    assert 0 < found["label_mass"] <= 1
    assert found["truncated"] is False


def test_one_text_has_the_agreement_that_a_row_has(tmp_path):
    text, orders = "Where is my parcel?", ("--n-orders", "3")
    found = json.loads(run("--text", text, *LABELS, *orders, "--json").stdout)
    source = tmp_path / "in.csv"
    source.write_text(f"text\n{text}\n")
    [row] = table(run(source, *LABELS, *orders).stdout)
    assert found["agreement"] == float(row["agreement"])


def test_one_text_from_stdin():
    result = run(*LABELS, "--json", input="Wo ist mein Päckchen?\n")
    assert json.loads(result.stdout)["text"] == "Wo ist mein Päckchen?"


@pytest.mark.parametrize("arguments", [("--text", " "), ("--json",)])
def test_no_text_at_all(arguments):
    result = run(*LABELS, *arguments, code=2, input="\n")
    assert result.stderr == "Error: There is no text: it is empty or missing.\n"


# ---------------------------------------------------------------- in a real process


@pytest.mark.slow
def test_a_terminal_gets_a_table(terminals, tmp_path):
    source = tmp_path / "in.csv"
    rows = [
        ["text"],
        ["I was charged twice on my credit card [bold]last\x1b[31m month, help me."],
        [""],
        ["株式市場は今日大幅に下落しました。日経平均は千円安で取引を終えました。"],
    ]
    with source.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    said = tmp_path / "said"
    shown = terminals.run("predict", source, *LABELS, folder=ROOT, stderr=str(said))
    assert shown.code == 0, said.read_text()
    lines = shown.screen.lines
    assert re.fullmatch(r"row  text +label +probability  mass", lines[0].rstrip())
    assert re.fullmatch(
        r"  1  I was charged twice on my credit card \[bold\].*…  billing +"
        r"[█▏▎▍▌▋▊▉ ]{6} [01]\.\d\d  [01]\.\d\d",
        lines[2].rstrip(),
    )
    assert lines[3].startswith(f"  2  {NO_TEXT}")
    assert lines[4].startswith("  3  株式市場")
    from rich.cells import cell_len

    assert max(map(cell_len, lines)) <= 80


@pytest.mark.slow
def test_a_reader_that_closes_the_pipe_is_no_traceback(terminals, tmp_path):
    source, said = tmp_path / "in.csv", tmp_path / "said"
    source.write_text("text\n" + "".join(f"Where is parcel {n}?\n" for n in range(20)))
    shown = terminals.run(
        *("predict", source, *LABELS, "--quiet"),
        folder=ROOT,
        stdout="closed",
        stderr=str(said),
    )
    assert shown.code == 1
    assert "Traceback" not in said.read_text()
    assert "Error" not in said.read_text()


@pytest.fixture
def one_column(tmp_path):
    path = tmp_path / "messages.csv"
    pd.DataFrame({"message": [TEXTS[0], TEXTS[2]]}).to_csv(path, index=False)
    return path


def test_the_only_column_holds_the_texts_and_a_note_says_so(one_column, tmp_path):
    output = tmp_path / "out.csv"
    result = run(one_column, *LABELS, "--output", output)
    assert (
        f"The texts are in column 'message', the only one of '{one_column}'. Its first "
        "line was read as the header.\n" in result.stderr
    )
    assert [row["label"] for row in table(output.read_text())] == [
        "billing",
        "shipping",
    ]


def test_a_column_that_is_named_is_not_replaced_by_the_only_one(one_column):
    result = run(one_column, *LABELS, "--text-column", "body", code=2)
    assert "There is no column 'body' with the text" in result.stderr
    assert "The texts are in" not in result.stderr


@pytest.mark.parametrize(
    "content", ["Where is my parcel?\nI paid twice.\n", "a;b\n1;2\n"]
)
def test_no_column_is_taken_from_a_file_without_names_or_read_wrong(content, tmp_path):
    source = tmp_path / "in.csv"
    source.write_text(content)
    result = run(source, *LABELS, code=2)
    assert "There is no column 'text' with the text" in result.stderr
