"""One run of one visitor, as it lies on the disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from app.engine.ids import JobId
from app.jobs.worker import LOG_NAME, RUN_NAME, STOP_NAME

State = Literal["queued", "running", "ended"]
Command = Literal["tune", "eval"]
"""What a run is: a command of ``python -m a3tune``."""
TITLE_LENGTH = 60
"""Most letters of what a run or an adapter is called."""
RESERVE = 1 << 30
"""Bytes that have to be free before a run begins."""
MOST_DOWNLOADED = 256 << 20
"""Bytes of the largest file out of a run that a browser is sent as text; larger ones stay on the server's disk."""
DISTURBED = "Another run was at work meanwhile: alone it is faster."
"""What a measurement says that a run disturbed."""


def command_words(command: Command) -> str:
    """What a run of a command does, in words."""
    return "tune" if command == "tune" else "evaluate"


@dataclass(frozen=True)
class Job:
    """One run of one visitor.

    Attributes:
        folder: the job's folder, which holds the run folder ``run/``, the log and the settings; its name is unique
            among the visitor's runs.
        record: what was asked for (``job.json``).
        state: "queued", "running" or "ended".
        device: the device that it runs on ("cpu", "cuda:0"), or the kind that it waits for.
        position: place in the queue from 1; 0 when it does not wait.
        exit: how the last start ended: "code" or "signal", "out_of_memory", "peak_bytes"; empty when that is not
            known (the worker was killed too, or the machine went down).
    """

    folder: Path
    record: Mapping[str, Any]
    state: State
    device: str
    position: int = 0
    exit: Mapping[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> JobId:
        """What it is asked for by."""
        return JobId(self.folder.name)

    @property
    def command(self) -> Command:
        """What is run."""
        return "eval" if self.record.get("task") == "eval" else "tune"

    @property
    def title(self) -> str:
        """What the visitor knows it by."""
        return str(self.record.get("title", self.id))

    @property
    def run(self) -> Path:
        """The run folder."""
        return self.folder / RUN_NAME

    @property
    def adapter(self) -> Path:
        """The adapter that comes of it, in PEFT's format."""
        return self.run / "adapter"

    @property
    def log(self) -> Path:
        """What the process printed."""
        return self.folder / LOG_NAME

    @property
    def stopping(self) -> bool:
        """Whether it was asked to stop."""
        return (self.folder / STOP_NAME).exists()

    @property
    def cancelled(self) -> bool:
        """Whether it was ended on request, without keeping the last steps."""
        return bool(self.record.get("cancelled"))
