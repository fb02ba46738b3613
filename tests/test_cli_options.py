"""Options as a whole: what they may be, where they come from, how help shows them."""

import csv
import io
import json
import os
import re
import shlex
from typing import get_args

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from classify.calibration import METHODS
from classify.cli import app
from classify.cli.fitting import FitOptions
from classify.cli.given import Given
from classify.cli.groups import JobOptions, Reading
from classify.cli.task import task_of
from classify.cli.uses import USES
from classify.engines.registry import engine_names
from classify.parameters import settings_of
from classify.spec import ModelSpec
from classify.tables.formats import FormatName
from tests.option_values import parameters_of

COMMANDS = get_command(app).commands
LABELS = ("--labels", "billing,shipping")
TEXT = ("--text", "Where is my parcel?", *LABELS)


def run(*arguments, **options):
    return CliRunner().invoke(app, [str(each) for each in arguments], **options)


def refused(*arguments, **options):
    """Run a command that is refused; return its one line on stderr."""
    result = run(*arguments, **options)
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    assert result.stderr.count("\n") == 1, result.stderr
    return result.stderr.removesuffix("\n").removeprefix("Error: ")


# ------------------------------------------------------------------------------ choices


def test_choices_are_those_of_the_code():
    def allowed(group, name):
        return settings_of(group)[name].allowed.values

    assert allowed(ModelSpec, "engine") == engine_names()
    assert allowed(Reading, "input_format") == get_args(FormatName)
    assert allowed(JobOptions, "output_format") == get_args(FormatName)
    assert sorted(allowed(FitOptions, "method")) == sorted(METHODS)


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        (
            "--engine",
            "vlm",
            (
                "--engine must be auto, transformers, vllm, server or llamacpp. Got "
                "'vlm' instead. Did you mean 'vllm'?"
            ),
        ),
        (
            "--strategy",
            "exakt",
            (
                "--strategy must be exact, generate or reason. Got 'exakt' instead. "
                "Did you mean 'exact'?"
            ),
        ),
        (
            "--options",
            "in-line",
            (
                "--options must be auto, inline, lines, verbatim or none. Got "
                "'in-line' instead. Did you mean 'inline'?"
            ),
        ),
        (
            "--too-long",
            "zzz",
            "--too-long must be truncate or error. Got 'zzz' instead.",
        ),
    ],
)
def test_a_wrong_choice_is_told_the_right_ones(option, value, sentence):
    assert refused("predict", *TEXT, option, value) == sentence


@pytest.mark.parametrize(
    ("command", "words", "completed"),
    [
        ("predict", "--engine v", {"vllm"}),
        ("predict", "--strategy ", {"exact", "generate", "reason"}),
        ("predict", "--options l", {"lines"}),
        ("predict", "--input-format j", {"jsonl"}),
        ("predict", "--dtype b", {"bfloat16"}),
        ("predict", "--ray ", {"auto", "local"}),
        ("predict", "--no-c", {"--no-chat"}),
        ("calibrate", "--method i", {"isotonic"}),
        ("calibrate", "--prior ", {"uniform", "labels"}),
    ],
)
def test_a_shell_completes_values(command, words, completed):
    line = f"classify {command} {words}"
    env = {
        "_CLASSIFY_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split()) - (not line.endswith(" "))),
    }
    result = run(env=env)
    assert set(result.stdout.split()) == completed


# -------------------------------------------------------------------------- environment


def model_of(command, environment, *arguments):
    """Return the model of a command's task in an environment."""
    with COMMANDS[command].make_context(command, list(map(str, arguments))) as context:
        return task_of(Given.of(context)).model


@pytest.fixture
def environment(monkeypatch):
    for name in list(os.environ):
        if name.startswith("CLASSIFY_"):
            monkeypatch.delenv(name)

    def set_all(**values):
        for name, value in values.items():
            monkeypatch.setenv(f"CLASSIFY_{name}", value)

    return set_all


def test_an_option_beats_a_task_file_which_beats_the_environment(environment, tmp_path):
    path = tmp_path / "task.yaml"
    path.write_text("model: of-file\nlabels: [a, b]\n")
    assert model_of("predict", None).model == "demo"
    environment(MODEL="of-environment", DEVICE="cpu", DTYPE="bfloat16")
    chosen = model_of("predict", None)
    assert (chosen.model, chosen.device, chosen.dtype) == (
        "of-environment",
        "cpu",
        "bfloat16",
    )
    chosen = model_of("predict", None, "--task", path)
    assert (chosen.model, chosen.dtype) == ("of-file", "bfloat16")
    chosen = model_of("predict", None, "--task", path, "--model", "typed")
    assert (chosen.model, chosen.device) == ("typed", "cpu")


