"""Work that takes longer than a request may: done in a thread of its own, reported step by step, ended on demand."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextvars import copy_context
from typing import Any, Generic, NamedTuple, TypeVar

from a3tune.errors import A3TuneError, Cancelled
from app.engine.model_generation import ModelGeneration

Value = TypeVar("Value")

INTERVAL = 0.1
"""How often a thread that waits looks whether it is still wanted, in seconds."""


Observer = Callable[[str, str, float], None]
"""Told of work that has ended: its kind, "done", "cancelled", "refused" or "failed", and how long it took in
seconds."""

_changed = threading.Condition()
_at_work = 0
_observer: Observer | None = None


def at_work() -> int:
    """How many pieces of work somebody waits for at the moment."""
    return _at_work


def wait_until_idle(timeout: float) -> bool:
    """Wait until nobody waits for any work, at most so many seconds; gives whether that is so."""
    with _changed:
        return _changed.wait_for(lambda: not _at_work, timeout)


def observe(observer: Observer | None) -> None:
    """Have all work that ends in this process told from now on."""
    global _observer
    _observer = observer


class Step(NamedTuple):
    """One report of work that goes on in the background: what is being done and the share done, 0 to 1."""

    what: str
    share: float


class Draft(NamedTuple):
    """What comes out as it is so far: of drafts that come together only the last is handed over."""

    value: Any


class Task(Generic[Value]):
    """One piece of work in a thread of its own; what it says can be iterated over, or looked at now and then.

    Iterating gives steps and parts as they come and the result last, and raises what ended the work: at once where it
    was cancelled, though the work itself may take a moment to notice. Closing the iterator cancels.

    Args:
        work: what is done; it gets this task to report to, and asks it whether to stop.
        cancel: ends the work when it is set; an event of its own when None.
        generation: what has to stay in memory meanwhile; whoever follows is told when it is replaced.
        detached: whether it goes on when the iterator is closed, since what comes of it is found again.
        kind: what it is, in a word for the server's log and numbers; "" for what nobody waits for.

    Attributes:
        cancel: the event that ends the work.
        step: what was reported last.
        over: whether the work has ended.
        result: what came of it, once it is over.
        error: what ended it, if it failed.
    """

    def __init__(
        self,
        work: Callable[[Any], Value],
        cancel: threading.Event | None = None,
        generation: ModelGeneration | None = None,
        *,
        detached: bool = False,
        kind: str = "",
    ) -> None:
        self.cancel = threading.Event() if cancel is None else cancel
        self.step = Step("", 0.0)
        self.over = False
        self.result: Value | None = None
        self.error: BaseException | None = None
        self._work, self._generation, self._detached, self._kind = work, generation, detached, kind
        self._reports: deque[Any] = deque()
        self._changed = threading.Condition()

    def start(self) -> Task[Value]:
        """Begin the work; returns at once."""
        # The request that it belongs to goes with it: a lent GPU is put down to whoever asked.
        context = copy_context()
        threading.Thread(target=context.run, args=(self._run,), name="background", daemon=True).start()
        return self

    def __iter__(self) -> Iterator[Any]:
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._reports or self.over, INTERVAL)
                    reported, over = bool(self._reports), self.over
                    report = self._reports.popleft() if reported else None
                if self.cancel.is_set():
                    raise Cancelled
                if reported:
                    yield report
                elif not over:
                    if self._generation is not None:
                        self._generation.check()
                elif self.error is not None:
                    raise self.error
                else:
                    yield self.result
                    return
        except GeneratorExit:
            if not self._detached:
                self.cancel.set()
            raise

    # ---- for the work ------------------------------------------------------------------------

    def progress(self, what: str, share: float) -> None:
        """Say what is being done and the share done, 0 to 1.

        Raises:
            Cancelled: the work has to stop.
        """
        self.check()
        step = Step(what, share)
        if step == self.step:
            return  # who waits for a turn says so ten times a second
        self.step = step
        with self._changed:
            self._tell(self.step)

    def draft(self, value: Any) -> None:
        """Hand over what comes out as it is so far."""
        with self._changed:
            self._tell(Draft(value))

    def part(self, value: Any) -> None:
        """Hand over a part of what comes out; no part is left out, unlike steps."""
        with self._changed:
            self._tell(value)

    def should_stop(self) -> bool:
        """Whether the work has to stop."""
        return self.cancel.is_set() or (self._generation is not None and self._generation.left.is_set())

    def check(self) -> None:
        """Raises:
        Cancelled: the work has to stop.
        """
        if self.should_stop():
            raise Cancelled

    # ---- the thread --------------------------------------------------------------------------

    def _run(self) -> None:
        global _at_work
        begun = time.monotonic()
        with _changed:
            _at_work += bool(self._kind)
        try:
            self.result = self._work(self)
        except Cancelled as error:
            replaced = None if self.cancel.is_set() or self._generation is None else self._generation.fault()
            self.error = replaced or error
        except BaseException as error:  # handed on to whoever follows, who raises it
            self.error = error
        with _changed:
            _at_work -= bool(self._kind)
            _changed.notify_all()
        if _observer is not None and self._kind:
            _observer(self._kind, self._outcome(), time.monotonic() - begun)
        with self._changed:
            self.over = True
            self._changed.notify_all()

    def _outcome(self) -> str:
        if self.error is None:
            return "done"
        if isinstance(self.error, Cancelled):
            return "cancelled"
        return "refused" if isinstance(self.error, A3TuneError) else "failed"

    def _tell(self, report: Any) -> None:
        # Of steps, and of drafts, that come together only the last is worth a word.
        if isinstance(report, (Step, Draft)):
            waiting = next((one for one in self._reports if type(one) is type(report)), None)
            if waiting is not None:
                self._reports.remove(waiting)
        elif self._reports:
            self._reports = deque(one for one in self._reports if not isinstance(one, Draft))
        self._reports.append(report)
        self._changed.notify_all()


def run(
    work: Callable[[Task[Value]], Value],
    cancel: threading.Event | None = None,
    generation: ModelGeneration | None = None,
    *,
    detached: bool = False,
    kind: str = "",
) -> Iterator[Any]:
    """Do some work in a thread of its own: its steps and parts, and its result last; see :class:`Task`.

    The work begins with the first step that is asked for.
    """
    yield from Task(work, cancel, generation, detached=detached, kind=kind).start()
