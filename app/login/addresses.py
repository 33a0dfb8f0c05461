"""From where a request came: the connection's own address, or what a proxy that is believed says of it."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from app.access.origins import is_loopback
from app.login.settings import Network


def is_among(address: str, networks: Sequence[Network]) -> bool:
    """Whether an address lies in one of the networks."""
    known = _address(address)
    return known is not None and any(known in network for network in networks)


def asking_address(peer: str, forwarded_for: str, proxies: Sequence[Network]) -> str:
    """The address of the browser.

    Args:
        peer: of the connection.
        forwarded_for: all of the request's X-Forwarded-For, to which each proxy adds whom it was asked by.
        proxies: whose word is taken; without any, this machine's own.
    """

    def believed(address: str) -> bool:
        return is_among(address, proxies) if proxies else is_loopback(address)

    address = peer
    for named in reversed([part.strip() for part in forwarded_for.split(",") if part.strip()]):
        if not believed(address) or _address(named) is None:
            break
        address = named
    return address


def neighbourhood(address: str) -> str:
    """What is counted as one address: of IPv6 the network of 64 bits, of which one customer has all."""
    known = _address(address)
    if isinstance(known, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((known, 64), strict=False))
    return address


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        known = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(known, "ipv4_mapped", None) or known
