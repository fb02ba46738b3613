"""Tables in and out of files: unchanged rows, each once, in order."""

from classify.tables.chunk import Chunk, Unreadable, joined
from classify.tables.formats import ResultKind
from classify.tables.opening import open_table
from classify.tables.selection import parse_shard, select_rows
from classify.tables.table import Table
from classify.tables.text_output import csv_bytes
from classify.tables.writing import OutputFormat, output_format

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
