"""`classify evaluate`, and the short table that it prints."""

import math
import os
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from classify import __version__
from classify.calibration import LabelCalibrator
from classify.cli.console import Notes
from classify.cli.fitting import EvaluateOptions
from classify.cli.labelled_csv import (
    checked_rows,
    file_names,
    reported_texts,
    scored_together,
)
from classify.cli.loading import load_classifiers
from classify.cli.overwriting import check_report, replacing
from classify.cli.tables import facts_table, figures_table
from classify.config import Task
from classify.config.decisions import Rules, about
from classify.errors import ConfigError, DataError
from classify.estimators.classifier import ZeroShotClassifier
from classify.estimators.multi_label import ZeroShotMultiLabelClassifier
from classify.jobs import (
    ScoredTexts,
    evaluate,
    evaluate_labels,
    selection_of,
)
from classify.jobs.job import Classifier
from classify.jobs.review import label_column
from classify.labels import LabelSet
from classify.report import Evaluation, LabelsEvaluation, check_matplotlib, write_report
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

_LABEL_FIGURES = {
    "log_loss": "Log loss (nats)",
    "brier": "Brier score",
    "micro_f1": "Micro-F1",
    "macro_f1": "Macro-F1",
    "exact": "All right",
}


def evaluate_table(
    task: Task,
    rules: Mapping[str, Rules],
    table: Table,
    options: EvaluateOptions,
    notes: Notes,
) -> None:
    """Evaluate a table, print the figures of each question, and write the reports."""
    parts = task.by_question()
    reports = {name: _report_of(name, options) for name in parts}
    _check_reports(reports.values(), options)
    rows = {}
    for name, part in parts.items():
        column = _label_column(name, options, table)
        with about(name):
            if name:
                table.check_column(column, "with the true labels of the question")
            rows[name] = checked_rows(
                part,
                table,
                notes,
                label_column=column,
                reviewed=options.reviewed,
            )
    classifiers = load_classifiers(task, notes, rules)
    console = notes.results(narrow=True)
    scored = scored_together(
        [classifiers[name] for name in parts], [rows[name] for name in parts], notes
    )
    for (name, part), found in zip(parts.items(), scored, strict=True):
        if name:
            console.print(f"\n{name}", style="bold", markup=False)
        with about(name):
            texts = reported_texts(classifiers[name], rows[name], found, notes)
        evaluation = _evaluated(
            part, rules[name], classifiers[name], texts, table, question=name
        )
        if isinstance(evaluation, LabelsEvaluation):
            _print_labels(evaluation, console)
        else:
            _print(evaluation, rules[name], console)
        _warn_of_bounds(evaluation, notes)
        folder = reports[name]
        if folder is not None:
            where = replacing(folder / "report.html", "an earlier report")
            if name:
                folder.parent.mkdir(exist_ok=True)
            write_report(evaluation, folder)
            notes.say(f"Written to {where}.")


def _check_reports(folders: Iterable[Path | None], options: EvaluateOptions) -> None:
    """Refuse reports that cannot be written before a model is loaded."""
    if options.report is None:
        return
    check_matplotlib()
    _check_folder(options.report)
    for folder in folders:
        if folder is not None and not options.overwrite:
            check_report(folder)


def _report_of(question: str, options: EvaluateOptions) -> Path | None:
    """Return the folder of a question's report."""
    if options.report is None or not question:
        return options.report
    return options.report / question.replace("/", "_")


def _label_column(question: str, options: EvaluateOptions, table: Table) -> str:
    """Return the column with the true labels of a question."""
    if question and options.label_column is not None:
        raise ConfigError(
            "--label-column names one column, and the task has several questions, "
            "each with a column of the same name: drop it, or name the "
            "question with --question."
        )
    return options.label_column or label_column(question, table.columns)


