"""Processes that read files from outside for this one, within limits of time, memory and output.

Nothing is held while a file is read but a place in one of three lanes, for everyday pictures, for what may take long,
and for archives and tables of data sets; what does take long moves out of its lane and stands back behind everything
else. So no slow volume, and no picture made to be slow, delays another picture for long. A process that passes a limit
is ended, and another one takes its place.
"""

from __future__ import annotations

import os
import pickle
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

import psutil

from a3tune.errors import A3TuneError, Cancelled, ImageMemoryError
from a3tune.images.decode_limits import PATIENCE, DecodeLimits, limits_from
from a3tune.images.decode_refusals import could_not_start, refusal, too_many
from a3tune.images.isolation import decode_through, may_write
from a3tune.images.messages import TooLarge, receive, send
from a3tune.images.worker import error_of, reads_pictures

_PICTURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", b"BM", b"RIFF")
_PICTURE_BYTES = 32 << 20
# How many bytes a process may have grown to for being kept for the next file.
_GROWN = 512 << 20
# How often the limits are looked at, after which time a file counts as slow, and how long a process may take to start,
# in seconds; how far a slow one stands back behind everything else.
_INTERVAL, _SLOW, _START = 0.05, 1.0, 60.0
_NICENESS = 10
_ENDS = ("done", "refused", "cancelled", "time", "memory")
# Variables that a decoder needs; secrets of the server are among the others.
_NEEDED = ("PATH", "LANG", "TMPDIR", "TEMP", "TMP", "SYSTEMROOT", "WINDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
_NEEDED_BEGINNINGS = ("LC_", "OMP_", "GOMP_", "OPENBLAS_", "MKL_")


Lane = Literal["pictures", "volumes", "tables"]


@dataclass(eq=False)
class _Worker:
    process: subprocess.Popen[bytes]
    requests: BinaryIO
    replies: BinaryIO
    facts: psutil.Process
    written: int = 0
    lane: threading.BoundedSemaphore | None = None
    begun: float = 0.0
    spent: float = 0.0
    seconds: float = 0.0
    slow: bool = False
    ended_for: str = ""
    should_stop: Callable[[], bool] | None = None

    @property
    def memory(self) -> int:
        """Bytes that it holds."""
        try:
            return self.facts.memory_info().rss
        except psutil.Error:
            return 0

    @property
    def processor_time(self) -> float:
        """Seconds of it since the process was started."""
        try:
            times = self.facts.cpu_times()
        except psutil.Error:
            return 0.0
        return float(times.user + times.system)

    def end(self, reason: str = "") -> None:
        self.ended_for = self.ended_for or reason
        with suppress(OSError):
            self.process.kill()

    def close(self) -> None:
        """End it and take its status, so that nothing of it stays behind."""
        self.end()
        self.process.wait()
        for stream in (self.requests, self.replies):
            with suppress(OSError):
                stream.close()


class WorkerPool:
    """Worker processes; each is started when it is first needed.

    Args:
        limits: what one file may take.
        on_end: told how each file ended ("done", "refused", "cancelled", or ended for "time", "memory", "broken") and
            how long it took in seconds.
    """

    def __init__(
        self, limits: DecodeLimits | None = None, on_end: Callable[[str, float], None] = lambda outcome, seconds: None
    ) -> None:
        self.limits, self.on_end = limits or DecodeLimits(), on_end
        self._lanes: dict[Lane, threading.BoundedSemaphore] = {
            "pictures": threading.BoundedSemaphore(self.limits.pictures),
            "volumes": threading.BoundedSemaphore(self.limits.volumes),
            "tables": threading.BoundedSemaphore(self.limits.tables),
        }
        self._idle: list[_Worker] = []
        self._busy: set[_Worker] = set()
        self._changed = threading.Condition()
        self._watching = self._filling = False
        self._closed = False

    def run(self, function: Callable[..., object], *args: object, **kwargs: object) -> Any:
        """``function(*args, **kwargs)``, run by a worker.

        Args:
            function: found in its module by its name; it gives arrays, numbers, texts, or records of this library.
            args, kwargs: its arguments. The sizes of the files that they name decide how long it may take; of
                ``on_progress`` and ``should_stop`` what the function tells is heard here.

        Raises:
            A3TuneError: raised by the function.
            Cancelled: ``should_stop`` said so.
            ImageError, DataError: the function took too long or too much memory, gave too much or what no reader
                gives, or its process ended; too many files wait.
        """
        pictures = reads_pictures(function.__module__)
        should_stop = cast("Callable[[], bool] | None", kwargs.pop("should_stop", None))
        tell = cast("Callable[[str, float], None] | None", kwargs.pop("on_progress", None))
        named = [Path(value) for value in (*args, *kwargs.values()) if isinstance(value, str | os.PathLike)]
        paths = [path for path in named if _exists(path)]
        kind: Lane = "tables" if not pictures else "pictures" if paths and all(map(_is_picture, paths)) else "volumes"
        lane = self._lanes[kind]
        if not lane.acquire(timeout=self.limits.waiting):
            raise too_many(error_of(function.__module__), self.limits.waiting)
        seconds = self.limits.seconds + sum(map(_size, paths)) / self.limits.bytes_per_second
        try:
            # What unpacks may write files, and reads no other file afterwards.
            worker = self._start(self.limits.file) if may_write(function) else self._take(kind == "pictures")
        except BaseException:
            lane.release()
            raise
        worker.lane, worker.should_stop = lane, should_stop
        output = self.limits.output + (1 << 19) if pictures else self.limits.rows
        request = function.__module__, function.__name__, args, kwargs, seconds, output, tell is not None
        begun = time.monotonic()
        good, value = self._ask(worker, request, tell)
        ended = worker.ended_for or ("done" if good else "refused")
        self.on_end(ended if ended in _ENDS else "broken", time.monotonic() - begun)
        if good:
            return value
        raise cast(A3TuneError, value)

    def start(self, after: Callable[[], object] = lambda: None) -> None:
        """Have idle workers ready soon, so that no file need wait for one.

        Args:
            after: returns when they may begin: until then each file that comes starts its own.
        """
        with self._changed:
            if self._filling or self._closed or len(self._idle) >= self.limits.spare:
                return
            self._filling = True
        threading.Thread(target=self._fill, args=(after,), name="decoding-start", daemon=True).start()

    def close(self) -> None:
        """End all workers; files that are being read fail."""
        with self._changed:
            self._closed = True
            idle, self._idle = self._idle, []
            for worker in self._busy:
                worker.end("close")
            self._changed.notify_all()
        for worker in idle:
            worker.close()

    # ---- one request -------------------------------------------------------------------------

    def _ask(self, worker: _Worker, request: tuple, tell: Callable[[str, float], None] | None) -> tuple[bool, object]:
        module, seconds, output = request[0], request[4], request[5]
        sound = False
        try:
            self._begin(worker, seconds)
            send(worker.requests, request)
            good, value = receive(worker.replies, output + (1 << 19))
            while good is None and tell is not None:
                what, share = value
                tell(str(what), float(share))
                good, value = receive(worker.replies, output + (1 << 19))
            sound = good is True or isinstance(value, A3TuneError)
            if isinstance(value, ImageMemoryError):
                worker.end("memory")
        except (EOFError, OSError):
            worker.ended_for = worker.ended_for or "crash"
            value = None
        except (TooLarge, pickle.UnpicklingError, struct.error, ValueError, TypeError, AttributeError, ImportError):
            worker.end("reply")
            value = None
        finally:
            self._finish(worker)
            if sound and not worker.written and not worker.slow and not worker.ended_for and worker.memory <= _GROWN:
                self._put(worker)
            else:
                worker.close()
        if not sound or worker.ended_for:
            if worker.ended_for == "cancelled":
                return False, Cancelled()
            # The system ends a process with this signal when there is no memory left for all.
            killed = worker.ended_for == "crash" and worker.process.returncode == -9
            why = "memory" if killed else worker.ended_for
            return False, refusal(why, error_of(module), seconds=seconds, memory=self.limits.memory)
        return bool(good), value

    # ---- the workers -------------------------------------------------------------------------

    def _take(self, picture: bool) -> _Worker:
        with self._changed:
            kept = 0 if picture else min(1, self.limits.spare - 1)
            worker = self._idle.pop() if len(self._idle) > kept else None
        self.start()
        return worker or self._start()

    def _fill(self, after: Callable[[], object]) -> None:
        after()
        # One after the other, so that they take no more than one core.
        with suppress(A3TuneError):  # told to whoever opens a file
            while not self._closed and len(self._idle) < self.limits.spare:
                self._put(self._start())
        self._filling = False

    def _put(self, worker: _Worker) -> None:
        with self._changed:
            keep = not self._closed and len(self._idle) < self.limits.spare
            if keep:
                self._idle.append(worker)
        if not keep:
            worker.close()

    def _start(self, written: int = 0) -> _Worker:
        limits = f"{self.limits.memory}, {written}"
        script = f"import sys; sys.path[:] = {sys.path!r}; from a3tune.images.worker import serve; serve({limits})"
        kept = {
            name: value
            for name, value in os.environ.items()
            if name.upper() in _NEEDED or name.startswith(_NEEDED_BEGINNINGS)
        }
        worker = None
        try:
            process = subprocess.Popen(
                [sys.executable, "-I", "-B", "-c", script],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=kept,
                bufsize=0,
            )
            facts = psutil.Process(process.pid)
            worker = _Worker(process, cast(BinaryIO, process.stdin), cast(BinaryIO, process.stdout), facts, written)
            self._begin(worker, _START)
            receive(worker.replies, 1 << 20)
            return worker
        except (EOFError, OSError, TooLarge, pickle.UnpicklingError, psutil.Error):
            if worker is not None:
                worker.close()
        finally:
            if worker is not None:
                self._finish(worker)
        raise could_not_start()

    # ---- the watch ---------------------------------------------------------------------------

    def _begin(self, worker: _Worker, seconds: float) -> None:
        with self._changed:
            if self._closed:
                worker.end("close")
            worker.begun, worker.spent, worker.seconds = time.monotonic(), worker.processor_time, seconds
            self._busy.add(worker)
            if not self._watching:
                self._watching = True
                threading.Thread(target=self._watch, name="decoding", daemon=True).start()
            self._changed.notify_all()

    def _finish(self, worker: _Worker) -> None:
        with self._changed:
            self._busy.discard(worker)
            if worker.lane is not None:
                worker.lane.release()
                worker.lane = None

    def _watch(self) -> None:
        """End what passes a limit; make slow work stand back, so that others' pictures come at once."""
        while True:
            with self._changed:
                while not self._busy:
                    if self._closed:
                        return
                    self._changed.wait()
                for worker in self._busy:
                    self._check(worker)
                if sum(worker.memory for worker in self._busy) > self.limits.total:
                    max(self._busy, key=lambda worker: worker.memory).end("memory")
            time.sleep(_INTERVAL)

    def _check(self, worker: _Worker) -> None:
        taken = time.monotonic() - worker.begun
        # Processor time, since on a busy machine an honest file has to wait for its share.
        if worker.processor_time - worker.spent > worker.seconds or taken > PATIENCE * worker.seconds:
            worker.end("time")
        elif worker.should_stop is not None and worker.should_stop():
            worker.end("cancelled")
        elif worker.memory > self.limits.memory + _GROWN:
            worker.end("memory")
        elif taken > _SLOW and worker.lane is not None:
            if not worker.slow:
                # It cannot be taken back, so this process reads no further file.
                worker.slow = True
                with suppress(psutil.Error, OSError):
                    worker.facts.nice(_lower(worker.facts.nice()))
            if sum(other.slow and other.lane is None for other in self._busy) < self.limits.slow:
                worker.lane.release()
                worker.lane = None


def _lower(niceness: int) -> int:
    return getattr(psutil, "BELOW_NORMAL_PRIORITY_CLASS", min(19, niceness + _NICENESS))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _size(path: Path) -> int:
    """Bytes of a file, or of the files below a folder."""
    with suppress(OSError):
        if path.is_dir():
            return sum(entry.stat().st_size for entry in path.rglob("*") if entry.is_file())
        return path.stat().st_size
    return 0


def _is_picture(path: Path) -> bool:
    """Whether a file is an everyday picture by its beginning; that of a DICOM file may be anything."""
    try:
        with path.open("rb") as stream:
            head = stream.read(132)
            return head.startswith(_PICTURES) and head[128:] != b"DICM" and path.stat().st_size <= _PICTURE_BYTES
    except OSError:
        return False


def decode_in_workers(
    variables: Mapping[str, str], on_end: Callable[[str, float], None] = lambda outcome, seconds: None
) -> WorkerPool:
    """Have every file that this process opens from now on decoded by workers; none is started yet.

    Args:
        variables: those of the environment, of which two raise or lower the limits.
        on_end: see `WorkerPool`.

    Raises:
        RequestError: one of them is no number above 0.
    """
    pool = WorkerPool(limits_from(variables), on_end)
    decode_through(pool.run)
    return pool
