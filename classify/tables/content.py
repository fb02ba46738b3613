"""The type of a file, recognized by its first bytes."""

import codecs
import zipfile
from typing import NamedTuple

from classify.errors import DataError
from classify.tables.formats import FormatName
from classify.wording import parameter

__all__ = [
    "MAX_START_BYTES",
    "NO_TABLE",
    "check_content",
    "encoding_of",
    "is_array",
]

# More than any signature needs; enough to see how characters are encoded.
MAX_START_BYTES = 4096

_WORKBOOK = (
    "Save its sheet as CSV, or read it with pandas.read_excel and use classify_frame."
)
_ARCHIVE = "Unpack it first."
_TO_PARQUET = "Convert it to Parquet first, for example with pandas."
NO_TABLE = "The input must be a table: CSV, TSV, JSONL or Parquet."


class _Kind(NamedTuple):
    name: str
    remedy: str


_KINDS: dict[bytes, _Kind] = {
    b"\xd0\xcf\x11\xe0": _Kind("an old Excel workbook (.xls)", _WORKBOOK),
    b"PK\x03\x04": _Kind("a ZIP archive or an Excel workbook", _WORKBOOK),
    b"PK\x05\x06": _Kind("an empty ZIP archive", NO_TABLE),
    b"BZh": _Kind("compressed with bzip2", _ARCHIVE),
    b"\xfd7zXZ": _Kind("compressed with xz", _ARCHIVE),
    b"\x04\x22\x4d\x18": _Kind("compressed with lz4", _ARCHIVE),
    b"7z\xbc\xaf": _Kind("a 7-Zip archive", _ARCHIVE),
    b"Rar!": _Kind("a RAR archive", _ARCHIVE),
    b"ARROW1": _Kind("a Feather (Arrow) file", _TO_PARQUET),
    b"FEA1": _Kind("a Feather file", _TO_PARQUET),
    b"ORC": _Kind("an ORC file", _TO_PARQUET),
    b"Obj\x01": _Kind("an Avro file", _TO_PARQUET),
    b"\x89HDF": _Kind("an HDF5 file", _TO_PARQUET),
    b"\x93NUM": _Kind("a NumPy file", _TO_PARQUET),
    b"\x80\x04\x95": _Kind("a pickle", _TO_PARQUET),
    b"\x80\x05\x95": _Kind("a pickle", _TO_PARQUET),
    b"SQLi": _Kind("an SQLite database", "Export its table as CSV."),
    b"%PDF": _Kind("a PDF document", NO_TABLE),
    b"{\\rt": _Kind("an RTF document", NO_TABLE),
    b"\x89PNG": _Kind("an image", NO_TABLE),
    b"\xff\xd8\xff": _Kind("an image", NO_TABLE),
    b"GIF8": _Kind("an image", NO_TABLE),
}
_IN_ZIP: dict[str, _Kind] = {
    "xl/": _Kind("an Excel workbook (.xlsx)", _WORKBOOK),
    "word/": _Kind("a Word document", NO_TABLE),
    "ppt/": _Kind("a PowerPoint document", NO_TABLE),
    "content.xml": _Kind("a spreadsheet of LibreOffice (.ods)", _WORKBOOK),
    "Index/": _Kind("a spreadsheet of Numbers", _WORKBOOK),
}
_ZIP = _Kind("a ZIP archive", _ARCHIVE)
_MARKUP: dict[bytes, _Kind] = {
    b"<!doctype html": _Kind(
        "an HTML page", "Save its table as CSV, for example with pandas.read_html."
    ),
    b"<html": _Kind(
        "an HTML page", "Save its table as CSV, for example with pandas.read_html."
    ),
    b"<?xml": _Kind("an XML file", "Save its table as CSV."),
}
_WIDE = (
    *(("utf-32-le", 4, 0), ("utf-32-be", 4, 3)),
    *(("utf-16-le", 2, 0), ("utf-16-be", 2, 1)),
)
# In this order: one of UTF-32 begins with one of UTF-16.
_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def check_content(
    name: str, start: bytes, kind: FormatName | None, path: str | None = None
) -> None:
    """Raise DataError if the first bytes of a file are those of no such file.

    Parameters
    ----------
    name : str
        Of the file, as in messages.
    start : bytes
        Decompressed.
    kind : {"csv", "tsv", "jsonl", "parquet"} or None
        How it is going to be read; None: that is not known.
    path : str, default=None
        Where the file can be read again.
    """
    if start.startswith(b"PAR1"):
        if kind != "parquet":
            raise DataError(
                f"{name} is a Parquet file: name it .parquet, or give "
                f"{parameter('input_format', 'parquet')}."
            )
        return
    found = _kind_of(start, path)
    if found is not None:
        raise DataError(f"{name} is {found.name}. {found.remedy}")
    if kind == "jsonl" and is_array(start):
        raise DataError(
            f"{name} contains a JSON array, not an object on each line. Convert it, "
            "for example with: jq -c '.[]' FILE.json > FILE.jsonl"
        )


def encoding_of(name: str, start: bytes, encoding: str) -> str:
    r"""Return how a text is encoded: as its byte order mark says, or as given.

    Raises
    ------
    DataError
        There is no byte order mark, and the bytes are not those of the encoding given.

    Examples
    --------
    >>> encoding_of("in.csv", "text".encode("utf-16"), "utf-8")
    'utf-16'
    >>> encoding_of("in.csv", "text".encode("utf-16-be"), "utf-8")
    Traceback (most recent call last):
     ...
    classify.errors.DataError: in.csv seems to be UTF-16 without a byte order mark: give
    encoding='utf-16-be'.
    """
    marked = next((each for mark, each in _MARKS.items() if start.startswith(mark)), "")
    if marked:
        return marked
    wide = "" if encoding.startswith(("utf-16", "utf-32")) else _wide(start)
    if wide:
        raise DataError(
            f"{name} seems to be {wide[:6].upper()} without a byte order mark: give "
            f"{parameter('encoding', wide)}."
        )
    return encoding


def _kind_of(start: bytes, path: str | None) -> _Kind | None:
    if start.startswith(b"PK\x03\x04") and path is not None:
        return _in_zip(path)
    text = start.removeprefix(codecs.BOM_UTF8).lstrip().lower()
    for signature, kind in _MARKUP.items():
        if text.startswith(signature):
            return kind
    if start[257:262] == b"ustar":
        return _Kind("a tar archive", _ARCHIVE)
    found = (kind for magic, kind in _KINDS.items() if start.startswith(magic))
    return next(found, None)


def _in_zip(path: str) -> _Kind:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError):
        return _KINDS[b"PK\x03\x04"]
    for inside, kind in _IN_ZIP.items():
        if any(name.startswith(inside) for name in names):
            return kind
    return _ZIP


def is_array(start: bytes) -> bool:
    """Whether a JSON text is a list of objects, and not a line with a list."""
    text = start.removeprefix(codecs.BOM_UTF8).lstrip()
    return text.startswith(b"[") and text[1:].lstrip()[:1] in (b"{", b"]")


def _wide(start: bytes) -> str:
    """Return in which encoding of 2 or 4 bytes a character a text begins, or ""."""
    line = start.split(b"\n")[0]
    for wide, width, at in _WIDE:
        whole = line[: len(line) // width * width]
        letters = whole[at::width]
        # Of Latin letters all other bytes are NUL, of a line with others most.
        n_others = len(whole) - len(letters)
        if len(letters) > 1 and 0 not in letters and whole.count(0) > 0.8 * n_others:
            return wide
    return ""
