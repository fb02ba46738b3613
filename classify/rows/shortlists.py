"""Prompts with a shortlist, which a prompt without a list chooses for each row."""

import functools
from collections.abc import Callable, Mapping, Sequence

from classify.errors import InputError
from classify.labels import LabelSet
from classify.verbalizer import ScorablePrompt, Shortlist

__all__ = ["with_shortlists"]

_Row = Mapping[str, str]
_Encode = Callable[[Sequence[_Row], LabelSet], list[ScorablePrompt | InputError]]


def with_shortlists(
    first: Sequence[ScorablePrompt | InputError],
    rows: Sequence[_Row],
    labels: LabelSet,
    encode: _Encode,
    *,
    size: int,
) -> list[ScorablePrompt | InputError]:
    """Return first prompts that can make the second prompt about the same row.

    A second prompt with the first labels is made at once, so that most rows which
    cannot be asked are found before the model is called, and to count its tokens.

    Parameters
    ----------
    first : sequence of ScorablePrompt or InputError, length n_texts
        Without a list of the labels.
    rows : sequence of mapping, length n_texts
    labels : LabelSet
    encode : callable
        Encodes rows with a list of all the labels that it is given.
    size : int
        How many labels are listed.
    """
    tried = encode(rows, labels.subset(labels.names[:size]))
    return [
        _joined(asked, row, typical, encode, size)
        for asked, row, typical in zip(first, rows, tried, strict=True)
    ]


def _joined(
    asked: ScorablePrompt | InputError,
    row: _Row,
    typical: ScorablePrompt | InputError,
    encode: _Encode,
    size: int,
) -> ScorablePrompt | InputError:
    if isinstance(asked, InputError):
        return asked
    if isinstance(typical, InputError):
        return typical
    listing = functools.partial(_listing, row, encode)
    shortlist = Shortlist(size, tuple(row.items()), listing, typical.n_tokens)
    return asked._replace(shortlist=shortlist)


def _listing(row: _Row, encode: _Encode, chosen: LabelSet) -> ScorablePrompt:
    [prompt] = encode([row], chosen)
    if isinstance(prompt, InputError):
        raise prompt
    return prompt
