"""The options of a job: which files and rows, how it is kept, what it may set aside."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from classify.jobs.files.table import Table

__all__ = ["JobOptions", "Reading"]

_DATA, _JOB = "Data", "Job"

OutputOption = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="OUT",
        help="Write rows and results there: .csv, .tsv, .jsonl or .parquet; all but "
        "the last also .gz or .zst. '-' is stdout.",
        show_default="a table on a terminal, CSV into a pipe",
        rich_help_panel=_DATA,
    ),
]
InputFormatOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="csv, tsv, jsonl or parquet, whatever the files' names.",
        rich_help_panel=_DATA,
    ),
]
OutputFormatOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="The same, of the output.", rich_help_panel=_DATA
    ),
]
SeparatorOption = Annotated[
    str | None,
    typer.Option(
        metavar="CHAR",
        help="Between the fields of a CSV file.",
        show_default="a comma, or a tab in .tsv",
        rich_help_panel=_DATA,
    ),
]
QuoteOption = Annotated[
    str,
    typer.Option(
        metavar="CHAR", help="Around fields of a CSV file.", rich_help_panel=_DATA
    ),
]
EscapeOption = Annotated[
    str | None,
    typer.Option(
        metavar="CHAR",
        help="Before a quote within a field, if it is not doubled.",
        rich_help_panel=_DATA,
    ),
]
SampleOption = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=1, help="Only N rows, drawn at random.", rich_help_panel=_DATA
    ),
]
ShardOption = Annotated[
    str | None,
    typer.Option(
        metavar="I/N",
        help="Only the I-th of N equal parts of the rows.",
        rich_help_panel=_DATA,
    ),
]
RestartOption = Annotated[
    bool,
    typer.Option(
        "--restart",
        help="Begin anew, whatever an earlier run has finished.",
        rich_help_panel=_JOB,
    ),
]
KeepJobOption = Annotated[
    bool,
    typer.Option(
        "--keep-job",
        help="Leave OUT.job, with the finished parts, where it is.",
        rich_help_panel=_JOB,
    ),
]
MaxErrorsOption = Annotated[
    str | None,
    typer.Option(
        metavar="N|P%",
        help="Stop when more rows than this are set aside.",
        show_default="any number",
        rich_help_panel=_JOB,
    ),
]
CacheOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Keep scores there, and look them up: for texts that come again in other "
        "jobs. At most 10 GiB.",
        rich_help_panel=_JOB,
    ),
]
DryRunOption = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Say how many rows, tokens and reads there are and how long it will "
        "take, measured on a sample; write nothing.",
        rich_help_panel=_JOB,
    ),
]
LogJsonOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Append how it goes to FILE, as JSON lines.",
        rich_help_panel=_JOB,
    ),
]

RayOption = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Score on a Ray cluster: auto is the one of this machine, else HOST:PORT; "
        "local starts one.",
        rich_help_panel=_JOB,
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Engines on the Ray cluster.",
        show_default="one a GPU, or one for two CPUs",
        rich_help_panel=_JOB,
    ),
]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Which files are read, how, and which of their rows.

    Attributes are the options of the same names.
    """

    sources: Sequence[str]
    encoding: str = "utf-8"
    input_format: str | None = None
    separator: str | None = None
    quote_char: str = '"'
    escape_char: str | None = None
    limit: int | None = None
    sample: int | None = None
    shard: str | None = None

    def table(self) -> "Table":
        """Open the files, or raise InputError."""
        from classify.jobs import open_table, parse_shard, select_rows

        shard = None if self.shard is None else parse_shard(self.shard)
        table = open_table(
            list(self.sources),
            encoding=self.encoding,
            separator=self.separator,
            quote_char=self.quote_char,
            escape_char=self.escape_char,
            input_format=self.input_format,
        )
        return select_rows(table, limit=self.limit, sample=self.sample, shard=shard)

    @property
    def selection(self) -> Mapping[str, str]:
        """What of it changes which rows are read, and what their cells hold."""
        names = ("encoding", "separator", "quote_char", "escape_char")
        rows = ("limit", "sample", "shard")
        return {name: repr(getattr(self, name)) for name in (*names, *rows)}


@dataclass(frozen=True, kw_only=True)
class JobOptions:
    """What becomes of the results. Attributes are the options of the same names."""

    output: Path | None = None
    output_format: str | None = None
    as_table: bool = False
    probabilities: bool = False
    restart: bool = False
    keep_job: bool = False
    max_errors: str | None = None
    cache: Path | None = None
    dry_run: bool = False
    log_json: Path | None = None
    ray: str | None = None
    workers: int | None = None
