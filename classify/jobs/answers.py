"""The labels that people gave to rows which were written for review."""

import json
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Literal, NamedTuple

import numpy as np

from classify.cells import (
    is_missing,
    no_text,
    shown,
    split_names,
    text_of,
    written_text,
)
from classify.errors import ConfigError, DataError, InputError, LabelError
from classify.jobs.review import RANDOM, SAMPLE
from classify.labels import LabelSet
from classify.rows.encoding import Row
from classify.tables.annotations import ANNOTATED, REVIEW_ROW, STATUS
from classify.tables.chunk import Chunk
from classify.wording import parameter

__all__ = [
    "Drawn",
    "Merged",
    "Reviewed",
    "drawn",
    "has_label",
    "label_of_cell",
    "labels_of_cell",
    "merged",
]

Reviewed = Literal["random", "all"]

_NO_LABEL = "there is no label: its cell is empty."


class Drawn(NamedTuple):
    """The rows that are used of a file with rows to review.

    Attributes
    ----------
    chunk : Chunk
    n_left_out : int
        Rows left out because they were chosen for the model's uncertainty.
    n_selected : int
        Rows of that kind which are used.
    """

    chunk: Chunk
    n_left_out: int = 0
    n_selected: int = 0


def drawn(chunk: Chunk, reviewed: Reviewed | None) -> Drawn:
    """Return the rows to use.

    Parameters
    ----------
    chunk : Chunk
        All rows.
    reviewed : {"random", "all"} or None
        None: those that were drawn at random, if there are any.

    Raises
    ------
    ConfigError
        There is no such choice.
    """
    if SAMPLE not in chunk.columns:
        if reviewed is not None:
            raise ConfigError(
                f"{parameter('reviewed')} is for files with rows to review, which have "
                f"a column {SAMPLE!r}: leave it out."
            )
        return Drawn(chunk)
    is_random = [cell == RANDOM for cell in chunk.cells(SAMPLE)]
    n_random = sum(is_random)
    n_others = len(is_random) - n_random
    if reviewed == "random" and not n_random:
        raise ConfigError(
            f"{parameter('reviewed', 'random')} needs rows that were drawn at random, "
            f"and there are none: use {parameter('reviewed', 'all')}, and draw some "
            f"next time with {parameter('review_random')}."
        )
    if reviewed == "all" or (reviewed is None and not n_random):
        return Drawn(chunk, n_selected=n_others)
    return Drawn(chunk.take(np.flatnonzero(is_random)), n_left_out=n_others)


class Merged(NamedTuple):
    """The answers of one or more people.

    Attributes
    ----------
    positions : list of int
        The row used for each text: the first of those about the same text.
    errors : dict of int to LabelError
        The rows among these whose answers differ.
    unlabelled : Counter of str
        Texts without an answer, by reason.
    """

    positions: list[int]
    errors: dict[int, LabelError]
    unlabelled: Counter[str]


def merged(
    chunk: Chunk,
    rows: Sequence[Row | InputError],
    answers: Sequence[Sequence[str] | None],
) -> Merged:
    """Return the answers to each text; if they differ, the text is an error.

    Rows are about the same text if their texts and `REVIEW_ROW` are equal. Without
    that column each is about its own.

    Parameters
    ----------
    chunk : Chunk
    rows : sequence of mapping or InputError
        The prompt's columns of each row.
    answers : sequence of sequence of str or None
        The labels of each row; None where there is no answer.
    """
    places: dict[Hashable, list[int]] = {}
    for at, key in enumerate(_keys(chunk, rows)):
        places.setdefault(key, []).append(at)
    reasons = _why_unlabelled(chunk)
    positions, errors, unlabelled = [], {}, Counter[str]()
    for same in places.values():
        given = {at: answers[at] for at in same if answers[at] is not None}
        if not given:
            unlabelled[reasons[same[0]]] += 1
            continue
        first = next(iter(given))
        positions.append(first)
        different = dict.fromkeys(frozenset(each or ()) for each in given.values())
        if len(different) > 1:
            listed = ", ".join(
                "|".join(map(repr, sorted(each))) or "no label" for each in different
            )
            errors[first] = LabelError(f"its annotators disagree: {listed}.")
    return Merged(sorted(positions), errors, unlabelled)


def label_of_cell(cell: object) -> str:
    """Return the label in a cell; "" if it is empty."""
    if isinstance(cell, list) and len(cell) == 1:  # of Label Studio, or JSONL
        [cell] = cell
    try:
        text = text_of(cell)
    except DataError:  # no label is called so; messages show what it is
        text = written_text(cell) if isinstance(cell, bytes | str) else shown(cell)
    return "" if no_text(text) else text.strip()


def labels_of_cell(cell: object, labels: LabelSet | None) -> list[str] | str:
    """Return the labels that a cell lists; "" if it is empty; as it is if damaged."""
    if isinstance(cell, list | tuple | np.ndarray) and not is_missing(cell):
        return [label_of_cell(each) for each in cell]
    text = label_of_cell(cell)
    if not has_label(text, labels):
        return ""
    if labels is not None and labels.of_cell(text) is not None:
        return [text]  # whose name may have a bar
    try:
        return split_names(text)
    except (DataError, json.JSONDecodeError):
        return text


def has_label(cell: str | list[str], labels: LabelSet | None) -> bool:
    """Return whether what was read from a cell is an answer."""
    if not isinstance(cell, str):
        return True
    is_label = labels is not None and labels.of_cell(cell) is not None
    return is_label or cell.lower() not in ("", "nan")


def _why_unlabelled(chunk: Chunk) -> list[str]:
    """Return why rows have no label, if they have none."""
    if STATUS not in chunk.columns:
        return [_NO_LABEL] * len(chunk)
    return [
        _NO_LABEL
        if is_missing(status) or status == ANNOTATED
        else f"there is no label: the task is {status}."
        for status in chunk.cells(STATUS)
    ]


def _keys(chunk: Chunk, rows: Sequence[Row | InputError]) -> list[Hashable]:
    own: list[Hashable] = [*range(len(chunk))]
    if REVIEW_ROW not in chunk.columns:
        return own
    return [
        at if is_missing(number) or isinstance(row, InputError) else _key(number, row)
        for at, number, row in zip(own, chunk.cells(REVIEW_ROW), rows, strict=True)
    ]


def _key(number: object, row: Row) -> Hashable:
    return (str(number), *sorted(row.items()))
