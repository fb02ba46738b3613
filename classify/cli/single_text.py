"""One text: JSON for programs, bars for people."""

import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from rich.text import Text

from classify.cells import is_missing, join_names, need_json, no_text, text_of
from classify.cli.console import Notes
from classify.cli.groups import OneText
from classify.cli.loading import asked_questions, load_classifiers
from classify.cli.report import report_likeliest
from classify.cli.tables import bars, explained_line, joined_labels
from classify.cli.task import declared_labels
from classify.cli.terminal import print_json
from classify.config import Task
from classify.config.decisions import Rules
from classify.errors import ConfigError, DataError, RowError
from classify.estimators.asked import AskedQuestion
from classify.estimators.asking import answers_of, score_questions
from classify.rows.explanation import Explanation
from classify.rows.results import BOUNDS, reasoning_kinds

__all__ = ["predict_text"]


def predict_text(
    task: Task,
    rules: Mapping[str, Rules],
    one: OneText,
    notes: Notes,
) -> None:
    """Classify a text, or stdin, and print its probabilities."""
    text = one.text
    parts = task.by_question()
    for part in parts.values():
        declared_labels(part)
        _check_fields(part)
    if text is None:
        if sys.stdin.isatty():
            notes.note("Reading one text from the keyboard; end it with Ctrl-D.")
        text = _stdin_text()
    text = _checked(text)
    classifiers = load_classifiers(task, notes, rules)
    questions = asked_questions(classifiers, rules)
    rows = [{"text": text}]

    # There is one text: no row to name, and no other row to continue with.
    def refuse(_: int, error: RowError) -> RowError:
        return type(error)(str(error))

    scored = score_questions(
        questions, [rows] * len(questions), refuse=refuse, return_steps=one.explain
    )
    results = answers_of(
        questions, scored, 1, refuse=refuse, probabilities=True, reasoning=True
    )
    of_kind = {
        each.name: each.columns_of_kind(bounds=False)
        if isinstance(each, AskedQuestion)
        else {}
        for each in questions
    }
    answers = {
        name: _answer(each.columns, parts[name], of_kind[name])
        for name, each in results.items()
    }
    explanations = {
        question.name: question.explanation(some)
        for question, some in zip(questions, scored, strict=True)
        if one.explain
    }
    if one.as_json or not (sys.stdout.isatty() or one.explain):
        for name, explanation in explanations.items():
            answers[name]["explanation"] = explanation.to_dict()
        named = answers if "" not in answers else {}
        print_json(
            {"text": text}
            | answers.get("", {})
            | ({"questions": named} if named else {})
        )
    else:
        for name, answer in answers.items():
            if name:
                notes.results().print(Text(name, style="bold"))
            _show(answer, notes, of_kind[name], explanations.get(name))
    for question in questions:
        mass = answers[question.name]["label_mass"]
        report_likeliest(question.scorers()[0], rows, mass, notes)


def _check_fields(task: Task) -> None:
    columns = [name for name in task.fields if name != "text"]
    if columns:
        raise ConfigError(
            f"The prompt needs the columns {', '.join(map(repr, columns))}, and a text "
            "alone has none: name a file that has them."
        )


def _answer(
    columns: Mapping[str, Any], task: Task, of_kind: Iterable[str]
) -> dict[str, Any]:
    """Return the printed form of the answer to a question."""
    row = {name: values.tolist()[0] for name, values in columns.items()}
    known = (*BOUNDS, "uncertain", "expected_lower", "expected_upper")
    decided = ("abstained", "label_set")
    thoughts = reasoning_kinds(task.scoring, with_text=True)
    names = declared_labels(task).names
    return {
        **({"labels": row["labels"]} if task.is_multi else _likeliest(row)),
        **{name: row[name] for name in known if name in row},
        **{name: None if is_missing(row[name]) else row[name] for name in of_kind},
        **{name: row[name] for name in decided if name in row},
        "probabilities": {label: row[f"p({label})"] for label in names},
        **{
            name: {label: row[f"{name}({label})"] for label in names}
            for name in ("lower", "upper")
            if "uncertain" in row
        },
        "label_mass": row["label_mass"],
        "unresolved": row["unresolved"],
        **({"agreement": row["agreement"]} if "agreement" in row else {}),
        "truncated": row["truncated"],
        **{name: row[name] for name in thoughts if name in row},
    }


def _likeliest(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "label": None if row.get("abstained") else row["label"],
        "probability": row["probability"],
    }


def _show(
    result: Mapping[str, Any],
    notes: Notes,
    of_kind: Iterable[str],
    explanation: Explanation | None,
) -> None:
    """Show a result for people, with a bar for each label."""
    console = notes.results(narrow=True)
    if "reasoning" in result:
        ended = " … (cut)" if result["cut"] else ""
        notes.note(f"The model thought: {result['reasoning']}{ended}")
    if explanation is None:
        console.print(bars(result["probabilities"], console))
    else:
        for line in explanation.lines():
            console.print(explained_line(line), no_wrap=True, overflow="ellipsis")
    for name in of_kind:
        value = result[name]
        shown = f"{value:.3f}" if isinstance(value, float) else value or "–"
        console.print(f"{name}: {shown}")
    if "labels" in result:
        console.print(f"Labels: {joined_labels(result['labels'])}", markup=False)
    if result.get("uncertain"):
        console.print(f"May apply: {joined_labels(result['uncertain'])}", markup=False)
    if "certain" in result:
        console.print(_bounds(result))
    if result.get("abstained"):
        console.print(f"No label: {result['abstained']}.")
    if "label_set" in result:
        names = result["label_set"]
        console.print(f"Set: {join_names(names, as_json=need_json(names))}")
    notes.note(_footnote(result))


def _footnote(result: Mapping[str, Any]) -> str:
    parts = [
        f"label mass {result['label_mass']:.4f}, unresolved {result['unresolved']:.2g}"
    ]
    if "agreement" in result:
        parts[0] += f", agreement {result['agreement']:.2f}"
    if result["truncated"]:
        parts.append("the text was cut to fit the model")
    return "; ".join(parts)


def _bounds(result: Mapping[str, Any]) -> str:
    certain = "no other label can be more probable"
    if not result["certain"]:
        certain = "another label could be more probable"
    return f"Known: {result['lower']:.3f} to {result['upper']:.3f}; {certain}."


def _checked(text: str) -> str:
    try:
        # What a shell hands over need not be UTF-8.
        text = text_of(os.fsencode(text))
    except DataError as error:
        raise DataError(f"The text {error}") from None
    if problem := no_text(text):
        raise DataError(f"{problem[0].upper()}{problem[1:]}")
    return text


def _stdin_text() -> str:
    try:
        return sys.stdin.read().removesuffix("\n")
    except UnicodeDecodeError as error:
        raise DataError(
            f"The text on stdin is not {error.encoding}: byte {error.start} cannot be "
            "decoded."
        ) from None
