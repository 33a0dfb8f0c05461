"""The connection to one server: it goes to no other, and its answers are bounded in size and time."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter

from a3tune.dicomweb.settings import Server
from a3tune.errors import DicomWebError

TIMEOUTS = (10.0, 30.0)
"""Seconds until a server answers, and between two pieces of an answer."""
PIECE = 1 << 20
"""Bytes that are read at once, at most."""


class _Silence:
    """Keeps what loggers tell out of every log while any thread is inside, and gives them their levels back."""

    def __init__(self, *names: str) -> None:
        self._loggers = [logging.getLogger(name) for name in names]
        self._guard = threading.Lock()
        self._inside = 0
        self._levels: list[int] = []

    def __enter__(self) -> None:
        with self._guard:
            self._inside += 1
            if self._inside == 1:
                self._levels = [logger.level for logger in self._loggers]
                for logger in self._loggers:
                    logger.setLevel(logging.CRITICAL)

    def __exit__(self, *error: object) -> None:
        with self._guard:
            self._inside -= 1
            if not self._inside:
                for logger, level in zip(self._loggers, self._levels, strict=True):
                    logger.setLevel(level)


# What they log may hold a patient's number.
_SILENCE = _Silence("dicomweb_client", "urllib3")


@contextmanager
def bounded_session(server: Server, most: int, seconds: float) -> Iterator[requests.Session]:
    """A session with a server.

    Args:
        server: which.
        most: bytes that an answer may have.
        seconds: how long the session lasts.
    """
    with _SILENCE, _OneHost(server.url) as session, told():
        adapter = _Bounded(most, time.monotonic() + seconds)
        session.mount("http://", adapter)
        session.mount("https://", adapter)
        session.verify = server.authority or True
        if server.token:
            session.headers["Authorization"] = f"Bearer {server.token}"
        elif server.user:
            session.auth = (server.user, server.password)
        yield session


class _OneHost(requests.Session):
    """A session that stays with one server, whatever that says, and takes nothing from the machine's environment."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._origin = _origin(url)
        self.trust_env = False
        self.max_redirects = 3

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        target = super().get_redirect_target(resp)
        if target is not None and _origin(urljoin(resp.url, target)) != self._origin:
            raise DicomWebError(
                expected="an answer of the server that was asked",
                got="It sends on to another one",
                remedy="Name the server that has the images",
            )
        return target


class _Bounded(HTTPAdapter):
    """Answers of a bounded size, until a reading of :func:`time.monotonic`."""

    def __init__(self, most: int, end: float) -> None:
        self._most, self._end = most, end
        super().__init__()

    def send(self, request: Any, *args: Any, **kwargs: Any) -> requests.Response:
        kwargs["timeout"] = (TIMEOUTS[0], max(0.1, min(TIMEOUTS[1], self._end - time.monotonic())))
        response = super().send(request, *args, **kwargs)
        response.raw = _BoundedBody(response.raw, self._most, self._end)
        return response


class _BoundedBody:
    """A body that ends with an error where it is too large or comes too slowly."""

    def __init__(self, raw: Any, most: int, end: float) -> None:
        self._raw, self._left, self._most, self._end = raw, most, most, end

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)

    def stream(self, amount: int = PIECE, decode_content: bool | None = None) -> Iterator[bytes]:
        # What has come, not `amount`: a server that sends a byte at a time would hold this for days.
        while piece := self._raw.read1(min(amount, PIECE), decode_content=True):
            self._left -= len(piece)
            if self._left < 0 or time.monotonic() > self._end:
                self._raw.close()
            if self._left < 0:
                raise DicomWebError(
                    expected=f"an answer of at most {self._most / 1e6:,.0f} MB",
                    got="The server sends more",
                    remedy="Choose a smaller series, or look for something narrower",
                )
            if time.monotonic() > self._end:
                raise _too_slow()
            yield piece


@contextmanager
def told() -> Iterator[None]:
    """What goes wrong on the way, in words that hold nothing of what was asked or answered."""
    trouble = ""
    try:
        yield
    except requests.HTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        trouble = {401: "It does not let this program in", 403: "It does not let this program in"}.get(
            status, f"It answered with the status {status}"
        )
    except requests.Timeout:
        raise _too_slow() from None
    except requests.exceptions.SSLError:
        trouble = "Its certificate cannot be trusted"
    except requests.ConnectionError:
        trouble = "It cannot be reached"
    except (requests.RequestException, ValueError, KeyError, TypeError, AttributeError):
        trouble = "Its answer is not what the standard says"
    if trouble:
        raise unexpected(trouble)


def _too_slow() -> DicomWebError:
    return DicomWebError(
        expected="an answer in time",
        got="The DICOMweb server is too slow",
        remedy="Try again, or choose a smaller series",
    )


def unexpected(got: str) -> DicomWebError:
    return DicomWebError(
        expected="an answer of the DICOMweb server",
        got=got,
        remedy="Tell whoever runs this program, who knows its address and how it is known there",
    )


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)
