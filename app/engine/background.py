"""Work that takes longer than a request may: done in a thread of its own, reported step by step."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple


class Step(NamedTuple):
    """One report of work that goes on in the background: what is being done and the share done, 0 to 1."""

    what: str
    share: float


def in_steps(work: Callable[[Callable[[str, float], None]], Any]) -> Iterator[Any]:
    """What ``work`` reports as steps, and its result last; the work itself is done in a thread of its own."""
    reports: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def labour() -> None:
        try:
            reports.put(work(lambda what, share: reports.put(Step(what, share))))
        except BaseException as error:  # handed on to the visitor's request, which raises it
            reports.put(error)

    threading.Thread(target=labour, name="data", daemon=True).start()
    while True:
        report = reports.get()
        # Of steps that came together only the last is worth a word.
        while isinstance(report, Step) and not reports.empty():
            report = reports.get()
        if isinstance(report, BaseException):
            raise report
        yield report
        if not isinstance(report, Step):
            return
