"""The command line as a user meets it: help, notes, mistakes, exit codes."""

from pathlib import Path

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

import classify
from classify.cli import app, spin_briefly
from classify.cli.console import Notes, reported_errors
from classify.cli.given import Given
from classify.cli.options import split_labels
from classify.cli.report import report_summary
from classify.cli.tables import Shown, ShownRow, bars, results_table
from classify.cli.task import task_of
from classify.engines.speculation import SpeculationFigures
from classify.errors import (
    ConfigError,
    EngineError,
    MissingDependencyError,
    ModelLoadError,
)
from classify.jobs import Outcome, Summary

LABELS = ("--labels", "billing,shipping")


@pytest.fixture
def tickets(tmp_path):
    path = tmp_path / "tickets.csv"
    path.write_text("id,text\n1,Where is my parcel?\n", encoding="utf-8")
    return path


def run(*arguments, **options):
    return CliRunner().invoke(app, [str(each) for each in arguments], **options)


def refused(*arguments, code=2, **options):
    """Run a command that fails; return its one line on stderr."""
    result = run(*arguments, **options)
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    return result.stderr.removesuffix("\n")


# ------------------------------------------------------------------ help and version


@pytest.mark.parametrize(
    ("arguments", "example"),
    [
        ((), '$ classify predict --text "Where is my parcel?" --labels'),
        (("predict",), "$ classify predict tickets.csv --labels billing,shipping"),
        (("demo",), "$ classify demo"),
        (("labels",), '$ classify labels --labels "New,New York,Boston"'),
        (("tune",), "$ classify tune tickets.csv --task tickets.yaml -o tuned.yaml"),
        (("calibrate",), "$ classify calibrate labelled.csv --task tickets.yaml"),
        (("evaluate",), "$ classify evaluate fresh.csv --task tickets.yaml"),
        (("doctor",), "$ classify doctor"),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, tuple) else "",
)
def test_help_begins_with_an_example(arguments, example):
    result = run(*arguments, "--help")
    assert result.exit_code == 0
    usage, _, text = result.stdout.partition("Example:")
    assert "Usage: classify" in usage
    assert text.strip().startswith(example)


def test_version():
    result = run("--version")
    assert result.exit_code == 0
    assert result.stdout == f"classify {classify.__version__}\n"


@pytest.mark.parametrize("option", ["--lables", "--probability"])
def test_unknown_options_are_misuse(tickets, option):
    result = run("predict", tickets, option, "x")
    assert result.exit_code == 2
    assert f"No such option: {option}" in result.stderr


# --------------------------------------------------------------------------- mistakes


def test_nothing_to_classify():
    assert refused("predict", *LABELS) == (
        "Error: There is nothing to classify: name a file, or give --text, or "
        "--json to read one text from stdin."
    )


def test_a_file_and_a_text(tickets):
    assert refused("predict", tickets, *LABELS, "--text", "a") == (
        "Error: --text is for one text, and here files are read: leave the file out, "
        "or drop --text."
    )


def test_an_output_for_one_text(tmp_path):
    assert refused("predict", *LABELS, "--text", "a", "-o", tmp_path / "out.csv") == (
        "Error: --output is for files, and here one text is given: name a file, "
        "or drop --output."
    )


@pytest.mark.parametrize("command", ["predict", "labels"])
def test_labels_come_from_one_place(tmp_path, command):
    text = ("--text", "a") if command == "predict" else ()
    assert refused(command, *text, *LABELS, "--labels-file", tmp_path) == (
        "Error: Give --labels or --labels-file, not both."
    )
    assert refused(command, *text) == (
        "Error: There are no labels: give --labels, --labels-file, or a --task that "
        "has them."
    )


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        (
            "billing",
            (
                "Classification needs at least two labels. Got only 'billing' "
                "instead: add the others, for example 'other'."
            ),
        ),
        (
            "a,b,a",
            (
                "Labels must be unique. 'a' declared more than once: remove or "
                "rename the repeats."
            ),
        ),
        ("a,,b", "A label's name must not be empty. Got '' instead."),
        (
            '"a,b',
            (
                "--labels '\"a,b' cannot be split: unexpected end of data. Put a "
                "name that contains a comma in double quotes, and double the quotes "
                "within it."
            ),
        ),
    ],
)
@pytest.mark.parametrize("command", ["predict", "labels"])
def test_labels_that_cannot_be(tickets, command, labels, sentence):
    source = (tickets,) if command == "predict" else ()
    assert refused(command, *source, "--labels", labels) == f"Error: {sentence}"


def test_a_missing_file(tmp_path, tickets):
    path = tmp_path / "ticket.csv"
    assert refused("predict", path, *LABELS) == (
        f"Error: There is no file '{path}'. Did you mean '{tickets}'?"
    )


def test_a_missing_column(tickets):
    assert refused("predict", tickets, *LABELS, "--text-column", "txt") == (
        f"Error: There is no column 'txt' with the text in '{tickets}'. Columns: 'id', "
        "'text'. Did you mean 'text'? Then give --text-column text."
    )


