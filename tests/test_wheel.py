"""The wheel, installed where nothing else is, and README's blocks there."""

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Iterator
from email.parser import Parser
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from classify.distribution import NAME, VERSION
from tests.test_repository import ROOT, relative, tracked_files

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("wheel")]

STEM = f"{NAME.replace('-', '_')}-{VERSION}"


class Environment:
    """A virtual environment without access to the packages of this one."""

    def __init__(self, folder: Path):
        venv.create(folder, symlinks=True)
        self.bin = folder / "bin"
        [self.packages] = folder.glob("lib/python*/site-packages")

    def run(self, program, *arguments, cwd):
        """Run a program of the environment; return the completed process."""
        inherited = {
            name: value
            for name, value in os.environ.items()
            if name == "CLASSIFY_SELF_CHECKS"  # not those in the user's folder
            or not name.startswith(("CLASSIFY_", "PYTHON"))
        }
        return subprocess.run(
            [self.bin / program, *arguments],
            cwd=cwd,
            env=inherited | {"COLUMNS": "80", "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
        )


def build(source: Path, folder: Path, *targets: str) -> None:
    # hatchling itself, for `pip wheel` would fetch it from an index.
    arguments = [option for target in targets for option in ("-t", target)]
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", folder, *arguments],
        cwd=source,
        capture_output=True,
        check=True,
    )


def needed(requirements: list[str], extras: frozenset[str]) -> Iterator[Requirement]:
    for requirement in map(Requirement, requirements):
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": e}) for e in ("", *extras)):
            yield requirement


def closure(requirements: list[str]) -> set[str]:
    """Return the installed distributions that these need, and all that those need."""
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = [*needed(requirements, frozenset())]
    while waiting:
        requirement = waiting.pop()
        one = (requirement.name, frozenset(requirement.extras))
        if one not in seen:
            seen.add(one)
            waiting += needed(distribution(one[0]).requires or [], one[1])
    return {name for name, _ in seen}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder with the wheel and the source distribution."""
    folder = tmp_path_factory.mktemp("built")
    build(ROOT, folder, "sdist", "wheel")
    return folder


@pytest.fixture(scope="module")
def wheel(built):
    return built / f"{STEM}-py3-none-any.whl"


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """An environment with the wheel and what it declares that it needs.

    The dependencies are links to those of this environment: to install them takes 88 s
    of CPU time, 1.5 GB, and an index. pip then finds them there, refuses a wheel that
    needs others, and what the wheel does not declare is not there.
    """
    environment = Environment(tmp_path_factory.mktemp("environment"))
    with zipfile.ZipFile(wheel) as archive:
        metadata = Parser().parsestr(
            archive.read(f"{STEM}.dist-info/METADATA").decode("utf-8")
        )
    for name in closure(metadata.get_all("Requires-Dist", [])):
        package = distribution(name)
        for top in {file.parts[0] for file in package.files or ()} - {".."}:
            link = environment.packages / top
            if top != "__pycache__" and not link.exists():
                link.symlink_to(package.locate_file(top))
    pip = [sys.executable, "-m", "pip", "--python", environment.bin / "python"]
    subprocess.run([*pip, "install", "--quiet", "--no-index", wheel], check=True)
    return environment


def test_the_wheel_is_installed_under_its_name(installed, tmp_path):
    code = (
        "from importlib.metadata import entry_points, version;"
        "[command] = entry_points(group='console_scripts', name='classify');"
        "print(command.dist.name, version('classify-lm'))"
    )
    named = installed.run("python", "-c", code, cwd=tmp_path)
    assert named.stdout == f"{NAME} {VERSION}\n", named.stderr
    version = installed.run("classify", "--version", cwd=tmp_path)
    assert (version.stdout, version.stderr) == (f"classify {VERSION}\n", "")


LABELS = ("--labels", "billing,shipping,technical problem,account access,refund")


@pytest.mark.parametrize(
    ("arguments", "need", "extra"),
    [
        (
            ("evaluate", "fresh.csv", *LABELS, "--report", "report"),
            "The pictures of a report are drawn with matplotlib",
            "plots",
        ),
        (
            ("predict", "tickets.csv", *LABELS, "-o", "out.parquet"),
            "Parquet files and datasets need the package pyarrow",
            "files",
        ),
    ],
)
def test_what_needs_an_extra_says_so(installed, tmp_path, arguments, need, extra):
    assert installed.run("classify", "demo", "--files", cwd=tmp_path).returncode == 0
    process = installed.run("classify", *arguments, cwd=tmp_path)
    assert process.returncode != 0
    assert process.stderr.splitlines()[-1] == (
        f"Error: {need}, which is not installed. Install it with: pip install "
        f"'classify-lm[{extra}]'"
    )


def test_the_blocks_of_readme_run_and_print_what_is_shown(installed, tmp_path):
    script = ROOT / "tests" / "markdown_blocks.py"
    process = installed.run("python", "-P", script, ROOT / "README.md", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert process.stdout == "1\n"


def test_the_source_distribution_holds_the_repository(built, tmp_path):
    with tarfile.open(built / f"{STEM}.tar.gz") as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
        archive.extractall(tmp_path, filter="data")
    tracked = {relative(path) for path in tracked_files()}
    assert held - {"PKG-INFO", ".gitignore"} == {
        name for name in tracked if not name.startswith(".")
    }
    build(tmp_path / STEM, tmp_path / "again", "wheel")
    assert record(tmp_path / "again" / f"{STEM}-py3-none-any.whl") == record(
        built / f"{STEM}-py3-none-any.whl"
    )


def record(wheel):
    """Return the names and digests of a wheel's files."""
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(f"{STEM}.dist-info/RECORD").decode()
