"""What people see on a terminal in the end, and what never reaches one."""

import csv
import io
import re
import signal
import sys

import pytest

from classify.cli.console import Notes, Progress
from classify.cli.interruption import graceful_interruption
from classify.cli.job_progress import JobProgress, Pace
from classify.cli.tables import on_one_line
from classify.cli.terminal import make_console, visible, without_controls
from classify.demo import tickets_csv

TASK = ("--labels", "billing,shipping,refund", "--engine", "transformers")
HOSTILE = [
    "plain text, as it should be",
    "a\x1b[2Jb \x1b]0;title\x07 \x9b31m \x08\x08\r gone",
    "右から左へ書く文章はここにあります。とても長いので切られます。",
    "I love it ❤️ 👍🏽 👨‍👩‍👧 🇩🇪 so much",
    "\u202edesrever si siht\u202c and é, e\u0301",
    "[bold red]no markup[/] :smile:",
    "two\nlines\r\nand\ttabs",
]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "tickets.csv").write_bytes(tickets_csv().read_bytes())
    with (tmp_path / "hostile.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["text"], *([text] for text in HOSTILE)])
    return tmp_path


def rows_of(lines):
    """The rows of a table, by number; each line of the table is one of them."""
    [start] = [at for at, line in enumerate(lines) if line.startswith("row  text")]
    numbers = []
    for line in lines[start + 2 :]:
        found = re.match(r" {0,2}(\d+)  \S", line)
        if not found:
            break
        numbers.append(int(found[1]))
    return numbers


def csv_rows(sent):
    """The ids of the rows in what a terminal was sent.

    A program behind a pipe may write them before or after the summary.
    """
    return re.findall(r"^(\d+),", sent.replace("\r\n", "\n"), re.MULTILINE)


# ----------------------------------------------------------------- rows and progress


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ((), {}),
        (("--table",), {}),
        ((), {"columns": 40}),
        ((), {"columns": 132}),
        ((), {"NO_COLOR": "1"}),
        ((), {"TERM": "dumb"}),
        (("--table",), {"stdout": "cat"}),
        (("--threshold", "0.7"), {}),
    ],
    ids=str,
)
def test_a_table_has_every_row_once_and_nothing_is_left_of_the_bar(
    terminals, folder, arguments, options
):
    shown = terminals.run(
        "predict", "tickets.csv", *TASK, *arguments, folder=folder, **options
    )
    lines = shown.screen.lines
    assert shown.code == 0
    assert rows_of(lines) == [*range(1, 25)]
    assert shown.screen.cursor_is_shown
    assert not any("rows/s" in line for line in lines if " rows in " not in line)
    assert [line for line in lines if line.startswith("24 rows in ")]
    # The bar was there, where it can be drawn.
    is_drawn = "TERM" not in options
    assert ("0 of 24 rows" in shown.sent) == is_drawn
    assert ("\x1b[?25l" in shown.sent) == is_drawn
    if "NO_COLOR" in options or not is_drawn:
        assert not re.search(r"\x1b\[[\d;]*3\dm", shown.sent)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (("-o", "-"), {}),
        (("-o", "-"), {"TERM": "dumb"}),
        (("-o", "/dev/stdout", "--output-format", "csv"), {}),
        ((), {"stdout": "cat"}),
        (("-o", "-"), {"stdout": "cat"}),
    ],
    ids=str,
)
def test_rows_that_stream_to_a_terminal_have_it_for_themselves(
    terminals, folder, arguments, options
):
    shown = terminals.run(
        "predict", "tickets.csv", *TASK, *arguments, folder=folder, **options
    )
    assert shown.code == 0
    assert csv_rows(shown.sent) == [str(n) for n in range(1, 25)]
    # Not even a moment of it: the program behind a pipe writes when it likes.
    assert "of 24 rows" not in shown.sent


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "options"),
    [(("-o", "out.csv"), {}), (("-o", "-"), {"stdout": "out.csv"})],
    ids=str,
)
def test_rows_for_a_file_leave_the_terminal_to_the_bar(
    terminals, folder, arguments, options
):
    shown = terminals.run(
        "predict", "tickets.csv", *TASK, *arguments, folder=folder, **options
    )
    assert shown.code == 0
    assert "0 of 24 rows" in shown.sent
    assert not any("of 24 rows" in line for line in shown.screen.lines)
    with (folder / "out.csv").open(encoding="utf-8", newline="") as file:
        assert [row["id"] for row in csv.DictReader(file)] == [
            str(n) for n in range(1, 25)
        ]


