"""Watches over one run, in a process of its own: ``python -m app.jobs.worker JOB``.

It outlives the page's server. It starts the command that ``job.json`` names, passes a wish to stop on, and writes down
how the process ended and what it took, which nobody else could tell once the server was started again. Standard
library and psutil only, so that it costs little memory beside the training.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from a3tune.storage import read_json_or_empty, write_json

JOB_NAME, WORKER_NAME, PROCESS_NAME = "job.json", "worker.json", "process.json"
EXIT_NAME, LOG_NAME = "exit.json", "log.txt"
RUN_NAME, STOP_NAME = "run", "stop"
RECORDS = ("run.json", "evaluation.json")
"""In a run's own folder: what it says of itself; a tuning run's, and an evaluation's."""

_INTERVAL = 0.25
# Of the machine's memory; a process that is killed with less than this free was most likely killed for it.
_SCARCE = 0.04
# Rather the training than the page's server or another program, when the system has to choose.
_OOM_SCORE = "600"


def identity(process: psutil.Process) -> dict[str, Any]:
    """What names a process for good: numbers of processes are used again.

    Returns:
        "pid", and when it began: on Linux "boot", the id of the machine's start, and "ticks" of the kernel's clock
        since then; elsewhere "created", seconds since 1970.
    """
    boot, ticks = _start_on_linux(process.pid)
    began = {"created": process.create_time()} if ticks is None else {"boot": boot, "ticks": ticks}
    return {"pid": process.pid, **began}


def is_alive(record: dict[str, Any] | None) -> bool:
    """Whether the process that `identity` described is still at work."""
    return process_of(record) is not None


def process_of(record: dict[str, Any] | None) -> psutil.Process | None:
    """The process that `identity` described; None when it is gone."""
    if not record:
        return None
    try:
        process = psutil.Process(int(record["pid"]))
        if "ticks" in record:
            same = (record["boot"], record["ticks"]) == _start_on_linux(process.pid)
        else:
            same = abs(process.create_time() - float(record["created"])) < 0.01
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except (psutil.Error, KeyError, TypeError, ValueError):
        return None


def watch(job: Path) -> int:
    """Run a job's command to its end and write down how it ended.

    Returns:
        the command's exit status, 128 + n when signal n ended it.
    """
    record = read_json_or_empty(job / JOB_NAME)
    kills = _out_of_memory_kills()
    with (job / LOG_NAME).open("ab") as log:
        child = subprocess.Popen(
            record["command"],
            cwd=record["folder"],
            env={**os.environ, **record.get("environment", {})},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    with suppress(OSError):
        Path(f"/proc/{child.pid}/oom_score_adj").write_text(_OOM_SCORE)
    with suppress(psutil.Error):
        write_json(job / PROCESS_NAME, identity(psutil.Process(child.pid)))
    scarce = False
    while child.poll() is None:
        memory = psutil.virtual_memory()
        scarce = memory.available < _SCARCE * memory.total
        pass_stop_on(job)
        with suppress(subprocess.TimeoutExpired):
            child.wait(_INTERVAL)
    code = child.returncode
    took = resource.getrusage(resource.RUSAGE_CHILDREN)
    write_json(
        job / EXIT_NAME,
        {
            "code": code if code >= 0 else None,
            "signal": -code if code < 0 else None,
            "out_of_memory": code == -9 and (scarce or _out_of_memory_kills() > kills),
            "peak_bytes": took.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
            "processor_seconds": round(took.ru_utime + took.ru_stime, 2),
            "ended": time.time(),
        },
    )
    return code if code >= 0 else 128 - code


def run_record(run: Path) -> dict[str, Any]:
    """What a run says of itself; empty before it says anything."""
    return next((record for name in RECORDS if (record := read_json_or_empty(run / name))), {})


def pass_stop_on(job: Path) -> None:
    """Put the wish to stop, if there is one, where the run looks for it, as soon as it can be heard there.

    A run forgets the wishes that an earlier start was given, so a wish is put there again until it is heard.
    """
    if (job / STOP_NAME).exists() and any((job / RUN_NAME / name).exists() for name in RECORDS):
        with suppress(OSError):
            (job / RUN_NAME / STOP_NAME).touch()


def _start_on_linux(pid: int) -> tuple[str | None, int | None]:
    """The machine's start and the ticks from it to a process's start; None where the system does not say.

    The time of day would not do: it is set while processes run, by a time server or after a machine was halted.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        # Field 22 (proc_pid_stat(5)); the second one, the program's name in brackets, may hold blanks and brackets.
        return boot, int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None, None


def _out_of_memory_kills() -> int:
    """How many processes of this control group the kernel has killed for want of memory; 0 where it does not say."""
    with suppress(OSError, ValueError, IndexError):
        group = Path("/proc/self/cgroup").read_text().splitlines()[-1].split("::", 1)[1].strip()
        events = Path(f"/sys/fs/cgroup{group}/memory.events").read_text()
        counts = dict(line.split() for line in events.splitlines())
        return int(counts.get("oom_kill", 0))
    return 0


if __name__ == "__main__":
    sys.exit(watch(Path(sys.argv[1])))
