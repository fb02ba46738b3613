"""A server's list of the most likely next tokens, in any of the usual forms."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from classify.engines.server.completions import number
from classify.engines.server.spelling import Spelling
from classify.errors import AnswerError
from classify.tracking import TokenList

__all__ = ["Entry", "Listing", "entries_of", "token_list"]

_BY_ID = "token_id:"
# Of a sum of probabilities, in the format that a server computes in.
_ROUNDING = 0.02
_HALF = "\N{REPLACEMENT CHARACTER}".encode()


class Entry(NamedTuple):
    """A token that a server lists.

    Attributes
    ----------
    logprob : float
        In nats; -inf for what is less than a server can say.
    token_id : int or None
        Where the server tells it.
    written : bytes or str
        How it is written: exactly, or as text, in which parts of characters are lost.
    is_key : bool
        Whether tokens of the same text would be one entry.
    """

    logprob: float
    token_id: int | None
    written: bytes | str
    is_key: bool = False


class Listing(NamedTuple):
    """An answer of one token, as far as its list of the most likely tokens goes.

    Attributes
    ----------
    logprobs : object
        See `entries_of`.
    n_read : object
        How many tokens the prompt has there; no integer if the server does not say it.
    is_end : bool, default=False
        Whether the model's answer ends there; some servers list nothing then.
    """

    logprobs: Any
    n_read: Any
    is_end: bool = False


def entries_of(logprobs: Any) -> list[Entry]:
    """Return the tokens listed for the first step of an answer.

    Parameters
    ----------
    logprobs : object
        OpenAI's form of completions, ``{"top_logprobs": [{text: logprob}]}``; that of
        chats, ``{"content": [{"top_logprobs": [{"token": …}]}]}``; or its list alone.

    Raises
    ------
    AnswerError
        It is none of these, or lists nothing.

    Examples
    --------
    >>> entries_of({"top_logprobs": [{"token_id:7": -0.5}]})[0].token_id
    7
    >>> entries_of([{"top_logprobs": [{"token": "a", "bytes": [97], "logprob": -1}]}])
    [Entry(logprob=-1.0, token_id=None, written=b'a', is_key=False)]
    """
    steps = logprobs
    if isinstance(logprobs, Mapping):
        steps = logprobs.get("content") or logprobs.get("top_logprobs")
    try:
        step = steps[0]
        listed = step.get("top_logprobs", step)
        if isinstance(listed, Mapping):
            entries = [_of_key(key, value) for key, value in listed.items()]
        else:
            entries = [_of_element(each) for each in listed]
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        entries = []
    if not entries:
        raise AnswerError(
            "The server answered without the log-probabilities of the most "
            f"likely tokens, which were requested. Got {str(logprobs)[:200]!r} instead."
        )
    return entries


def token_list(
    entries: Sequence[Entry],
    spelling: Spelling | None,
    *,
    n_listed: int,
    vocab_size: int,
    rounding: float,
    is_end: bool = False,
) -> TokenList:
    """Return what a list shows of token ids.

    What is written like several tokens may be any of them, and is counted to none.

    Parameters
    ----------
    entries : sequence of Entry
    spelling : Spelling or None
        None: every entry has an id.
    n_listed : int
        How many tokens the server lists. A shorter list hides some, which may be more
        likely than the others; a longer one has the sampled token too.
    vocab_size : int
    rounding : float
        See `TokenList`.
    is_end : bool, default=False
        Whether the most likely token ends the answer; some lists hide it.

    Raises
    ------
    AnswerError
        These are not the most likely tokens.
    """
    known: dict[int, float] = {}
    unclear: dict[int, float] = {}
    stray, is_repeated = float("-inf"), False
    # Less than can be said is not nothing.
    said = sorted((each for each in entries if each.logprob > float("-inf")), key=_rank)
    for entry in said:
        ids = _candidates(entry, spelling)
        if not ids:  # it may be any token
            stray = max(stray, entry.logprob)
        if len(ids) == 1:
            is_repeated |= ids[0] in known
            if ids[0] not in known and ids[0] not in unclear:
                known[ids[0]] = entry.logprob
                continue
        for token in ids:
            # A more likely token of the same text may hide behind the entry.
            most = 0.0 if entry.is_key else entry.logprob
            most = max(most, known.pop(token, most), unclear.get(token, most))
            unclear[token] = most
    is_short = is_repeated or len(entries) < min(n_listed, vocab_size)
    if is_short or not said or (is_end and not _is_control(said[0], spelling)):
        return TokenList(known, 0.0, unclear, rounding)
    floor = said[:n_listed][-1].logprob
    _check_rest(said, floor, vocab_size)
    return TokenList(known, min(0.0, max(floor, stray)), unclear, rounding)


def _is_control(entry: Entry, spelling: Spelling | None) -> bool:
    if spelling is None:
        return False
    return not spelling.controls.keys().isdisjoint(_candidates(entry, spelling))


def _rank(entry: Entry) -> float:
    return -entry.logprob


def _check_rest(said: Sequence[Entry], floor: float, vocab_size: int) -> None:
    """Raise AnswerError if the other tokens cannot have the rest of the probability."""
    rest = 1.0 - math.fsum(math.exp(min(each.logprob, 1.0)) for each in said)
    if rest - _ROUNDING > math.exp(min(floor, 0.0)) * (vocab_size - len(said)):
        raise AnswerError(
            f"The server lists tokens with a probability of {1.0 - rest:.3g} together, "
            f"down to {math.exp(floor):.3g}: the others cannot have all the rest, so "
            "these are not the most likely tokens, or not their probabilities."
        )


def _candidates(entry: Entry, spelling: Spelling | None) -> tuple[int, ...]:
    if entry.token_id is not None:
        return (entry.token_id,)
    if spelling is None:
        raise AnswerError(
            f"The server answered with the token {entry.written!r} without its id, "
            "which cannot be looked up."
        )
    if isinstance(entry.written, bytes):
        return spelling.written_as(entry.written)
    return spelling.shown_as(entry.written)


def _of_key(key: str, value: Any) -> Entry:
    if key.startswith(_BY_ID) and key.removeprefix(_BY_ID).isdecimal():
        return Entry(number(value), int(key.removeprefix(_BY_ID)), key)
    return Entry(number(value), None, key, is_key=True)


def _of_element(element: Mapping[str, Any]) -> Entry:
    token_id, spelled = element.get("id"), element.get("bytes")
    if not isinstance(token_id, int) or isinstance(token_id, bool):
        token_id = None
    written = bytes(spelled) if spelled else str(element["token"])
    if isinstance(written, bytes) and _HALF in written:
        written = written.decode("utf-8", "replace")  # of a text, not of the token
    if isinstance(written, str) and written.startswith(_BY_ID):
        return _of_key(written, element["logprob"])
    return Entry(number(element["logprob"]), token_id, written)
