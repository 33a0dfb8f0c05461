"""The lock that lets one visitor at a time use the model, or what finds regions."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

from app.engine.background import INTERVAL, Task

Held = TypeVar("Held", covariant=True)


class TurnLock:
    """A lock that goes to whoever has waited longest.

    One of `threading` goes to whoever comes at the right moment: among many visitors one may wait for minutes while
    others come and go.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[object] = deque()
        self._held = False

    def acquire(self, *, blocking: bool = True, meanwhile: Callable[[], None] = lambda: None) -> bool:
        """Take the lock once it is one's turn; gives whether it was taken.

        Args:
            blocking: whether to wait.
            meanwhile: called ten times a second until then; what it raises ends the waiting, and the turn is lost.
        """
        place = object()
        with self._changed:
            if not blocking and (self._held or self._waiting):
                return False
            self._waiting.append(place)
        try:
            while not self._taken(place):
                meanwhile()
        except BaseException:
            with self._changed:
                self._waiting.remove(place)
                self._changed.notify_all()
            raise
        return True

    def _taken(self, place: object) -> bool:
        with self._changed:
            free = self._changed.wait_for(lambda: not self._held and self._waiting[0] is place, INTERVAL)
            if free:
                self._waiting.popleft()
                self._held = True
            return free

    def release(self) -> None:
        """Give it to the next one."""
        with self._changed:
            self._held = False
            self._changed.notify_all()

    def locked(self) -> bool:
        """Whether somebody has it."""
        return self._held

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *error: object) -> None:
        self.release()


class Slot(Protocol[Held]):
    """What people share and use one at a time: a model, or the parts that find regions."""

    in_use: TurnLock

    def wait(self, timeout: float | None) -> Held | None:
        """What is in the slot, or None when it is not loaded within ``timeout`` seconds."""
        ...


@contextmanager
def turn(task: Task, slot: Slot[Held], loading: str, waiting: str) -> Iterator[Held]:
    """What is in a slot, once it is loaded and nobody else uses it, for the length of a ``with`` block.

    Args:
        task: the work that needs it.
        slot: what is to be used.
        loading, waiting: the steps to report until then.

    Raises:
        Cancelled: the work has to stop.
    """
    patience = 0.0
    while (held := slot.wait(patience)) is None:
        task.progress(loading, 0.0)
        patience = INTERVAL
    slot.in_use.acquire(meanwhile=lambda: task.progress(waiting, 0.0))
    try:
        task.check()
        yield held
    finally:
        slot.in_use.release()
