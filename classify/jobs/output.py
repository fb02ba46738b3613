"""The output of a job: checked at its start, assembled from parts at its end."""

import itertools
import re
from collections.abc import Iterable
from pathlib import Path

from classify.errors import DataError
from classify.files.atomic import atomic_file
from classify.jobs.job import Classification
from classify.jobs.results import ERRORS_HEADER, ClassifiedChunk
from classify.jobs.review import Review
from classify.jobs.state import JobState
from classify.tables.table import Table
from classify.tables.writing import OutputFormat

__all__ = [
    "JobOutput",
    "check_apart",
    "check_output",
    "check_place",
    "errors_path",
    "job_folder",
    "job_places",
]


class JobOutput:
    """The file that a job writes, and next to it the list of invalid rows.

    Parameters
    ----------
    path : Path
    written : OutputFormat
    table : Table
        The input.
    job : Classification

    Attributes
    ----------
    path : Path
    folder : Path
        ``OUTPUT.job``.
    errors : Path
        ``OUTPUT.errors.csv``.

    Raises
    ------
    DataError
        See `check_output`.
    """

    def __init__(
        self, path: Path, written: OutputFormat, table: Table, job: Classification
    ) -> None:
        self.path = path
        self.folder = job_folder(path)
        self.errors = errors_path(path)
        self._format = written
        self._kinds = job.kinds(table.columns)
        self._columns = table.columns
        check_output(path, written, table)

    def encode(self, classified: ClassifiedChunk) -> bytes:
        """Return a chunk as it is written."""
        return self._format.encode(classified.chunk, classified.results, self._kinds)

    def assemble(self, state: JobState, n_parts: int) -> Path | None:
        """Put the parts together.

        Returns
        -------
        Path or None
            The file with the rows that were set aside; None if there are none: one of
            an earlier run is removed.

        Raises
        ------
        DataError
            The output cannot be written; the parts stay.
        """
        header = self._format.header(self._columns, list(self._kinds))
        errors = state.errors(n_parts)
        first = next(errors, None)
        try:
            _remove_unfinished(self.path)
            _remove_unfinished(self.errors)
            with atomic_file(self.path) as file:
                self._format.assemble(state.parts(n_parts), header, file)
            if first is None:
                self.errors.unlink(missing_ok=True)
                return None
            with atomic_file(self.errors) as file:
                file.write(ERRORS_HEADER)
                for lines in itertools.chain([first], errors):
                    file.write(lines)
        except OSError as error:
            raise DataError(
                f"The output {str(self.path)!r} cannot be written: {error.strerror}. "
                f"All rows are finished and kept in {str(self.folder)!r}: make room "
                "for it, and run the same command again."
            ) from None
        return self.errors


def job_folder(output: Path) -> Path:
    """Return where the parts of a job are kept until its output is complete."""
    return output.with_name(f"{output.name}.job")


def check_output(path: Path, written: OutputFormat, table: Table) -> None:
    """Raise DataError if a table's results cannot be written to a file.

    The folder is missing, the path is a folder or an input, or the format cannot store
    the columns.
    """
    check_place(path, table)
    errors = errors_path(path)
    if _is_input(errors, table):
        raise DataError(
            f"The input {str(errors)!r} is where the output {str(path)!r} lists its "
            "invalid rows: give the output another name."
        )
    written.check_columns(table.columns, table.name)


def check_place(path: Path, *inputs: Table | None) -> None:
    """Raise DataError if nothing can be written to a path, or if it is an input."""
    target = path.resolve()
    if target.is_dir():
        raise DataError(f"The output {str(path)!r} is a folder: name a file in it.")
    if not target.parent.is_dir():
        raise DataError(
            f"There is no folder {str(path.parent)!r} for the output: create it first."
        )
    if any(_is_input(path, table) for table in inputs if table is not None):
        raise DataError(f"The output {str(path)!r} is the input: give it another name.")


def job_places(
    output: Path | None, review: Review | None = None, cache: Path | None = None
) -> list[tuple[str, Path]]:
    """Return the places that a job writes to, and how messages call them."""
    places = []
    if output is not None:
        places = [
            ("the output", output),
            ("the output's list of invalid rows", errors_path(output)),
            ("the output's job folder", job_folder(output)),
        ]
    files = () if review is None else review.files
    places += [("the file with rows to review", each) for each in files]
    return places if cache is None else [*places, ("the cache", Path(cache))]


def check_apart(places: Iterable[tuple[str, Path]]) -> None:
    """Raise DataError if two of these places, described by `job_places`, are one."""
    taken: dict[Path, str] = {}
    for what, path in places:
        other = taken.setdefault(path.resolve(), what)
        if other != what:
            raise DataError(f"{str(path)!r} is {other}: give {what} another name.")


def _is_input(path: Path, table: Table) -> bool:
    inputs = [Path(str(each["path"])).resolve() for each in table.inputs()]
    return path.resolve() in inputs


def _remove_unfinished(path: Path) -> None:
    """Remove what a kill left of earlier attempts to write a file."""
    target = path.resolve()
    # As `atomic_file` calls it; no other process writes it while the job is ours.
    unfinished = re.compile(rf"\.{re.escape(target.name)}\.\d+\.part")
    for each in target.parent.iterdir():
        if unfinished.fullmatch(each.name):
            each.unlink(missing_ok=True)


def errors_path(output: Path) -> Path:
    """Return where the rows that an output sets aside are listed."""
    return output.with_name(f"{output.name}.errors.csv")
