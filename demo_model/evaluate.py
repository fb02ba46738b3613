"""Measure the demo model and write its model card.

python -m demo_model.evaluate --card classify/demo/MODEL_CARD.md
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from demo_model.card import write_card
from demo_model.measure import DemoScorer, TestSet, measure

TEST_SETS = (
    TestSet("held-out patterns", "held_out", "train"),
    TestSet("held-out label wordings", "train", "held_out"),
    TestSet("both held out", "held_out", "held_out"),
    TestSet("held-out patterns, tickets only", "held_out", "train", task="ticket"),
    TestSet("meaningless names with descriptions", "held_out", "train", described=True),
)


def main() -> None:
    """Run the script."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("classify/demo/model"))
    parser.add_argument("--report", type=Path, default=Path("demo_model/training.json"))
    parser.add_argument("--figures", type=Path, default=Path("demo_model/figures.json"))
    parser.add_argument("--card", type=Path, default=None)
    parser.add_argument("--texts", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=101)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    scorer = DemoScorer(args.model, device=args.device)
    figures = {}
    for which in TEST_SETS:
        figures[which.name] = measure(scorer, which, n=args.texts, seed=args.seed)
        print(which.name, figures[which.name], flush=True)
        rows = {name: each._asdict() for name, each in figures.items()}
        args.figures.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    if args.card is not None:
        training = json.loads(args.report.read_text(encoding="utf-8"))
        card = write_card(rows, training, folder=args.model, seed=args.seed)
        args.card.write_text(card, encoding="utf-8")


if __name__ == "__main__":
    main()
