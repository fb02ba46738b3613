"""Refused requests: their status, message and JSON."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import Response

__all__ = [
    "SYSTEM_ONE",
    "RefusedError",
    "json_response",
    "refusal",
    "validation_sentence",
]

# Its clients expect errors in a form of their own.
SYSTEM_ONE = "/v1/systemone"

_TYPES = {401: "authentication_error", 429: "rate_limit_error"}
_SYSTEM_ONE_TYPES = {401: "authentication_error", 504: "timeout"}


class RefusedError(Exception):
    """A request that is answered with an error.

    Attributes
    ----------
    status : int
    retry_after : int or None
        Seconds after which to try again.
    """

    def __init__(
        self, status: int, message: str, *, retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.retry_after = status, retry_after

    def response(self, path: str) -> Response:
        """Return the response for the client of a path."""
        seconds = self.retry_after
        headers = {} if seconds is None else {"Retry-After": str(seconds)}
        return refusal(path, self.status, str(self), headers)


def refusal(
    path: str, status: int, message: str, headers: Mapping[str, str] | None = None
) -> Response:
    """Return the response of a request that is not answered, in the form of its path.

    Examples
    --------
    >>> refusal("/v1/classify", 422, "No.").body
    b'{"error": {"message": "No.", "type": "invalid_request_error"}}'
    >>> refusal(SYSTEM_ONE, 504, "Too slow.").body
    b'{"detail": {"message": "Too slow.", "error_type": "timeout"}}'
    """
    if path == SYSTEM_ONE:
        kind = _SYSTEM_ONE_TYPES.get(status, "unknown")
        return json_response(
            {"detail": {"message": message, "error_type": kind}}, status, headers
        )
    kind = "server_error" if status >= 500 else "invalid_request_error"
    error = {"message": message, "type": _TYPES.get(status, kind)}
    return json_response({"error": error}, status, headers)


def json_response(
    content: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Return JSON, in ASCII, which can hold half a character that a client sent."""
    return Response(
        json.dumps(content, allow_nan=False),
        status,
        dict(headers or {}),
        "application/json",
    )


def validation_sentence(errors: Sequence[Mapping[str, Any]]) -> str:
    """Return what is wrong with a request, from pydantic's first error.

    Examples
    --------
    >>> error = {"type": "list_type", "loc": ("body", "texts")}
    >>> validation_sentence([error | {"msg": "Input should be a valid list"}])
    'texts: input should be a valid list.'
    """
    first = errors[0]
    if first["type"] == "json_invalid":
        return f"The request is not JSON: {first.get('ctx', {}).get('error', '')}."
    where = _path([each for each in first["loc"] if each != "body"])
    if first["type"] == "extra_forbidden":
        return f"Unknown field {where}: remove it, or correct its name."
    if not where:
        return "The request must be a JSON object, sent as application/json."
    message = str(first["msg"]).removeprefix("Value error, ").rstrip(".")
    return f"{where}: {message[:1].lower()}{message[1:]}."


def _path(parts: Sequence[str | int]) -> str:
    path = ""
    for part in parts:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path
