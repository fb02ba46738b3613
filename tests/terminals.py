"""`classify` on a pseudo-terminal, and what the terminal shows in the end.

``python -m tests.terminals`` loads the demo model, then runs each command that it reads
as a line of JSON on stdin in a fork of its own, so that nothing is imported twice. It
prints the exit status, and all that the terminal was sent.
"""

import base64
import contextlib
import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import unicodedata
from pathlib import Path
from typing import NamedTuple

__all__ = ["Commands", "Screen", "Shown"]

ROOT = Path(__file__).parents[1]
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
_SEQUENCE = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])")


class Screen:
    """What a terminal shows, with all that was scrolled away.

    It obeys what our own output consists of, and refuses all else: no text may bring
    a sequence of its own.
    """

    def __init__(self, columns, sent):
        self.columns = columns
        self.cells = [[]]
        self.row = self.column = 0
        self.cursor_is_shown = True
        # Whether the next character begins a line, as after the last column.
        self.wraps = False
        at = 0
        while at < len(sent):
            if sent[at] == "\x1b":
                found = _SEQUENCE.match(sent, at)
                assert found, repr(sent[at : at + 20])
                self._obey(found[1], found[2])
                at = found.end()
            else:
                self._take(sent[at])
                at += 1

    @property
    def lines(self):
        """The lines, without blanks at their ends and empty lines at the end."""
        lines = ["".join(cells).rstrip() for cells in self.cells]
        while lines and not lines[-1]:
            lines.pop()
        return lines

    def _take(self, character):
        if character == "\r":
            self.column, self.wraps = 0, False
        elif character == "\n":
            self._down()
        elif character == "\t":
            self.column = min((self.column // 8 + 1) * 8, self.columns - 1)
        else:
            assert character >= " ", repr(character)
            assert not "\x7f" <= character < "\xa0", repr(character)
            self._put(character, width_of(character))

    def _put(self, character, width):
        if self.wraps or self.column + width > self.columns:
            self.column = 0
            self._down()
        line = self.cells[self.row]
        line += [" "] * (self.column + width - len(line))
        if not width:
            line[max(self.column - 1, 0)] += character
            return
        line[self.column : self.column + width] = [character] + [""] * (width - 1)
        self.column += width
        self.wraps = self.column == self.columns

    def _down(self):
        self.row, self.wraps = self.row + 1, False
        if self.row == len(self.cells):
            self.cells.append([])

    def _obey(self, arguments, command):
        match arguments, command:
            case _, "m":
                pass
            case "?25", "h" | "l":
                self.cursor_is_shown = command == "h"
            case "2", "K":
                self.cells[self.row] = []
            case _, "A":
                self.row, self.wraps = max(self.row - int(arguments or 1), 0), False
            case _:
                raise AssertionError(f"not of ours: {arguments}{command}")


def width_of(character):
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


class Shown(NamedTuple):
    """What became of a command."""

    code: int
    sent: str
    screen: Screen


class Commands:
    """Runs commands, one after the other; a context."""

    def __enter__(self):
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.terminals"],
            cwd=ROOT,
            env=os.environ | _ONE_THREAD,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *exception):
        self._server.stdin.close()
        self._server.stdout.close()
        assert self._server.wait() == 0

    def run(
        self,
        *arguments,
        folder,
        columns=80,
        stdout=None,
        stderr=None,
        encoding="utf-8",
        **environment,
    ):
        """Run `classify` in a folder.

        stdout and stderr are the terminal, or files of these names; stdout is a pipe
        into a program that writes to the terminal if it is "cat", and one whose reader
        has closed it if it is "closed".
        """
        wanted = {
            "arguments": [str(each) for each in arguments],
            "folder": str(folder),
            "columns": columns,
            "stdout": stdout,
            "stderr": stderr,
            "encoding": encoding,
            "environment": {"TERM": "xterm-256color", **environment},
        }
        print(json.dumps(wanted), file=self._server.stdin, flush=True)
        answer = json.loads(self._server.stdout.readline())
        sent = base64.b64decode(answer["sent"]).decode(encoding)
        return Shown(answer["code"], sent, Screen(columns, sent))


def _serve():
    from typer.testing import CliRunner

    from classify.cli import app

    warm = ["predict", "--text", "a", "--labels", "a,b", "--engine", "transformers"]
    assert CliRunner().invoke(app, warm).exit_code == 0
    for line in sys.stdin:
        wanted = json.loads(line)
        child, master = pty.fork()
        if not child:
            _run(wanted)
        sent = _all_of(master)
        os.close(master)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        answer = {"code": code, "sent": base64.b64encode(sent).decode()}
        print(json.dumps(answer), flush=True)


def _all_of(master):
    sent = b""
    # Linux reports the closed end of a terminal as an error, others as no bytes.
    with contextlib.suppress(OSError):
        while more := os.read(master, 1 << 16):
            sent += more
    return sent


def _run(wanted):
    """Run a command on the terminal that this process was forked onto."""
    code = 70
    try:
        size = struct.pack("HHHH", 50, wanted["columns"], 0, 0)
        fcntl.ioctl(1, termios.TIOCSWINSZ, size)
        for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "TERM"):
            os.environ.pop(name, None)
        os.environ.update(wanted["environment"])
        os.chdir(wanted["folder"])
        cat = None
        for number, name in ((1, wanted["stdout"]), (2, wanted["stderr"])):
            if name == "cat":
                cat = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
                os.dup2(cat.stdin.fileno(), number)
                cat.stdin.close()
            elif name == "closed":
                reader, writer = os.pipe()
                os.dup2(writer, number)
                os.close(reader)
            elif name:
                os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT), number)
        encoding = wanted["encoding"]
        sys.stdin = os.fdopen(0, closefd=False)
        sys.stdout = os.fdopen(1, "w", encoding=encoding, closefd=False)
        sys.stderr = os.fdopen(
            2, "w", encoding=encoding, errors="backslashreplace", closefd=False
        )
        code = _exit_code(wanted["arguments"])
        sys.stdout.flush()
        sys.stderr.flush()
        if cat is not None:
            os.close(1)
            cat.wait()
    finally:
        os._exit(code)


def _exit_code(arguments):
    from classify.cli import app

    try:
        app(arguments, prog_name="classify")
    except SystemExit as ended:
        return ended.code or 0
    return 0


if __name__ == "__main__":
    _serve()
