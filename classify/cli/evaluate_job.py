"""What `classify evaluate` does, and the short table that it prints."""

import os
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from classify import __version__
from classify.calibration import LabelCalibrator
from classify.cli.console import Notes
from classify.cli.decisions import Rules
from classify.cli.fitting import EvaluateOptions
from classify.cli.labelled_csv import checked_rows, file_names, scored_texts
from classify.cli.loading import load_classifier
from classify.cli.overwriting import check_report, replacing
from classify.cli.tables import facts_table, figures_table
from classify.config import Task
from classify.errors import DataError
from classify.estimators.classifier import ZeroShotClassifier
from classify.jobs import evaluate, selection_of
from classify.labels import LabelSet
from classify.report import Evaluation, check_matplotlib, write_report
from classify.report.measures import Measure
from classify.tables.table import Table

__all__ = ["evaluate_table"]

_FIGURES = {
    "log_loss": "Log loss (nats)",
    "brier": "Brier score",
    "accuracy": "Accuracy",
    "macro_f1": "Macro-F1",
    "ece": "ECE (15 bins)",
}


def evaluate_table(
    task: Task,
    rules: Rules,
    table: Table,
    options: EvaluateOptions,
    notes: Notes,
) -> None:
    """Evaluate a table, print the figures, and write the report."""
    report = options.report
    if report is not None:
        check_matplotlib()
        _check_folder(report)
        if not options.overwrite:
            check_report(report)
        where = replacing(report / "report.html", "an earlier report")
    rows = checked_rows(task, table, notes, label_column=options.label_column)
    classifier = load_classifier(task, notes, force=rules.force)
    texts = scored_texts(classifier, rows, notes)
    calibrator = _calibrator_of(classifier)
    evaluation = evaluate(
        texts,
        calibrator=calibrator,
        selective=rules.selective if rules.is_promised else None,
        sets=rules.sets,
        kind=classifier.question_kind(),
        title=f"Evaluation of {file_names(table)}",
        facts=_facts(task, table, classifier),
    )
    console = notes.results(in_files=80)
    _print(evaluation, rules, console)
    if report is not None:
        write_report(evaluation, report)
        notes.say(f"Written to {where}.")


def _check_folder(folder: Path) -> None:
    """Refuse a folder that cannot be written to before a model is loaded."""
    target = folder.resolve()
    if target.exists() and not target.is_dir():
        raise DataError(
            f"The report needs a folder, but {str(folder)!r} is a file: give it "
            "another name."
        )
    if not target.parent.is_dir():
        raise DataError(
            f"There is no folder {str(folder.parent)!r} for the report: create it "
            "first."
        )
    if not os.access(target if target.exists() else target.parent, os.W_OK):
        raise DataError(
            f"The report cannot be written to {str(folder)!r}: permission denied. Name "
            "a folder that can be written to."
        )


def _calibrator_of(classifier: ZeroShotClassifier) -> LabelCalibrator | None:
    given = classifier.calibrator
    return given if isinstance(given, LabelCalibrator) else None


def _facts(task: Task, table: Table, classifier: ZeroShotClassifier) -> dict[str, str]:
    model, revision, scoring = task.model.model, task.model.revision, task.scoring
    facts = {
        "Data": file_names(table),
        "Model": model if revision is None else f"{model}@{revision}",
        "Engine": classifier.load_engine().name,
        "Scoring": scoring.strategy
        if scoring.strategy == "generate"
        else f"{scoring.strategy}, tolerance {scoring.tolerance:g}",
        "Labels": _labels(classifier.scorer().declared),
    }
    calibrator = _calibrator_of(classifier)
    if calibrator is not None:
        facts["Calibration"] = (
            f"{Path(task.calibration or '').name}, fitted {calibrator.created_}: "
            f"{calibrator.explanation_}"
        )
    prompt = classifier.scorer().fingerprint()["prompt"]
    return facts | {
        "Prompt": prompt,
        "Version": f"classify {__version__}",
        "Date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def _labels(declared: LabelSet | None) -> str:
    return "each row's own" if declared is None else ", ".join(sorted(declared.names))


def _print(evaluation: Evaluation, rules: Rules, console: Console) -> None:
    assessed = list(evaluation.assessments.values())
    qualities = [each.quality for each in assessed]
    of_kind = [
        [each[0].title, *(_shown(one.measure) for one in each)]
        for each in zip(*(one.of_kind for one in assessed), strict=True)
    ]
    n_texts = len(evaluation.texts)
    console.print(
        figures_table(
            ["before", "after calibration"] if len(qualities) > 1 else ["raw"],
            [
                [title, *(_shown(getattr(each, key)) for each in qualities)]
                for key, title in _FIGURES.items()
            ]
            + of_kind,
        )
    )
    console.print(f"{n_texts:,} texts; in brackets 95 % intervals.")
    facts = _decisions(evaluation, rules)
    if facts:
        console.print()
        console.print(facts_table(facts))


def _decisions(evaluation: Evaluation, rules: Rules) -> list[tuple[str, str]]:
    facts = []
    selection, sets = evaluation.selection, evaluation.sets
    if selection is None and rules.selective is not None:
        selection = selection_of(evaluation, rules.selective)
    if selection is not None:
        promise = (
            f" (promised: at most {selection.target_risk:g})"
            if rules.is_promised
            else ""
        )
        facts += [
            ("Threshold", f"{selection.threshold:.4g}"),
            ("Answered", _shown(selection.coverage)),
            ("Wrong, of these", _shown(selection.risk) + promise),
        ]
    if sets is not None:
        assert rules.sets is not None, "they come from there"
        facts += [
            ("Labels in a set", f"{sets.mean_size:.2f} on average"),
            (
                "Truth in the set",
                f"{_shown(sets.coverage)} (promised: {rules.sets.confidence_level:g})",
            ),
        ]
    return facts


def _shown(measure: Measure) -> str:
    if measure.value is None:
        return f"– ({measure.reason})"
    if measure.low is None or measure.high is None:
        return f"{measure.value:.3f}"
    return f"{measure.value:.3f} [{measure.low:.3f}, {measure.high:.3f}]"
