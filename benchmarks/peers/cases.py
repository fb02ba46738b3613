"""The cases: which texts, which labels, prompts of which length.

Every prompt is written with the model's own chat template, so that the model answers
with a label: how many nodes of the label trie must be read to a tolerance depends on
that. All contestants get the same strings.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from peers.runner import Case

LENGTHS = {"short": (24, 40), "long": (185, 215), "few-shot": (170, 230)}
"""Least and greatest number of prompt tokens.

The spread is narrow so that a contestant that takes only the first few texts has texts
as long as everybody else's. "long": other texts stand before the question, and differ
from row to row. "few-shot": the same solved examples stand before every text.
"""


@dataclass(frozen=True)
class Source:
    """A data set, how many of its labels, and how to ask for them."""

    data: str
    n_labels: int
    question: str
    answer: str


SOURCES = {
    "2": Source("sst2", 2, "Is this movie review positive or negative?", "Sentiment:"),
    "10": Source(
        "clinc150", 10, "Classify the intent of the following text.", "Intent:"
    ),
    "77": Source(
        "clinc150", 77, "Classify the intent of the following text.", "Intent:"
    ),
    "77, foreign": Source("banking77", 77, "What is the customer's problem?", "Topic:"),
}
"""The cases' names and sources. The evaluation model learnt from clinc150's train split
and never saw the other two sets: with "77, foreign" it would rather say something else
than a label, which is the hard case for reading to a tolerance."""


def make_case(data: Path, model: Path, name: str, length: str, n_texts: int) -> Case:
    """Take the first texts whose prompts are about as long as they should be.

    Parameters
    ----------
    data : Path
        Folder of ``<set>.csv`` files with the columns ``text`` and ``label``.
    model : Path
        Folder of the model, for its tokenizer and chat template.
    name : str
        One of `SOURCES`.
    length : {"short", "long", "few-shot"}
        See `LENGTHS`.
    n_texts : int
        Greatest number of texts; the set may hold fewer that fit.

    Returns
    -------
    Case
    """
    source = SOURCES[name]
    with (data / f"{source.data}.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    tokenizer = AutoTokenizer.from_pretrained(model)
    labels = _labels(source, rows, tokenizer)
    rows = [row for row in rows if row["label"] in labels]
    random.Random(0).shuffle(rows)
    template = _template(source, rows, length, tokenizer)
    texts: list[str] = []
    for text in _of_length(source, rows, template, length, tokenizer):
        if len(texts) == n_texts:
            break
        texts.append(text)
    return Case(
        name=f"{name} labels, {length}",
        template=template,
        texts=texts,
        prompts=[template.replace("{text}", text) for text in texts],
        labels=labels,
    )


def count_tokens(case: Case, model: Path) -> dict[str, float]:
    """Tokens of a prompt (mean), of all labels, and nodes of the labels' token trie."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    prompts = tokenizer(case.prompts)["input_ids"]
    first = len(prompts[0])
    joint = tokenizer([case.prompts[0] + c for c in case.continuations])["input_ids"]
    paths = [tuple(ids[first:]) for ids in joint]
    inner = {path[:depth] for path in paths for depth in range(len(path))}
    least, greatest = min(prompts), max(prompts)
    pairs = zip(least, greatest, strict=False)
    shared = next((at for at, (a, b) in enumerate(pairs) if a != b), len(least))
    return {
        "prompt": sum(map(len, prompts)) / len(prompts),
        "shared": shared,
        "labels": sum(map(len, paths)),
        "inner_nodes": len(inner),
    }


def _labels(
    source: Source, rows: list[dict[str, str]], tokenizer: PreTrainedTokenizerBase
) -> list[str]:
    """The first labels of which none begins another.

    Where one does, we read every label with an end token, and the peers without.
    """
    chosen: dict[str, list[int]] = {}
    for label in sorted({row["label"] for row in rows}):
        path = tokenizer(f"\n{label}", add_special_tokens=False)["input_ids"]
        clash = any(
            path[: len(other)] == other or other[: len(path)] == path
            for other in chosen.values()
        )
        if not clash and len(chosen) < source.n_labels:
            chosen[label] = path
    if len(chosen) < source.n_labels:
        raise SystemExit(f"{source.data} has too few labels that begin no other.")
    return list(chosen)


def _template(
    source: Source,
    rows: list[dict[str, str]],
    length: str,
    tokenizer: PreTrainedTokenizerBase,
) -> str:
    """The chat's text with ``{text}`` in it, without the BOS that tokenizers add."""

    def written(examples: str) -> str:
        question = "" if length == "long" else f"{source.question}\n\n"
        content = f"{question}{examples}{{text}}\n\n{source.answer}"
        rendered = tokenizer.apply_chat_template(
            [{"role": "user", "content": content}],
            tokenize=False,
            add_generation_prompt=True,
        )
        return str(rendered).removeprefix(tokenizer.bos_token or "")

    if length != "few-shot":
        return written("")
    examples = ""
    for row in reversed(rows):
        longer = f"{examples}{row['text']}\n{source.answer} {row['label']}\n\n"
        if len(tokenizer(written(longer))["input_ids"]) > LENGTHS[length][0] + 20:
            break
        examples = longer
    return written(examples)


def _of_length(
    source: Source,
    rows: list[dict[str, str]],
    template: str,
    length: str,
    tokenizer: PreTrainedTokenizerBase,
) -> Iterator[str]:
    least, most = LENGTHS[length]
    others = random.Random(1)
    for row in rows:
        text, before = row["text"], ""
        while True:
            if length == "long":
                text = f"{before}\n{source.question}\n\n{row['text']}"
            n_tokens = len(tokenizer(template.replace("{text}", text))["input_ids"])
            if length != "long" or n_tokens >= least:
                break
            before += f"{others.choice(rows)['text']}\n"
        if least <= n_tokens <= most:
            yield text
