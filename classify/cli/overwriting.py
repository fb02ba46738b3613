"""Existing output files: replaced only if the same command wrote them.

A command that is run again may replace what it wrote. Anything else that it finds there
may be someone's work, and is kept unless --overwrite is given.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from classify.cli.groups import JobOptions, is_stream
from classify.errors import DataError, InputError
from classify.questions.decision_rules import Target

if TYPE_CHECKING:
    from classify.jobs import CalibrationWishes, Classification, Review
    from classify.tables.table import Table
    from classify.tables.writing import OutputFormat

__all__ = [
    "TUNED",
    "check_calibration",
    "check_columns",
    "check_labels_calibration",
    "check_log",
    "check_places",
    "check_report",
    "check_review_files",
    "check_rows",
    "check_tuned",
    "replacing",
]

_CHUNK_ROWS = 8192
# The first line of a task file that classify tune writes.
TUNED = "# Written by classify tune."


def check_rows(
    output: Path, job: "Classification", table: "Table", written: "OutputFormat"
) -> None:
    """Raise DataError if an output exists with columns other than it would get."""
    from classify.jobs.output import errors_path
    from classify.jobs.results import ERRORS_HEADER

    check_columns(output, [*table.columns, *job.kinds(table.columns)], written)
    errors = errors_path(output)
    if _has_content(errors) and not _starts(errors).startswith(ERRORS_HEADER):
        raise _refusal(
            errors, "would be replaced by a list of rows, but is something else"
        )


def check_columns(output: Path, wanted: Sequence[str], written: "OutputFormat") -> None:
    """Raise DataError if a file is there with other columns than these."""
    if not _has_content(output):
        return
    found = _columns(output, written)
    if not found:
        raise _refusal(output, f"exists and cannot be read as {written.name}")
    if found != [*wanted]:
        raise _refusal(
            output,
            f"exists and has other columns ({', '.join(found)}) than this command "
            "writes",
        )


def check_review_files(review: "Review", job: "Classification", table: "Table") -> None:
    """Raise DataError if files with other rows, or with answers, would be replaced."""
    from classify.jobs.label_studio import WRITTEN_BY
    from classify.jobs.review_rows import answer_fields, review_kinds
    from classify.tables.annotations import REVIEW_ROW
    from classify.tables.writing import output_format

    file = review.file
    if review.is_tasks:
        own = review.interface
        if _has_content(own) and WRITTEN_BY.encode() not in _starts(own):
            raise _refusal(own, "exists and was not written by classify predict")
        if _has_content(file) and not _are_tasks(file):
            raise _refusal(file, "exists and does not contain tasks to label")
        return
    kinds = review_kinds(job, table.columns)
    written = output_format(file)
    check_columns(file, [REVIEW_ROW, *table.columns, *kinds], written)
    if not _has_content(file):
        return
    answers = [field.column for field in answer_fields(job, table.columns)]
    if _are_filled_in(file, answers, written):
        raise _refusal(file, "exists and contains answers that were filled in")


def check_tuned(output: Path) -> None:
    """Raise DataError if a file that is there was not written by classify tune."""
    if _has_content(output) and not _starts(output).startswith(TUNED.encode()):
        raise _refusal(output, "exists and was not written by classify tune")


def check_calibration(
    output: Path,
    wishes: "CalibrationWishes",
    labels: list[str] | None,
    *,
    is_labelled: bool,
) -> None:
    """Raise DataError unless a calibration that is there was fitted in the same way."""
    from classify.estimators.artefact import Artefact

    if not _has_content(output):
        return
    try:
        found = Artefact.load(output)
    except InputError:
        raise _refusal(output, "exists and is not a calibration") from None
    calibrator = found.calibrator
    before = _described(
        calibrator.get_params()["method"],
        is_labelled=bool(calibrator.n_labels_),
        target_risk=found.selective and found.selective.target_risk,
        sets=found.sets and found.sets.confidence_level,
    )
    now = _described(
        wishes.method,
        is_labelled=is_labelled,
        target_risk=wishes.target_risk,
        sets=wishes.sets,
    )
    if labels is not None and calibrator.classes_.tolist() != sorted(labels):
        raise _refusal(output, "contains the calibration of other labels")
    if before != now:
        raise _refusal(
            output, f"contains another calibration: {before}. This one: {now}"
        )


def check_labels_calibration(
    output: Path, wishes: "CalibrationWishes", labels: list[str]
) -> None:
    """Do the same for a calibration of labels any number of which apply."""
    from classify.estimators.artefact import LabelsArtefact

    if not _has_content(output):
        return
    try:
        found = LabelsArtefact.load(output)
    except InputError:
        raise _refusal(output, "exists and is not a calibration of this kind") from None
    calibrators = found.calibration.calibrators
    if list(calibrators) != labels:
        raise _refusal(output, "contains the calibration of other labels")
    fitted = found.thresholds
    before, now = (
        f"method {method}, thresholds for {target}" if target else f"method {method}"
        for method, target in (
            (
                calibrators[labels[0]].get_params()["method"],
                fitted and str(Target(fitted.target, fitted.level)),
            ),
            (wishes.method, wishes.target and str(wishes.target)),
        )
    )
    if before != now:
        raise _refusal(
            output, f"contains another calibration: {before}. This one: {now}"
        )


def check_report(folder: Path) -> None:
    """Raise DataError if files in a folder would be replaced that are no report."""
    from classify.report.files import NAMES
    from classify.report.json_form import FORMATS

    taken = [folder / name for name in NAMES if (folder / name).exists()]
    if not taken:
        return
    try:
        content = json.loads((folder / "report.json").read_bytes())
    except (OSError, ValueError):
        content = None
    if not isinstance(content, dict) or content.get("format") not in FORMATS:
        raise _refusal(taken[0], "exists and is not part of a report by this command")


def check_log(path: Path) -> None:
    """Raise DataError if the file of a log exists and is not a log."""
    if not _has_content(path):
        return
    try:
        line: Any = json.loads(_starts(path).partition(b"\n")[0])
    except ValueError:
        line = None
    if not isinstance(line, dict) or "event" not in line:
        raise DataError(
            f"{str(path)!r} exists and is not a log: give the log another name."
        )


def check_places(options: JobOptions, table: "Table", review: "Review | None") -> None:
    """Refuse files that two options would write, before a model is loaded."""
    from classify.jobs.output import check_apart, job_places

    output = options.output
    if output is not None and is_stream(output):
        output = None
    places = job_places(output, review, options.cache)
    if options.log_json is not None and not is_stream(options.log_json):
        inputs = [("the input", Path(str(each["path"]))) for each in table.inputs()]
        places = [*inputs, *places, ("the log", options.log_json)]
    check_apart(places)


def replacing(path: Path, earlier: str) -> str:
    """Name a file before it is written, and what it takes the place of."""
    return f"{path}, in place of {earlier}" if _has_content(path) else str(path)


def _described(
    method: str, *, is_labelled: bool, target_risk: float | None, sets: float | None
) -> str:
    parts = [f"method {method}", "with labels" if is_labelled else "without labels"]
    if target_risk is not None:
        parts.append(f"a threshold for a risk of {target_risk:g}")
    if sets is not None:
        parts.append(f"sets at level {sets:g}")
    return ", ".join(parts)


def _has_content(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def _starts(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(1 << 16)


def _columns(path: Path, written: "OutputFormat") -> list[str]:
    """Return the columns of a file; none if it cannot be read as such."""
    from classify.jobs import open_table

    try:
        return list(open_table([str(path)], input_format=written.name).columns)
    except InputError:
        return []


def _are_tasks(path: Path) -> bool:
    """Return whether a file contains only tasks without annotations."""
    from classify.tables.annotations import REVIEW_ROW

    try:
        tasks = json.loads(path.read_bytes())
    except ValueError:
        return False
    return isinstance(tasks, list) and all(
        isinstance(each, dict)
        and "annotations" not in each
        and REVIEW_ROW in each.get("data", ())
        for each in tasks
    )


def _are_filled_in(path: Path, columns: Sequence[str], written: "OutputFormat") -> bool:
    from classify.cells import is_missing
    from classify.jobs import open_table

    table = open_table([str(path)], input_format=written.name)
    return any(
        not (is_missing(cell) or cell == "")
        for chunk in table.chunks(_CHUNK_ROWS)
        for column in columns
        for cell in chunk.cells(column)
    )


def _refusal(path: Path, why: str) -> DataError:
    return DataError(
        f"{str(path)!r} {why}. Give another name, or --overwrite to replace it."
    )
