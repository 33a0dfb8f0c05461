"""The processes of a run: whether they live, and ending them at once."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import psutil

from a3tune.storage import read_json_or_empty
from app.jobs.worker import EXIT_NAME, PROCESS_NAME, WORKER_NAME, is_alive, process_of

# How long the system may take to end a process, in seconds: a machine that is short of memory or disk takes its time.
_GRACE = 30.0


def alive(folder: Path) -> bool:
    """Whether a run is at work."""
    if is_alive(read_json_or_empty(folder / PROCESS_NAME)):
        return True
    # Between its start and that of the run there is only the worker.
    return is_alive(read_json_or_empty(folder / WORKER_NAME)) and not (folder / EXIT_NAME).exists()


def end(folder: Path) -> None:
    """End a run's processes at once; asked politely, the run would save first."""
    every: list[psutil.Process] = []
    # Halted ones start nothing more, so that none is left over that came between looking and ending.
    while found := [process for process in _processes(folder) if process not in every]:
        for process in found:
            with suppress(psutil.Error):
                process.suspend()
        every += found
    for process in every:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(every, timeout=_GRACE)


def _processes(folder: Path) -> list[psutil.Process]:
    """A run's processes: the one that watches, the one that tunes, and what they started."""
    names = (WORKER_NAME, PROCESS_NAME)
    own = [process for name in names if (process := process_of(read_json_or_empty(folder / name))) is not None]
    children = []
    for process in own:
        with suppress(psutil.Error):
            children += process.children(recursive=True)
    return list(dict.fromkeys([*own, *children]))
