"""`classify calibrate`, and the summary that it prints."""

import math
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from classify.calibration import LabelCalibrator
from classify.calibration.checks import target_prior
from classify.calibration.methods import LABELLED_METHODS
from classify.cli.console import Notes
from classify.cli.fitting import FitOptions
from classify.cli.labelled_csv import (
    checked_rows,
    file_names,
    scored_texts,
    shown_warnings,
)
from classify.cli.loading import load_classifier, load_classifiers
from classify.cli.overwriting import (
    check_calibration,
    check_labels_calibration,
    replacing,
)
from classify.cli.tables import facts_table, figures_table
from classify.cli.task import declared_labels
from classify.config import Task
from classify.decision import SelectiveClassifier, SplitConformalSets
from classify.errors import ClassifyError, ConfigError
from classify.estimators.given_calibrator import warn_of_tolerance
from classify.estimators.multi_label import ZeroShotMultiLabelClassifier
from classify.jobs import (
    CalibrationFit,
    CalibrationWishes,
    LabelsFit,
    fit_artefact,
    fit_labels_artefact,
)
from classify.jobs.output import check_place
from classify.jobs.review import label_column
from classify.tables.table import Table as InputTable

__all__ = ["calibrate_labels", "calibrate_tables"]

_FIGURES = {
    "log_loss": "Log loss (nats)",
    "brier": "Brier score",
    "accuracy": "Accuracy",
    "ece": "ECE (15 bins)",
}


# A cross-fitted log loss that grows by more than this is no accident of the folds.
_HARM_FACTOR, _HARM_NATS = 1.1, 0.01
# What classify evaluate reads too.
_LABEL_COLUMN = "label"


def calibrate_labels(
    task: Task,
    wishes: CalibrationWishes,
    table: InputTable,
    options: FitOptions,
    notes: Notes,
) -> None:
    """Fit a calibration for each of several labels, say what it does, and write it."""
    output = options.output
    check_place(output, table)
    label_column = _label_column(options, table)
    if label_column is None:
        raise ConfigError(
            "--kind multi needs true labels, and there is no column "
            f"{_LABEL_COLUMN!r}: name their column with --label-column."
        )
    task = task.changed({"calibration": None})
    declared = declared_labels(task)
    rows = checked_rows(
        task,
        table,
        notes,
        label_column=label_column,
        reviewed=options.reviewed,
    )
    if not options.overwrite:
        check_labels_calibration(output, wishes, sorted(declared.names))
    if options.label_column is None:
        notes.note(f"True labels are read from the column {label_column!r}.")
    classifier = load_classifiers(task, notes)[""]
    assert isinstance(classifier, ZeroShotMultiLabelClassifier), "of its kind"
    texts = scored_texts(classifier, rows, notes)
    with shown_warnings(notes):
        fit = fit_labels_artefact(classifier, texts, wishes)
    console = notes.results(narrow=True)
    console.print(facts_table(_label_facts(fit, table), names_width=11))
    console.print()
    console.print(_label_table(fit))
    if fit.artefact.thresholds is not None:
        console.print(_label_promise(fit))
    for label, calibrator in fit.artefact.calibration.calibrators.items():
        if _does_harm(calibrator):
            notes.warn(
                f"The calibration of label {label!r} does harm: label more texts."
            )
    where = replacing(output, "an earlier calibration")
    fit.artefact.save(output)
    notes.say(f"Written to {where}.")


def _label_facts(fit: LabelsFit, table: InputTable) -> list[tuple[str, str]]:
    on = f"{fit.n_calibrated:,} labelled rows of {file_names(table)}"
    if fit.n_decided:
        on += (
            f"; {fit.n_decided:,} others, drawn at random (seed {fit.seed}), are held "
            "out for the thresholds, which need rows that no calibration has seen"
        )
    return [("Fitted on", on)]


