"""The server's end: on the first SIGTERM nothing new begins and what is being answered is finished; a second one ends
it at once. Tuning runs are processes of their own and go on."""

from __future__ import annotations

import logging
import signal
import threading
import time
from types import FrameType

from app.engine import background

log = logging.getLogger("a3tune.app")

_INTERVAL = 0.1
# How long after the last answer its way to the browser may take, in seconds.
_DELIVERY = 5.0


class Drain:
    """Whether the server is about to end, and what it still waits for.

    Args:
        seconds: how long answers may take to be finished.

    Attributes:
        streams: how many browsers wait for the end of something; kept by :class:`app.server.health.Health`.
    """

    def __init__(self, seconds: float = 120.0) -> None:
        self._seconds = seconds
        self._begun = threading.Event()
        self.streams = 0

    @property
    def begun(self) -> bool:
        """Whether nothing new is taken on."""
        return self._begun.is_set()

    def listen(self) -> None:
        """Begin with the first SIGTERM; called by the main thread."""
        signal.signal(signal.SIGTERM, self._begin)

    def wait(self) -> None:
        """Wait for the signal, and then until everything is answered or the time for it is over.

        Raises:
            KeyboardInterrupt: somebody at the terminal wants it to end at once.
        """
        while not self._begun.wait(3600):
            pass
        log.info("The server ends; what is being answered is finished")
        end = time.monotonic() + self._seconds
        while background.at_work() and time.monotonic() < end:
            time.sleep(_INTERVAL)
        end = min(end, time.monotonic() + _DELIVERY)
        while (self.streams or background.at_work()) and time.monotonic() < end:
            time.sleep(_INTERVAL)
        log.info("The server ended", extra={"facts": {"unfinished": background.at_work()}})

    def _begin(self, number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self._begun.set()
