"""What ends the work that a visitor waits for."""

from __future__ import annotations

import threading

from app.engine.ids import OwnerId


class StopEvents:
    """An event for each visitor, which ends the work that it was given to."""

    def __init__(self) -> None:
        self._events: dict[OwnerId, threading.Event] = {}

    def of(self, owner: OwnerId) -> threading.Event:
        """What ends a visitor's work, together with the work that they began before."""
        return self._events.setdefault(owner, threading.Event())

    def renew(self, owner: OwnerId) -> threading.Event:
        """What ends a visitor's work that takes the place of what they began before."""
        self.stop(owner)
        return self.of(owner)

    def stop(self, owner: OwnerId) -> None:
        """End a visitor's work; nothing happens where there is none."""
        self._events.pop(owner, threading.Event()).set()