def _label_table(fit: LabelsFit) -> Table:
    """Return a row for each label: how many have it, and what its fit does."""
    thresholds = fit.artefact.thresholds
    columns = ["rows", "log loss", "calibrated"]
    if thresholds is not None:
        columns += ["threshold", thresholds.target]
    rows = []
    for (label, calibrator), n_having in zip(
        fit.artefact.calibration.calibrators.items(), fit.n_having.tolist(), strict=True
    ):
        metrics = calibrator.metrics_
        row = [label, f"{n_having:,}"]
        row += [
            "–" if metrics is None else f"{metrics[when]['log_loss']:.3f}"
            for when in ("before", "after")
        ]
        if thresholds is not None:
            threshold, reached = thresholds.thresholds[label], thresholds.reached[label]
            row.append("never" if math.isinf(threshold) else f"{threshold:.4g}")
            row.append("–" if math.isnan(reached) else f"{reached:.3f}")
        rows.append(row)
    return figures_table(columns, rows)


def _label_promise(fit: LabelsFit) -> str:
    found = fit.artefact.thresholds
    assert found is not None, "checked by the caller"
    if found.target == "f1":
        return (
            f"Thresholds with the highest F1 on the {fit.n_decided:,} held-out rows, "
            "without any\nguarantee."
        )
    bound = "at most" if found.target == "risk" else "at least"
    return (
        f"Guarantee for each label: {found.target} of {bound} {found.level:g}, at "
        f"confidence level {found.confidence_level:g};\nthe last column is the bound "
        "that the held-out rows support."
    )


def calibrate_tables(
    task: Task,
    wishes: CalibrationWishes,
    table: InputTable,
    unlabelled: InputTable | None,
    options: FitOptions,
    notes: Notes,
) -> None:
    """Fit a calibration to a table, say what it does, and write it."""
    output = options.output
    check_place(output, table, unlabelled)
    label_column = _label_column(options, table)
    labels = task.asked_labels
    if isinstance(wishes.prior, Mapping) and labels is not None:
        target_prior(wishes.prior, np.array(labels.names), None)
    if label_column is None:
        _check_unlabelled(options, wishes)
    # A calibration that the task names is the one that is to be made.
    task = task.changed({"calibration": None})
    rows = checked_rows(
        task,
        table,
        notes,
        label_column=label_column,
        reviewed=options.reviewed,
    )
    if not options.overwrite:
        names = None if labels is None else list(labels.names)
        is_labelled = label_column is not None
        check_calibration(output, wishes, names, is_labelled=is_labelled)
    _report_column(options, label_column, notes)
    more = None
    if unlabelled is not None:
        more = checked_rows(task, unlabelled, notes, label_column=None)
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
    warn_of_tolerance(fit.artefact.calibrator, scorer)
    console = notes.results(narrow=True)
    _print(fit, table, console)
    for harm in _harms(fit):
        if not wishes.force:
            raise ClassifyError(
                f"{harm} Nothing was written: label more texts, or write the "
                "calibration anyway with --force."
            )
        notes.warn(harm)
    where = replacing(output, "an earlier calibration")
    fit.artefact.save(output)
    notes.say(f"Written to {where}.")


def _label_column(options: FitOptions, table: InputTable) -> str | None:
    """Return the column with the true labels; None for texts alone."""
    if options.no_label_column or options.label_column is not None:
        return options.label_column
    column = label_column("", table.columns)
    return column if column in table.columns else None


def _report_column(options: FitOptions, column: str | None, notes: Notes) -> None:
    """Say which column has the true labels, where no option does."""
    if options.no_label_column or options.label_column is not None:
        return
    if column is None:
        notes.note(
            f"There is no column {_LABEL_COLUMN!r}, so only the texts are used. If "
            "there are true labels, name their column with --label-column."
        )
    else:
        notes.note(
            f"True labels are read from the column {column!r}; to ignore them, "
            "use --no-label-column."
        )


