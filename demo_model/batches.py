"""Batches for training: examples as token ids, sorted into lengths."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from tokenizers import Tokenizer
from torch.utils.data import DataLoader, Dataset

from demo_model.examples import draw_example
from demo_model.ontology import tasks
from demo_model.prompts import PAD

LENGTHS = (96, 160, 256, 384, 768)


class Sequences(NamedTuple):
    """Examples as flat arrays.

    Parameters
    ----------
    token_ids : ndarray of shape (n_tokens,)
        Token ids of all examples, one after the other.
    weights : ndarray of shape (n_tokens,)
        Loss weight of each token.
    lengths : ndarray of shape (n_examples,)
        Tokens per example.
    """

    token_ids: np.ndarray
    weights: np.ndarray
    lengths: np.ndarray


class Batch(NamedTuple):
    """Examples of similar length, padded on the right.

    Parameters
    ----------
    token_ids : Tensor of shape (B, T)
        Token ids.
    weights : Tensor of shape (B, T)
        Loss weight of each token; 0 on padding.
    """

    token_ids: torch.Tensor
    weights: torch.Tensor


class ExampleStream(Dataset[Sequences]):
    """Generated examples, drawn anew for every index.

    Parameters
    ----------
    tokenizer : Tokenizer
        The trained tokenizer.
    seed : int
        Item `i` depends on the seed and `i` alone.
    n_items : int
        How many items there are.
    per_item : int, default=1000
        Examples in an item.
    """

    def __init__(
        self, tokenizer: Tokenizer, *, seed: int, n_items: int, per_item: int = 1000
    ) -> None:
        self.tokenizer = tokenizer
        self.seed = seed
        self.n_items = n_items
        self.per_item = per_item

    def __len__(self) -> int:
        return self.n_items

    def __getitem__(self, index: int) -> Sequences:
        rng = random.Random(f"{self.seed}/{index}")
        examples = [draw_example(rng) for _ in range(self.per_item)]
        parts = [part for example in examples for part in example]
        encoded = self.tokenizer.encode_batch_fast(
            [part.text for part in parts], add_special_tokens=False
        )
        sizes = [len(each.ids) for each in encoded]
        per_part = iter(sizes)
        lengths = [sum(next(per_part) for _ in example) for example in examples]
        return Sequences(
            np.concatenate([np.asarray(each.ids, np.int32) for each in encoded]),
            np.repeat(np.asarray([part.weight for part in parts], np.float32), sizes),
            np.asarray(lengths),
        )


def batches(
    stream: ExampleStream, *, tokens_per_batch: int, n_workers: int
) -> Iterator[Batch]:
    """Collect examples by length and pad them.

    Parameters
    ----------
    stream : ExampleStream
        Where examples come from.
    tokens_per_batch : int
        Tokens in a batch, padding included.
    n_workers : int
        Processes that generate; they do not change what is generated.

    Yields
    ------
    Batch
        Examples of one length class.
    """
    pad: int = stream.tokenizer.token_to_id(PAD) or 0
    waiting: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {n: [] for n in LENGTHS}
    tasks()  # read the data files once, before the workers start
    loader = DataLoader(stream, batch_size=None, num_workers=n_workers)
    for item in loader:
        start = 0
        token_ids, weights = np.asarray(item.token_ids), np.asarray(item.weights)
        for length in item.lengths.tolist():
            stop = start + length
            fitting = [n for n in LENGTHS if n >= length]
            if fitting:  # the few longer ones are left out
                example = (token_ids[start:stop], weights[start:stop])
                waiting[fitting[0]].append(example)
            start = stop
        for n, examples in waiting.items():
            n_rows = tokens_per_batch // n
            while len(examples) >= n_rows:
                yield _pad(examples[:n_rows], n, pad)
                del examples[:n_rows]


def _pad(examples: list[tuple[np.ndarray, np.ndarray]], n: int, pad: int) -> Batch:
    token_ids = np.full((len(examples), n), pad, np.int64)
    weights = np.zeros((len(examples), n), np.float32)
    for row, (ids, weight) in enumerate(examples):
        token_ids[row, : len(ids)] = ids
        weights[row, : len(ids)] = weight
    return Batch(torch.from_numpy(token_ids), torch.from_numpy(weights))
