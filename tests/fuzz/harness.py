"""Spoilt inputs by their numbers, each read by itself: what comes of it, and what must not come.

An input is told from its target, seed and number alone, so a finding can be had again.
"""

from __future__ import annotations

import multiprocessing
import resource
import shutil
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random

from a3tune.errors import A3TuneError

SECONDS = 10.0
"""How long a processor may work on one input."""

# After so many seconds by the clock, on a machine with other work, an input is given up.
_PATIENCE = 60.0
_MEMORY = 3 << 30


@dataclass(frozen=True)
class Target:
    """What reads inputs.

    Attributes:
        name: short.
        make: (random, empty folder) -> the spoilt input, written into the folder.
        read: reads it as the program would.
        public: whether it comes from visitors, who must not be shown where on the server it lies.
        weight: its share of the inputs, against the others'.
    """

    name: str
    make: Callable[[Random, Path], Path]
    read: Callable[[Path], object]
    public: bool = True
    weight: float = 1.0


@dataclass(frozen=True)
class Finding:
    """An input at which something else came than a result or one of this project's errors."""

    target: str
    number: int
    kind: str
    place: str
    words: str

    @property
    def key(self) -> tuple[str, str, str]:
        """Inputs with the same fall at the same place."""
        return self.target, self.kind, self.place


@dataclass
class Tally:
    """What came of a target's inputs."""

    read: int = 0
    refused: int = 0
    seconds: float = 0.0
    slowest: tuple[float, int] = (0.0, -1)
    findings: list[Finding] = field(default_factory=list)

    @property
    def inputs(self) -> int:
        return self.read + self.refused + len(self.findings)


def make_input(target: Target, seed: int, number: int, folder: Path) -> Path:
    """Write one input."""
    return target.make(Random(f"{target.name} {seed} {number}"), folder)


def read_input(target: Target, seed: int, number: int) -> tuple[str, Finding | None]:
    """("read" or "refused", None), or ("found", what it was)."""
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            path = make_input(target, seed, number, Path(scratch))
        except OSError:  # no name that the file system takes
            return "refused", None
        try:
            target.read(path)
        except A3TuneError as error:
            if target.public and str(scratch) in str(error):
                return "found", Finding(target.name, number, "path shown", "in the message", str(error)[:300])
            return "refused", None
        except Exception as error:
            return "found", _finding(target, number, error)
    return "read", None


def _finding(target: Target, number: int, error: Exception) -> Finding:
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "/a3tune/" in frame.filename or "/app/" in frame.filename]
    last = own[-1] if own else frames[-1]
    place = f"{last.filename.rpartition('/')[2]}:{last.lineno}"
    return Finding(target.name, number, type(error).__name__, place, " ".join(str(error).split())[:200])


def run(target: Target, seed: int, numbers: range) -> Tally:
    """Read inputs in a process of its own, which is ended and begun anew where one takes too long."""
    tally, begun, number = Tally(), time.monotonic(), numbers.start
    while number < numbers.stop:
        here, there = multiprocessing.Pipe()
        process = multiprocessing.get_context("fork").Process(
            target=_work, args=(there, target, seed, range(number, numbers.stop)), daemon=True
        )
        process.start()
        there.close()
        number = _follow(here, tally, target, number, numbers.stop)
        with suppress(ProcessLookupError):
            process.kill()
        process.join()
    tally.seconds = time.monotonic() - begun
    return tally


def _follow(here: Connection, tally: Tally, target: Target, number: int, stop: int) -> int:
    """Take in what a process tells; the number of the next input."""
    while number < stop:
        try:
            told = here.recv() if here.poll(_PATIENCE) else None
        except EOFError:
            tally.findings.append(Finding(target.name, number, "process ended", "", "the process was gone"))
            return number + 1
        if told is None:
            tally.findings.append(Finding(target.name, number, "too slow", "", f"over {_PATIENCE:g} s"))
            return number + 1
        outcome, finding, seconds = told
        if seconds > SECONDS:
            finding = Finding(target.name, number, "too slow", "", f"{seconds:.0f} s")
        tally.slowest = max(tally.slowest, (seconds, number))
        if finding is not None:
            tally.findings.append(finding)
        elif outcome == "read":
            tally.read += 1
        else:
            tally.refused += 1
        number += 1
    return number


def _work(there: Connection, target: Target, seed: int, numbers: range) -> None:
    with suppress(ValueError, OSError):
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + _MEMORY, used + _MEMORY))
    for number in numbers:
        begun = time.process_time()
        there.send((*read_input(target, seed, number), time.process_time() - begun))


def keep(findings: Sequence[Finding], targets: Mapping[str, Target], seed: int, folder: Path) -> None:
    """Write one input of each kind of finding, with its words beside it."""
    for finding in {finding.key: finding for finding in reversed(findings)}.values():
        place = folder / f"{finding.target}-{finding.number}"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        make_input(targets[finding.target], seed, finding.number, place)
        (place / "finding.txt").write_text(f"{finding.kind} at {finding.place}: {finding.words}\n", encoding="utf-8")