def _check_unlabelled(options: FitOptions, wishes: CalibrationWishes) -> None:
    """Raise ConfigError if something that is asked for needs labels."""
    for wish in _in_need_of_labels(wishes):
        why = (
            "--no-label-column ignores them: use only one of the two."
            if options.no_label_column
            else f"there is no column {_LABEL_COLUMN!r}: name their column with "
            "--label-column."
        )
        raise ConfigError(f"{wish} needs true labels, and {why}")


def _in_need_of_labels(wishes: CalibrationWishes) -> Iterator[str]:
    """Yield the options that cannot do without labels."""
    if wishes.target_risk is not None:
        yield "--target-risk"
    if wishes.sets is not None:
        yield "--sets"
    if wishes.prior == "labels":
        yield "--prior labels"
    if wishes.method in LABELLED_METHODS:
        yield f"--method {wishes.method}"


def _does_harm(calibrator: LabelCalibrator) -> bool:
    """Whether a calibration makes rows worse that it has not seen."""
    if calibrator.metrics_ is None:
        return False
    before, after = calibrator.metrics_["before"], calibrator.metrics_["after"]
    is_worse = after["log_loss"] > before["log_loss"] * _HARM_FACTOR + _HARM_NATS
    return is_worse and after["accuracy"] <= before["accuracy"]


def _harms(fit: CalibrationFit) -> Iterator[str]:
    """Yield why a calibration had better not be used."""
    metrics, rule = fit.artefact.calibrator.metrics_, fit.artefact.selective
    if metrics is not None and _does_harm(fit.artefact.calibrator):
        before, after = metrics["before"], metrics["after"]
        yield (
            "The calibration does harm: its log loss on rows that it has not seen "
            f"is {after['log_loss']:.3f}, and {before['log_loss']:.3f} without it."
        )
    if rule is not None and not rule.coverage_:
        yield (
            f"No threshold keeps the share of wrong answers at {rule.target_risk:g}: "
            "no row would get a label."
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
            f"; {fit.n_decided:,} others, drawn at random (seed {fit.seed}), are held "
            "out for threshold and sets, which need rows that no calibration has seen"
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
        facts += _feasibility(fit, fit.artefact.selective.target_risk)
        facts.append(("Threshold", _of_rule(fit.artefact.selective, fit.n_decided)))
    if fit.artefact.sets is not None and fit.set_sizes is not None:
        facts.append(("Sets", _of_sets(fit.artefact.sets, fit.set_sizes)))
    return facts


def _feasibility(fit: CalibrationFit, target_risk: float) -> list[tuple[str, str]]:
    """Return how many rows any threshold must refuse to keep a risk."""
    error = fit.error_rate
    if error is None or error <= target_risk:
        return []
    # If all refused rows were wrong: (error - refused) / (1 - refused) = target.
    refused = (error - target_risk) / (1.0 - target_risk)
    return [
        (
            "Without it",
            (
                f"{error:.1%} of the held-out rows are labelled wrong. To get down to "
                f"{100 * target_risk:.3g}%, at least {refused:.1%} of them must stay "
                "without a label, whatever the threshold."
            ),
        )
    ]


def _of_rule(rule: SelectiveClassifier, n_rows: int) -> str:
    promise = (
        f"Guarantee: at most {100 * rule.target_risk:.3g}% of the answers are wrong, "
        f"at confidence level {rule.confidence_level:g}."
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
        f"{rule.coverage_:.1%} of the {n_rows:,} held-out rows. {promise}"
    )


def _of_sets(sets: SplitConformalSets, sizes: npt.NDArray[np.int64]) -> str:
    return (
        f"{sizes.mean():.2f} labels on average, and a single one for "
        f"{(sizes == 1).mean():.1%} of the {len(sizes):,} held-out rows. Guarantee: "
        "they contain the true label with a probability of at least "
        f"{sets.confidence_level:g}."
    )
