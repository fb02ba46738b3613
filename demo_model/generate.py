"""Write generated texts: the demo's files, or training examples to look at.

python -m demo_model.generate tickets classify/demo/tickets.csv
python -m demo_model.generate labelled classify/demo/labelled.csv
python -m demo_model.generate fresh classify/demo/fresh.csv
python -m demo_model.generate examples examples.jsonl --count 1000
"""

from __future__ import annotations

import argparse
import csv
import json
import random
from pathlib import Path

from demo_model.examples import draw_example
from demo_model.ontology import tasks
from demo_model.texts import write_text

# A realistic mix of the five labels that the demo uses.
TICKET_MIX = {
    "billing": 6,
    "shipping": 6,
    "technical problem": 5,
    "account access": 4,
    "refund": 3,
}


def draw_tickets(seed: int) -> list[str]:
    """Draw the demo tickets, from held-out patterns.

    Parameters
    ----------
    seed : int
        The seed.

    Returns
    -------
    list of str
        Different texts in random order.
    """
    rng = random.Random(seed)
    task = tasks()["ticket"]
    tickets: dict[str, None] = {}
    for label in task.classes:
        wanted = len(tickets) + TICKET_MIX.get(label.name, 0)
        while len(tickets) < wanted:
            tickets[write_text(rng, task, label, split="held_out", hard=0.1)] = None
    order = list(tickets)
    rng.shuffle(order)
    return order


def draw_labelled() -> list[tuple[str, str]]:
    """Draw the demo's labelled tickets: the hardest texts, labels equally often.

    Returns
    -------
    list of (str, str)
        800 texts with their labels: half for ``labelled.csv``, half for ``fresh.csv``.
    """
    rng, task = random.Random(3), tasks()["ticket"]
    classes = [each for each in task.classes if each.name in TICKET_MIX]
    drawn = rng.choices(classes, k=800)
    return [
        (write_text(rng, task, each, split="held_out", hard=1.0), each.name)
        for each in drawn
    ]


def draw_examples(seed: int, count: int) -> list[str]:
    """Draw training examples as the model sees them.

    Parameters
    ----------
    seed : int
        The seed.
    count : int
        How many.

    Returns
    -------
    list of str
        Whole sequences with their control tokens.
    """
    rng = random.Random(seed)
    return ["".join(part.text for part in draw_example(rng)) for _ in range(count)]


def main() -> None:
    """Run the script."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("tickets", "labelled", "fresh", "examples"))
    parser.add_argument("output", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=1000)
    args = parser.parse_args()
    with args.output.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if args.what == "tickets":
            writer.writerow(("id", "text"))
            writer.writerows(enumerate(draw_tickets(args.seed), start=1))
        elif args.what in ("labelled", "fresh"):
            rows = draw_labelled()
            writer.writerow(("text", "label"))
            writer.writerows(rows[:400] if args.what == "labelled" else rows[400:])
        else:
            for text in draw_examples(args.seed, args.count):
                file.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
