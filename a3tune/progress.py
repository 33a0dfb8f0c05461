"""How far long work is, and how the terminal shows it: a line that rewrites itself, or a few lines in a log."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from typing import TextIO

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


class SteadyProgress:
    """Progress of long work on stderr: a line that rewrites itself on a terminal; elsewhere, as in a batch job's log, a
    line every few seconds.

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
        self._stream = sys.stderr if stream is None else stream
        self._rewrites = self._stream.isatty()
        self._seconds, self._clock = seconds, clock
        self._told = clock() - (seconds if at_once else 0)

    def __call__(self, what: str, share: float) -> None:
        """Say what is being done and which share of it, 0 to 1, is done."""
        now = self._clock()
        if not self._rewrites and now - self._told < self._seconds:
            return
        self._told = now
        room = max(10, shutil.get_terminal_size().columns - 6)
        if self._rewrites and len(what) > room:  # a line that wraps is not rewritten; of an answer the end is news
            what = f"…{what[1 - room :]}"
        start, end = ("\r\x1b[K", "\n" if share >= 1 else "") if self._rewrites else ("", "\n")
        print(f"{start}{share:4.0%} {what}", end=end, file=self._stream, flush=True)


class TimedProgress:
    """Progress of one long piece of work on stderr, with the time that is left.

    On a terminal one line is rewritten; elsewhere a line is written every few seconds, and at the end.

    Args:
        stream: where to write; stderr when None.
        clock: seconds from any fixed moment.
    """

    def __init__(self, *, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._rewrites = self._stream.isatty()
        self._clock = clock
        self._started = self._told = clock()

    def __call__(self, what: str, share: float) -> None:
        """Say what is being done and which share, 0 to 1, is done."""
        now = self._clock()
        if not self._rewrites and share < 1 and now - self._told < SECONDS:
            return
        self._told = now
        left = (now - self._started) * (1 - share) / share if share > 0 else 0.0
        rest = f", about {duration(left)} left" if left >= 1 else ""
        start, end = ("\r\x1b[K", "\n" if share >= 1 else "") if self._rewrites else ("", "\n")
        print(f"{start}{share:4.0%} {what}{rest}", end=end, file=self._stream, flush=True)


class ItemProgress:
    """Progress through a list of items on stderr, with the time that is left.

    On a terminal one line is rewritten for each item; elsewhere a line is written every few seconds, and at the end.

    Args:
        total: how many items there are, at least 1.
        stream: where to write; stderr when None.
        clock: seconds from any fixed moment.
    """

    def __init__(
        self, total: int, *, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._total = total
        self._stream = sys.stderr if stream is None else stream
        self._rewrites = self._stream.isatty()
        self._clock = clock
        self._last = self._told = clock()
        self._done = 0
        self._worked, self._seconds = 0, 0.0

    def advance(self, what: str, *, skipped: bool = False) -> None:
        """One item is done.

        Args:
            what: its name.
            skipped: it took no work; it then says nothing about the time that is left.
        """
        now = self._clock()
        self._done += 1
        if not skipped:
            self._worked, self._seconds = self._worked + 1, self._seconds + now - self._last
        self._last = now
        if self._rewrites:
            self._write("\r\x1b[K", what, "\n" if self._done == self._total else "")
        elif self._done == self._total or now - self._told >= SECONDS:
            self._told = now
            self._write("", what, "\n")

    def interrupt(self) -> None:
        """End a line that is still being rewritten, so that what follows starts on its own."""
        if self._rewrites and 0 < self._done < self._total:
            print(file=self._stream, flush=True)

    def _write(self, start: str, what: str, end: str) -> None:
        parts = [f"{self._done / self._total:4.0%}", f"{self._done}/{self._total}", what]
        left = self._total - self._done
        if left and self._worked:
            parts.append(f"· about {duration(left * self._seconds / self._worked)} left")
        print(f"{start}{' '.join(parts)}", end=end, file=self._stream, flush=True)


def duration(seconds: float) -> str:
    """Seconds in the two largest units that matter: "45 s", "3 min 20 s", "2 h 5 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
