"""The records of the score cache: keys of texts, and scores as bytes."""

import json
import zlib
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from classify.errors import EngineError
from classify.scoring import LabelLogprobs, Reasoning

__all__ = [
    "PlacedScores",
    "combine_scores",
    "pack_scores",
    "text_keys",
    "unpack_scores",
]

_KEY_BYTES = 16
# Bytes that UTF-8 has nowhere, surrogates or not.
_END = b"\xff"
_CANDIDATES = b"\xfe"


class PlacedScores(NamedTuple):
    """Scores of some of several texts.

    Attributes
    ----------
    scores : LabelLogprobs
    at : ndarray of int64, shape (len(scores),)
        Position of each among all texts.
    """

    scores: LabelLogprobs
    at: npt.NDArray[np.int64]


def text_keys(
    fingerprint_digest: bytes,
    rows: Iterable[Sequence[str]],
    candidates: Iterable[Sequence[str] | None] | None = None,
) -> list[bytes]:
    """Return the 16 bytes under which the scores of each text are kept.

    Parameters
    ----------
    fingerprint_digest : bytes
        Of everything else that scores depend on.
    rows : iterable of sequences of str
        What the prompt is given of each row, in a fixed order.
    candidates : iterable of sequences of str or None; or None
        Labels of each row, in the order in which the prompt names them. None: those of
        the fingerprint.

    Examples
    --------
    >>> [key.hex() for key in text_keys(b"model", [["Hello"]])]
    ['5ac484d14c9b5ac43dfcd3731a1460a3']
    >>> one, other = text_keys(b"model", [["ab", "c"], ["a", "bc"]])
    >>> one == other
    False
    """
    begun = blake2b(
        len(fingerprint_digest).to_bytes(8, "little") + fingerprint_digest,
        digest_size=_KEY_BYTES,
    )
    keys = []
    messages = [_joined(fields) for fields in rows]
    if candidates is not None:
        messages = [
            message if names is None else message + _CANDIDATES + _joined(names)
            for message, names in zip(messages, candidates, strict=True)
        ]
    for message in messages:
        key = begun.copy()
        key.update(message)
        keys.append(key.digest())
    return keys


def pack_scores(scores: LabelLogprobs) -> list[bytes]:
    """Return the scores of texts as bytes, 24 per label and 32 more, then the thoughts.

    Parameters
    ----------
    scores : LabelLogprobs
        Its steps are left out.

    Raises
    ------
    EngineError
        A score is NaN.
    """
    records = np.empty(len(scores), _record(len(scores.classes)))
    for part, values in enumerate((scores.values, scores.lower, scores.upper)):
        _check_numbers(values)
        records["logprobs"][:, part] = values
    _check_numbers(scores.unresolved)
    records["unresolved"] = scores.unresolved
    records["n_reads"] = scores.n_reads
    records["agreement"] = 1.0 if scores.agreement is None else scores.agreement
    records["truncated"] = scores.truncated
    records["labels"] = _digest(scores.classes)
    packed = records.tobytes()
    size = records.itemsize
    thoughts = [each.packed() for each in scores.reasoning or ()]
    return [
        packed[start : start + size] + (thoughts[at] if thoughts else b"")
        for at, start in enumerate(range(0, len(packed), size))
    ]


