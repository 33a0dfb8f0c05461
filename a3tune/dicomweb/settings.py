"""Which DICOMweb server may be asked, by variables, and what its answers may bring."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlsplit

from a3tune.errors import RequestError
from a3tune.wording import brief


class Variable(NamedTuple):
    """A variable with what it says, for people."""

    name: str
    why: str


VARIABLES = (
    Variable("A3TUNE_DICOMWEB", "the address of the one DICOMweb server that may be asked; none without it"),
    Variable("A3TUNE_DICOMWEB_USER", "the name that this server is known by there"),
    Variable("A3TUNE_DICOMWEB_PASSWORD", "its password"),
    Variable("A3TUNE_DICOMWEB_TOKEN", "a bearer token, in the place of name and password"),
    Variable("A3TUNE_DICOMWEB_CA", "a file with the certificate authority that vouches for that server"),
    Variable("A3TUNE_DICOMWEB_STORE", "`yes`: what is exported may be stored there"),
)
"""Everything that says which server may be asked, and for what."""


@dataclass(frozen=True)
class Server:
    """A DICOMweb server that may be asked.

    Attributes:
        url: its address, up to what comes before ``/studies``.
        user, password, token: how this program is known there; "" for not at all.
        authority: a file with the certificates that vouch for it; "" for those of the system.
        store: whether objects may be stored there.
    """

    url: str
    user: str = ""
    password: str = ""
    token: str = ""
    authority: str = ""
    store: bool = False

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if (
            parts.scheme not in ("http", "https")
            or not parts.hostname
            or parts.query
            or parts.fragment
            or "@" in parts.netloc
        ):
            raise RequestError(
                expected="the address of a DICOMweb server, such as https://archive.hospital.example/dicom-web",
                got=f"It is {brief(self.url)}",
                remedy="Correct it; a name and a password have variables of their own",
            )

    @property
    def name(self) -> str:
        """What people know it by."""
        return urlsplit(self.url).netloc


def read_server(environment: Mapping[str, str]) -> Server | None:
    """The server that variables name; None where they name none.

    Raises:
        RequestError: it is none that can be asked.
    """
    values = {variable.name: environment.get(variable.name, "").strip() for variable in VARIABLES}
    url, user, password, token, authority, store = values.values()
    return Server(url.rstrip("/"), user, password, token, authority, store.lower() == "yes") if url else None


@dataclass(frozen=True)
class WebLimits:
    """What one request may bring.

    Attributes:
        found: studies, or series of a study.
        instances: files of a series.
        size: bytes of a series.
        seconds: how long it may take.
    """

    found: int = 100
    instances: int = 3000
    size: int = 256_000_000
    seconds: float = 120.0
