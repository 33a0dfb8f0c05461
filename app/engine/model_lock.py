"""The lock that lets one visitor at a time use the model, or what finds regions."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

from app.engine.background import INTERVAL, Task

Held = TypeVar("Held", covariant=True)


class Slot(Protocol[Held]):
    """What people share and use one at a time: a model, or the parts that find regions."""

    in_use: threading.Lock

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
    while not slot.in_use.acquire(timeout=INTERVAL):
        task.progress(waiting, 0.0)
    try:
        task.check()
        yield held
    finally:
        slot.in_use.release()
