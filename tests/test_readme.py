"""README as it is written; `test_wheel.py` runs its blocks."""

import re

import pytest

from classify.distribution import NAME
from tests.readme_blocks import NEEDS, blocks_of
from tests.test_repository import ROOT, relative, tracked_files

TEXT = (ROOT / "README.md").read_text("utf-8")
BLOCKS = blocks_of(TEXT)


def test_every_block_is_found():
    assert 2 * len(BLOCKS) == len(re.findall("^ *```", TEXT, re.MULTILINE))
    assert {block.language for block in BLOCKS} == {"console", "python", "text"}


def test_a_block_runs_or_says_what_it_needs():
    assert {block.needs for block in BLOCKS} == NEEDS | {""}
    commands = [
        command
        for block in BLOCKS
        if block.language == "console" and not block.needs
        for command in block.commands()
    ]
    assert {command.split()[0] for command in commands} == {"classify"}
    assert {command.split()[1] for command in commands} >= {
        "demo",
        "predict",
        "labels",
        "calibrate",
        "evaluate",
    }


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: f"line {block.line}")
def test_console_blocks_hold_commands_and_nothing_else(block):
    if block.language == "console":
        lines = block.code.replace("\\\n", " ").splitlines()
        assert lines
        assert all(line.startswith("$ ") for line in lines)


def test_links_work_where_the_files_are_not():
    # On the page of a package index there is no `notebooks/` to link to.
    targets = re.findall(r"\]\(([^)]*)\)", TEXT)
    assert targets
    assert [each for each in targets if not re.match("https://|#", each)] == []


def test_both_ways_in_are_on_the_first_screen():
    first = "\n".join(TEXT.splitlines()[:30])
    for command in ("make demo", "pip install .", f"pip install {NAME}"):
        assert f"$ {command}" in first


def test_every_folder_is_in_the_list():
    parts = [relative(path).split("/")[:-1] for path in tracked_files()]
    folders = {each[0] for each in parts if each and not each[0].startswith(".")}
    packages = {each[1] for each in parts if len(each) > 1 and each[0] == "classify"}
    lines = TEXT.splitlines()
    for start in [f"{name}/ " for name in folders] + [
        f"  {name}/ " for name in packages
    ]:
        assert any(line.startswith(start) for line in lines), start
