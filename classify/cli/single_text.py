"""One text: JSON for programs, bars for people."""

import json
import sys

import typer
from rich.console import Console

from classify.cli.console import Notes
from classify.cli.loading import load_classifier
from classify.cli.tables import bars
from classify.config import Task
from classify.errors import ConfigError, DataError

__all__ = ["predict_text"]


def predict_text(task: Task, text: str | None, notes: Notes, *, as_json: bool) -> None:
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
    classifier = load_classifier(task, notes)
    scores = classifier.label_logprobs([text])
    by_class = dict(zip(scores.classes.tolist(), scores.proba[0].tolist(), strict=True))
    label = max(by_class, key=by_class.__getitem__)
    result = {
        "text": text,
        "label": label,
        "probability": by_class[label],
        "probabilities": {name: by_class[name] for name in task.labels.names},
        "label_mass": float(scores.label_mass[0]),
        "unresolved": float(scores.unresolved[0]),
        "truncated": bool(scores.truncated[0]),
    }
    if as_json or not sys.stdout.isatty():
        typer.echo(json.dumps(result, ensure_ascii=False, indent=2))
        return
    console = Console(highlight=False)
    console.print(bars(result["probabilities"], console))
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
