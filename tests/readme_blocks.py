"""README's blocks of code: found, and run in their order.

``python tests/readme_blocks.py README.md`` runs them in the current folder and writes
what the commands print as JSON. It needs only the package and its dependencies. A block
that cannot run everywhere says what it needs after its language: ``console needs-gpu``.
"""

import ast
import json
import re
import shlex
import sys
from pathlib import Path
from typing import NamedTuple

NEEDS = {
    "needs-clone",  # files of the repository
    "needs-gpu",
    "needs-network",
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


def run(markdown: str) -> dict[int, str]:
    """Run all blocks; return what the last command of each console block prints."""
    names: dict[str, object] = {}
    printed = {}
    for block in blocks_of(markdown):
        if block.needs:
            continue
        if block.language == "python":
            _run_python(block, names)
        elif block.language == "console":
            for command in block.commands():
                printed[block.line] = _run_command(command)
    return printed


def _run_command(command: str) -> str:
    from typer.testing import CliRunner

    from classify.cli import app

    program, *arguments = shlex.split(command, comments=True)
    assert program == "classify", f"cannot run here: {command}"
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, f"{command}\n{result.output}"
    return result.stdout


def _run_python(block: Block, names: dict[str, object]) -> None:
    """Run a block, and compare values with those in the comments after expressions."""
    lines = block.code.splitlines()
    for statement in ast.parse(block.code).body:
        module = ast.Module([statement], [])
        if not isinstance(statement, ast.Expr):
            exec(compile(module, "README.md", "exec"), names)
            continue
        value = eval(
            compile(ast.Expression(statement.value), "README.md", "eval"), names
        )
        shown = lines[statement.lineno - 1].partition("  # ")[2]
        if _is_value(shown):
            assert repr(value) == shown, f"README says {shown}. Got {value!r}."


def _is_value(comment: str) -> bool:
    try:
        found = ast.parse(comment, mode="eval").body
    except SyntaxError:
        return False
    return isinstance(found, ast.Call | ast.Constant | ast.List | ast.Dict)


if __name__ == "__main__":
    json.dump(run(Path(sys.argv[1]).read_text("utf-8")), sys.stdout)
