"""Opens tables: files, streams, DataFrames and datasets."""

import glob
import io
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pandas as pd

from classify.errors import ConfigError, DataError
from classify.tables.annotations import annotation_table
from classify.tables.arrow_table import dataset_table, parquet_table
from classify.tables.content import check_content, encoding_of, is_array
from classify.tables.csv_file import CsvFile
from classify.tables.csv_records import CsvDialect
from classify.tables.formats import FileFormat, format_of
from classify.tables.jsonl_file import JsonlFile
from classify.tables.python_tables import example_table, frame_table
from classify.tables.sources import (
    FileSource,
    Source,
    StreamSource,
    checked_encoding,
    is_stream,
)
from classify.tables.table import Table
from classify.tables.text_table import csv_table, jsonl_table

__all__ = ["input_formats", "open_table"]


def open_table(
    source: Any,
    *,
    encoding: str = "utf-8",
    separator: str | None = None,
    quote_char: str = '"',
    escape_char: str | None = None,
    input_format: str | None = None,
) -> Table:
    """Open a table; files are read once, to count their rows.

    Parameters
    ----------
    source : str, Path, list of them, DataFrame, Dataset or IterableDataset
        Files of CSV, TSV, JSONL or Parquet by file extension, text files also with .gz
        or .zst; patterns with ``*``, ``?`` or ``[``; ``-`` for stdin, compressed or
        not. Several files are one table. Also what Label Studio exports as JSON or
        JSON-MIN.
    encoding : str, default="utf-8"
        Of text files without a byte order mark.
    separator : str, default=None
        Of CSV files. None: what a first line such as ``sep=;`` says, else a comma, or a
        tab in a .tsv.
    quote_char, escape_char : str
        Of CSV files, as in `CsvDialect`.
    input_format : {"csv", "tsv", "jsonl", "parquet"}, default=None
        Overrides the file extensions. Default for stdin: CSV.

    Returns
    -------
    Table

    Raises
    ------
    DataError
        An input is missing, empty, damaged, wrongly encoded, or unlike the others.
    ConfigError
        An option has a value that is not allowed.

    Examples
    --------
    >>> table = open_table(pd.DataFrame({"text": ["a", "b"]}))
    >>> table.columns, table.n_rows
    (('text',), 2)
    """
    if isinstance(source, pd.DataFrame):
        return frame_table(source)
    if all(hasattr(source, name) for name in ("column_names", "features", "iter")):
        is_typed = source.features is not None
        return dataset_table(source) if is_typed else example_table(source)
    encoding = checked_encoding(encoding)
    paths = _paths(source)
    formats = {path: _format(path, input_format) for path in paths}
    kind = _one_format(formats)
    if kind == "jsonl" and (annotations := _annotations(formats)) is not None:
        return annotations
    if kind == "parquet":
        return parquet_table([_file(path, formats[path]) for path in paths])
    sources = [_source(path, formats[path]) for path in paths]
    encodings = [encoding_of(each.name, each.start, encoding) for each in sources]
    named = list(zip(sources, encodings, strict=True))
    if kind == "jsonl":
        return jsonl_table([JsonlFile(each, encoding=own) for each, own in named])
    given = None if separator is None else _unescaped(separator)
    dialect = CsvDialect(
        given or ("\t" if kind == "tsv" else ","), quote_char, escape_char
    )
    return csv_table(
        [
            CsvFile(each, dialect, encoding=own, is_given=given is not None)
            for each, own in named
        ]
    )


def input_formats(source: Any, input_format: str | None = None) -> set[str]:
    """Return the formats of files, as `open_table` would read them.

    Examples
    --------
    >>> sorted(input_formats(["a.csv", "b.jsonl.gz"]))
    ['csv', 'jsonl']
    """
    return {_format(path, input_format).name for path in _paths(source)}


def _paths(source: Any) -> list[str]:
    """Return the paths that are named, each once."""
    given = [source] if isinstance(source, str | Path) else source
    if not isinstance(given, Sequence) or not all(
        isinstance(each, str | Path) for each in given
    ):
        raise ConfigError(
            "A table is a path, a list of paths, a DataFrame or a Dataset. Got "
            f"{source!r} of type {type(source).__name__} instead."
        )
    paths = [path for each in given for path in _matching(str(each))]
    if not paths:
        raise ConfigError("There is no input: name a file, or - for stdin.")
    seen: set[Path] = set()
    for path in paths:
        place = Path(path).resolve()
        if place in seen:
            raise DataError(f"The input {path!r} is named twice: name it once.")
        seen.add(place)
    return paths


def _matching(path: str) -> list[str]:
    """Return the files that a pattern stands for, sorted; a path stands for itself."""
    if path == "-" or Path(path).exists() or not re.search(r"[*?[]", path):
        return [path]
    matches = sorted(
        each
        for each in glob.glob(path, recursive=True)  # noqa: PTH207
        if not Path(each).is_dir()
    )
    if not matches:
        raise DataError(f"No file matches {path!r}.")
    return matches


def _format(path: str, given: str | None) -> FileFormat:
    if given is None and (path == "-" or is_stream(path)):
        given = "csv"
    elif given is None and re.search(r"\.json(\.gz|\.zst)?$", path, re.IGNORECASE):
        given = "jsonl"
    try:
        return format_of(path, given, name="input_format")
    except ConfigError:
        # Better than what its name says is what it is.
        if path != "-" and not is_stream(path):
            check_content(repr(path), FileSource(path, "").start, None, path)
        raise


def _one_format(formats: dict[str, FileFormat]) -> str:
    first, *others = formats
    for path in others:
        if formats[path].name != formats[first].name:
            raise DataError(
                f"{path!r} is {formats[path].name}, but {first!r} is "
                f"{formats[first].name}: files of one table must be of one format."
            )
    return formats[first].name


def _annotations(formats: dict[str, FileFormat]) -> Table | None:
    """Return a table of annotations; None if the files are something else."""
    if any(path == "-" or is_stream(path) for path in formats):
        return None
    sources = [FileSource(path, each.compression) for path, each in formats.items()]
    if not all(is_array(each.start) for each in sources):
        return None
    return annotation_table(sources)


def _source(path: str, file_format: FileFormat) -> Source:
    if path == "-":
        stdin = cast(io.BufferedIOBase, sys.stdin.buffer)
        stream = StreamSource(path, stdin, "stdin", is_ours=False)
    elif is_stream(path):
        pipe = io.BufferedReader(io.FileIO(path))
        stream = StreamSource(path, pipe, repr(path), is_ours=True)
    else:
        return _file(path, file_format)
    check_content(stream.name, stream.start, file_format.name)
    return stream


def _file(path: str, file_format: FileFormat) -> FileSource:
    if path == "-" or is_stream(path):
        raise DataError(
            f"{path!r} is a stream, and Parquet cannot be read from a stream: save it "
            "to a file first."
        )
    source = FileSource(path, file_format.compression)
    check_content(source.name, source.start, file_format.name, path)
    return source


def _unescaped(separator: str) -> str:
    # What a shell passes on when a tab is meant.
    return "\t" if separator == r"\t" else separator
