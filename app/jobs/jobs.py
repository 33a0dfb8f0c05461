"""Tuning runs and evaluations as detached processes: a queue with one run for each device, kept on disk.

The page's server may end and start again at any time: the processes go on without it, and the queue is read from the
disk. Runs belong to whoever started them: a visitor is known by a secret that only their browser holds; on the disk
stands its hash, as the name of the folder with everything that is theirs.
"""

from __future__ import annotations

import fcntl
import secrets
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from a3tune.errors import RequestError
from a3tune.storage import read_json_or_empty, write_json, write_text
from app.access.deployment import Deployment
from app.access.identity import audit, require
from app.common.studio_folder import ID, StudioFolder, megabytes, restore_folder, retire_folder
from app.engine.ids import JobId, OwnerId
from app.engine.subprocess_tasks import PROJECT
from app.jobs.job import Command, Job, State, command_words
from app.jobs.processes import alive, end
from app.jobs.queue_order import Standing, has_to_stop, in_turn, seconds_at_work
from app.jobs.worker import (
    EXIT_NAME,
    JOB_NAME,
    PROCESS_NAME,
    RUN_NAME,
    STOP_NAME,
    WORKER_NAME,
    identity,
    pass_stop_on,
    run_record,
)

WEIGHTS_NAME = "adapter_model.safetensors"
CONFIG_NAME = "config.yaml"
# How long a run that has to stop may take to save a checkpoint, in seconds.
_PATIENCE = 120.0


