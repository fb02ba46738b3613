"""A table with labels, whose rows are solved examples."""

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from classify.cells import no_text, text_of
from classify.column_hints import choice_hint
from classify.errors import DataError

__all__ = ["Example", "ExampleTable", "is_table"]

logger = logging.getLogger(__name__)

_CHUNK_ROWS = 8192


def is_table(examples: Any) -> bool:
    """Return whether examples are a table or its path, and not pairs."""
    return isinstance(examples, ExampleTable | str | os.PathLike) or hasattr(
        examples, "columns"
    )


class Example(NamedTuple):
    """A row and its label."""

    row: Mapping[str, str]
    label: str


class ExampleTable:
    """A table with labels, whose rows are examples. Equal if their contents are.

    Parameters
    ----------
    columns : mapping of str to sequence
        Cells of each column.
    name : str
        What messages call the table.
    path : str, default=None
        Path of the file that it was read from.
    has_header : bool, default=False
        Whether the names of the columns are the first line of that file.
    """

    def __init__(
        self,
        columns: Mapping[str, Sequence[Any]],
        name: str,
        path: str | None = None,
        *,
        has_header: bool = False,
    ) -> None:
        self.name, self.path = name, path
        self._has_header = has_header
        self._columns = columns
        content = json.dumps(dict(columns), default=str, ensure_ascii=True)
        self.digest = f"sha256:{hashlib.sha256(content.encode()).hexdigest()[:16]}"
        self._found: dict[Any, tuple[Example, ...]] = {}

    @classmethod
    def of(cls, source: Any) -> "ExampleTable":
        """Read a file or a DataFrame whole, or raise InputError."""
        if isinstance(source, ExampleTable):
            return source
        # Kept out of `import classify`.
        from classify.tables.chunk import joined
        from classify.tables.opening import open_table
        from classify.tables.sources import is_stream

        is_file = isinstance(source, str | os.PathLike)
        if is_file and (str(source) == "-" or is_stream(str(source))):
            raise DataError(
                f"Examples cannot be read from {str(source)!r}, which can be read only "
                "once: give a file or a DataFrame."
            )
        if hasattr(source, "to_pandas"):
            source = source.to_pandas()
        table = open_table(source)
        chunk = joined([table.no_rows(), *table.chunks(_CHUNK_ROWS)])
        if chunk.unreadable:
            logger.warning(
                "%d rows of %s cannot be read, and are not used as examples: %s",
                len(chunk.unreadable),
                table.name,
                chunk.unreadable[0].reason,
            )
        columns = {
            name: chunk.cells(name)
            for name in table.columns
            if table.columns.count(name) == 1
        }
        path = str(source) if is_file else None
        return cls(columns, table.name, path, has_header=table.has_header)

    @property
    def file(self) -> str:
        """The path of its file, or raise DataError if it was not read from one."""
        if self.path is None:
            raise DataError(
                "A task file names the file with the examples, and these come from "
                f"{self.name}: write them to a file, and give its path."
            )
        return self.path

    def examples(
        self, fields: Sequence[str], text_column: str, label_column: str
    ) -> tuple[Example, ...]:
        """Return the rows that have a text and a label.

        Raises
        ------
        DataError
            There is no such column, or no such row.
        """
        asked = (*fields, text_column, label_column)
        if asked not in self._found:
            self._found[asked] = tuple(self._read(fields, text_column, label_column))
        return self._found[asked]

    def _read(
        self, fields: Sequence[str], text_column: str, label_column: str
    ) -> Iterator[Example]:
        cells = [
            self._cells(text_column, "with the texts", "example_text_column")
            if name == "text"
            else self._cells(name, f"for the prompt's {{{name}}}")
            for name in fields
        ]
        labels = self._cells(label_column, "with the labels", "example_label_column")
        problem, n_found = "", 0
        for label, *row in zip(labels, *cells, strict=True):
            try:
                name = text_of(label).strip()
                shows = dict(zip(fields, map(text_of, row), strict=True))
            except DataError as error:
                problem = problem or f"a cell {error}"
                continue
            text = shows.get("text", "".join(shows.values()))
            if not name or no_text(text):
                problem = problem or (no_text(text) or "there is no label.")
                continue
            n_found += 1
            yield Example(shows, name)
        if not n_found:
            reason = problem or "it has no rows."
            raise DataError(f"There are no examples in {self.name}: {reason}")
        if n_found < len(labels):
            logger.info(
                "%d of %d rows of %s are not used as examples: %s",
                len(labels) - n_found,
                len(labels),
                self.name,
                problem,
            )

    def _cells(self, column: str, purpose: str, option: str | None = None) -> Any:
        if column not in self._columns:
            names = ", ".join(map(repr, self._columns)) or "none"
            hint = choice_hint(
                column, [*self._columns], option, has_header=self._has_header
            )
            raise DataError(
                f"There is no column {column!r} {purpose} of examples in {self.name}. "
                f"Columns: {names}.{hint}"
            )
        return self._columns[column]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ExampleTable) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"ExampleTable({self.name})"
