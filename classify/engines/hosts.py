"""The addresses of this machine."""

import ipaddress
from urllib.parse import urlsplit

__all__ = ["is_loopback"]


def is_loopback(base: str) -> bool:
    """Whether an address is that of this machine.

    Examples
    --------
    >>> is_loopback("http://127.0.0.1:8000/v1"), is_loopback("http://gpu-box:8000/v1")
    (True, False)
    """
    host = urlsplit(base).hostname or ""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    # 0.0.0.0 is what a server that listens everywhere shows.
    return address.is_loopback or address.is_unspecified
