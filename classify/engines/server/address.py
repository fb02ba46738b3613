"""The address of a server, and its API key."""

import logging
import os
from typing import Any
from urllib.parse import SplitResult, urlsplit

from classify.engines.hosts import is_loopback
from classify.errors import ConfigError
from classify.wording import parameter

__all__ = ["authorization", "base_url"]

_logger = logging.getLogger(__name__)

_EXAMPLE = "such as http://localhost:8000/v1"
# What servers answer below /v1, and beside it: a pasted address may end in these.
_ENDPOINTS = (
    "/chat/completions",
    "/completions",
    "/embeddings",
    "/models",
    "/responses",
)
_BESIDE = (
    *("/docs", "/health", "/metrics", "/openapi.json", "/redoc", "/version"),
    *("/completion", "/completions", "/props", "/slots", "/tokenize"),
    *("/api/chat", "/api/generate", "/api/tags", "/api/v0"),
)
# Ollama's own API has another root, but its port tells it.
_OLLAMA = 11434
_PAGES = (".html", ".htm", ".md", ".php", ".aspx")


def base_url(url: Any) -> str:
    """Return the address of a server's API, which ends in ``/v1``.

    Parameters
    ----------
    url : str
        With or without ``/v1``, or the name of an endpoint of such servers after it.
        ``http://`` may be left out for this machine.

    Raises
    ------
    ConfigError
        It is none, or carries what does not belong there.

    Examples
    --------
    >>> base_url("localhost:8000"), base_url("https://gateway/llm/v1/completions")
    ('http://localhost:8000/v1', 'https://gateway/llm/v1')
    """
    if url is None:
        raise ConfigError(
            "The server engine needs the address of a server: give "
            f"{parameter('url')}, {_EXAMPLE}."
        )
    parts = _split(url.strip()) if isinstance(url, str) else None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(
            f"{parameter('url')} must be the http:// or https:// address of a server, "
            f"{_EXAMPLE}; /v1 may be left out. Got {_shown(url)}."
        )
    if "@" in parts.netloc:
        # Not shown: what stands before the @ is a secret.
        raise ConfigError(
            f"{parameter('url')} has a user name or password for {parts.hostname!r}: "
            "leave it out. A key is taken from the environment variable that "
            f"{parameter('api_key_env')} names."
        )
    if parts.query or parts.fragment:
        raise ConfigError(
            f"{parameter('url')} must be the address of a server alone, without "
            f"anything after ? or #. Got {_shown(url)}."
        )
    path = _base_path(parts.path)
    if parts.port == _OLLAMA:
        path = path.removesuffix("/api")
    if path.endswith(_PAGES):
        raise ConfigError(
            f"{parameter('url')} must be the address of a server's API, which ends in "
            f"/v1, {_EXAMPLE}, and not of a page. Got {_shown(url)}."
        )
    return f"{parts.scheme}://{parts.netloc}{path}/v1"


def authorization(base: str, api_key_env: str | None) -> dict[str, str]:
    """Return the headers that carry the key in an environment variable; {} for None.

    Raises
    ------
    ConfigError
        The variable is not set, or holds what no header can carry.
    """
    if api_key_env is None:
        return {}
    key = os.environ.get(api_key_env, "").strip()
    if not key:
        raise ConfigError(
            f"{parameter('api_key_env')} names {api_key_env!r}, but no environment "
            "variable of that name is set: set it to the key, or leave "
            f"{parameter('api_key_env')} out for a server that needs none."
        )
    if not (key.isascii() and key.isprintable()):
        raise ConfigError(
            f"The environment variable {api_key_env!r} holds no key: a key has "
            "printable ASCII characters only, on one line."
        )
    if base.startswith("http:") and not is_loopback(base):
        _logger.warning(
            "The key in %s is sent over plain http to %s, where others can read it: "
            "use https.",
            api_key_env,
            base,
        )
    return {"Authorization": f"Bearer {key}"}


def _shown(url: Any) -> str:
    """Return an address as messages show it: without what may be a secret."""
    if not isinstance(url, str):
        return repr(url)
    shown, _, query = url.partition("?")
    _, mark, host = shown.rpartition("@")
    return repr(f"{'…@' if mark else ''}{host}{'?…' if query else ''}")


def _split(url: str) -> SplitResult | None:
    """Return the parts of an address; None if it is none."""
    if not url.isprintable() or " " in url or "\\" in url:
        return None
    try:
        parts = urlsplit(url)
        if "://" not in url and is_loopback(f"http://{url}"):
            parts = urlsplit(f"http://{url}")
        # Reading it raises where it is no number.
        _ = parts.port
    except ValueError:
        return None
    return parts


def _base_path(path: str) -> str:
    """Return the path before ``/v1``, whatever endpoint stands after it."""
    path = path.rstrip("/")
    before, mark, endpoint = path.rpartition("/v1")
    if mark and (not endpoint or endpoint in _ENDPOINTS):
        return before.rstrip("/")
    for endpoint in _BESIDE:
        path = path.removesuffix(endpoint)
    return path.rstrip("/")
