"""The cases: which texts, which labels, prompts of which length."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from peers.runner import Case

LENGTHS = {"short": (24, 36), "long": (190, 210)}
"""Least and greatest number of prompt tokens.

The spread is narrow so that a contestant that takes only the first few texts has texts
as long as everybody else's.
"""

SOURCES = {
    2: ("sst2", "{text}\nSentiment:"),
    10: ("banking77", "{text}\nTopic:"),
    77: ("banking77", "{text}\nTopic:"),
}
"""Number of labels: data set and template."""


def make_case(
    data: Path, model: Path, n_labels: int, length: str, n_texts: int
) -> Case:
    """Take the first texts whose prompts are about as long as they should be.

    Long texts are short ones of the same data set joined by a space, so that no two
    prompts share a prefix.

    Parameters
    ----------
    data : Path
        Folder of ``<set>.csv`` files with the columns ``text`` and ``label``.
    model : Path
        Folder of the model, for its tokenizer.
    n_labels : {2, 10, 77}
        The first so many labels of the set, sorted.
    length : {"short", "long"}
        See `LENGTHS`.
    n_texts : int
        Greatest number of texts; the set may hold fewer that fit.

    Returns
    -------
    Case
    """
    name, template = SOURCES[n_labels]
    with (data / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    labels = sorted({row["label"] for row in rows})[:n_labels]
    tokenizer = AutoTokenizer.from_pretrained(model)
    texts: list[str] = []
    for text in _of_length([r["text"] for r in rows], template, length, tokenizer):
        if len(texts) == n_texts:
            break
        texts.append(text)
    return Case(
        name=f"{n_labels} labels, {length}",
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
    return {
        "prompt": sum(map(len, prompts)) / len(prompts),
        "labels": sum(map(len, paths)),
        "inner_nodes": len(inner),
    }


def _of_length(
    texts: list[str], template: str, length: str, tokenizer: PreTrainedTokenizerBase
) -> Iterator[str]:
    least, most = LENGTHS[length]
    joined = ""
    for text in texts:
        joined = f"{joined} {text}".strip() if length == "long" else text
        tokens = len(tokenizer(template.replace("{text}", joined))["input_ids"])
        if least <= tokens <= most:
            yield joined
        if tokens >= least:
            joined = ""
