"""Signs of life of a run between its steps: what it is doing and how far it is with that."""

from __future__ import annotations

import time
from collections.abc import Callable

from a3tune.training.run_folder import RunFolder

INTERVAL = 0.7
"""Seconds between two signs at least, so that a long validation does not fill the disk; less than the second after
which the page looks again, so that it finds something new each time."""


class Heartbeat:
    """Writes "work" events: `what` is done, and `done` of `count` where that can be counted.

    A sign says nothing that a later event does not say better: readers forget it at the next event of another kind.
    Nothing random is drawn and no tensor is read, so a run ends at the same weights with and without.

    Args:
        run: the run folder; None for a process that writes nothing.
        clock: seconds, from any beginning.
    """

    def __init__(self, run: RunFolder | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._run, self._clock = run, clock
        self._told = clock()

    def beat(self, what: str, done: int = 0, count: int = 0, step: int = 0) -> None:
        """Tell what is done, unless the run told something less than `INTERVAL` ago.

        Args:
            what: the work, as the beginning of a sentence.
            done, count: how much of how much is done; a count of 0 where that is not known.
            step: the last step that was made.
        """
        if self._run is not None and self._clock() - self._told >= INTERVAL:
            self._run.event_log.add("work", step=step, what=what, done=done, count=count)
            self.rest()

    def rest(self) -> None:
        """Something else was told: no sign is due for a while."""
        self._told = self._clock()