@pytest.mark.slow
def test_a_file_gets_no_bar_even_if_colours_are_forced(terminals, folder):
    shown = terminals.run(
        *("predict", "tickets.csv", *TASK),
        folder=folder,
        stdout="out.txt",
        stderr="log.txt",
        FORCE_COLOR="1",
    )
    assert (shown.code, shown.sent) == (0, "")
    log = (folder / "log.txt").read_text("utf-8")
    assert "of 24 rows" not in log
    assert "\x1b[?25l" not in log
    assert (folder / "out.txt").read_text("utf-8").count("\n") > 24


@pytest.mark.slow
def test_hostile_texts_in_a_table(terminals, folder):
    # The screen refuses every sequence that is not of ours.
    shown = terminals.run("predict", "hostile.csv", *TASK, folder=folder)
    assert shown.code == 0
    lines = shown.screen.lines
    assert rows_of(lines) == [*range(1, 8)]
    [start] = [at for at, line in enumerate(lines) if line.startswith("row  text")]
    rows = [cells(line) for line in shown.screen.cells[start + 2 : start + 9]]
    # All columns begin where they should, however wide the texts are.
    assert len({row.index("%") for row in rows}) == 1
    assert "\u202e" not in shown.sent
    assert "[bold red]no markup[/] :smile:" in shown.sent


def cells(line):
    """A line of a screen, cell by cell; label and figures as one mark."""
    text = "".join(cell[:1] or "_" for cell in line)
    return re.sub(r"(billing|shipping|refund) +[█▉▊▋▌▍▎▏ ]+\d", "%", text)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["csv", "jsonl", "tsv"])
def test_hostile_texts_that_stream_to_a_terminal(terminals, folder, form):
    shown = terminals.run(
        *("predict", "hostile.csv", *TASK, "-o", "-", "--output-format", form),
        folder=folder,
    )
    assert shown.code == 0
    text = "".join(shown.screen.lines)
    assert (r"a\u001b[2Jb" if form == "jsonl" else r"a\x1b[2Jb") in text
    # As they are, where no terminal is.
    to_file = terminals.run(
        *("predict", "hostile.csv", *TASK, "-o", f"out.{form}"), folder=folder
    )
    assert to_file.code == 0
    if form == "csv":
        with (folder / "out.csv").open(encoding="utf-8", newline="") as file:
            assert [row["text"] for row in csv.DictReader(file)] == HOSTILE


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
@pytest.mark.parametrize(
    "arguments",
    [
        ("predict", "hostile.csv", *TASK, "--table"),
        ("predict", "hostile.csv", *TASK, "-o", "out.csv"),
        ("predict", "--text", "右 é", *TASK),
        ("labels", "--labels", "café,naïve"),
    ],
    ids=["table", "file", "text", "labels"],
)
def test_other_encodings_get_what_they_have(terminals, folder, arguments, encoding):
    shown = terminals.run(*arguments, folder=folder, encoding=encoding)
    assert shown.code == 0, shown.screen.lines
    if "--table" in arguments:
        assert rows_of(shown.screen.lines) == [*range(1, 8)]
    if encoding == "ascii":
        assert shown.sent.isascii()
    elif "labels" in arguments:
        assert "café" in shown.sent


# ---------------------------------------------------------------------- single pieces


class Stream(io.StringIO):
    """A stream in an encoding of its own; a terminal or not."""

    def __init__(self, encoding="utf-8", is_terminal=False):
        super().__init__()
        self._encoding, self._is_terminal = encoding, is_terminal

    @property
    def encoding(self):
        return self._encoding

    def isatty(self):
        return self._is_terminal

    def write(self, text):
        text.encode(self._encoding)
        return super().write(text)


def test_a_console_writes_what_the_stream_can_take():
    stream = Stream("ascii")
    make_console(stream).print("██▍ 0.51 – “é” 右… [b] :smile: \x1b[2J\udc80")
    assert stream.getvalue() == '##  0.51 - "?" ??. [b] :smile: [2J?\n'
    stream = Stream("latin-1")
    make_console(stream).print("█ é ±")
    assert stream.getvalue() == "# é ±\n"


def test_blanks_at_the_ends_of_lines_stay_on_terminals_only():
    for is_terminal, expected in ((False, "a\n\nb\n"), (True, "a  \n \nb\n")):
        stream = Stream(is_terminal=is_terminal)
        make_console(stream).print("a  \n \nb")
        assert stream.getvalue() == expected


def test_what_a_terminal_obeys():
    text = "a\tb\r\nc\rd\x1b[2J\x85\u202e\u2066e é 右 👨\u200d👩"
    assert without_controls(text) == "a\tb\ncd[2Je é 右 👨\u200d👩"
    assert visible(text) == (
        "a\tb\r\nc\\rd\\x1b[2J\\x85\\u202e\\u2066e é 右 👨\u200d👩"
    )
    assert on_one_line("❤️ 👍🏽 👨\u200d👩\n\ta\x1b") == "❤ 👍 👨👩 a"