class JobQueue:
    """All runs on this machine.

    Args:
        studio: the folder that holds them.
        devices: the devices of this machine, ("cpu",) or ("cuda:0", "cuda:1", ...); one run for each at a time.
        python: the interpreter that runs are started with.
    """

    def __init__(
        self,
        studio: StudioFolder,
        devices: Callable[[], Sequence[str]] = lambda: ("cpu",),
        python: str = sys.executable,
    ) -> None:
        self.studio = studio
        self._devices = devices
        self._python = python
        self._guard = threading.RLock()

    # ---- asking ------------------------------------------------------------------------------

    def job(self, owner: OwnerId, name: JobId) -> Job:
        """One run.

        Raises:
            RequestError: the visitor has no such run.
        """
        folder = self.studio.runs(owner) / name if ID.fullmatch(str(name)) else None
        if folder is None or not (folder / JOB_NAME).is_file():
            raise RequestError(
                expected="one of your runs", got="There is no such run", remedy="Choose one from the list"
            )
        return self._read(folder)

    def jobs(self, owner: OwnerId, command: Command | None = None) -> tuple[Job, ...]:
        """A visitor's runs, the newest first; only those of a command where one is named."""
        found = [self._read(folder) for folder in self._folders(owner)]
        found = [job for job in found if command in (None, job.command)]
        return tuple(sorted(found, key=lambda job: job.record.get("created", 0), reverse=True))

    def busy(self) -> Mapping[str, int]:
        """Device -> how many runs are at work there."""
        counts: dict[str, int] = {}
        for folder in self._folders():
            if alive(folder):
                device = read_json_or_empty(folder / JOB_NAME).get("device", "cpu")
                counts[device] = counts.get(device, 0) + 1
        return counts

    # ---- doing -------------------------------------------------------------------------------

    def submit(
        self,
        owner: OwnerId,
        config: str | None,
        arguments: Sequence[str],
        *,
        command: Command = "tune",
        device: str = "cpu",
        facts: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Job:
        """Put a new run into the queue; it starts at once when a device is free.

        Args:
            owner: whose run it is.
            config: the settings, as YAML; None for a command without.
            arguments: those of ``python -m a3tune COMMAND`` beside its folder and settings.
            command: what is run.
            device: "cpu" or "cuda".
            facts: what the page wants to know about it later, as plain JSON values.
            environment: variables of the process, added to those of this one.

        Raises:
            RequestError: too many runs wait.
        """
        require("tuner", command_words(command))
        remedy = "Wait for one to end, or cancel one"
        mine, every = sum(job.state == "queued" for job in self.jobs(owner)), len(in_turn(self._standings()))
        self._limits.check("runs_each", mine + 1, f"{mine} of yours are waiting", remedy)
        self._limits.check("runs_all", every + 1, f"{every} are waiting", "Come back later")
        folder = self.studio.runs(owner) / secrets.token_hex(6)
        audit("run-start", run=folder.name, command=command)
        folder.mkdir(parents=True, mode=0o700)
        own = ["--out", str(folder / RUN_NAME)]
        own += [] if config is None else ["--config", str(folder / CONFIG_NAME)]
        now = time.time()
        record = {
            **(facts or {}),
            "created": now,
            "queued": now,
            "kind": device,
            "device": device,
            "command": [self._python, "-m", "a3tune", command, *own, *arguments],
            "task": command,
            "folder": str(PROJECT),
            "environment": dict(environment or {}),
        }
        try:
            if config is not None:
                write_text(folder / CONFIG_NAME, config)
            write_json(folder / JOB_NAME, record)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self.advance()
        return self._read(folder)

    def resume(self, owner: OwnerId, name: JobId) -> Job:
        """Put a run that ended early into the queue again; it goes on at its last checkpoint.

        Raises:
            RequestError: there is no such run, it has not ended, or was at work as long as a run may be.
        """
        job = self._ended(owner, name, "Stop it first, or let it go on")
        require("tuner", command_words(job.command))
        minutes = seconds_at_work(job.record, _number_of(job.exit.get("ended"))) / 60
        if self._limits.run_minutes is not None and minutes >= self._limits.run_minutes:
            raise self._limits.refusal("run_minutes", f"This one was at work for {minutes:,.0f}")
        audit("run-resume", run=job.id)
        with self._lock():
            self._queue_again(job.folder)
        self.advance()
        return self.job(owner, name)

    def stop(self, owner: OwnerId, name: JobId) -> None:
        """Ask a run to keep what it has and end; one that waits leaves the queue."""
        job = self.job(owner, name)
        if job.state == "queued":
            self.cancel(owner, name)
        elif job.state == "running":
            audit("run-stop", run=job.id)
            (job.folder / STOP_NAME).touch()
            pass_stop_on(job.folder)

    def cancel(self, owner: OwnerId, name: JobId) -> None:
        """End a run now: its last checkpoint stays, the steps since then are lost."""
        job = self.job(owner, name)
        if job.state == "ended":
            return
        audit("run-cancel", run=job.id)
        with self._lock():
            self._update(job.folder, queued=None, cancelled=True)
        end(job.folder)
        self.advance()

    def delete(self, owner: OwnerId, name: JobId) -> JobId:
        """Remove everything of a run in a minute.

        Raises:
            RequestError: there is no such run, or it has not ended.
        """
        job = self._ended(owner, name, "Cancel it, or wait until its process is gone")
        audit("run-delete", run=job.id)
        retire_folder(job.folder)
        return job.id

    def describe(self, owner: OwnerId, name: JobId) -> str:
        """What goes when a run is deleted, as a question."""
        job = self._ended(owner, name, "Cancel it, or wait until its process is gone")
        parts = "adapter, checkpoints, curves, log and watched pictures" if job.command == "tune" else "results and log"
        return f"Delete “{job.title}”? Its {parts} go ({megabytes(job.folder)})."

    def restore(self, owner: OwnerId, name: JobId) -> None:
        """Take a run back.

        Raises:
            RequestError: it is gone for good.
        """
        audit("run-restore", run=name)
        restore_folder(self.studio.runs(owner), name)

    def _ended(self, owner: OwnerId, name: JobId, remedy: str) -> Job:
        job = self.job(owner, name)
        if job.state != "ended":
            raise RequestError(expected="a run that has ended", got="This one has not", remedy=remedy)
        return job

    def advance(self) -> None:
        """Start whatever can start: for each free device the run that waits longest."""
        if not self.studio.root.is_dir():
            return
        with self._lock():
            self._keep_limits()
            waiting = in_turn(self._standings())
            if not waiting:
                return
            busy = self.busy()
            free = [device for device in self._devices() if not busy.get(device)]
            for folder in waiting:
                kind = read_json_or_empty(folder / JOB_NAME).get("kind", "cpu")
                device = next((device for device in free if device.split(":")[0] == kind), None)
                if device is not None:
                    free.remove(device)
                    self._start(folder, device)

    def keep_going(self, interval: float = 1.0) -> None:
        """`advance`, and remove what was deleted, every ``interval`` seconds in a thread of its own; at first what
        killed processes left."""

        def work() -> None:
            with suppress(OSError):
                self.studio.clear()
            while not never.wait(interval):
                # A disk that fails for a moment must not end the queue.
                with suppress(OSError):
                    self.advance()
                    self.studio.purge()

        never = threading.Event()
        threading.Thread(target=work, name="queue", daemon=True).start()

    # ---- the disk ----------------------------------------------------------------------------

    def _folders(self, owner: OwnerId | None = None) -> Iterator[Path]:
        places = [self.studio.runs(owner)] if owner else self.studio.root.glob("*/runs")
        for place in places:
            if place.is_dir():
                for folder in place.iterdir():
                    if ID.fullmatch(folder.name) and (folder / JOB_NAME).is_file():
                        yield folder

    @property
    def _limits(self) -> Deployment:
        return self.studio.deployment

    def _standings(self) -> list[Standing]:
        return [Standing(folder, read_json_or_empty(folder / JOB_NAME)) for folder in self._folders()]

    def _keep_limits(self) -> None:
        """Ask runs to stop that were at work long enough, and let those go on later that made room for others."""
        runs, now = self._standings(), time.time()
        for run in runs:
            folder, record = run
            if record.get("queued") or not record.get("begun") or record.get("elsewhere"):
                continue
            if not alive(folder):
                if record.get("makes_room"):
                    self._end_turn(folder)
            elif record.get("asked"):
                if now - record["asked"] > _PATIENCE:
                    end(folder)
            elif why := has_to_stop(run, runs, now, self._limits.run_minutes, self._limits.turn_minutes):
                (folder / STOP_NAME).touch()
                pass_stop_on(folder)
                self._update(folder, asked=now, **{why: True})

    def _end_turn(self, folder: Path) -> None:
        """Let a run that made room go on later, unless it came to its end meanwhile."""
        record = read_json_or_empty(folder / JOB_NAME)
        finished = run_record(folder / RUN_NAME).get("status") == "finished"
        if finished or record.get("cancelled"):
            self._update(folder, makes_room=False)
        else:
            self._queue_again(folder)

    def _queue_again(self, folder: Path) -> None:
        """Put a run into the queue that ended before its time."""
        record = read_json_or_empty(folder / JOB_NAME)
        spent = seconds_at_work(record, _number_of(read_json_or_empty(folder / EXIT_NAME).get("ended")))
        for left in (STOP_NAME, EXIT_NAME, WORKER_NAME, PROCESS_NAME):
            (folder / left).unlink(missing_ok=True)
        fresh: dict[str, Any] = {"begun": None, "asked": None, "served": record.get("begun"), "spent": spent}
        fresh |= dict.fromkeys(("cancelled", "makes_room", "over_time"), False)
        self._update(folder, queued=time.time(), device=record["kind"], **fresh)

    def _read(self, folder: Path) -> Job:
        record = read_json_or_empty(folder / JOB_NAME)
        state: State = "queued" if record.get("queued") else "running" if alive(folder) else "ended"
        position = 0
        if state == "queued":
            kind = record.get("kind")
            same = in_turn(run for run in self._standings() if run.record.get("kind") == kind)
            position = same.index(folder) + 1 if folder in same else 1
        return Job(
            folder=folder,
            record=record,
            state=state,
            device=str(record.get("device", "cpu")),
            position=position,
            exit=read_json_or_empty(folder / EXIT_NAME) if state == "ended" else {},
        )

    def _start(self, folder: Path, device: str) -> None:
        number = device.partition(":")[2]
        record = read_json_or_empty(folder / JOB_NAME)
        environment = {**record.get("environment", {}), **({"CUDA_VISIBLE_DEVICES": number} if number else {})}
        self._update(folder, queued=None, device=device, environment=environment, begun=time.time())
        worker = subprocess.Popen(
            [self._python, "-m", "app.jobs.worker", str(folder.resolve())],
            cwd=PROJECT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # A session of its own: it is no part of the server's fate.
            start_new_session=True,
        )
        # Somebody has to take note of its end, or it stays in the system's list.
        threading.Thread(target=worker.wait, name="worker", daemon=True).start()
        with suppress(psutil.Error):
            write_json(folder / WORKER_NAME, identity(psutil.Process(worker.pid)))

    def _update(self, folder: Path, **facts: Any) -> None:
        write_json(folder / JOB_NAME, {**read_json_or_empty(folder / JOB_NAME), **facts})

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """One process and one thread at a time changes the queue."""
        with self._guard:
            self.studio.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            with (self.studio.root / "queue.lock").open("w") as stream:
                fcntl.flock(stream, fcntl.LOCK_EX)
                yield


def end_runs(root: Path) -> None:
    """End every run below a folder at once: nothing of it is wanted any more."""
    for folder in root.glob("*/runs/*"):
        end(folder)


def _number_of(ended: Any) -> float:
    """When a run ended; now where that is not known, the server having gone down with it."""
    return float(ended) if isinstance(ended, (int, float)) else time.time()
