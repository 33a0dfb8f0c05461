"""How people log in, as whoever runs the server says it by variables."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from a3tune.errors import RequestError
from app.access.identity import ROLES, Role
from app.access.origins import is_loopback

KINDS = ("none", "oidc", "password", "proxy")

_HEADER = re.compile(r"[A-Za-z][A-Za-z0-9-]*")


class Variable(NamedTuple):
    """A variable with what it says, for people."""

    name: str
    why: str


VARIABLES = (
    Variable("A3TUNE_LOGIN", "`none`, `oidc`, `password` or `proxy` (`--login`)"),
    Variable("A3TUNE_VIEWERS", "groups whose members ask (`oidc`, `proxy`)"),
    Variable("A3TUNE_TUNERS", "groups whose members also tune"),
    Variable("A3TUNE_OPERATORS", "groups whose members also change what all share"),
    Variable("A3TUNE_OIDC_ISSUER", "the identity provider's address, as it names itself"),
    Variable("A3TUNE_OIDC_CLIENT", "the name under which this server is registered there"),
    Variable("A3TUNE_OIDC_SECRET", "its secret; without one it is a public client, which PKCE alone protects"),
    Variable("A3TUNE_OIDC_SECRET_FILE", "the file that holds the secret, in the place of the variable"),
    Variable("A3TUNE_OIDC_SCOPES", "what is asked for: `openid profile` where it is not set"),
    Variable("A3TUNE_OIDC_GROUPS", "the claim with the person's groups: `groups` where it is not set"),
    Variable("A3TUNE_PEOPLE", "the file with names, roles and passwords (`--people`)"),
    Variable("A3TUNE_PROXIES", "addresses and networks of proxies: who asks through them is in their headers"),
    Variable("A3TUNE_PROXY_USER", "the header with the person's name: `X-Remote-User` where it is not set"),
    Variable("A3TUNE_PROXY_GROUPS", "the header with their groups, by commas: `X-Remote-Groups` where it is not set"),
)
"""Everything that says how people log in."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class OidcSettings(NamedTuple):
    """An identity provider.

    Attributes:
        issuer: its address, as its tokens name it.
        client, secret: how this server is known there; "" for a public client.
        scopes: what is asked for.
        groups_claim: where a person's groups stand.
    """

    issuer: str
    client: str
    secret: str
    scopes: str
    groups_claim: str


class LoginSettings(NamedTuple):
    """How people log in.

    Attributes:
        kind: one of ``KINDS``, but "none".
        groups: which groups have which role.
        proxies: whose word is taken for the address that a request came from, and, with "proxy", for the person.
        oidc: the identity provider.
        people: the file with passwords.
        user_header, groups_header: in lower case.
    """

    kind: str
    groups: Mapping[Role, frozenset[str]]
    proxies: tuple[Network, ...]
    oidc: OidcSettings | None = None
    people: Path = Path()
    user_header: str = ""
    groups_header: str = ""

    def role_of(self, groups: Iterable[str]) -> Role | None:
        """The highest role that one of the groups has; None where none of them has any."""
        known = set(groups)
        return next((role for role in reversed(ROLES) if known & self.groups.get(role, frozenset())), None)


