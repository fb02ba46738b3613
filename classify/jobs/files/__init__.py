"""Tables in and out of files: rows as they stand, each once, in order."""

from classify.jobs.files.chunk import Chunk, Unreadable, joined
from classify.jobs.files.csv_output import csv_bytes
from classify.jobs.files.opening import open_table
from classify.jobs.files.result_kinds import ResultKind
from classify.jobs.files.selection import parse_shard, select_rows
from classify.jobs.files.table import Table
from classify.jobs.files.writing import OutputFormat, output_format

__all__ = [
    "Chunk",
    "OutputFormat",
    "ResultKind",
    "Table",
    "Unreadable",
    "csv_bytes",
    "joined",
    "open_table",
    "output_format",
    "parse_shard",
    "select_rows",
]
