"""README and the pages in `docs/`: their blocks run, and their links lead somewhere."""

import importlib.util
import re
import shutil
from types import FunctionType

import pytest
import typer.main

from classify.cli import app
from classify.demo import fresh_csv, labelled_csv, tickets_csv, tickets_yaml
from classify.distribution import NAME
from tests.markdown_blocks import NEEDS, blocks_of, run
from tests.test_public import PUBLIC
from tests.test_repository import ROOT, relative, tracked_files

PAGES = sorted((ROOT / "docs").glob("*.md"))
PAGES = [page for page in PAGES if page.name != "cli.md"]  # `make docs` writes it
PATHS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *PAGES]
BLOCKS = [
    (path, block) for path in PATHS for block in blocks_of(path.read_text("utf-8"))
]
DIRECTIVES = re.compile(r"^```+\{.*?^```+$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def test_every_block_is_found():
    for path in PATHS:
        text = DIRECTIVES.sub("", path.read_text("utf-8"))
        fences = re.findall("^ *```", text, re.MULTILINE)
        assert 2 * len(blocks_of(text)) == len(fences), path.name


def test_a_block_runs_or_says_what_it_needs():
    assert {block.language for _, block in BLOCKS} == {
        "console",
        "python",
        "text",
        "yaml",
    }
    assert {block.needs for _, block in BLOCKS} == NEEDS | {""}
    commands = [
        command
        for _, block in BLOCKS
        if block.language == "console" and not block.needs
        for command in block.commands()
    ]
    assert {command.split()[0] for command in commands} == {"classify"}
    named = set(typer.main.get_command(app).commands)
    # A server runs until it is stopped; a machine's own report is its own.
    assert {command.split()[1] for command in commands} == named - {"serve", "doctor"}


def test_console_blocks_hold_commands_and_nothing_else():
    for path, block in BLOCKS:
        if block.language == "console":
            lines = block.code.replace("\\\n", " ").splitlines()
            bare = [line for line in lines if not line.startswith("$ ")]
            assert lines, path.name
            assert bare == [], path.name


@pytest.mark.slow
@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_the_blocks_of_a_page_run_and_print_what_is_shown(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    shutil.copytree(ROOT / "configs", "configs")
    for file in (tickets_csv(), tickets_yaml(), labelled_csv(), fresh_csv()):
        shutil.copy(file, tmp_path)
    # `test_wheel.py` runs those of README.
    of_readme = blocks_of((ROOT / "README.md").read_text("utf-8"))
    run(path, elsewhere={block.code for block in of_readme})


def anchors_of(path):
    """Return the ids that headings get, on the site and on a forge."""
    text = re.sub(
        r"^```.*?^```$", "", path.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL
    )
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")
        for heading in headings
    }


def test_links_lead_somewhere():
    n_links = 0
    for path in PATHS:
        for target in LINK.findall(path.read_text("utf-8")):
            if re.match(r"https?://|mailto:", target):
                continue
            n_links += 1
            file, _, anchor = target.partition("#")
            found = path if not file else (path.parent / file).resolve()
            if found.name == "cli.md":
                continue
            assert found.is_file(), f"{path.name}: {target}"
            if anchor:
                assert anchor in anchors_of(found), f"{path.name}: {target}"
    assert n_links > 30


def test_every_page_is_in_the_tables_of_contents():
    listed = re.findall(
        r"^(\w+)$", (ROOT / "docs" / "index.md").read_text("utf-8"), re.MULTILINE
    )
    assert sorted([*listed, "index"]) == sorted([*(p.stem for p in PAGES), "cli"])


def test_readme_is_short_and_both_ways_in_are_near_its_top():
    lines = (ROOT / "README.md").read_text("utf-8").splitlines()
    assert len(lines) <= 180
    for command in ("make demo", "pip install .", f"pip install {NAME}"):
        assert any(line.startswith(f"$ {command}") for line in lines[:32])


def test_every_folder_is_on_the_map():
    parts = [relative(path).split("/")[:-1] for path in tracked_files()]
    folders = {each[0] for each in parts if each and not each[0].startswith(".")}
    packages = {each[1] for each in parts if len(each) > 1 and each[0] == "classify"}
    lines = (ROOT / "CONTRIBUTING.md").read_text("utf-8").splitlines()
    for start in [f"{name}/ " for name in folders] + [
        f"  {name}/ " for name in packages
    ]:
        assert any(line.startswith(start) for line in lines), start


def test_the_command_line_is_written_from_the_program():
    source = importlib.util.spec_from_file_location(
        "cli_reference", ROOT / "docs" / "cli_reference.py"
    )
    written = importlib.util.module_from_spec(source)
    source.loader.exec_module(written)
    page = written.reference()
    for name, command in typer.main.get_command(app).commands.items():
        _, _, section = page.partition(f"## classify {name}\n")
        section = section.partition("\n## ")[0]
        options = [each for each in command.params if not each.hidden]
        for option in options:
            usage = (
                option.opts[0] if option.param_type_name == "option" else option.metavar
            )
            assert re.search(rf"^`.*{re.escape(usage)}\b.*`$", section, re.MULTILINE), (
                usage
            )


def test_the_page_of_python_has_the_public_names():
    listed, package = {}, ""
    for line in (ROOT / "docs" / "api.md").read_text("utf-8").splitlines():
        if line.startswith("## "):
            package = line.removeprefix("## ")
            listed[package] = []
        elif re.fullmatch(r"   \w+", line):
            listed[package].append(line.strip())
    # These are vLLM's, which takes half a minute to import.
    assert listed.pop("classify.engines.vllm") == []
    assert listed.keys() == PUBLIC.keys() - {"classify.engines.vllm"}
    for name, names in listed.items():
        known = set() if name == "classify" else set(listed["classify"])
        module = importlib.import_module(name)
        public = set(PUBLIC[name].split()) - known
        # Constants and aliases of types may be missing.
        needed = {
            each
            for each in public
            if isinstance(getattr(module, each), type | FunctionType)
        }
        assert needed <= set(names) <= public, name
        assert len(names) == len(set(names)), name
