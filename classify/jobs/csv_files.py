"""CSV files in and out: checked before anything is spent, cells kept as they are.

Python's own reader is used, not that of pandas, since it keeps every cell, repeated
column names and empty rows as they stand, and knows the line that it is in.
"""

import codecs
import csv
import difflib
import os
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import pandas as pd

from classify.errors import ConfigError, DataError, EngineError

__all__ = ["CsvTable", "OutputCsv", "write_csv"]

_BLOCK_BYTES = 1 << 20


class CsvTable:
    """A CSV file with a header line, all of it checked when it is opened.

    Parameters
    ----------
    path : str or Path
    encoding : str, default="utf-8"
        A byte order mark is skipped.
    limit : int or None, default=None
        Read this many rows only.

    Attributes
    ----------
    columns : tuple of str
        The header, as it stands.
    n_rows : int
        Rows below it, at most `limit`.

    Raises
    ------
    DataError
        The file is missing, empty, wrongly encoded or malformed; the sentence names the
        line.
    """

    def __init__(
        self, path: str | Path, *, encoding: str = "utf-8", limit: int | None = None
    ) -> None:
        self.path = Path(path)
        self.limit = limit
        self.encoding = _checked_encoding(encoding)
        if self.path.is_dir():
            raise DataError(f"{str(path)!r} is a folder, not a CSV file.")
        if not self.path.exists():
            raise DataError(
                f"There is no file {str(path)!r}.{_nearest_file(self.path)}"
            )
        records = self._records()
        header = next(records, None)
        if header is None:
            raise DataError(
                f"{str(path)!r} is empty: its first line must name the columns."
            )
        self.columns = tuple(header)
        self.n_rows = sum(1 for _ in records)

    def check_column(self, name: str, purpose: str) -> None:
        """Raise DataError unless there is exactly one column of this name.

        Parameters
        ----------
        name : str
        purpose : str
            What it is needed for, to end "There is no column 'x' …".
        """
        if self.columns.count(name) > 1:
            raise DataError(
                f"{str(self.path)!r} has more than one column {name!r}: rename one."
            )
        if name in self.columns:
            return
        near = difflib.get_close_matches(name, self.columns, n=1)
        by_case = [
            each for each in self.columns if each.strip().lower() == name.lower()
        ]
        hint = f" Did you mean {(by_case or near)[0]!r}?" if by_case or near else ""
        separator = next((s for s in ";\t|" if s in self.columns[0]), None)
        if len(self.columns) == 1 and separator:
            hint = f" Its separator seems to be {separator!r}: save it with commas."
        columns = ", ".join(map(repr, self.columns))
        raise DataError(
            f"There is no column {name!r} {purpose} in {str(self.path)!r}.{hint} "
            f"Columns: {columns}."
        )

    def chunks(self, n_rows: int) -> Iterator[pd.DataFrame]:
        """Yield the rows in their order, up to `n_rows` at a time, cells as strings."""
        records = self._records()
        next(records)
        while rows := list(islice(records, n_rows)):
            yield pd.DataFrame(rows, columns=list(self.columns), dtype=object)

    def no_rows(self) -> pd.DataFrame:
        """Return the columns without rows."""
        return pd.DataFrame([], columns=list(self.columns), dtype=object)

    def _records(self) -> Iterator[list[str]]:
        """Yield the header and up to `limit` rows, each as wide as the header."""
        csv.field_size_limit(sys.maxsize)  # a text may be longer than 128 KiB
        try:
            with self.path.open(encoding=self.encoding, newline="") as file:
                reader = csv.reader(file, strict=True)
                header = next((record for record in reader if record), None)
                if header is None:
                    return
                yield header
                yield from islice(self._rows(reader, len(header)), self.limit)
        except UnicodeError:
            raise self._undecodable() from None
        except csv.Error as error:
            raise DataError(
                f"{str(self.path)!r} is no proper CSV file: line {reader.line_num}: "
                f"{error}. A quote within a quoted field must be doubled."
            ) from None
        except OSError as error:
            raise DataError(
                f"{str(self.path)!r} cannot be read: {error.strerror}."
            ) from None

    def _rows(self, reader: Iterator[list[str]], width: int) -> Iterator[list[str]]:
        n_blank = 0
        for row in reader:
            if not row:
                n_blank += 1
                continue
            if width == 1:
                # In a file of one column a blank line is a row without text, except
                # at the end of the file.
                yield from ([""] for _ in range(n_blank))
            n_blank = 0
            if len(row) != width:
                line = reader.line_num  # type: ignore[attr-defined]
                raise DataError(
                    f"Line {line} of {str(self.path)!r} has {len(row)} "
                    f"field{'s' * (len(row) != 1)}, but the header names {width} "
                    f"column{'s' * (width != 1)}: a field that holds a comma or a line "
                    "break must be in double quotes."
                )
            yield row

    def _undecodable(self) -> DataError:
        """Return the error that names the first byte that cannot be decoded."""
        decoder = codecs.getincrementaldecoder(self.encoding)()
        n_bytes, line = 0, 1
        with self.path.open("rb") as file:
            while True:
                block = file.read(_BLOCK_BYTES)
                held = len(decoder.getstate()[0])
                try:
                    line += decoder.decode(block, final=not block).count("\n")
                except UnicodeDecodeError as error:
                    at = n_bytes - held + error.start
                    line += error.object[: error.start].count(b"\n")
                    what = f"byte {at} (0x{error.object[error.start]:02x}, line {line})"
                    break
                except UnicodeError as error:
                    what = f"the file ({error})"
                    break
                n_bytes += len(block)
                assert block, "the file could not be decoded before"
        return DataError(
            f"{str(self.path)!r} is not {self.encoding.removesuffix('-sig')}: {what} "
            "cannot be decoded. Name the file's encoding, for example --encoding "
            f"{_guessed_encoding(self.path, self.encoding)}."
        )