def read_login(kind: str, deployment: str, people: str, environment: Mapping[str, str]) -> LoginSettings | None:
    """How people log in; None where they do not.

    Args:
        kind: one of ``KINDS``.
        deployment: where the application runs; people log in to a ``server``.
        people: the file with passwords; "" for none.

    Raises:
        RequestError: something is missing, or is none of what it may be.
    """
    if kind not in KINDS:
        raise _wrong(f"a login that is one of {', '.join(KINDS)}", f"It is {kind}", "Correct --login")
    if kind == "none":
        return None
    if deployment != "server":
        raise _wrong("--deployment server with a login", f"It is {deployment}", "Set both, or leave the login out")
    groups = {role: _words(environment.get(name, "")) for role, name in zip(ROLES, _GROUPS, strict=True)}
    proxies = tuple(_network(text) for text in _words(environment.get("A3TUNE_PROXIES", "")))
    if kind == "password":
        if not people:
            raise _missing("A3TUNE_PEOPLE", "a file; python app.py --people FILE --add-person NAME adds a person")
        return LoginSettings(kind, groups, proxies, people=Path(people).expanduser())
    if not any(groups.values()):
        raise _missing(" or ".join(_GROUPS), "the groups that may come in")
    if kind == "oidc":
        return LoginSettings(kind, groups, proxies, oidc=_oidc(environment))
    if not proxies:
        raise _missing("A3TUNE_PROXIES", "the address of the proxy that says who asks")
    user = _header(environment.get("A3TUNE_PROXY_USER", "").strip() or "X-Remote-User")
    group = _header(environment.get("A3TUNE_PROXY_GROUPS", "").strip() or "X-Remote-Groups")
    return LoginSettings(kind, groups, proxies, user_header=user, groups_header=group)


_GROUPS = ("A3TUNE_VIEWERS", "A3TUNE_TUNERS", "A3TUNE_OPERATORS")


def _oidc(environment: Mapping[str, str]) -> OidcSettings:
    issuer = environment.get("A3TUNE_OIDC_ISSUER", "").strip()
    client = environment.get("A3TUNE_OIDC_CLIENT", "").strip()
    if not issuer or not client:
        raise _missing("A3TUNE_OIDC_ISSUER and A3TUNE_OIDC_CLIENT", "what the identity provider gave you")
    if not is_safe_address(issuer):
        raise _wrong("an address that begins with https:// in A3TUNE_OIDC_ISSUER", f"It is {issuer}", "Correct it")
    secret, file = environment.get("A3TUNE_OIDC_SECRET", ""), environment.get("A3TUNE_OIDC_SECRET_FILE", "").strip()
    if file:
        try:
            secret = Path(file).read_text(encoding="utf-8")
        except (OSError, ValueError):
            raise _wrong("a file with the secret", f"{file} cannot be read", "See A3TUNE_OIDC_SECRET_FILE") from None
    scopes = environment.get("A3TUNE_OIDC_SCOPES", "").split() or ["openid", "profile"]
    if "openid" not in scopes:
        raise _wrong("openid in A3TUNE_OIDC_SCOPES", "It is not there", "Add it")
    claim = environment.get("A3TUNE_OIDC_GROUPS", "").strip() or "groups"
    return OidcSettings(issuer, client, secret.strip(), " ".join(scopes), claim)


def is_safe_address(address: object) -> bool:
    """Whether nobody on the way can read or change what is asked there: https, or this machine itself."""
    if not isinstance(address, str):
        return False
    try:
        parts = urlsplit(address)
        name = parts.hostname or ""
    except ValueError:
        return False
    return bool(name) and (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(name)))


def _words(text: str) -> frozenset[str]:
    return frozenset(part.strip() for part in text.split(",") if part.strip())


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        raise _wrong("addresses and networks in A3TUNE_PROXIES", f"{text} is none", "Correct it") from None


def _header(name: str) -> str:
    if not _HEADER.fullmatch(name):
        raise _wrong("the name of a header", f"{name} is none", "See A3TUNE_PROXY_USER and A3TUNE_PROXY_GROUPS")
    return name.lower()


def _missing(name: str, what: str) -> RequestError:
    return _wrong(f"{name} to say {what}", "It is not set", "Set it, or choose another --login")


def _wrong(expected: str, got: str, remedy: str) -> RequestError:
    return RequestError(expected=expected, got=got, remedy=remedy)


def login_table() -> str:
    """Every variable as a table in Markdown."""
    rows = [f"| `{name}` | {why} |" for name, why in VARIABLES]
    return "\n".join(["| Variable | What it says |", "| --- | --- |", *rows])
