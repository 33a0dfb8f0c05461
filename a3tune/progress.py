"""How far long work is, and how the terminal shows it: a line that rewrites itself, or a few lines in a log."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Callable
from typing import TextIO, TypeVar

Progress = Callable[[str, float], None]
"""Called with what is being done, in words, and the share of the work that is done, 0 to 1. What it raises ends the
work."""


def no_progress(what: str, share: float) -> None:
    """The `Progress` that nobody hears."""


def part_of(progress: Progress, start: float, end: float, before: str = "") -> Progress:
    """The progress of a part of some work as progress of the whole.

    Args:
        progress: of the whole.
        start, end: the shares of the whole between which the part lies, 0 to 1.
        before: put before what the part says.
    """
    return lambda what, share: progress(before + what, start + (end - start) * share)


SECONDS = 5.0
"""Between two lines of a log, at least."""


_Own = TypeVar("_Own", bound="_Lines")


class _Lines:
    """What the terminal is told: one line that is rewritten, or a line every few seconds in a log.

    As a context manager it says in a log again what is being done where nothing new comes for some seconds, as while a
    large model is loaded or one image labelled.
    """

    def __init__(self, seconds: float, stream: TextIO | None, clock: Callable[[], float]) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._rewrites = self._stream.isatty()
        self._seconds, self._clock = seconds, clock
        self._told = self._heard = clock()
        self._doing = ""
        self._ended, self._lock = threading.Event(), threading.RLock()
        self._watch: threading.Thread | None = None

    def __enter__(self: _Own) -> _Own:
        if not self._rewrites:
            self._watch = threading.Thread(target=self._repeat_until_ended, name="progress", daemon=True)
            self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._watch is not None:
            self._watch.join()

    def repeat(self) -> None:
        """Write the last line, unless one was just written; for how long it goes on, where it is an old one."""
        with self._lock:
            now = self._clock()
            if self._doing and now - self._told >= self._seconds:
                self._told = now
                since = now - self._heard
                long = f" · {duration(since)} so far" if since >= self._seconds else ""
                print(f"{self._doing}{long}", file=self._stream, flush=True)

    def _hear(self, doing: str, now: float, *, last: bool, always: bool) -> None:
        """Take a line, and write it where one is due.

        Args:
            doing: the line.
            now: what the clock says.
            last: nothing follows it.
            always: write it into a log too, however short the time since the line before.
        """
        with self._lock:
            self._heard, self._doing = now, "" if last else doing
            if self._rewrites or always or now - self._told >= self._seconds:
                self._told = now
                start, end = ("\r\x1b[K", "\n" if last else "") if self._rewrites else ("", "\n")
                print(f"{start}{doing}", end=end, file=self._stream, flush=True)

    def _repeat_until_ended(self) -> None:
        while not self._ended.wait(self._seconds):
            self.repeat()


class SteadyProgress(_Lines):
    """Progress of long work on stderr: a line that rewrites itself on a terminal; elsewhere, as in a batch job's log, a
    line every few seconds. As a context manager it repeats the last one where nothing new comes.

    Args:
        seconds: between two lines of a log, at least.
        at_once: whether a log gets its first line at once; else work that is done in a moment writes none.
        stream: where to write; stderr when None.
        clock: seconds from any fixed moment.
    """

    def __init__(
        self,
        seconds: float = SECONDS,
        *,
        at_once: bool = True,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(seconds, stream, clock)
        if at_once:
            self._told -= seconds

    def __call__(self, what: str, share: float) -> None:
        """Say what is being done and which share of it, 0 to 1, is done."""
        room = max(10, shutil.get_terminal_size().columns - 6)
        if self._rewrites and len(what) > room:  # a line that wraps is not rewritten; of an answer the end is news
            what = f"…{what[1 - room :]}"
        self._hear(f"{share:4.0%} {what}", self._clock(), last=share >= 1, always=False)


class TimedProgress(_Lines):
    """Progress of one long piece of work on stderr, with the time that is left.

    On a terminal one line is rewritten; elsewhere a line is written every few seconds, and at the end. As a context
    manager it repeats the last one where nothing new comes.

    Args:
        stream: where to write; stderr when None.
        clock: seconds from any fixed moment.
    """

    def __init__(self, *, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(SECONDS, stream, clock)
        self._started = self._told

    def __call__(self, what: str, share: float) -> None:
        """Say what is being done and which share, 0 to 1, is done."""
        now = self._clock()
        left = (now - self._started) * (1 - share) / share if share > 0 else 0.0
        rest = f", about {duration(left)} left" if left >= 1 else ""
        self._hear(f"{share:4.0%} {what}{rest}", now, last=share >= 1, always=share >= 1)


class ItemProgress(_Lines):
    """Progress through a list of items on stderr, with the time that is left.

    On a terminal one line is rewritten for each item; elsewhere a line is written every few seconds, and at the end. As
    a context manager it says so too where an item takes longer, and ends a line that is still being rewritten.

    Args:
        total: how many items there are, at least 1.
        stream: where to write; stderr when None.
        clock: seconds from any fixed moment.
    """

    def __init__(
        self, total: int, *, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(SECONDS, stream, clock)
        self._total = total
        self._last = self._told
        self._done = 0
        self._worked, self._worked_seconds = 0, 0.0
        self._doing = f"{0:4.0%} 0/{total}"

    def advance(self, what: str, *, skipped: bool = False) -> None:
        """One item is done.

        Args:
            what: its name.
            skipped: it took no work; it then says nothing about the time that is left.
        """
        now = self._clock()
        self._done += 1
        if not skipped:
            self._worked, self._worked_seconds = self._worked + 1, self._worked_seconds + now - self._last
        self._last = now
        parts = [f"{self._done / self._total:4.0%}", f"{self._done}/{self._total}", what]
        left = self._total - self._done
        if left and self._worked:
            parts.append(f"· about {duration(left * self._worked_seconds / self._worked)} left")
        self._hear(" ".join(parts), now, last=not left, always=not left)

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        if self._rewrites and 0 < self._done < self._total:
            print(file=self._stream, flush=True)


def duration(seconds: float) -> str:
    """Seconds in the two largest units that matter: "45 s", "3 min 20 s", "2 h 5 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
