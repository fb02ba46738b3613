"""How errors name a parameter: as Python does, or as the command line does."""

import ast
from pathlib import Path

import pytest
from typer.main import get_command

import classify
from classify.cli import app
from classify.cli.console import as_option
from classify.wording import NO_VALUE, parameter, spelled_by

COMMANDS = get_command(app).commands.values()
PARAMETERS = [each for command in COMMANDS for each in command.params]
OPTIONS = {name for each in PARAMETERS for name in (*each.opts, *each.secondary_opts)}
# Of estimators that no command makes, of their methods, and of clusters.
PYTHON_ONLY = {
    *("gpus_per_worker", "no_words", "probes", "prompt", "return_steps", "target"),
    "yes_words",
}


def named_parameters():
    """Yield the parameters that messages of the package name, with their values."""
    for path in Path(classify.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id == "parameter"
                and isinstance(node.args[0], ast.Constant)
            ):
                constants = [
                    arg for arg in node.args[1:] if isinstance(arg, ast.Constant)
                ]
                value = constants[0].value if constants else NO_VALUE
                yield node.args[0].value, value


NAMED = sorted(set(named_parameters()), key=repr)


def test_parameters_are_found():
    assert ("restart", True) in NAMED
    assert ("chat", False) in NAMED
    assert len(NAMED) > 30


@pytest.mark.parametrize(
    ("name", "value"),
    NAMED,
    ids=lambda each: "" if each is NO_VALUE else str(each),
)
def test_what_a_message_names_is_an_option(name, value):
    if name not in PYTHON_ONLY:
        assert as_option(name, value).split()[0] in OPTIONS


def test_the_spelling_is_pythons_again_when_a_command_ends():
    with spelled_by(as_option):
        assert parameter("engine", "vllm") == "--engine vllm"
    with pytest.raises(ZeroDivisionError), spelled_by(as_option):
        raise ZeroDivisionError
    assert parameter("engine", "vllm") == "engine='vllm'"


@pytest.mark.parametrize(
    ("name", "value", "typed"),
    [
        ("separator", ";", "--separator ';'"),
        ("separator", "\t", r"--separator '\t'"),
        ("self_test", False, "--engine-option self_test=false"),
        ("speculation", {"method": "eagle"}, "--speculation method=eagle"),
    ],
)
def test_values_are_spelled_as_a_shell_takes_them(name, value, typed):
    assert as_option(name, value) == typed
