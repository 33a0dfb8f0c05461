"""Waiting for what another thread or process does, without taking the processor away from it."""

from __future__ import annotations

import time
from collections.abc import Callable


def until(condition: Callable[[], object], pause: float = 0.02) -> None:
    """Ask until it holds, with a pause in seconds each time: a loop without one takes a core from what it waits for."""
    while not condition():
        time.sleep(pause)
