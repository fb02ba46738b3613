"""The options that commands share, besides those that change a task."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from classify.parameters import BOOLEAN, TEXT, Setting, at_least, number, one_of

if TYPE_CHECKING:
    from classify.tables.table import Table

__all__ = [
    "SOURCE",
    "JobOptions",
    "OneText",
    "OutputFormat",
    "Overwrite",
    "Reading",
    "Session",
    "data_setting",
    "is_stream",
]

# As `classify.tables.formats` lists them; a test compares them.
_FORMAT = one_of("csv", "tsv", "jsonl", "parquet")

data_setting = partial(Setting, panel="Data")
# The help of arguments that name rows.
SOURCE = "A file, or a pattern such as 'part-*.csv'; '-' is stdin."
_format_setting = partial(Setting, panel="File format")
_job_setting = partial(Setting, panel="Job")

OutputFormat = Annotated[
    str | None,
    _format_setting(
        "Output format, if not by file extension: csv, tsv, jsonl or parquet.",
        _FORMAT,
    ),
]
Overwrite = Annotated[
    bool,
    data_setting("Replace files even if this command did not write them.", BOOLEAN),
]


@dataclass(frozen=True, kw_only=True)
class Session:
    """How a command speaks."""

    quiet: Annotated[
        bool,
        Setting(
            "No notes, progress or summary on stderr.", BOOLEAN, option="--quiet -q"
        ),
    ] = False
    debug: Annotated[bool, Setting("Show the traceback of an error.", BOOLEAN)] = False


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How files are read, and which of their rows."""

    limit: Annotated[
        int | None,
        data_setting("Only the first N rows.", at_least(1, whole=True), metavar="N"),
    ] = None
    sample: Annotated[
        int | None,
        data_setting(
            "Only N rows, drawn at random.", at_least(1, whole=True), metavar="N"
        ),
    ] = None
    shard: Annotated[
        str | None,
        data_setting(
            "Only the I-th of N equal parts of the rows.", TEXT, metavar="I/N"
        ),
    ] = None
    input_format: Annotated[
        str | None,
        _format_setting(
            "Input format, if not by file extension: csv, tsv, jsonl or parquet.",
            _FORMAT,
        ),
    ] = None
    encoding: Annotated[
        str,
        _format_setting(
            "Encoding of the input; the output is UTF-8.",
            TEXT,
            common=("utf-8", "utf-16", "cp1252", "latin-1"),
        ),
    ] = "utf-8"
    separator: Annotated[
        str | None,
        _format_setting(
            "Character between the fields of a CSV file.",
            TEXT,
            metavar="CHAR",
            default="a comma, or a tab in .tsv",
        ),
    ] = None
    quote_char: Annotated[
        str,
        _format_setting(
            "Character around the fields of a CSV file.", TEXT, metavar="CHAR"
        ),
    ] = '"'
    escape_char: Annotated[
        str | None,
        _format_setting(
            "Character before a quote inside a field, if quotes are not doubled.",
            TEXT,
            metavar="CHAR",
        ),
    ] = None

    def facts(self, sources: Sequence[str]) -> dict[str, bool]:
        """Return what files say about which options have an effect."""
        from classify.tables.opening import input_formats

        formats = input_formats(list(sources), self.input_format)
        return {
            "a file is CSV": not formats.isdisjoint({"csv", "tsv"}),
            "a file is text": formats != {"parquet"},
        }

    def table(self, sources: Sequence[str]) -> "Table":
        """Open files, or raise InputError."""
        from classify.jobs import open_table, parse_shard, select_rows

        shard = None if self.shard is None else parse_shard(self.shard)
        table = open_table(
            list(sources),
            encoding=self.encoding,
            separator=self.separator,
            quote_char=self.quote_char,
            escape_char=self.escape_char,
            input_format=self.input_format,
        )
        return select_rows(table, limit=self.limit, sample=self.sample, shard=shard)

    def whole(self) -> "Reading":
        """Return the same for all rows."""
        return replace(self, limit=None, sample=None, shard=None)

    @property
    def selection(self) -> Mapping[str, str]:
        """The settings that change which rows are read, and their contents."""
        names = ("encoding", "separator", "quote_char", "escape_char")
        rows = ("limit", "sample", "shard")
        return {name: repr(getattr(self, name)) for name in (*names, *rows)}


