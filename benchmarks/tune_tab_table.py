"""What was measured of a run through the page, as a table."""

from __future__ import annotations

import itertools
import os
import shutil
import time
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Through:
    """A run that was started on the page.

    Attributes:
        begun, answered: when Start was pressed, and when base and adapter were on show in Inspect.
        shown: (time, step, status) of every change that the page showed.
        told: step -> when the run wrote it.
        load: the machine's load average when Start was pressed.
    """

    begun: float
    answered: float
    shown: list[tuple[float, int, str]]
    told: dict[int, float]
    load: float


@dataclass(frozen=True)
class Timed:
    """One run that was timed.

    Attributes:
        span: seconds from the first to the last step.
        processor: processor time of the run's process, in seconds.
        server, browser: processor time of the others meanwhile, in seconds.
    """

    span: float
    processor: float
    server: float = 0.0
    browser: float = 0.0


@dataclass(frozen=True)
class Turn:
    """The same run in three ways, one after the other.

    Attributes:
        alone: by itself.
        watched, closed: through the page, with the browser looking on and with it closed.
        weights: how many different sets of weights came out.
    """

    alone: Timed
    watched: Timed
    closed: Timed
    weights: int


def describe(through: Through, turns: list[Turn], short: int) -> str:
    """The figures as a Markdown table."""
    # Of a step the page may show its place in the queue of updates twice; the first time counts.
    seen = {step: moment for moment, step, _ in reversed(through.shown) if step in through.told}
    late = [seen[step] - through.told[step] for step in seen]
    finished = next(moment for moment, _, status in through.shown if status == "finished")
    moments = [moment for moment, _, status in through.shown if status == "training"]
    gaps = [later - earlier for earlier, later in itertools.pairwise(moments)]
    first = min(through.told.values())
    threads = os.environ.get("OMP_NUM_THREADS")
    machine = f"{os.cpu_count()} cores, {'a' if shutil.which('nvidia-smi') else 'no'} GPU" + (
        f", {threads} thread a process" if threads else ""
    )
    rows = [
        (f"Measured {time.strftime('%Y-%m-%d')}: {machine}", f"load before the start {through.load:.1f}", "asked"),
        ("---", "---", "---"),
        (
            "From the press of Start to base and adapter in Inspect",
            f"{through.answered - through.begun:.1f} s",
            "at most 180 s",
        ),
        ("of which before the first step (loading, reading, labels)", f"{first - through.begun:.1f} s", ""),
        ("of which steps, validations and looks", f"{finished - first:.1f} s", ""),
        ("of which the two answers with their maps", f"{through.answered - finished:.1f} s", ""),
        ("Steps", f"{len(through.told)}", ""),
        (
            "While it trains the page changes every, median and longest",
            f"{median(gaps):.2f} s, {max(gaps):.2f} s",
            "at most 2 s",
        ),
        ("A step is on the page after, median and longest", f"{median(late):.2f} s, {max(late):.2f} s", ""),
        (f"First to last of {short} steps, the command by itself", of(turns, "alone", "span"), ""),
    ]
    for way, words in (("watched", "browser looks on"), ("closed", "browser closed")):
        rows += [
            (f"Through the page, {words}: first to last step", of(turns, way, "span"), ""),
            (f"Through the page, {words}: wall clock against by itself", ratio(turns, way, "span"), "within 3 %"),
            (f"Through the page, {words}: processor time of the run", ratio(turns, way, "processor"), "within 3 %"),
            (f"Through the page, {words}: processor time of the server, a second", share(turns, way, "server"), ""),
        ]
    rows.append(("Processor time of the browser that looks on, a second", share(turns, "watched", "browser"), ""))
    same = all(turn.weights == 1 for turn in turns)
    rows.append(("Model, data and settings of all these runs", "the same", "the same"))
    rows.append(("Weights that they come to", "the same, bit for bit" if same else "differ", "the same"))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def of(turns: list[Turn], way: str, name: str) -> str:
    """A time of every turn."""
    return ", ".join(f"{getattr(getattr(turn, way), name):.1f}" for turn in turns) + " s"


def ratio(turns: list[Turn], way: str, name: str) -> str:
    """How much longer than by itself: median of the turns, and each."""
    each = [100 * (getattr(getattr(turn, way), name) / getattr(turn.alone, name) - 1) for turn in turns]
    return f"{median(each):+.1f} % ({', '.join(f'{value:+.1f}' for value in each)})"


def share(turns: list[Turn], way: str, name: str) -> str:
    """Processor time per second of the run's steps, median of the turns."""
    each = [getattr(getattr(turn, way), name) / getattr(turn, way).span for turn in turns]
    return f"{1000 * median(each):.0f} ms"