def test_a_wrong_encoding(tmp_path):
    path = tmp_path / "latin.csv"
    path.write_bytes("text\ncafé\nMy parcel is late.\n".encode("latin-1"))
    result = run("predict", path, *LABELS)
    assert result.exit_code == 0
    assert result.stderr.splitlines()[-1] == (
        "Warning: 1 row without a label: byte 0xe9 in column 'text' is not utf-8. Name "
        "the file's encoding, for example --encoding cp1252."
    )
    path.write_bytes("text\ncafé\n".encode("utf-16-le"))
    assert refused("predict", path, *LABELS) == (
        f"Error: '{path}' seems to be UTF-16 without a byte order mark: give "
        "--encoding utf-16-le."
    )
    assert refused("predict", path, *LABELS, "--encoding", "latin1000") == (
        "Error: Unknown encoding 'latin1000'. Common ones are utf-8, utf-16 and cp1252."
    )


def test_an_empty_file(tmp_path):
    path = tmp_path / "empty.csv"
    path.touch()
    assert refused("predict", path, *LABELS) == (
        f"Error: '{path}' is empty: its first line must name the columns."
    )


def test_an_output_that_is_the_input(tickets):
    assert refused("predict", tickets, *LABELS, "--output", tickets) == (
        f"Error: The output '{tickets}' is the input: give it another name."
    )


def test_a_task_file_with_a_typo(tmp_path, tickets):
    path = tmp_path / "task.yaml"
    path.write_text("lables: [a, b]\n")
    sentence = refused("predict", tickets, "--task", path)
    assert sentence.startswith(
        f"Error: Unknown key 'lables' in task file '{path}'. Did you mean 'labels'? "
        "Allowed: labels, prompt, "
    )


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        (
            "--tolerance",
            "1.5",
            "--tolerance must be a number from 0 (exact) to below 1. Got 1.5 instead.",
        ),
        (
            "--strategy",
            "best",
            "--strategy must be exact, generate or reason. Got 'best' instead.",
        ),
        (
            "--batch-size",
            "0",
            "--batch-size must be auto or an integer above 0. Got 0 instead.",
        ),
        (
            "--too-long",
            "cut",
            "--too-long must be truncate or error. Got 'cut' instead.",
        ),
        (
            "--template",
            "Topic:",
            (
                "The template 'Topic:' is the same for every text: put {text}, or "
                "the name of a column in braces, where the text belongs."
            ),
        ),
    ],
)
def test_options_out_of_range(tickets, option, value, sentence):
    assert refused("predict", tickets, *LABELS, option, value) == f"Error: {sentence}"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ("--engine-option", "4096"),
            "--engine-option '4096' must be KEY=VALUE, such as max_model_len=4096.",
        ),
        (
            ("--speculation", "method=eagle,head"),
            (
                "--speculation 'head' must be KEY=VALUE, such as "
                "method=draft_model,model=FOLDER."
            ),
        ),
        (
            ("--speculation", '{"method": ngram}'),
            (
                "--speculation '{\"method\": ngram}' is not JSON: Expecting value: "
                "line 1 column 12 (char 11). Or give it as method=NAME,KEY=VALUE."
            ),
        ),
        (
            ("--speculation", "method=eagle"),
            (
                "Speculation by 'eagle' needs 'model', a folder or hub id: "
                "--speculation method=eagle,model=…."
            ),
        ),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else "",
)
def test_engine_options_that_cannot_be(tickets, arguments, sentence):
    assert refused("predict", tickets, *LABELS, *arguments) == f"Error: {sentence}"


def test_options_that_the_engine_does_not_know(tickets):
    engine = ("--engine", "transformers", "--quiet")
    for option, sentence in (
        (
            ("--speculation", "ngram"),
            "--speculation is for --engine vllm: give that, or drop --speculation.",
        ),
        (
            ("--engine-option", "seed=1"),
            (
                "The transformers engine has no option 'seed'. Its options are "
                "attn_implementation, cache_bytes; those of vLLM need --engine vllm."
            ),
        ),
    ):
        assert refused("predict", tickets, *LABELS, *engine, *option) == (
            f"Error: {sentence}"
        )


def test_an_unknown_model_is_misuse(tickets):
    sentence = refused("predict", tickets, *LABELS, "--model", "no-such/model")
    assert sentence == (
        f"Error: There is no model 'no-such/model': no such folder in {Path.cwd()}, "
        "not in the local hub cache, and the hub was not asked, because HF_HUB_OFFLINE "
        "is set. Check the name, or give a folder."
    )


