"""A server's reply: its JSON, or what is wrong with it."""

import json
import re
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

from classify.files.json import unique_keys

__all__ = ["Refusal", "parsed_json", "refusal_in", "sentence_of"]

# Of a web page, what is not shown.
_UNSEEN = re.compile(r"<(style|script|head)\b.*?</\1>", re.DOTALL | re.IGNORECASE)
_TAG = re.compile(r"<[^>]*>?")
# Of a text that is no answer, what an error shows.
_MAX_SHOWN = 300
# What gateways name an error that they send with status 200, and the status it stands
# for; in the order in which they are looked for.
_STATUS_OF_NAME = {
    "overload": 503,
    "unavailable": 503,
    "timeout": 504,
    "ratelimit": 429,
    "toomany": 429,
    "auth": 401,
    "apikey": 401,
    "permission": 403,
    "notfound": 404,
    "invalid": 400,
    "badrequest": 400,
    "contextlength": 400,
}


class Refusal(NamedTuple):
    """An error that a server answered with.

    Attributes
    ----------
    status : int
        Of HTTP, or the one that the error stands for.
    said : str
        The server's own sentence.
    """

    status: int
    said: str


def parsed_json(content: bytes) -> Any:
    """Return the JSON in a reply.

    Raises
    ------
    ValueError
        There is none, or it names a key twice; the message continues "it answered".

    Examples
    --------
    >>> parsed_json(b'{"choices": []}')
    {'choices': []}
    """
    if not content.strip():
        raise ValueError("nothing")
    try:
        return json.loads(content, object_pairs_hook=_object)
    except (ValueError, RecursionError):
        text = " ".join(content.decode("utf-8", "replace").split())
        if text.startswith("<"):
            raise ValueError(f"a web page, {text[:_MAX_SHOWN]!r}") from None
        raise ValueError(f"no JSON but {text[:_MAX_SHOWN]!r}") from None


def refusal_in(body: Any) -> Refusal | None:
    """Return the error in a reply of status 200, as gateways send them; or None.

    Examples
    --------
    >>> refusal_in({"error": {"message": "slow down", "code": 429}})
    Refusal(status=429, said='slow down')
    >>> refusal_in({"choices": [], "error": None})
    """
    if not isinstance(body, Mapping):
        return None
    error = body.get("error")
    if not error:
        if body.get("object") != "error":
            return None
        error = body
    return Refusal(_status_of(error), sentence_of(body))


def sentence_of(body: Any) -> str:
    """Return the sentence in the JSON of an error."""
    # vLLM's, and what stands in front of servers says it in other places.
    for key in ("error", "message", "detail"):
        if isinstance(body, Mapping) and body.get(key):
            body = body[key]
    text = str(body)
    if text.lstrip().startswith("<"):
        # What a proxy says in a page for people.
        text = _TAG.sub(" ", _UNSEEN.sub(" ", text))
    return " ".join(text.split())[:_MAX_SHOWN]


def _status_of(error: Any) -> int:
    """Return the HTTP status that an error names; 500 if it names none."""
    if not isinstance(error, Mapping):
        error = {"type": error}
    for key in ("code", "status", "status_code"):
        number = str(error.get(key))
        if number.isascii() and number.isdigit() and 400 <= int(number[:4]) < 600:
            return int(number)
    names = "".join(str(error.get(key) or "") for key in ("type", "code", "status"))
    letters = "".join(filter(str.isalpha, names.lower()))
    return next(
        (status for name, status in _STATUS_OF_NAME.items() if name in letters), 500
    )


# One of the values is wrong, and there is no telling which.
_object = partial(unique_keys, refused=ValueError)
