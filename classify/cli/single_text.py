"""One text: JSON for programs, bars for people."""

import sys
from typing import Any

import pandas as pd

from classify.cli.console import Notes
from classify.cli.decision_options import Rules
from classify.cli.loading import load_classifier
from classify.cli.tables import bars
from classify.cli.terminal import print_json
from classify.config import Task
from classify.errors import ConfigError, DataError

__all__ = ["predict_text"]


def predict_text(
    task: Task, rules: Rules, text: str | None, notes: Notes, *, as_json: bool
) -> None:
    """Classify a text, or stdin, and print its probabilities."""
    if task.labels is None:
        raise ConfigError(
            "There are no labels: give --labels, --labels-file, or a --task that has "
            "them."
        )
    if text is None:
        if sys.stdin.isatty():
            notes.note("Reading one text from the keyboard; end it with Ctrl-D.")
        text = _stdin_text()
    if not text.strip():
        raise DataError("There is no text: it is empty.")
    classifier = load_classifier(task, notes, force=rules.force)
    frame = classifier.classify_frame(
        pd.DataFrame({"text": [text]}),
        probabilities=True,
        selective=rules.selective,
        sets=rules.sets,
    )
    row = frame.iloc[0]
    probabilities = {name: row[f"p({name})"] for name in task.labels.names}
    result: dict[str, Any] = {
        "text": text,
        "label": None if row.get("abstained") else row["label"],
        "probability": row["probability"],
        **{name: row[name] for name in ("abstained", "label_set") if name in row},
        "probabilities": probabilities,
        "label_mass": row["label_mass"],
        "unresolved": row["unresolved"],
        "truncated": bool(row["truncated"]),
    }
    if as_json or not sys.stdout.isatty():
        print_json(result)
        return
    console = notes.results()
    console.print(bars(probabilities, console))
    if rules.selective is not None and row["abstained"]:
        console.print(f"No label: {row['abstained']}.")
    if rules.sets is not None:
        console.print(f"Set: {row['label_set']}")
    cut = "; the text was cut to fit the model" if result["truncated"] else ""
    notes.note(
        f"label mass {result['label_mass']:.4f}, unresolved "
        f"{result['unresolved']:.2g}{cut}"
    )


def _stdin_text() -> str:
    try:
        return sys.stdin.read().removesuffix("\n")
    except UnicodeDecodeError as error:
        raise DataError(
            f"The text on stdin is not {error.encoding}: byte {error.start} cannot be "
            "decoded."
        ) from None
