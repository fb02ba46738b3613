"""The options of a job: which files and rows, how it is kept, what it may set aside."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from classify.cli.choices import completion
from classify.cli.given import Given

if TYPE_CHECKING:
    from classify.tables.table import Table

__all__ = ["JobOptions", "Reading", "is_stream"]

_DATA, _FORMAT, _JOB = "Data", "File format", "Job"

OutputOption = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="OUT",
        help="Write rows and results to a file: .csv, .tsv, .jsonl or .parquet; all "
        "but the last also .gz or .zst. '-' is stdout.",
        show_default="a table on a terminal, CSV into a pipe",
        rich_help_panel=_DATA,
    ),
]
InputFormatOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="csv, tsv, jsonl or parquet, whatever the names of the files say.",
        autocompletion=completion("input_format"),
        rich_help_panel=_FORMAT,
    ),
]
OutputFormatOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="The same, for the output.",
        autocompletion=completion("output_format"),
        rich_help_panel=_FORMAT,
    ),
]
SeparatorOption = Annotated[
    str | None,
    typer.Option(
        metavar="CHAR",
        help="Between the fields of a CSV file.",
        show_default="a comma, or a tab in .tsv",
        rich_help_panel=_FORMAT,
    ),
]
QuoteOption = Annotated[
    str,
    typer.Option(
        metavar="CHAR", help="Around fields of a CSV file.", rich_help_panel=_FORMAT
    ),
]
EscapeOption = Annotated[
    str | None,
    typer.Option(
        metavar="CHAR",
        help="Before a quote inside a field, if such quotes are not doubled.",
        rich_help_panel=_FORMAT,
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
        help="Start over, and throw away what an earlier run has finished.",
        rich_help_panel=_JOB,
    ),
]
KeepJobOption = Annotated[
    bool,
    typer.Option(
        "--keep-job",
        help="Keep OUT.job, the folder with the finished parts, at the end.",
        rich_help_panel=_JOB,
    ),
]
MaxErrorsOption = Annotated[
    str | None,
    typer.Option(
        metavar="N|P%",
        help="Stop when more rows than this cannot be classified.",
        show_default="any number",
        rich_help_panel=_JOB,
    ),
]
CacheOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Keep scores in a folder, and look them up there: for texts that occur "
        "again in other jobs. At most 10 GiB.",
        envvar="CLASSIFY_CACHE",
        rich_help_panel=_JOB,
    ),
]
DryRunOption = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Only say how many rows, tokens and reads there are, and how long they "
        "will take, measured on a sample.",
        rich_help_panel=_JOB,
    ),
]
LogJsonOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Append the progress to FILE, as JSON lines.",
        rich_help_panel=_JOB,
    ),
]

RayOption = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Score on a Ray cluster: auto (the one running on this machine), "
        "HOST:PORT, or local, which starts one.",
        autocompletion=completion("ray"),
        rich_help_panel=_JOB,
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Engines on the Ray cluster.",
        show_default="one per GPU, or one per two CPUs",
        rich_help_panel=_JOB,
    ),
]


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

    @classmethod
    def of(cls, given: Given, sources: Sequence[str]) -> "Reading":
        """Return how a command is to read files."""
        return cls(sources=sources, **given.fields_of(cls, but="sources"))

    def facts(self) -> dict[str, bool]:
        """Return what the files say about which options have an effect."""
        from classify.tables.opening import input_formats

        formats = input_formats(list(self.sources), self.input_format)
        return {
            "a file is CSV": not formats.isdisjoint({"csv", "tsv"}),
            "a file is text": formats != {"parquet"},
        }

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
    overwrite: bool = False
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

    @classmethod
    def of(cls, given: Given) -> "JobOptions":
        """Return what a command is to do with results."""
        return cls(**given.fields_of(cls))