@dataclass(frozen=True, kw_only=True)
class JobOptions:
    """Where results go, and how a job over files is run."""

    output: Annotated[
        Path | None,
        data_setting(
            "Write rows and results to a file: .csv, .tsv, .jsonl or .parquet; all but "
            "the last also .gz or .zst. '-' is stdout.",
            TEXT,
            metavar="OUT",
            default="a table on a terminal, CSV into a pipe",
            option="--output -o",
        ),
    ] = None
    overwrite: Overwrite = False
    as_table: Annotated[
        bool,
        data_setting(
            "Show a table even if stdout is not a terminal.", BOOLEAN, option="--table"
        ),
    ] = False
    probabilities: Annotated[
        bool, data_setting("Add a column p(LABEL) for each label.", BOOLEAN)
    ] = False
    bounds: Annotated[
        bool,
        data_setting(
            "Add the columns lower and upper, bounds of the probability, and certain: "
            "no other label can be more probable. With --kind multi, add uncertain: "
            "labels that may apply but are not assigned, and bounds for each p(LABEL). "
            "These columns are always present with servers that list only the most "
            "likely tokens, and with --strategy generate.",
            BOOLEAN,
        ),
    ] = False
    reasoning: Annotated[
        bool,
        data_setting(
            "With --strategy reason, add a column with what the model thought.", BOOLEAN
        ),
    ] = False
    output_format: OutputFormat = None
    review: Annotated[
        Path | None,
        data_setting(
            "Write the rows that a person should look at, most useful first: a table "
            "with an empty column for the label, or, if FILE ends in .json, tasks for "
            "Label Studio.",
            TEXT,
            metavar="FILE",
        ),
    ] = None
    review_rows: Annotated[
        int,
        data_setting(
            "Maximum number of rows to review.", at_least(1, whole=True), metavar="N"
        ),
    ] = 100
    review_random: Annotated[
        float,
        data_setting(
            "Share of the rows to review that is drawn at random from all rows. Only "
            "these rows give figures that hold for all rows.",
            number("from 0 to 1", lambda value: 0.0 <= value <= 1.0),
            metavar="SHARE",
        ),
    ] = 0.0
    restart: Annotated[
        bool,
        _job_setting("Start over, and discard what an earlier run finished.", BOOLEAN),
    ] = False
    keep_job: Annotated[
        bool,
        _job_setting(
            "Keep OUT.job, the folder with the finished parts, at the end.", BOOLEAN
        ),
    ] = False
    max_errors: Annotated[
        str | None,
        _job_setting(
            "Stop when more rows than this cannot be classified.",
            TEXT,
            metavar="N|P%",
            default="any number",
        ),
    ] = None
    cache: Annotated[
        Path | None,
        _job_setting(
            "Cache scores in a folder, to reuse them in other jobs. At most 10 GiB.",
            TEXT,
            metavar="DIR",
            has_variable=True,
        ),
    ] = None
    dry_run: Annotated[
        bool,
        _job_setting(
            "Only estimate the number of rows, tokens and reads and the time, from "
            "a sample.",
            BOOLEAN,
        ),
    ] = False
    log_json: Annotated[
        Path | None,
        _job_setting(
            "Append the progress to FILE, as JSON lines.", TEXT, metavar="FILE"
        ),
    ] = None
    ray: Annotated[
        str | None,
        _job_setting(
            "Score on a Ray cluster: auto (the one running on this machine), "
            "HOST:PORT, or local, which starts one.",
            TEXT,
            metavar="ADDRESS",
            common=("auto", "local"),
        ),
    ] = None
    workers: Annotated[
        int | None,
        _job_setting(
            "Number of workers on the Ray cluster.",
            at_least(1, whole=True),
            metavar="N",
            default="one per GPU, or one per two CPUs",
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class OneText:
    """A text that is classified instead of files."""

    text: Annotated[
        str | None,
        data_setting("Classify this text instead of a file.", TEXT, metavar="TEXT"),
    ] = None
    as_json: Annotated[
        bool,
        data_setting(
            "Print JSON for one text: that of --text, or stdin.",
            BOOLEAN,
            option="--json",
        ),
    ] = False
    explain: Annotated[
        bool,
        data_setting(
            "Show which label tokens were read, and how the probabilities result from "
            "them.",
            BOOLEAN,
        ),
    ] = False


def is_stream(output: Path) -> bool:
    """Return whether an output is stdout, a pipe or a device: nothing to put in place.

    Examples
    --------
    >>> is_stream(Path("-")), is_stream(Path("out.csv"))
    (True, False)
    """
    return str(output) == "-" or (
        output.exists() and not output.is_file() and not output.is_dir()
    )
