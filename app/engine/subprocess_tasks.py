"""Work that a visitor waits for, done by a program of its own: what it took goes back to the machine with it.

Such a program prints lines of JSON: progress as "what" and "share", and its result, or "error" in words, last.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from a3tune.errors import RequestError
from a3tune.memory_advice import TO_MAKE_A_STEP
from a3tune.process import RUN, waiting_variables
from app.engine.background import Task

PROJECT = Path(__file__).resolve().parents[2]
_COMPLAINTS = 4000
# How often it is seen whether a program has to end, in seconds.
_INTERVAL = 0.1


def run_module(
    module: str, arguments: Sequence[str], environment: Mapping[str, str], task: Task, seconds: float = 900.0
) -> dict[str, Any]:
    """Start ``python -m module arguments`` and wait for what it finds; it is ended when the task has to stop.

    Args:
        environment: variables of the program, added to those of this one.
        task: what progress is reported to.
        seconds: how long it may take.

    Raises:
        RequestError: the program said why it cannot be done, took too long, or ended without a word.
        Cancelled: the task had to stop.
    """
    with (
        tempfile.TemporaryFile("w+") as complaints,
        subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=PROJECT,
            env={**os.environ, **waiting_variables(RUN), **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
        ) as process,
    ):
        threading.Thread(target=_end_in_time, args=(process, task, seconds), name="subprocess", daemon=True).start()
        found = _last(process, task)
        process.wait()
        complaints.seek(0)
        words = complaints.read()[-_COMPLAINTS:]
    task.check()
    if found is None:
        raise _nothing_found(process.returncode, words)
    if "error" in found:
        raise RequestError(expected="a plan that can be run", got=found["error"], remedy="Change the plan or data")
    return found


def _end_in_time(process: subprocess.Popen, task: Task, seconds: float) -> None:
    """End a program when its task has to stop or its time is over."""
    end = time.monotonic() + seconds
    while process.poll() is None:
        if task.should_stop() or time.monotonic() >= end:
            process.kill()
            return
        task.cancel.wait(_INTERVAL)


def _last(process: subprocess.Popen, task: Task) -> dict[str, Any] | None:
    """What a program found, its progress passed on; None when it ended without a word."""
    found = None
    for line in process.stdout or ():
        try:
            told = json.loads(line)
        except ValueError:
            continue  # a library that greets
        if not isinstance(told, dict):
            continue
        if "what" in told:
            task.progress(str(told["what"]), float(told.get("share") or 0.0))
        else:
            found = told
    return found


def _nothing_found(code: int, complaints: str) -> RequestError:
    if code == -9 or "out of memory" in complaints.lower():
        return RequestError(
            expected="a step that fits into memory and ends in a quarter of an hour",
            got="It was ended for want of memory or time",
            remedy=f"{TO_MAKE_A_STEP}; or choose a smaller base model",
        )
    lines = [line.strip() for line in complaints.splitlines() if line.strip()]
    return RequestError(
        expected="a step that can be measured",
        got=f"It ended with status {code}" + (f": {lines[-1][:300]}" if lines else ""),
        remedy="Check the data and the settings",
    )