def unpack_scores(values: Sequence[bytes], classes: Sequence[str]) -> PlacedScores:
    """Return the scores that `pack_scores` packed.

    Parameters
    ----------
    values : sequence of bytes
    classes : sequence of str
        The labels they were packed with.

    Returns
    -------
    PlacedScores
        Without what was cut off, or packed with other labels.

    Examples
    --------
    >>> unpack_scores([b"x", b""], ["a", "b"])
    PlacedScores(scores=LabelLogprobs(0 texts, 2 labels), at=array([], dtype=int64))
    """
    record = _record(len(classes))
    size = record.itemsize
    sized = [at for at, value in enumerate(values) if len(value) >= size]
    records = np.frombuffer(b"".join([values[at][:size] for at in sized]), record)
    is_ours = records["labels"] == _digest(classes)
    records = records[is_ours]
    at = np.array(sized, dtype=np.int64)[is_ours]
    thoughts = [values[one][size:] for one in at.tolist()]
    # Copies, since a buffer cannot be written to and a text's parts lie side by side.
    parts = [np.array(records["logprobs"][:, part]) for part in range(3)]
    scores = LabelLogprobs(
        values=parts[0],
        classes=np.array(classes, dtype=np.str_),
        lower=parts[1],
        upper=parts[2],
        unresolved=records["unresolved"].astype(np.float64),
        truncated=records["truncated"].astype(np.bool_),
        n_reads=records["n_reads"].astype(np.int64),
        reasoning=tuple(Reasoning.unpacked(each, classes) for each in thoughts)
        if any(thoughts)
        else None,
        agreement=records["agreement"].astype(np.float64),
    )
    return PlacedScores(scores, at)


def combine_scores(
    groups: Iterable[PlacedScores], classes: Sequence[str], *, n_texts: int
) -> LabelLogprobs:
    """Put groups of texts together, each with labels of its own.

    Parameters
    ----------
    groups : iterable of PlacedScores
        Each text is in one of them.
    classes : sequence of str
        The labels of all groups, sorted.
    n_texts : int

    Returns
    -------
    LabelLogprobs
        -inf where a label is not a candidate for a text.
    """
    named = np.array(classes, dtype=np.str_)
    values, lower, upper = np.full((3, n_texts, len(classes)), -np.inf)
    unresolved = np.zeros(n_texts)
    truncated = np.zeros(n_texts, dtype=np.bool_)
    n_reads = np.zeros(n_texts, dtype=np.int64)
    reasoning: dict[int, Reasoning] = {}
    agreement = np.ones(n_texts)
    for scores, at in groups:
        columns = _columns(scores.classes, named)
        cells = np.ix_(at, columns)
        for one, each in zip(at.tolist(), scores.reasoning or (), strict=False):
            reasoning[one] = each.in_columns(columns, classes)
        values[cells], lower[cells] = scores.values, scores.lower
        upper[cells] = scores.upper
        unresolved[at] = scores.unresolved
        truncated[at] = scores.truncated
        n_reads[at] = scores.n_reads
        if scores.agreement is not None:
            agreement[at] = scores.agreement
    return LabelLogprobs(
        *(values, named, lower, upper, unresolved, truncated, n_reads),
        reasoning=tuple(reasoning[at] for at in range(n_texts)) if reasoning else None,
        agreement=agreement,
    )


def _joined(strings: Sequence[str]) -> bytes:
    """Return strings as bytes that no other strings give: each has an end."""
    return b"".join(
        [string.encode("utf-8", "surrogatepass") + _END for string in strings]
    )


def _columns(
    names: Iterable[str], among: npt.NDArray[np.str_]
) -> npt.NDArray[np.int64]:
    column = {str(name): at for at, name in enumerate(among)}
    return np.array([column[str(name)] for name in names], dtype=np.int64)


def _record(n_labels: int) -> np.dtype[np.void]:
    """Return the layout of a text's scores: values, lower and upper bounds, counts."""
    return np.dtype(
        [
            ("logprobs", "<f8", (3, n_labels)),
            ("unresolved", "<f8"),
            ("n_reads", "<i8"),
            ("agreement", "<f8"),
            ("labels", "<u4"),
            ("truncated", "<u4"),
        ]
    )


def _check_numbers(values: npt.NDArray[np.float64]) -> None:
    if np.isnan(values).any():
        raise EngineError(
            "The engine returned NaN for a label: this is a bug in the engine, so "
            "the row gets no label."
        )


def _digest(names: Iterable[str]) -> int:
    return zlib.crc32(json.dumps([str(name) for name in names]).encode())
