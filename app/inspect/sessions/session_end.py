"""The end of a session that nobody touched for an hour; that of one whose page is closed is the visits' matter."""

from __future__ import annotations

import threading
import time

from app.inspect.sessions.sessions import Sessions

SESSION_LIFETIME = 3600.0
"""A session that nobody touches for so many seconds is forgotten with all its data."""


def end_idle(sessions: Sessions) -> None:
    """End the sessions that nobody touched for :data:`SESSION_LIFETIME`."""
    for name in sessions.untouched_since(time.monotonic() - SESSION_LIFETIME):
        sessions.end(name)


def keep_ending_idle(sessions: Sessions, interval: float = 300.0) -> None:
    """Look for idle sessions every ``interval`` seconds, in a thread of its own, as long as the process lives."""

    def tidy() -> None:
        while not never.wait(interval):
            end_idle(sessions)

    never = threading.Event()
    threading.Thread(target=tidy, name="tidy", daemon=True).start()
