"""Texts to scores, where the engine is."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from classify.encoding import Row
from classify.errors import InputError, RowError
from classify.jobs.score_records import pack_scores
from classify.labels import LabelSet
from classify.scored_rows import RowScorer
from classify.scoring import Flight, LabelLogprobs, TextScore

__all__ = ["Records", "Texts", "score_texts"]

# Texts that are encoded at a time: an engine computes meanwhile what it has already.
_ENCODED_TEXTS = 256


class Texts(NamedTuple):
    """Texts, each different from the others.

    Attributes
    ----------
    rows : sequence of mapping
        What the prompt needs of each.
    candidates : sequence of LabelSet or None
        The labels that each may get. None: all labels.
    """

    rows: Sequence[Row]
    candidates: Sequence[LabelSet] | None


class Records(NamedTuple):
    """The scores of texts.

    Attributes
    ----------
    records : list of bytes or str
        From `classify.jobs.score_records.pack_scores`; or why a text has none.
    n_tokens : int
        Of all prompts.
    """

    records: list[bytes | str]
    n_tokens: int


def score_texts(scorer: RowScorer, texts: Texts) -> Records:
    """Score texts in their order, beside no others.

    So the values are those of a job that asks the same engine about the same texts of
    a chunk, to the last digit.

    Raises
    ------
    EngineError
        The engine failed.
    """
    strategy = scorer.read_strategy()
    landed: dict[int, TextScore | RowError] = {}
    known: dict[int, bytes | str] = {}
    n_tokens = 0
    with Flight[int](scorer.model.load_engine()) as flight:
        flight.forget_reads()
        for start in range(0, len(texts.rows), _ENCODED_TEXTS):
            some = slice(start, start + _ENCODED_TEXTS)
            candidates = None if texts.candidates is None else texts.candidates[some]
            encoded = scorer.encode(texts.rows[some], candidates)
            for at, prompt in enumerate(encoded, start):
                if isinstance(prompt, InputError):
                    known[at] = str(prompt)
                    continue
                while flight.full:
                    landed.update(flight.poll())
                flight.add(at, strategy(prompt))
                n_tokens += len(prompt.token_ids)
        while flight:
            landed.update(flight.poll())
    scores = {at: each for at, each in landed.items() if isinstance(each, TextScore)}
    known |= {at: str(landed[at]) for at in landed.keys() - scores.keys()}
    known |= _packed(scorer, texts, scores)
    return Records([known[at] for at in range(len(texts.rows))], n_tokens)


def _packed(
    scorer: RowScorer, texts: Texts, landed: Mapping[int, TextScore]
) -> dict[int, bytes]:
    """Return scores as a store keeps them."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for at in landed:
        groups.setdefault(_classes(scorer, texts, at), []).append(at)
    packed: dict[int, bytes] = {}
    for classes, positions in groups.items():
        scores = LabelLogprobs.of([landed[at] for at in positions], classes)
        records = pack_scores(scores, np.arange(len(positions)))
        packed.update(zip(positions, records, strict=True))
    return packed


def _classes(scorer: RowScorer, texts: Texts, at: int) -> tuple[str, ...]:
    """Return the labels whose scores a text has, sorted."""
    labels = scorer.declared
    if labels is None:
        assert texts.candidates is not None, "labels come from somewhere"
        labels = texts.candidates[at]
    return tuple(sorted(labels.names))
