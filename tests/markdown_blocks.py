"""The blocks of code of README and of the pages in `docs/`: found, and run in order.

``python tests/markdown_blocks.py README.md`` runs them in the current folder and prints
how many outputs it has compared. It needs only the package and its dependencies. A
block that cannot run everywhere says what it needs after its language, as in ``console
needs-gpu``.
"""

import ast
import re
import shlex
import sys
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

NEEDS = {
    "needs-clone",  # make
    "needs-gpu",
    "needs-model",  # weights and data sets that are not in the repository
    "needs-network",
    "needs-peer",  # another tool, not a dependency of tests
    "needs-ray-cluster",
    "needs-server",
    "needs-vllm",
}
_BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block: `needs` is empty where it runs everywhere."""

    line: int
    language: str
    needs: str
    code: str

    def commands(self) -> list[str]:
        """Return the commands of a console block, each on one line."""
        lines = self.code.replace("\\\n", " ").splitlines()
        return [line.removeprefix("$ ") for line in lines]


def blocks_of(markdown: str) -> list[Block]:
    return [
        Block(
            markdown.count("\n", 0, found.start()) + 1,
            found[1],
            found[2] or "",
            found[3],
        )
        for found in _BLOCK.finditer(markdown)
    ]


def run(path: Path, *, elsewhere: Collection[str] = ()) -> int:
    """Run all blocks of a page; return how many outputs it shows, as they were printed.

    A block of YAML is a task file, which commands behind it find as ``task.yaml``. The
    console blocks `elsewhere` run with another page.
    """
    names: dict[str, object] = {}
    printed = None
    n_compared = 0
    for block in blocks_of(path.read_text("utf-8")):
        where = f"{path.name}, line {block.line}"
        if block.language == "text" and printed is not None:
            assert_shows(block.code, printed)
            n_compared += 1
        printed = None
        if block.needs:
            continue
        if block.language == "python":
            _run_python(block, names, where)
        elif block.language == "yaml":
            _read_task(block)
        elif block.language == "console" and block.code not in elsewhere:
            for command in block.commands():
                printed = _run_command(command, where)
    return n_compared


def _run_command(command: str, where: str) -> str:
    from typer.testing import CliRunner

    from classify.cli import app

    program, *arguments = shlex.split(command, comments=True)
    assert program == "classify", f"{where}: cannot run here: {command}"
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, f"{where}: {command}\n{result.output}"
    return result.stdout


def _read_task(block: Block) -> None:
    from classify.config import Task

    path = Path("task.yaml")
    path.write_text(block.code, "utf-8")
    Task.from_yaml(path)


def _run_python(block: Block, names: dict[str, object], where: str) -> None:
    """Run a block, and compare values with those in the comments after expressions."""
    lines = block.code.splitlines()
    for statement in ast.parse(block.code).body:
        module = ast.Module([statement], [])
        if not isinstance(statement, ast.Expr):
            exec(compile(module, where, "exec"), names)
            continue
        value = eval(compile(ast.Expression(statement.value), where, "eval"), names)
        shown = lines[statement.lineno - 1].partition("  # ")[2]
        if _is_value(shown):
            assert repr(value) == shown, f"{where} says {shown}. Got {value!r}."


def _is_value(comment: str) -> bool:
    try:
        found = ast.parse(comment, mode="eval").body
    except SyntaxError:
        return False
    return isinstance(found, ast.Call | ast.Constant | ast.List | ast.Dict | ast.Tuple)


def assert_shows(shown: str, printed: str) -> None:
    """Compare words to the letter, numbers to 5 % or 0.02; they differ a little.

    A line "…" stands for any others.
    """
    rest = _words_of(printed)
    for part in re.split(r"^…\n", shown, flags=re.MULTILINE):
        words = _words_of(part)
        ends = [
            start + len(words)
            for start in range(len(rest) - len(words) + 1)
            if all(map(_are_alike, words, rest[start:]))
        ]
        assert ends, f"{part}\nis not in\n{printed}"
        rest = rest[ends[0] :]


def _words_of(text: str) -> list[str]:
    """Return words and numbers, without bars and rules."""
    return re.findall(r"[\d.,]*\d|[^\s\d─█▉▊▋▌▍▎▏]+", text)


def _are_alike(shown: str, printed: str) -> bool:
    if not (shown[-1].isdigit() and printed[-1].isdigit()):
        return shown == printed
    a, b = (float(each.replace(",", "")) for each in (shown, printed))
    return abs(a - b) <= max(0.02, 0.05 * abs(a))


if __name__ == "__main__":
    print(run(Path(sys.argv[1])))
