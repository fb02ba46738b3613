"""A report's files: a page for people, JSON and CSV for programs."""

import csv
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from io import StringIO
from pathlib import Path
from typing import Any

from classify.errors import DataError
from classify.files.atomic import atomic_file
from classify.report.evaluation import Evaluation
from classify.report.json_form import as_json, labels_json
from classify.report.labels import LabelsEvaluation
from classify.report.page import labels_html, page_html

__all__ = ["NAMES", "write_report"]

NAMES = ("predictions.csv", "report.json", "report.html")


def write_report(
    evaluation: Evaluation | LabelsEvaluation, folder: str | os.PathLike[str]
) -> Path:
    """Write ``report.html``, ``report.json`` and ``predictions.csv``.

    Each file is written completely or not at all. Existing files are replaced only
    after all new ones have been written.

    Parameters
    ----------
    evaluation : Evaluation or LabelsEvaluation
    folder : str or Path
        Created if it does not exist; the folder above it must.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    MissingDependencyError
        matplotlib is not installed.
    DataError
        The folder cannot be made or written to.
    """
    if isinstance(evaluation, LabelsEvaluation):
        columns, numbers = _label_columns(evaluation), labels_json(evaluation)
        page = labels_html(evaluation, is_page=True)
    else:
        columns, numbers = _columns(evaluation), as_json(evaluation)
        page = page_html(evaluation)
    contents = {
        "predictions.csv": _csv(columns),
        "report.json": json.dumps(
            numbers, ensure_ascii=False, indent=2, allow_nan=False
        )
        + "\n",
        "report.html": page,
    }
    target = Path(folder)
    try:
        target.mkdir(exist_ok=True)
        # None of them is replaced before all of them are written.
        with ExitStack() as files:
            for name, content in contents.items():
                file = files.enter_context(atomic_file(target / name))
                file.write(content.encode())
    except FileExistsError:
        raise DataError(
            f"The report needs a folder, but {os.fspath(folder)!r} is a file: give it "
            "another name."
        ) from None
    except OSError as error:
        raise DataError(
            f"The report cannot be written to {os.fspath(folder)!r}: {error.strerror}. "
            "Name a folder that can be written to, in a folder that exists."
        ) from None
    return target / "report.html"


def _csv(columns: dict[str, list[Any]]) -> str:
    file = StringIO()
    # Quotes keep a carriage return in a text from ending its row.
    writer = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return file.getvalue()


def _columns(evaluation: Evaluation) -> dict[str, list[Any]]:
    """Return the columns of ``predictions.csv``, a value for each text."""
    names, scores = evaluation.classes, evaluation.scores
    final, before = evaluation.final, evaluation.before
    proba = final.proba
    columns: dict[str, list[Any]] = {
        "text": list(evaluation.texts),
        "true_label": [names[code] for code in evaluation.codes.tolist()],
        "label": [names[code] for code in final.predicted.tolist()],
        "probability": proba.max(axis=1).tolist(),
    }
    columns |= {
        name: values.tolist() for name, values in evaluation.known._asdict().items()
    }
    if evaluation.after is not None:
        columns["raw_label"] = [names[code] for code in before.predicted.tolist()]
        columns["raw_probability"] = before.proba.max(axis=1).tolist()
    columns["label_mass"] = scores.label_mass.tolist()
    columns["unresolved"] = scores.unresolved.tolist()
    columns["truncated"] = scores.truncated.astype(str).tolist()
    if evaluation.selection is not None:
        decisions = evaluation.selection.decisions
        columns["answered"] = decisions.accepted.astype(str).tolist()
        columns["reason"] = decisions.reason.tolist()
        columns["confidence"] = decisions.confidence.tolist()
    if evaluation.sets is not None:
        columns["prediction_set"] = list(_listed(evaluation.sets.member, names))
    for at, name in enumerate(names):
        columns[f"p({name})"] = proba[:, at].tolist()
    return columns


def _label_columns(evaluation: LabelsEvaluation) -> dict[str, list[Any]]:
    """Return the columns of ``predictions.csv`` where any number of labels apply."""
    names, posteriors = evaluation.labels, evaluation.final.posteriors
    shown = posteriors.proba, posteriors.lower, posteriors.upper
    columns: dict[str, list[Any]] = {
        "text": list(evaluation.texts),
        "true_labels": list(_listed(evaluation.true, names)),
        "labels": list(_listed(evaluation.given, names)),
        "uncertain": list(_listed(evaluation.uncertain, names)),
        "label_mass": evaluation.label_mass.tolist(),
        "unresolved": evaluation.unresolved.tolist(),
        "truncated": evaluation.truncated.astype(str).tolist(),
    }
    for at, name in enumerate(names):
        for of_label, values in zip(("p", "lower", "upper"), shown, strict=True):
            columns[f"{of_label}({name})"] = values[:, at].tolist()
    return columns


def _listed(member: Any, names: tuple[str, ...]) -> Iterator[str]:
    """Yield each row's labels as a JSON list: names may hold any separator."""
    for row in member:
        held = [name for name, is_in in zip(names, row, strict=True) if is_in]
        yield json.dumps(held, ensure_ascii=False)
