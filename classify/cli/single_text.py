"""One text: JSON for programs, bars for people."""

import os
import sys
from typing import Any

import pandas as pd

from classify.cells import no_text, text_of
from classify.cli.console import Notes
from classify.cli.decisions import Rules
from classify.cli.loading import load_classifier
from classify.cli.report import report_likeliest
from classify.cli.tables import bars
from classify.cli.task import declared_labels
from classify.cli.terminal import print_json
from classify.config import Task
from classify.errors import AnswerError, ConfigError, DataError, InputError
from classify.frames import candidates_of_frame
from classify.results import reasoning_kinds

__all__ = ["predict_text"]


def predict_text(
    task: Task, rules: Rules, text: str | None, notes: Notes, *, as_json: bool
) -> None:
    """Classify a text, or stdin, and print its probabilities."""
    labels = declared_labels(task)
    columns = [name for name in task.prompt.fields if name != "text"]
    if columns:
        raise ConfigError(
            f"The prompt needs the columns {', '.join(map(repr, columns))}, and a text "
            "alone has none: name a file that has them."
        )
    if text is None:
        if sys.stdin.isatty():
            notes.note("Reading one text from the keyboard; end it with Ctrl-D.")
        text = _stdin_text()
    text = _checked(text)
    classifier = load_classifier(task, notes, force=rules.force)
    try:
        frame = classifier.classify_frame(
            pd.DataFrame({"text": [text]}),
            probabilities=True,
            selective=rules.selective,
            sets=rules.sets,
        )
    except (InputError, AnswerError) as error:
        # There is one text: no row to name, and none to go on with.
        raise error.__cause__ or error from None
    row = frame.iloc[0]
    result: dict[str, Any] = {
        "text": text,
        "label": None if row.get("abstained") else row["label"],
        "probability": row["probability"],
        **frame.filter(["abstained"]).iloc[0],
        **_listed_sets(frame),
        "probabilities": {name: row[f"p({name})"] for name in labels.names},
        "label_mass": row["label_mass"],
        "unresolved": row["unresolved"],
        "truncated": bool(row["truncated"]),
    }
    thoughts = reasoning_kinds(task.scoring, with_text=True)
    result |= {name: frame[name].tolist()[0] for name in thoughts}
    if as_json or not sys.stdout.isatty():
        print_json(result)
    else:
        _show(result, frame, notes)
    report_likeliest(classifier.scorer(), [{"text": text}], row["label_mass"], notes)


def _show(result: dict[str, Any], frame: pd.DataFrame, notes: Notes) -> None:
    """Show a result for people, with a bar for each label."""
    console = notes.results()
    if "reasoning" in result:
        ended = " … (cut)" if result["cut"] else ""
        notes.note(f"The model thought: {result['reasoning']}{ended}")
    console.print(bars(result["probabilities"], console))
    if result.get("abstained"):
        console.print(f"No label: {result['abstained']}.")
    if "label_set" in frame:
        console.print(f"Set: {frame['label_set'].iloc[0]}")
    cut = "; the text was cut to fit the model" if result["truncated"] else ""
    notes.note(
        f"label mass {result['label_mass']:.4f}, unresolved "
        f"{result['unresolved']:.2g}{cut}"
    )


def _listed_sets(frame: pd.DataFrame) -> dict[str, Any]:
    if "label_set" not in frame:
        return {}
    (names,) = candidates_of_frame(frame, "label_set") or ((),)
    # An empty cell is the empty set.
    return {"label_set": () if isinstance(names, InputError) else names}


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
