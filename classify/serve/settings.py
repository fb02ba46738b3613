"""Where a server listens, and its limits for requests."""

import os
from dataclasses import dataclass
from functools import partial
from typing import Annotated

from classify.errors import ConfigError
from classify.parameters import (
    TEXT,
    Setting,
    at_least,
    check_settings,
    number,
    optional,
)
from classify.wording import parameter

__all__ = ["ServeSettings"]

_COUNT = at_least(1, whole=True)
_PORT = number("from 0 to 65535", lambda value: 0 <= value <= 65535, whole=True)
_SECONDS = number("above 0", lambda value: value > 0)
_setting = partial(Setting, panel="Server")


@dataclass(frozen=True, kw_only=True)
class ServeSettings:
    """Where a server listens, and its limits for requests.

    Raises
    ------
    ConfigError
        A value is not allowed.

    Examples
    --------
    >>> ServeSettings(port=9000).host
    '127.0.0.1'
    """

    host: Annotated[
        str,
        _setting(
            "Address to listen on; 0.0.0.0 listens on all network interfaces.",
            TEXT,
            metavar="ADDRESS",
        ),
    ] = "127.0.0.1"
    port: Annotated[int, _setting("Port to listen on.", _PORT, metavar="N")] = 8000
    client_key_env: Annotated[
        str | None,
        _setting(
            "Environment variable with the API key that clients must send.",
            optional(TEXT),
            metavar="NAME",
            default="clients need no key",
        ),
    ] = None
    max_texts: Annotated[
        int, _setting("Maximum number of texts in a request.", _COUNT, metavar="N")
    ] = 1000
    max_labels: Annotated[
        int, _setting("Maximum number of labels in a request.", _COUNT, metavar="N")
    ] = 1000
    max_text_length: Annotated[
        int,
        _setting(
            "Maximum length in characters: of a text, of all labels of a request "
            "together, and of a question with its options.",
            _COUNT,
            metavar="N",
        ),
    ] = 100_000
    max_body_bytes: Annotated[
        int, _setting("Maximum size of a request.", _COUNT, metavar="N")
    ] = 10_000_000
    max_waiting: Annotated[
        int,
        _setting(
            "Maximum number of texts waiting for answers; beyond it, clients get "
            "status 429.",
            _COUNT,
            metavar="N",
        ),
    ] = 10_000
    timeout: Annotated[
        float,
        _setting("Seconds that a request may take.", _SECONDS, metavar="SECONDS"),
    ] = 60.0

    def __post_init__(self) -> None:
        check_settings(self, "ServeSettings")
        if self.max_waiting < self.max_texts:
            raise ConfigError(
                f"{parameter('max_waiting', self.max_waiting)} is below "
                f"{parameter('max_texts', self.max_texts)}: a full request would never "
                "be accepted. Raise the first or lower the second."
            )

    def client_key(self) -> str | None:
        """Return the key that clients must send, or raise ConfigError."""
        if self.client_key_env is None:
            return None
        key = os.environ.get(self.client_key_env, "")
        if not key.strip():
            raise ConfigError(
                f"The environment variable {self.client_key_env} of "
                f"{parameter('client_key_env')} is not set or empty: set it to the key "
                "that clients must send."
            )
        return key.strip()