def test_a_url_means_a_server_unless_another_engine_is_named(environment, tmp_path):
    path = tmp_path / "task.yaml"
    path.write_text("engine: vllm\nlabels: [a, b]\n")
    environment(URL="http://h:1", API_KEY_ENV="KEY", DEVICE="cuda")
    chosen = model_of("predict", None)
    assert (chosen.engine, chosen.device) == ("server", "auto")
    assert chosen.engine_options == {"url": "http://h:1", "api_key_env": "KEY"}
    chosen = model_of("predict", None, "--engine", "transformers")
    assert (chosen.engine, chosen.device, chosen.engine_options) == (
        "transformers",
        "cuda",
        None,
    )
    chosen = model_of("predict", None, "--task", path)
    assert (chosen.engine, chosen.engine_options) == ("vllm", None)
    environment(ENGINE="vllm")
    assert model_of("predict", None).engine == "vllm"
    chosen = model_of("predict", None, "--url", "http://typed:2")
    assert (chosen.engine, chosen.engine_options["url"]) == ("server", "http://typed:2")


def test_the_environment_is_never_refused_as_without_effect(environment, tmp_path):
    environment(CACHE=str(tmp_path / "cache"), API_KEY_ENV="KEY", MODEL="demo")
    result = run("predict", *TEXT)
    assert result.exit_code == 0, result.stderr
    assert not (tmp_path / "cache").exists()
    rows = tmp_path / "rows.csv"
    rows.write_text("text\nWhere is my parcel?\n")
    assert run("predict", rows, *LABELS).exit_code == 0
    assert (tmp_path / "cache").exists()


def test_a_wrong_choice_in_the_environment_names_the_variable(environment):
    environment(ENGINE="vlm")
    assert refused("predict", *TEXT) == (
        "CLASSIFY_ENGINE must be auto, transformers, vllm, server or llamacpp. Got "
        "'vlm' instead. Did you mean 'vllm'?"
    )


def test_a_job_knows_the_model_of_the_environment(environment, tmp_path):
    rows, out = tmp_path / "rows.csv", tmp_path / "out.csv"
    rows.write_text("text\nWhere is my parcel?\n")
    environment(MODEL="demo", DTYPE="float32")
    arguments = ("predict", rows, *LABELS, "-o", out, "--keep-job", "-q")
    assert run(*arguments).exit_code == 0
    environment(DTYPE="bfloat16")
    assert re.fullmatch(
        r"The job in '.*out\.csv\.job' was started with something else\. "
        r"dtype: was float32, now bfloat16\. Run it as it was started, or start over "
        r"with --restart, which discards its finished parts\.",
        refused(*arguments),
    )


# --------------------------------------------------------------------- without effect


def test_what_is_refused_exists():
    spelled = {}
    for command in COMMANDS:
        spelled |= parameters_of(command)
    known = set(spelled) | {"ray", "workers", "url", "api_key_env", "api"}
    assert {name for use in USES.values() for name in use.options} <= known


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ("--url", "http://h:1", "--engine", "transformers"),
            "--url is for --engine server: give that, or drop --url.",
        ),
        (
            ("--api-key-env", "KEY"),
            "--api-key-env is for --engine server: give that, or drop --api-key-env.",
        ),
        (
            ("--url", "http://h:1", "--device", "cpu"),
            (
                "--device is for a model that runs here, and a server has its own: "
                "drop --device."
            ),
        ),
        (
            ("--strategy", "generate", "--tolerance", "0"),
            (
                "--tolerance is for --strategy exact or reason: give one, or drop "
                "--tolerance."
            ),
        ),
        (
            ("--template", "{text}:", "--options", "lines"),
            (
                "--options is for a prompt with {labels}, and this one has none: drop "
                "--options."
            ),
        ),
        (
            ("--template", "{title}: {text}"),
            (
                "The prompt needs the columns 'title', and a text alone has none: name "
                "a file that has them."
            ),
        ),
        (
            ("--force",),
            "--force is for --calibration: give it, or drop --force.",
        ),
        (
            ("--workers", "2"),
            (
                "--workers is for files, and here one text is given: name a file, "
                "or drop --workers."
            ),
        ),
    ],
)
def test_options_that_need_others(arguments, sentence):
    assert refused("predict", *TEXT, *arguments) == sentence