class OutputCsv:
    """A CSV file that appears complete or not at all.

    Rows go to a file of another name in the same folder, which takes the output's name
    when the context is left without an exception, and is removed otherwise. UTF-8.

    Where an engine fails, the rows written so far have cost something and are right:
    they are kept in a file whose name ends in ``.part``, which a note on the error
    names.

    Parameters
    ----------
    path : str or Path
        Replaced if it exists; a link is followed.
    source : Path or None, default=None
        The file that is being read; it is never written to.

    Raises
    ------
    DataError
        The folder is missing or not writable, or the path is a folder or the source.
    """

    def __init__(self, path: str | Path, *, source: Path | None = None) -> None:
        self.path = Path(path)
        target = self.path.resolve()
        if target.is_dir():
            raise DataError(f"The output {str(path)!r} is a folder: name a file in it.")
        if source is not None and target == source.resolve():
            raise DataError(
                f"The output {str(path)!r} is the input: give it another name."
            )
        if not target.parent.is_dir():
            raise DataError(
                f"There is no folder {str(self.path.parent)!r} for the output: create "
                "it first."
            )
        self._target = target
        # /dev/null, a named pipe: nothing to put in its place.
        self._in_place = target.exists() and not target.is_file()
        self._partial = target.with_name(f".{target.name}.{os.getpid()}.part")
        self._file: IO[str] | None = None
        self._n_rows = 0
        self._has_header = False

    def __enter__(self) -> "OutputCsv":
        path = self._target if self._in_place else self._partial
        try:
            self._file = path.open("w", encoding="utf-8", newline="")
        except OSError as error:
            raise DataError(
                f"The output {str(self.path)!r} cannot be written: {error.strerror}."
            ) from None
        return self

    def write(self, frame: pd.DataFrame) -> None:
        """Append rows; the first frame's columns become the header."""
        assert self._file is not None, "OutputCsv is used as a context"
        write_csv(frame, self._file, header=not self._has_header)
        self._has_header = True
        self._n_rows += len(frame)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._file is not None
        try:
            self._file.close()
            if kind is None and not self._in_place:
                self._partial.replace(self._target)
            elif isinstance(error, EngineError) and self._n_rows:
                error.add_note(self._kept())
        finally:
            if not self._in_place:
                self._partial.unlink(missing_ok=True)

    def _kept(self) -> str:
        """Keep the rows written so far; return a sentence that says where."""
        rows = f"{self._n_rows:,} row{'s' * (self._n_rows != 1)} finished before"
        if self._in_place:
            return f"The {rows} went to {str(self.path)!r}."
        kept = self._partial.replace(
            self._target.with_name(f"{self._target.name}.part")
        )
        return f"The {rows} are in {str(kept)!r}."


def write_csv(frame: pd.DataFrame, file: IO[str], *, header: bool) -> None:
    """Write rows as CSV; floats with all their digits, what is missing as nothing."""
    lines: Any = _LinesWithoutReturn(file)
    frame.to_csv(lines, index=False, header=header, lineterminator="\r\n")


class _LinesWithoutReturn:
    """Ends lines in a line feed only.

    Python's writer quotes a carriage return in a cell only if its own line end holds
    one; unquoted, a reader would take it for the end of the row.
    """

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def write(self, line: str) -> int:
        """Write a line; the writer calls this once for each row."""
        return self._file.write(line.removesuffix("\r\n") + "\n")


def _checked_encoding(encoding: str) -> str:
    try:
        name = codecs.lookup(encoding).name
        "".encode(name)
    except LookupError:
        raise ConfigError(
            f"Unknown encoding {encoding!r}. Common ones are utf-8, utf-16 and cp1252."
        ) from None
    return "utf-8-sig" if name == "utf-8" else name


def _guessed_encoding(path: Path, tried: str) -> str:
    with path.open("rb") as file:
        start = file.read(4)
    if (
        start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        and tried != "utf-16"
    ):
        return "utf-16"
    return "cp1252" if tried.startswith("utf") else "utf-8"


def _nearest_file(path: Path) -> str:
    if not path.parent.is_dir():
        return f" There is no folder {str(path.parent)!r} either."
    names: Sequence[str] = [
        each.name for each in path.parent.iterdir() if each.is_file()
    ]
    near = difflib.get_close_matches(path.name, names, n=1)
    return f" Did you mean {str(path.parent / near[0])!r}?" if near else ""
