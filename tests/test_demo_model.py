"""The demo model: what it is, how it was made, and that it works."""

from __future__ import annotations

import csv
import importlib
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from classify.demo import model_folder, tickets_csv

ROOT = Path(__file__).parents[1]
FOLDER = model_folder()


@pytest.fixture(scope="module")
def made() -> Iterator[Any]:
    """Import modules of the folder ``demo_model``, which is not installed."""
    sys.path.insert(0, str(ROOT))
    yield lambda name: importlib.import_module(f"demo_model.{name}")
    sys.path.remove(str(ROOT))


@pytest.fixture(scope="module")
def scorer(made: Any) -> Any:
    return made("measure").DemoScorer(FOLDER)


def test_folder_is_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 8_000_000


def test_architecture(scorer: Any) -> None:
    config = scorer.model.config
    assert type(scorer.model).__name__ == "LlamaForCausalLM"
    assert config.head_dim >= 32
    assert config.max_position_embeddings == 1024
    assert config.tie_word_embeddings


def test_control_tokens(scorer: Any) -> None:
    tokenizer = scorer.tokenizer
    assert tokenizer.eos_token == "<|end|>"
    assert tokenizer.pad_token == "<|pad|>"
    assert tokenizer("billing").input_ids[0] == tokenizer.bos_token_id
    assert (
        tokenizer.decode(tokenizer("a  b\n\nc 你好").input_ids[1:]) == "a  b\n\nc 你好"
    )


def test_chat_template(scorer: Any) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
    ]
    rendered = scorer.tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True
    )
    assert rendered == (
        "<|bos|><|system|>\nBe brief.<|end|>\n<|user|>\nHello<|end|>\n<|assistant|>\n"
    )


def test_generator_is_deterministic(made: Any) -> None:
    draw = made("generate").draw_examples
    assert draw(3, 50) == draw(3, 50)
    assert draw(3, 50) != draw(4, 50)


def test_held_out_patterns_are_not_trained_on(made: Any) -> None:
    for task in made("ontology").tasks().values():
        for label in task.classes:
            train = {pattern.source for pattern in label.patterns["train"]}
            held_out = {pattern.source for pattern in label.patterns["held_out"]}
            assert train, (task.name, label.name)
            assert held_out, (task.name, label.name)
            assert not train & held_out, (task.name, label.name)


def test_held_out_wordings_are_no_training_labels(made: Any) -> None:
    ontology, examples = made("ontology"), made("examples")
    held_out = ontology.held_out_wordings()
    rng = random.Random(5)
    for task in ontology.tasks().values():
        for label in task.classes:
            assert label.wordings("train"), (task.name, label.name)
            assert label.wordings("held_out"), (task.name, label.name)
        for _ in range(60):
            case = examples.draw_case(rng, task)
            names = {option.name.casefold() for option in case.options}
            spaced = {name.replace("_", " ") for name in names}
            assert not held_out & (names | spaced), (task.name, names & held_out)


def test_card_calls_it_a_demo_and_holds_figures() -> None:
    card = (FOLDER.parent / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "demo" in card.splitlines()[0]
    for row in ("| held-out patterns | ", "| held-out label wordings | "):
        assert row in card
    assert "ECE" in card


def test_tickets_are_those_of_the_generator(made: Any) -> None:
    with tickets_csv().open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["id", "text"]
    assert [row["text"] for row in rows] == made("generate").draw_tickets(1)
    assert any("," in row["text"] for row in rows)


def test_accuracy_on_held_out_tickets(made: Any, scorer: Any) -> None:
    measure = made("measure")
    which = measure.TestSet("spot check", "held_out", "train", task="ticket")
    figures = measure.measure(scorer, which, n=60, seed=1)
    assert figures.accuracy >= 0.85
    assert figures.label_mass >= 0.8