@pytest.mark.parametrize(
    ("name", "content", "option", "sentence"),
    [
        (
            "rows.jsonl",
            '{"text": "a"}\n',
            ("--separator", ";"),
            (
                "--separator is for CSV and TSV files, and the input is neither: drop "
                "--separator."
            ),
        ),
        (
            "rows.jsonl",
            '{"text": "a"}\n',
            ("--quote-char", "'"),
            (
                "--quote-char is for CSV and TSV files, and the input is neither: drop "
                "--quote-char."
            ),
        ),
        (
            "rows.parquet",
            "",
            ("--encoding", "utf-8"),
            "--encoding is for text files, and Parquet is not text: drop --encoding.",
        ),
        (
            "rows.csv",
            "title\na\n",
            ("--template", "{title}:", "--text-column", "title"),
            (
                "--text-column is for a prompt with {text}, and this one has other "
                "columns: drop --text-column."
            ),
        ),
        (
            "rows.csv",
            "text\na\n",
            ("--workers", "2"),
            "--workers is for --ray: give it, or drop --workers.",
        ),
        (
            "rows.csv",
            "text\na\n",
            ("--ray", "local", "--dry-run"),
            "--ray runs the job, and --dry-run does not: drop one of them.",
        ),
        (
            "rows.csv",
            "text\na\n",
            ("--ray", "local"),
            "--ray is for a job with an output file: give --output, or drop --ray.",
        ),
    ],
)
def test_options_of_other_files(tmp_path, name, content, option, sentence):
    path = tmp_path / name
    path.write_text(content)
    assert refused("predict", path, *LABELS, *option) == sentence
    if "--ray" not in option and "--workers" not in option:
        assert refused("evaluate", path, *LABELS, *option) == sentence


def test_labels_that_the_shell_has_split(tmp_path):
    sentence = (
        "--labels billing, shipping has a space after a comma, where the shell begins "
        "another argument: leave the space out, or put the names in quotes: --labels "
        "'billing, shipping'."
    )
    split = ("--labels", "billing,", "shipping")
    for arguments in (
        ("predict", "in.csv", *split, "-o", "out.csv"),
        ("predict", *split, "--text", "a"),
        ("labels", *split),
        ("evaluate", "in.csv", "--labels=billing,", "shipping"),
    ):
        assert refused(*arguments) == sentence


# --------------------------------------------------------------------------------- help


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_at_80_columns(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    result = run(*command.split(), "-h")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert not re.search(r"<bool>|<str>|list\[|\{[A-Z]+\}", result.stdout)
    # No line of the text above the boxes is broken by the terminal.
    text = COMMANDS[command].help if command else app.info.help
    shown = {line.strip() for line in lines}
    assert [line for line in text.splitlines() if line.strip() not in shown] == []


@pytest.mark.parametrize("option", ["-V", "--version"])
def test_version(option):
    result = run(option)
    assert re.fullmatch(r"classify \d\S+\n", result.stdout)


def example_of(command):
    text = COMMANDS[command].help if command else app.info.help
    example = text.partition("$ classify ")[2].partition("\n\n")[0]
    return shlex.split(example.replace("\\\n", " "))


def test_the_examples_of_help_work_one_after_the_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("demo", "--files").exit_code == 0
    commands = ["demo", "predict", "labels", "tune", "calibrate", "evaluate"]
    commands += ["track", "doctor"]
    # `test_serve.py` runs the example of the other.
    assert sorted([*commands, "serve"]) == sorted(COMMANDS)
    for command in ("", *commands):
        fewer = ["--limit", "120"] if command in ("calibrate", "evaluate") else []
        fewer = ["--n-texts", "4"] if command == "tune" else fewer
        result = run(*example_of(command), *fewer)
        assert result.exit_code == 0, (command, result.output)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text())))
    assert {row["label"] for row in rows} == {"billing", "shipping"}
    assert json.loads((tmp_path / "calibration.json").read_text())["threshold"]
