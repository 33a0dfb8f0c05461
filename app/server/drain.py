"""The server's end: on the first SIGTERM nothing new begins and what is being answered is finished; a second one ends
it at once. Tuning runs are processes of their own and go on."""

from __future__ import annotations

import logging
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from app.engine import background

log = logging.getLogger("a3tune.app")

# How long after the last answer its way to the browser may take, in seconds.
_DELIVERY = 5.0


class Drain:
    """Whether the server is about to end, and what it still waits for.

    Args:
        seconds: how long answers may take to be finished.

    Attributes:
        begun: whether nothing new is taken on.
        streams: how many browsers wait for the end of something.
    """

    def __init__(self, seconds: float = 120.0) -> None:
        self._seconds = seconds
        self._changed = threading.Condition()
        self.begun = False
        self.streams = 0

    @contextmanager
    def stream(self) -> Iterator[None]:
        """For the length of a ``with`` block a browser waits for the end of something."""
        self._count(1)
        try:
            yield
        finally:
            self._count(-1)

    def listen(self) -> None:
        """Begin with the first SIGTERM; called by the main thread."""
        # Where Python notes each signal. One that comes in the moment before a thread falls asleep at a lock or a queue
        # does not wake it; what is noted here can be read at any time.
        self._signals, self._noted = socket.socketpair()
        self._noted.setblocking(False)
        signal.set_wakeup_fd(self._noted.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._begin)

    def wait(self) -> None:
        """Wait for the signal, and then until everything is answered or the time for it is over.

        Raises:
            KeyboardInterrupt: somebody at the terminal wants it to end at once.
        """
        while not self.begun:
            self._signals.recv(64)
        log.info("The server ends; what is being answered is finished")
        end = time.monotonic() + self._seconds
        background.wait_until_idle(self._seconds)
        end = min(end, time.monotonic() + _DELIVERY)
        with self._changed:
            self._changed.wait_for(lambda: not self.streams, max(0.0, end - time.monotonic()))
        # What was asked just before the signal may have begun meanwhile.
        background.wait_until_idle(max(0.0, end - time.monotonic()))
        log.info("The server ended", extra={"facts": {"unfinished": background.at_work()}})

    def _count(self, number: int) -> None:
        with self._changed:
            self.streams += number
            self._changed.notify_all()

    def _begin(self, number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self.begun = True
