"""Labelled tickets of the demo's own generator, as a CSV for `classify calibrate`."""

import csv
import random
from pathlib import Path

from demo_model.generate import TICKET_MIX
from demo_model.ontology import tasks
from demo_model.texts import write_text

LABELS = ",".join(TICKET_MIX)


def draw(count: int, seed: int) -> list[tuple[str, str]]:
    """Return texts with their labels, all labels equally often by chance."""
    rng, task = random.Random(seed), tasks()["ticket"]
    classes = [each for each in task.classes if each.name in TICKET_MIX]
    drawn = [rng.choice(classes) for _ in range(count)]
    return [
        (write_text(rng, task, each, split="held_out", hard=0.5), each.name)
        for each in drawn
    ]


def write(path: Path, rows: list[tuple[str, str]]) -> Path:
    """Write rows with the columns text and label."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    return path