def test_debug_shows_the_traceback(tickets):
    result = run("predict", tickets, "--labels", "a", "--debug")
    assert result.exit_code == 1
    assert isinstance(result.exception, classify.ClassifyError)


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (EngineError("It broke."), 1, "Error: It broke."),
        (MissingDependencyError("Install it."), 1, "Error: Install it."),
        (ModelLoadError("No model."), 2, "Error: No model."),
        (ConfigError("Bad option."), 2, "Error: Bad option."),
        (
            OSError(28, "No space left on device", "out.csv"),
            1,
            "Error: No space left on device ('out.csv').",
        ),
        (
            ZeroDivisionError("division by zero"),
            1,
            (
                "Error: unexpected ZeroDivisionError: division by zero. Run the "
                "command with --debug to see where."
            ),
        ),
        (KeyboardInterrupt(), 130, "Stopped."),
    ],
    ids=lambda value: type(value).__name__,
)
def test_exit_codes(capsys, error, code, sentence):
    with (
        pytest.raises(typer.Exit) as exit,
        reported_errors(debug=False, interrupted=lambda: "Stopped."),
    ):
        raise error
    assert exit.value.exit_code == code
    assert capsys.readouterr().err == f"{sentence}\n"


def test_what_is_noted_on_an_error_is_said(capsys):
    error = EngineError("It broke.")
    error.add_note("The 5 rows finished before are in 'out.csv.part'.")
    with pytest.raises(typer.Exit) as exit, reported_errors(debug=False):
        raise error
    assert exit.value.exit_code == 1
    assert capsys.readouterr().err == (
        "Error: It broke. The 5 rows finished before are in 'out.csv.part'.\n"
    )


# ------------------------------------------------------------------------------ parts


def test_engine_options_override_those_of_a_task_file_key_by_key(tmp_path):
    path = tmp_path / "task.yaml"
    path.write_text("engine_options: {seed: 1, max_model_len: 512}\n")
    options = ["seed=2", "enforce-eager=true", "lora=a/b=c"]
    given = Given(
        values={"task": path, "engine_options": options},
        spelled={"engine_options": "--engine-option"},
        typed=frozenset({"task", "engine_options"}),
        environment={},
    )
    assert task_of(given).model.engine_options == {
        "seed": 2,
        "max_model_len": 512,
        "enforce_eager": True,
        "lora": "a/b=c",
    }


@pytest.mark.parametrize(
    ("figures", "sentence"),
    [
        (
            SpeculationFigures(107, 535, 41),
            (
                "Speculation: 107 drafts, 41 of 535 drafted tokens accepted, 1.38 "
                "tokens a pass."
            ),
        ),
        (SpeculationFigures(0, 0, 0), "Speculation: nothing was drafted."),
    ],
    ids=["some", "none"],
)
def test_what_speculation_did_is_said(capsys, figures, sentence):
    outcome = Outcome(summary=Summary(), seconds=1.0, is_complete=True)
    report_summary(
        outcome,
        Notes(),
        strategy="generate",
        lists_only=False,
        shortlisted=False,
        renamed={},
        speculation=figures,
    )
    assert capsys.readouterr().err.splitlines()[1:] == [sentence]


@pytest.mark.parametrize(
    ("listed", "names"),
    [
        ("a,b", ["a", "b"]),
        (" a , b c ", ["a", "b c"]),
        ('"x, y",z', ["x, y", "z"]),
        ('x, "y, z"', ["x", "y, z"]),
        ('"say ""hi""",b', ['say "hi"', "b"]),
        ("", []),
    ],
)
def test_labels_are_split_like_csv(listed, names):
    assert split_labels(listed) == names


def test_bars_are_sorted_and_to_scale(capsys):
    console = Console(width=60)
    console.print(bars({"billing": 0.25, "shipping": 0.75, "[b]": 0.0}, console))
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == [
        f"shipping  {'█' * 18}{' ' * 6}  0.7500",
        f"billing   {'█' * 6}{' ' * 18}  0.2500",
        f"[b]       {' ' * 24}  0.0000",
    ]


def test_the_table_shows_what_is_special_about_a_row(capsys):
    rows = [
        ShownRow("a [b]text[/b]", {"": Shown("billing", 0.987, 1.0, 0.0, False, "")}),
        ShownRow("b", {"": Shown("shipping", 0.5, 0.25, 0.2, True, "")}),
        ShownRow("", {"": Shown(None, None, None, None, None, "there is no text.")}),
    ]
    Console(width=64).print(results_table(rows, 64))
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == [
        "row  text                 label     probability  mass",
        "─" * 64,
        "  1  a [b]text[/b]        billing   █████▉ 0.99  1.00",
        "  2  b                    shipping  ███    0.50  0.25  cut ±0.20",
        "  3  there is no text.    –",
    ]


def test_warnings_are_shown_once_and_even_if_quiet(capsys):
    import logging

    logger = logging.getLogger("classify.somewhere")
    with Notes(quiet=True) as notes:
        for mass in (0.1, 0.2):
            logger.warning("The mass is %.1f.", mass)
        logger.info("Not for everyone.")
        notes.note("A note.")
    logger.warning("Too late.")
    assert capsys.readouterr().err == "Warning: The mass is 0.1.\n"


# --------------------------------------------------------------------------- threads


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ({}, {"GOMP_SPINCOUNT": "10000"}),
        ({"GOMP_SPINCOUNT": "7"}, {"GOMP_SPINCOUNT": "7"}),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, {"OMP_WAIT_POLICY": "ACTIVE"}),
    ],
)
def test_threads_sleep_soon_unless_told_otherwise(given, used):
    environment = dict(given)
    spin_briefly(environment)
    assert environment == used