def _evaluated(
    task: Task,
    rules: Rules,
    classifier: Classifier,
    texts: ScoredTexts,
    table: Table,
    *,
    question: str,
) -> Evaluation | LabelsEvaluation:
    title = f"Evaluation of {file_names(table)}" + (f": {question}" if question else "")
    facts = _facts(task, table, classifier)
    if isinstance(classifier, ZeroShotMultiLabelClassifier):
        return evaluate_labels(classifier, texts, title=title, facts=facts)
    return evaluate(
        texts,
        calibrator=_calibrator_of(classifier),
        selective=rules.selective if rules.is_promised else None,
        sets=rules.sets,
        kind=classifier.question_kind(),
        tolerance=classifier.tolerance,
        title=title,
        facts=facts,
    )


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


def _facts(task: Task, table: Table, classifier: Classifier) -> dict[str, str]:
    model, revision, scoring = task.model.model, task.model.revision, task.scoring
    facts = {
        "Data": file_names(table),
        "Model": model if revision is None else f"{model}@{revision}",
        "Engine": classifier.load_engine().name,
        "Scoring": scoring.strategy
        if scoring.strategy == "generate"
        else f"{scoring.strategy}, tolerance {scoring.tolerance:g}",
        "Labels": _labels(task.asked_labels),
    }
    name = Path(task.calibration or "").name
    if isinstance(classifier, ZeroShotMultiLabelClassifier):
        if task.calibration is not None:
            facts["Calibration"] = f"{name}, of each label"
    elif (calibrator := _calibrator_of(classifier)) is not None:
        facts["Calibration"] = (
            f"{name}, fitted {calibrator.created_}: {calibrator.explanation_}"
        )
    return facts | {
        "Prompt": classifier.scorer().fingerprint()["prompt"],
        "Version": f"classify {__version__}",
        "Date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def _labels(declared: LabelSet | None) -> str:
    return "each row's own" if declared is None else ", ".join(sorted(declared.names))


def _warn_of_bounds(evaluation: Evaluation | LabelsEvaluation, notes: Notes) -> None:
    if told := evaluation.facts.get("Not certain"):
        notes.warn(f"{told}.")


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


def _print_labels(evaluation: LabelsEvaluation, console: Console) -> None:
    assessed = list(evaluation.assessments.values())
    console.print(
        figures_table(
            ["before", "after calibration"] if len(assessed) > 1 else ["raw"],
            [
                [title, *(_shown(getattr(each, key)) for each in assessed)]
                for key, title in _LABEL_FIGURES.items()
            ],
        )
    )
    console.print(f"{len(evaluation.texts):,} texts; in brackets 95 % intervals.\n")
    rows = [
        [
            each.label,
            "never" if math.isinf(each.threshold) else f"{each.threshold:.3g}",
            f"{each.n_texts:,}",
            f"{each.n_given:,}",
            *(
                "–" if measure.value is None else f"{measure.value:.3f}"
                for measure in (each.precision, each.recall, each.f1)
            ),
        ]
        for each in evaluation.by_label
    ]
    columns = ["threshold", "texts", "given", "precision", "recall", "F1"]
    console.print(figures_table(columns, rows))


def _decisions(evaluation: Evaluation, rules: Rules) -> list[tuple[str, str]]:
    facts = []
    selection, sets = evaluation.selection, evaluation.sets
    if selection is None and rules.selective is not None:
        selection = selection_of(evaluation, rules.selective)
    if selection is not None:
        promise = (
            f" (guaranteed: at most {selection.target_risk:g})"
            if rules.is_promised
            else ""
        )
        facts += [
            ("Threshold", f"{selection.threshold:.4g}"),
            ("Answered", _shown(selection.coverage)),
            ("Wrong among these", _shown(selection.risk) + promise),
        ]
    if sets is not None:
        assert rules.sets is not None, "they come from there"
        facts += [
            ("Labels in a set", f"{sets.mean_size:.2f} on average"),
            (
                "True label in set",
                _shown(sets.coverage)
                + f" (guaranteed: {rules.sets.confidence_level:g})",
            ),
        ]
    return facts


def _shown(measure: Measure) -> str:
    if measure.value is None:
        return f"– ({measure.reason})"
    if measure.low is None or measure.high is None:
        return f"{measure.value:.3f}"
    return f"{measure.value:.3f} [{measure.low:.3f}, {measure.high:.3f}]"
