"""`classify track`: tables of values from files, and one text on the terminal."""

import re

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from classify import track
from classify.cli import app

WORDS = {"parcel": ["parcel", "Parcel"], "card": ["card"]}
TYPED = "parcel|Parcel, card"
TEXTS = ["Where is my parcel?", "", "I was charged twice."]


def run(*arguments, code=0):
    result = CliRunner().invoke(app, ["track", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pd.DataFrame({"id": ["a", "b", "c"], "text": TEXTS}).to_csv("t.csv", index=False)
    return tmp_path


READERS = {
    "csv": pd.read_csv,
    "jsonl": lambda path: pd.read_json(path, lines=True),
    "parquet": pd.read_parquet,
}


@pytest.mark.parametrize("kind", READERS)
def test_a_file_becomes_a_table_of_values(folder, kind):
    output = folder / f"out.{kind}"
    command = ["t.csv", "--words", TYPED, "--max-tokens", "3", "-o", output]
    result = run(*command)
    assert "1 row set aside: there is no text" in result.stderr
    found = READERS[kind](output)
    expected = track(TEXTS, WORDS, max_tokens=3, on_error="set_aside").to_frame()
    assert found.columns.tolist() == expected.columns.tolist()
    assert found["row"].tolist() == (expected["row"] + 1).tolist()
    good = expected["error"].isna().to_numpy()
    assert found["error"][good].isna().all()
    assert found["error"][~good].tolist() == expected["error"][~good].tolist()
    for name in ("step", "token", "word"):
        assert found[name][good].tolist() == expected[name][good].tolist()
    np.testing.assert_allclose(
        found["logprob"][good].astype(float),
        expected["logprob"][good],
        rtol=0,
        atol=1e-4,
    )
    # Run again, it replaces what it wrote, but nothing else.
    run(*command)
    result = run("t.csv", "--words", TYPED, "-o", "t.csv", code=2)
    assert "is the input: give it another name" in result.stderr


def test_one_text_is_shown():
    result = run("--text", TEXTS[0], "--words", TYPED, "--max-tokens", "3")
    [one] = track(TEXTS[:1], WORDS, max_tokens=3).generations[0]
    lines = [line.split() for line in result.stdout.splitlines()[2:]]
    assert [line[-2:] for line in lines] == [
        [f"{value:.3f}" for value in values] for values in one.logprobs
    ]
    assert "'parcel' is tracked by its first token: " in result.stderr


REFUSED = {
    "no words": (
        ["--text", "a"],
        "There are no words: give --words, such as yes,no.",
    ),
    "a word twice": (
        ["--text", "a", "--words", "yes,yes"],
        "--words has 'yes' twice: leave one out.",
    ),
    "neither": (
        ["--words", "yes"],
        "Name a file with texts, or give --text, and not both.",
    ),
    "several without a temperature": (
        ["--text", "a", "--words", "yes", "--n", "2"],
        (
            "--n 2 needs a temperature above 0: without it, all generations would be "
            "the same. Set --temperature too."
        ),
    ),
    "a file's option": (
        ["--text", "a", "--words", "yes", "--limit", "2"],
        (
            "--limit is for files, and here one text is given: name a file, or "
            "drop --limit."
        ),
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_makes_no_sense_is_refused(case):
    arguments, message = REFUSED[case]
    result = run(*arguments, code=2)
    said = " ".join(result.stderr.split())
    assert re.search(f"Error: {re.escape(message)}$", said)


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_values_go_to_stdout(folder, kind):
    result = run("t.csv", "--words", "card", "--max-tokens", 1, "--output-format", kind)
    (folder / "found").write_text(result.stdout)
    found = READERS[kind](folder / "found")
    assert found["row"].tolist() == [1, 2, 3]


def test_a_column_that_is_missing_is_named_with_the_option_that_chooses_it(folder):
    result = run("t.csv", "--words", "card", "--text-column", "body", code=2)
    assert " ".join(result.stderr.split()) == (
        "Error: There is no column 'body' with the text in 't.csv'. Columns: 'id', "
        "'text'. Did you mean 'text'? Then give --text-column text."
    )
    result = run("t.csv", "--words", "card", "--template", "{title}: {text}", code=2)
    assert " ".join(result.stderr.split()) == (
        "Error: There is no column 'title' for the prompt's {title} in 't.csv'. "
        "Columns: 'id', 'text'."
    )
