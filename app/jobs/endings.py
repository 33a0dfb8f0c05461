"""How a run ended, read from what its process left behind."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from app.jobs.job import Job

_LOG_TAIL = 6000
OVER_TIME = "Stopped: it was at work as long as a run may be here."


def waiting_words(job: Job) -> str:
    """What is said of a run in the queue."""
    return f"Place {job.position} in the queue: it starts when the runs before it have ended."


def number_in(value: Any) -> float:
    """A number out of what a run wrote; 0 for anything else, and for what no run counts or times."""
    return float(value) if isinstance(value, (int, float)) and abs(value) < 1e18 else 0.0


def why_it_ended(job: Job, log: str, advice: str) -> str:
    """Why a run ended that nobody ended, in words.

    Args:
        job: the run.
        log: the end of what it printed.
        advice: how to make it fit into memory.
    """
    lowered = log.lower()
    if "outofmemoryerror" in lowered or "out of memory" in lowered or "memoryerror" in lowered:
        return f"The device ran out of memory. {advice}, in a new run."
    if "no space left on device" in lowered or "disk quota exceeded" in lowered:
        return "The disk is full. Delete runs or data that are no longer needed."
    number = job.exit.get("signal")
    if job.exit.get("out_of_memory"):
        return f"The system ended the process, since the machine ran out of memory. {advice}, in a new run."
    if number:
        with suppress(ValueError):
            name = signal.Signals(number).name
            who = " Somebody, or the system, ended it" if name in ("SIGKILL", "SIGTERM") else " It crashed"
            return f"The process was ended by the signal {name}.{who}; nothing is wrong with the run's files."
    last = _last_words(log)
    if last:
        return f"The process ended with an error: {last}"
    if not job.exit:
        return "The process is gone without a trace: the machine was switched off, or everything on it was ended."
    return f"The process ended with status {job.exit.get('code')} and said nothing."


def _last_words(log: str) -> str:
    """The last line that says something, which is where Python names an exception."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return lines[-1][:500] if lines else ""


def tail_of(path: Path) -> str:
    """The end of a log as lines."""
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, 2)
            stream.seek(max(0, size - _LOG_TAIL))
            text = stream.read().decode("utf-8", "replace")
    except OSError:
        return ""
    # Progress bars write over their own line.
    lines: Sequence[str] = [line.rsplit("\r", 1)[-1].rstrip() for line in text.splitlines()]
    return "\n".join(line for line in lines if line)
