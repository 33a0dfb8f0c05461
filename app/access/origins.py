"""From where requests may come: the names that the server answers to, and no page but its own.

A page of another site can make a browser send requests here. Its name is not among those that the server answers to
when it points its own name at this machine (DNS rebinding), and browsers say where a request comes from otherwise.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

# A name or an address and a port, nothing that stands before or behind these in other addresses.
_HOST = re.compile(r"[\w.-]+(?::\d+)?|\[[\da-f:.]+\](?::\d+)?", re.ASCII)
_DEFAULT_PORTS = {"http": 80, "https": 443}


class Hosts:
    """The names of the server.

    Args:
        names: host names, with or without a port, besides addresses in numbers and localhost.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = {name.strip().lower().rstrip(".") for name in names if name.strip()}

    def fault(self, headers: Mapping[str, str], *, page: bool) -> str:
        """Why a request is refused; "" where it is not.

        Args:
            headers: the request's, by names in lower case.
            page: whether it asks for the page itself, which other sites may link to and frame.
        """
        # A proxy in front names the host that it was asked for.
        hosts = [headers.get("host", ""), *headers.get("x-forwarded-host", "").split(",")]
        hosts = [host.strip().lower() for host in hosts if host.strip()]
        if not hosts or not all(self._serves(host) for host in hosts):
            return "This server does not answer to that name"
        origin = headers.get("origin")
        if origin == "null" and headers.get("sec-fetch-site") == "same-origin":
            origin = None  # a form of a page that tells nobody where it is; no page can write the other header
        if origin is not None and not self._is_own(origin.strip().lower(), hosts):
            return "Another site may not ask this server for anything"
        navigates = page and headers.get("sec-fetch-mode") in (None, "navigate")
        if headers.get("sec-fetch-site") in ("cross-site", "same-site") and not navigates:
            return "Another site may not ask this server for anything"
        return ""

    def _serves(self, host: str) -> bool:
        name, _ = _split(f"//{host}")
        if not name or not _HOST.fullmatch(host):
            return False
        return name == "localhost" or _is_address(name) or bool(self._names & {name, host})

    def _is_own(self, origin: str, hosts: list[str]) -> bool:
        scheme = origin.partition("://")[0]
        if scheme not in _DEFAULT_PORTS:
            return False  # "null" too: a page without an origin of its own
        name, port = _split(origin)
        if not name:
            return False
        default = _DEFAULT_PORTS[scheme]
        own = {
            (known, default if number is None else number) for known, number in (_split(f"//{host}") for host in hosts)
        }
        if (name, default if port is None else port) in own:
            return True
        return bool(self._names & {name if port is None else f"{name}:{port}"})


def _split(address: str) -> tuple[str, int | None]:
    """The host's name and port; "" where there is none."""
    try:
        parts = urlsplit(address)
        return (parts.hostname or "").rstrip("."), parts.port
    except ValueError:
        return "", None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_loopback(address: str) -> bool:
    """Whether an address is this machine's own."""
    try:
        known = ipaddress.ip_address(address)
    except ValueError:
        return address == "localhost"
    mapped = getattr(known, "ipv4_mapped", None)
    return known.is_loopback or (mapped is not None and mapped.is_loopback)
