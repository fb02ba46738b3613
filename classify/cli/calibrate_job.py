"""What `classify calibrate` does, and what it says of the result."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from classify.calibration import LabelCalibrator
from classify.cli.console import Notes
from classify.cli.figures import figures_table
from classify.cli.labelled_csv import (
    checked_rows,
    file_names,
    scored_texts,
    shown_warnings,
)
from classify.cli.loading import load_classifier
from classify.cli.tables import facts_table
from classify.config import Task
from classify.decision import SelectiveClassifier, SplitConformalSets
from classify.errors import DataError
from classify.given_calibrator import warn_of_tolerance
from classify.jobs import CalibrationFit, CalibrationWishes, fit_artefact
from classify.jobs.files.table import Table as InputTable

__all__ = ["calibrate_tables"]

_FIGURES = {
    "log_loss": "Log loss (nats)",
    "brier": "Brier score",
    "accuracy": "Accuracy",
    "ece": "ECE (15 bins)",
}


def calibrate_tables(
    task: Task,
    wishes: CalibrationWishes,
    table: InputTable,
    unlabelled: InputTable | None,
    notes: Notes,
    *,
    label_column: str | None,
    output: Path,
) -> None:
    """Fit a calibration to a table, write it, and say what it does."""
    _check_output(output, table, unlabelled)
    # A calibration that the task names is the one that is to be made.
    task = task.changed({"calibration": None})
    rows = checked_rows(task, table, label_column=label_column)
    more = None
    if unlabelled is not None:
        more = checked_rows(task, unlabelled, label_column=None)
    classifier = load_classifier(task, notes)
    texts = scored_texts(classifier, rows, notes)
    scorer = classifier.scorer()
    with shown_warnings(notes):
        fit = fit_artefact(
            texts,
            wishes,
            unlabelled=None
            if more is None
            else scored_texts(classifier, more, notes).scores,
            probes=scorer.score_probes(wishes.method, texts.rows),
            fingerprint=scorer.fingerprint(),
        )
    fit.artefact.save(output)
    warn_of_tolerance(fit.artefact.calibrator, scorer)
    console = notes.results(in_files=80)
    _print(fit, table, console)
    notes.say(f"Written to {output}.")


def _check_output(output: Path, *inputs: InputTable | None) -> None:
    """Refuse a place that cannot be written to before a model is loaded."""
    target = output.resolve()
    if target.is_dir():
        raise DataError(f"The output {str(output)!r} is a folder: name a file in it.")
    if not target.parent.is_dir():
        raise DataError(
            f"There is no folder {str(output.parent)!r} for the output: create it "
            "first."
        )
    read = [each["path"] for table in inputs if table for each in table.inputs()]
    if any(Path(str(path)).resolve() == target for path in read):
        raise DataError(
            f"The output {str(output)!r} is the input: give it another name."
        )


def _print(fit: CalibrationFit, table: InputTable, console: Console) -> None:
    calibrator = fit.artefact.calibrator
    console.print(facts_table(_facts(fit, table), names_width=11))
    if calibrator.metrics_ is not None:
        console.print()
        console.print(_metrics_table(calibrator))
        console.print(
            f"On the {fit.n_calibrated:,} rows; 'after' is cross-fitted: no row is "
            "judged by a fit\nthat has seen its label."
        )
    decided = _decisions(fit)
    if decided:
        console.print()
        console.print(facts_table(decided, names_width=11))


def _facts(fit: CalibrationFit, table: InputTable) -> list[tuple[str, str]]:
    calibrator = fit.artefact.calibrator
    what = "labelled rows" if calibrator.n_labels_ else "rows, without any labels,"
    on = f"{fit.n_calibrated:,} {what} of {file_names(table)}"
    if fit.n_decided:
        on += (
            f"; {fit.n_decided:,} others, drawn at random (seed {fit.seed}), are kept "
            "back for threshold and sets, which must see no row of these"
        )
    return [("Fitted on", on), ("Calibration", calibrator.explanation_)]


def _metrics_table(calibrator: LabelCalibrator) -> Table:
    metrics = calibrator.metrics_
    assert metrics is not None, "checked by the caller"
    return figures_table(
        ["before", "after"],
        [
            [title, *(f"{metrics[when][key]:.3f}" for when in ("before", "after"))]
            for key, title in _FIGURES.items()
        ],
    )


def _decisions(fit: CalibrationFit) -> list[tuple[str, str]]:
    facts = []
    if fit.artefact.selective is not None:
        facts.append(("Threshold", _of_rule(fit.artefact.selective, fit.n_decided)))
    if fit.artefact.sets is not None and fit.set_sizes is not None:
        facts.append(("Sets", _of_sets(fit.artefact.sets, fit.set_sizes)))
    return facts


def _of_rule(rule: SelectiveClassifier, n_rows: int) -> str:
    promise = (
        f"Promise: at most {rule.target_risk:.3g} of the answers are wrong, at "
        f"confidence level {rule.confidence_level:g}."
    )
    if not rule.coverage_:
        return f"None could be found: no row will be answered. {promise}"
    if not rule.threshold_ and rule.min_label_mass is None:
        return f"Not needed: every row can be answered. {promise}"
    mass = ""
    if rule.min_label_mass is not None:
        mass = f" and label mass of at least {rule.min_label_mass:g}"
    return (
        f"Probability of at least {rule.threshold_:.4g}{mass}, which answers "
        f"{rule.coverage_:.1%} of the {n_rows:,} rows kept back. {promise}"
    )


def _of_sets(sets: SplitConformalSets, sizes: npt.NDArray[np.int64]) -> str:
    return (
        f"{sizes.mean():.2f} labels on average, and a single one for "
        f"{(sizes == 1).mean():.1%} of the {len(sizes):,} rows kept back. Promise: "
        "they hold the true label with a probability of at least "
        f"{sets.confidence_level:g}."
    )
