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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from a3tune.errors import Cancelled, RequestError
from a3tune.progress import Progress, no_progress

LESS_MEMORY = (
    "Set a smaller batch_size with more gradient_accumulation, switch gradient_checkpointing on, or set quantization "
    "to 4bit"
)
"""What a person can do when a step does not fit into memory."""

PROJECT = Path(__file__).resolve().parents[2]
_COMPLAINTS = 4000


class SubprocessTasks:
    """At most one running program for each visitor: a newer one takes the place of an older one.

    Args:
        seconds: how long one may take.
    """

    def __init__(self, seconds: float = 900.0) -> None:
        self._seconds = seconds
        self._running: dict[str, subprocess.Popen] = {}
        self._guard = threading.Lock()

    def run(
        self,
        owner: str,
        module: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        on_progress: Progress = no_progress,
    ) -> dict[str, Any]:
        """Start ``python -m module arguments`` and wait for what it finds.

        Raises:
            RequestError: the program said why it cannot be done, took too long, or ended without a word.
            Cancelled: a newer one of this visitor began.
        """
        with (
            tempfile.TemporaryFile("w+") as complaints,
            subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                cwd=PROJECT,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=complaints,
                text=True,
            ) as process,
        ):
            self._replace(owner, process)
            late = threading.Timer(self._seconds, process.kill)
            late.start()
            found = _last(process, on_progress)
            process.wait()
            late.cancel()
            complaints.seek(0)
            words = complaints.read()[-_COMPLAINTS:]
        if self._running.get(owner) is not process:
            raise Cancelled
        if found is None:
            raise _nothing_found(process.returncode, words)
        if "error" in found:
            raise RequestError(expected="a plan that can be run", got=found["error"], remedy="Change the plan or data")
        return found

    def _replace(self, owner: str, process: subprocess.Popen) -> None:
        with self._guard:
            former = self._running.get(owner)
            self._running[owner] = process
        if former is not None and former.poll() is None:
            former.kill()


def _last(process: subprocess.Popen, on_progress: Progress) -> dict[str, Any] | None:
    """What a program found, its progress passed on; None when it ended without a word."""
    found = None
    for line in process.stdout:
        try:
            told = json.loads(line)
        except ValueError:
            continue  # a library that greets
        if not isinstance(told, dict):
            continue
        if "what" in told:
            on_progress(str(told["what"]), float(told.get("share") or 0.0))
        else:
            found = told
    return found


def _nothing_found(code: int, complaints: str) -> RequestError:
    if code == -9 or "out of memory" in complaints.lower():
        return RequestError(
            expected="a step that fits into memory and ends in a quarter of an hour",
            got="It was ended for want of memory or time",
            remedy=f"{LESS_MEMORY}; or choose a smaller base model",
        )
    lines = [line.strip() for line in complaints.splitlines() if line.strip()]
    return RequestError(
        expected="a step that can be measured",
        got=f"It ended with status {code}" + (f": {lines[-1][:300]}" if lines else ""),
        remedy="Check the data and the settings",
    )
