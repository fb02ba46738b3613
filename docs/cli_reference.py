"""The page of the command line, written from the program: ``docs/cli.md``."""

import re
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import typer.main

from classify.cli import app

HEAD = """\
# Command line

This page is written from the program, and `classify COMMAND --help` shows the same.
Results go to standard output, everything else to standard error. Exit codes: 0 done,
1 failure, 2 misuse or invalid input, 130 interrupted.

"""


def reference() -> str:
    """Return the page as Markdown."""
    root: Any = typer.main.get_command(app)
    return HEAD + "\n".join(
        line for name, command in root.commands.items() for line in page(name, command)
    )


def page(name: str, command: Any) -> Iterator[str]:
    yield f"## classify {name}\n"
    yield from prose(command.help)
    context = command.context_class(command, info_name=name)
    parameters = [each for each in command.get_params(context) if not each.hidden]
    for panel, members in groupby(parameters, key=lambda each: each.rich_help_panel):
        yield f"### {name}: {(panel or 'Arguments').lower()}\n"
        for each in members:
            usage, help_text = each.get_help_record(context)
            yield f"`{usage}`\n: {escaped(help_text)}\n"


def prose(help_text: str) -> Iterator[str]:
    for paragraph in help_text.strip().split("\n\n"):
        if paragraph.startswith("$"):
            yield f"```console\n{paragraph}\n```\n"
        elif paragraph != "Example:":
            yield f"{escaped(paragraph)}\n"


def escaped(text: str) -> str:
    """Return text that Markdown shows as it is."""
    return re.sub(r"([\\`*_{}\[\]<>$|])", r"\\\1", text)
