"""The end of a session that nobody touched for an hour; that of one whose page is closed is the visits' matter."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from app.inspect.sessions.sessions import Sessions

SESSION_LIFETIME = 3600.0
"""A session that nobody touches for so many seconds is forgotten with all its data."""


def end_idle(sessions: Sessions) -> None:
    """End the sessions that nobody touched for :data:`SESSION_LIFETIME`."""
    for name in sessions.untouched_since(time.monotonic() - SESSION_LIFETIME):
        sessions.end(name)


def keep_ending_idle(
    sessions: Sessions, trim: Callable[[], None], interval: float = 300.0, pause: float = 10.0
) -> None:
    """Look for idle sessions every ``interval`` seconds, in a thread of its own, as long as the process lives; and
    ``pause`` seconds after sessions have ended, whatever ended them, ``trim`` the memory that they had taken, which the
    process would keep for later."""

    def tidy() -> None:
        while not never.is_set():
            if sessions.ended.wait(interval):
                never.wait(pause)
                sessions.ended.clear()
                trim()
            end_idle(sessions)

    never = threading.Event()
    threading.Thread(target=tidy, name="tidy", daemon=True).start()
