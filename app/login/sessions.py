"""The logins that hold: kept in memory by the hash of a secret that the browser has as a cookie."""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from dataclasses import dataclass, field

from app.access.deployment import Deployment
from app.access.identity import Identity

_MOST_EACH = 20
_MOST = 10_000


@dataclass
class _Session:
    identity: Identity
    began: float = field(default_factory=time.monotonic)
    used: float = field(default_factory=time.monotonic)


class Sessions:
    """All logins.

    Args:
        deployment: how long one holds.
    """

    def __init__(self, deployment: Deployment) -> None:
        hours, minutes = deployment.login_hours, deployment.login_idle_minutes
        self._longest = float("inf") if hours is None else hours * 3600
        self._idle = float("inf") if minutes is None else minutes * 60
        self._sessions: dict[str, _Session] = {}
        self._guard = threading.Lock()

    def begin(self, identity: Identity) -> str:
        """A new secret by which a person is known from now on. Of one with very many, the oldest login ends."""
        secret = secrets.token_urlsafe(32)
        key = _key(secret)
        with self._guard:
            for name in [name for name, session in self._sessions.items() if self._is_over(session)]:
                del self._sessions[name]
            own = [name for name, known in self._sessions.items() if known.identity.owner == identity.owner]
            for name in [*own[: max(0, len(own) + 1 - _MOST_EACH)], *list(self._sessions)[: -_MOST + 1]]:
                self._sessions.pop(name, None)
            self._sessions[key] = _Session(identity._replace(session=key))
        return secret

    def find(self, secret: str, *, used: bool = True) -> Identity | None:
        """Who has this secret; None where the login is over.

        Args:
            used: whether somebody did something, so that the login is not idle.
        """
        with self._guard:
            session = self._sessions.get(_key(secret))
            if session is None or self._is_over(session):
                return None
            if used:
                session.used = time.monotonic()
            return session.identity

    def holds(self, identity: Identity) -> bool:
        """Whether the login of a request that is being answered still holds."""
        with self._guard:
            session = self._sessions.get(identity.session)
            return session is not None and not self._is_over(session)

    def end(self, secret: str) -> Identity | None:
        """End a login; who it was, None for nobody."""
        with self._guard:
            session = self._sessions.pop(_key(secret), None)
        return None if session is None else session.identity

    def _is_over(self, session: _Session) -> bool:
        now = time.monotonic()
        return now - session.began > self._longest or now - session.used > self._idle


def _key(secret: str) -> str:
    return hashlib.sha256(f"login {secret}".encode()).hexdigest()
