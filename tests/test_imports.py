"""What `import classify` costs, and what it offers."""

import importlib.metadata
import subprocess
import sys

import pytest

import classify

HEAVY = {"pandas", "sklearn", "torch", "transformers", "vllm"}

HELP = """
import sys
from classify.cli import main
sys.argv = ["classify", *{arguments!r}]
try:
    main()
except SystemExit as exit:
    assert not exit.code, exit.code
"""


def modules_loaded_by(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after running `code`."""
    report = "import sys; print(*sys.modules, file=sys.stderr)"
    process = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return {module.partition(".")[0] for module in process.stderr.split()}


def test_the_list_of_modules_shows_a_heavy_one():
    assert "pandas" in modules_loaded_by("import pandas")


def test_import_loads_nothing_heavy():
    loaded = modules_loaded_by("import classify")
    assert "classify" in loaded
    assert loaded & HEAVY == set()


def test_classes_of_vllm_are_imported_when_they_are_used():
    assert modules_loaded_by("import classify.engines.vllm") & HEAVY == set()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["predict", "--help"],
        ["labels", "--help"],
        ["doctor", "--help"],
    ],
    ids=" ".join,
)
def test_help_loads_nothing_heavy(arguments):
    loaded = modules_loaded_by(HELP.format(arguments=arguments))
    assert "typer" in loaded
    assert loaded & HEAVY == set()


def test_the_console_script_is_the_main_that_help_was_asked_of():
    scripts = importlib.metadata.entry_points(group="console_scripts", name="classify")
    assert {script.value for script in scripts} == {"classify.cli:main"}


def test_all_is_sorted_and_unique():
    assert list(classify.__all__) == sorted(set(classify.__all__))


@pytest.mark.parametrize("name", classify.__all__)
def test_every_name_of_all_resolves(name):
    assert getattr(classify, name) is not None
    assert name in dir(classify)


def test_an_unknown_name_is_an_attribute_error():
    assert not hasattr(classify, "no_such_name")