def seconds_left(pace, seconds, *, each, start=0.0, now=None):
    """Let something be done each second; return the time left as it is shown."""
    shown = []
    for second in range(seconds):
        pace.reached(each * (second + 1), 0, now=start + second)
        shown.append(pace.seconds_left(now=start + second))
    return shown


def test_no_time_left_before_there_is_evidence():
    # A minute of loading counts for nothing; the first result begins the measurement.
    shown = seconds_left(Pace(400), 6, each=10, start=60.0)
    assert shown == [None, None, None, 36.0, 35.0, 34.0]
    # A tenth of the rows is evidence after a second; fewer seconds are never.
    assert seconds_left(Pace(100), 3, each=10) == [None, 8.0, 7.0]
    pace = Pace(100)
    for tenth in range(9):
        pace.reached(10 * (tenth + 1), 0, now=tenth / 10)
        assert pace.seconds_left(now=tenth / 10) is None
        assert pace.speed is None


def test_rows_of_an_earlier_run_are_not_part_of_the_speed():
    pace = Pace(1000, 600)
    pace.reached(600, 0, now=0.0)
    assert pace.speed is None
    pace.reached(650, 500, now=100.0)
    pace.reached(690, 900, now=104.0)
    assert (pace.speed, pace.token_speed) == (10.0, 100.0)
    assert pace.seconds_left(now=104.0) == 31.0
    # It counts down until the next result, and stops where none comes.
    assert pace.seconds_left(now=110.0) == 25.0
    assert pace.seconds_left(now=117.0) is None


def test_the_speed_is_that_of_the_last_half_minute():
    pace = Pace(None)
    for second in range(100):
        pace.reached(second if second < 50 else 50 + 3 * (second - 50), 0, now=second)
    assert pace.speed == pytest.approx(3.0)
    assert pace.seconds_left(now=99.0) is None


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_lines_say_how_it_goes(capsys):
    clock = Clock()
    progress = JobProgress(Notes(), seconds_between_lines=5.0, now=clock)
    progress.begins(200, 0)
    # All texts are read first, 20 a second, and then finished as fast.
    for second in range(20):
        clock.now = 60.0 + second
        n_finished = max(20 * (second - 9), 0)
        progress.reading(min(20 * (second + 1), 200) - n_finished)
        progress.progressed(20 if n_finished else 0, 0)
    assert capsys.readouterr().err == (
        "  0%  0 of 200 rows\n"
        "  0%  0 of 200 rows, 10 rows/s, 0:14 left\n"
        "  0%  0 of 200 rows, 10 rows/s, 0:09 left\n"
        " 50%  100 of 200 rows, 10 rows/s, 0:04 left\n"
    )


def test_progress_says_what_is_left_after_an_interrupt(capsys):
    progress = JobProgress(Notes())
    progress.begins(400, 100)
    progress.stopping(12)
    progress.stopping(11)
    assert capsys.readouterr().err == (
        "Resuming: 100 of 400 rows were finished by an earlier run.\n"
        "Texts in progress: 12.\n"
    )


class Interrupted(io.StringIO):
    """A stream, to a terminal or not, that is interrupted at its first flush."""

    def __init__(self, is_terminal):
        super().__init__()
        self._is_terminal, self._is_due = is_terminal, True

    def isatty(self):
        return self._is_terminal

    def flush(self):
        if self._is_due:
            self._is_due = False
            signal.raise_signal(signal.SIGINT)
        super().flush()


@pytest.mark.parametrize("is_terminal", [False, True])
def test_what_is_being_written_at_an_interrupt_comes_once(monkeypatch, is_terminal):
    stream = Interrupted(is_terminal)
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "dumb")
    notes = Notes()
    with graceful_interruption(notes) as interruption:
        assert not interruption()
        notes.note("Going on.")
        assert interruption()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
    lines = [line.rstrip() for line in stream.getvalue().splitlines()]
    assert " ".join(lines) == (
        "Going on. Warning: Stopping: texts in progress are finished and saved first. "
        "Press Ctrl-C again to stop immediately."
    )
    assert interruption.exit_code == 130


def test_nothing_is_drawn_below_results(monkeypatch, capsys):
    stream = Stream(is_terminal=True)
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    notes = Notes()
    assert notes.progress is Progress.BAR
    with JobProgress(notes) as progress:
        progress.begins(10, 0)
        notes.results().print("rows")
        drawn = stream.getvalue()
        progress.progressed(10, 0)
        assert "0 of 10 rows" in drawn
    assert drawn.endswith("\x1b[?25h\r\x1b[1A\x1b[2K")
    assert stream.getvalue() == drawn
    assert capsys.readouterr().out == "rows\n"
