"""How far a run is and how it ended, read from what it wrote: the page reads, and the run knows nothing of the page."""

from __future__ import annotations

import json
import secrets
import signal
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from a3tune.progress import Progress
from a3tune.storage import read_json_or_empty
from app.engine.subprocess_tasks import LESS_MEMORY
from app.tune.runs.jobs import Job

Status = Literal[
    "queued", "preparing", "training", "stopping", "finished", "stopped", "cancelled", "failed", "elsewhere"
]

STEP_CURVES = ("loss", "cross_entropy", "alignment", "balance", "attention_mass")
VALIDATION_CURVES = ("loss", "accuracy", "closed_accuracy", "open_accuracy", "attention_mass")
MOST_POINTS = 400
"""Points of one curve that go to the browser: more than its pixels can tell apart helps nobody."""

_LOG_TAIL = 6000
_CHUNK = 16 << 20
_REMEMBERED = 64


@dataclass(eq=False)
class Events:
    """What a run's events add up to.

    Attributes:
        steps: all steps of the run; 0 before it says so.
        step: the last step made.
        seconds_left: its own estimate; None before the second step.
        stage: what it is doing before the first step, in its words.
        labelled: (done, all) of the weak labels being made; None when none are.
        work: (what, done, all) of what it does between two steps; None when it told something else since.
        curves: name -> {step: value} of the training steps.
        validation: name -> {step: value}.
        best_step: step of the best validation; None without one.
        watched: the watched questions (see a3tune.training.attention_watch).
        looks: step -> the "attention" event of that step.
        notes: what a person should know.
        resumed: whether the last start went on with an earlier one.
        generation: names this reading of the file; within one nothing that was told is taken back.
    """

    steps: int = 0
    step: int = 0
    seconds_left: float | None = None
    stage: str = ""
    labelled: tuple[int, int] | None = None
    work: tuple[str, int, int] | None = None
    curves: dict[str, dict[int, float]] = field(default_factory=lambda: {name: {} for name in STEP_CURVES})
    validation: dict[str, dict[int, float]] = field(default_factory=lambda: {name: {} for name in VALIDATION_CURVES})
    best_step: int | None = None
    watched: list[dict[str, Any]] = field(default_factory=list)
    looks: dict[int, dict[str, Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    resumed: bool = False
    generation: str = field(default_factory=lambda: secrets.token_hex(4))

    def add(self, event: Mapping[str, Any]) -> None:
        """Take one event in."""
        kind, step = event.get("event"), event.get("step")
        step = step if isinstance(step, int) else None
        self.work = None
        if kind == "step" and step is not None:
            self.step, self.seconds_left = step, event.get("seconds_left")
            self.steps = event.get("steps") or self.steps
            _note(self.curves, event, step)
        elif kind == "validation" and step is not None:
            _note(self.validation, event, step)
            self.best_step = step if event.get("best") else self.best_step
        elif kind == "training" and step is not None:
            self.steps, self.step = event.get("steps") or 0, step
            self.resumed, self.stage, self.labelled, self.seconds_left = bool(event.get("resumed")), "", None, None
        elif kind == "progress":
            self.stage = str(event.get("text", ""))
        elif kind == "work":
            self.work = (str(event.get("what", "")), int(event.get("done") or 0), int(event.get("count") or 0))
        elif kind == "labels":
            self.labelled = (int(event.get("done") or 0), int(event.get("count") or 0))
        elif kind == "watched" and isinstance(event.get("questions"), list):
            self.watched = event["questions"]
        elif kind == "attention" and step is not None:
            self.looks[step] = dict(event)
        elif kind == "note" and event.get("text") not in self.notes:
            self.notes.append(str(event.get("text")))


class EventReader:
    """Reads the growing files of events; of each only what is new. Not for several threads at once."""

    def __init__(self) -> None:
        self._known: OrderedDict[Path, tuple[int, int, Events]] = OrderedDict()

    def read(self, path: Path) -> Events:
        """All events of a file so far; none when there is no file."""
        try:
            facts = path.stat()
        except OSError:
            self._known.pop(path, None)
            return Events()
        inode, offset, events = self._known.get(path, (facts.st_ino, 0, Events()))
        # A run that goes on at a checkpoint writes the file anew, without the steps that it will make again.
        if inode != facts.st_ino or facts.st_size < offset:
            offset, events = 0, Events()
        with path.open("rb") as stream:
            stream.seek(offset)
            while chunk := stream.read(_CHUNK):
                whole = chunk[: chunk.rfind(b"\n") + 1]
                if not whole:
                    break
                offset += len(whole)
                stream.seek(offset)
                for line in whole.split(b"\n"):
                    with suppress(ValueError, TypeError, AttributeError):
                        events.add(json.loads(line))
        self._known[path] = (facts.st_ino, offset, events)
        self._known.move_to_end(path)
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return events


@dataclass(frozen=True, eq=False)
class RunView:
    """One run as the page shows it.

    Attributes:
        name, title: of the run.
        status: where it stands.
        words: the same in a sentence or two, with the cause and the way on when it ended early.
        live: whether more is to come by itself.
        can_resume: whether it can be put into the queue again.
        has_adapter: whether its adapter can be used.
        events: what it told.
        record: its ``run.json``.
        log: the end of what it printed.
        seconds: how long its last start has been at work, or was; None when it waits, or that is not known.
    """

    name: str
    title: str
    status: Status
    words: str
    live: bool
    can_resume: bool
    has_adapter: bool
    events: Events
    record: Mapping[str, Any]
    log: str
    seconds: float | None = None

    @property
    def share(self) -> float:
        """Share of the work that is done, 0 to 1."""
        events = self.events
        if events.steps:
            return min(1.0, events.step / events.steps)
        return events.labelled[0] / events.labelled[1] if events.labelled and events.labelled[1] else 0.0


def view_run(job: Job, reader: EventReader) -> RunView:
    """Where a run stands."""
    record = read_json_or_empty(job.run / "run.json")
    events = reader.read(job.run / "events.jsonl")
    has_adapter = (job.run / "adapter" / "adapter_model.safetensors").is_file()
    log = _tail(job.log)
    status, words = _status(job, record, events, log)
    return RunView(
        name=job.name,
        title=str(job.record.get("title", job.name)),
        status=status,
        words=words,
        live=job.state != "ended" and status not in ("finished", "elsewhere"),
        can_resume=job.state == "ended" and status not in ("finished", "elsewhere"),
        has_adapter=has_adapter,
        events=events,
        record=record,
        log=log,
        seconds=_seconds(job),
    )


def thinned(points: Mapping[int, float], most: int = MOST_POINTS) -> list[list[float]]:
    """[step, value] of a curve, neighbours averaged where there are more than ``most`` points."""
    steps = sorted(points)
    size = -(-len(steps) // most) if steps else 1
    groups = [steps[start : start + size] for start in range(0, len(steps), size)]
    return [[group[-1], round(sum(points[step] for step in group) / len(group), 6)] for group in groups]


def _note(curves: dict[str, dict[int, float]], event: Mapping[str, Any], step: int) -> None:
    for name, curve in curves.items():
        if isinstance(event.get(name), (int, float)):
            curve[step] = float(event[name])


def _status(job: Job, record: Mapping[str, Any], events: Events, log: str) -> tuple[Status, str]:
    if job.record.get("elsewhere"):
        return "elsewhere", f"Made on another machine; it stood at {record.get('status', 'unknown')} there."
    if job.state == "queued":
        return "queued", f"Place {job.place} in the queue: it starts when the runs before it have ended."
    # What an earlier start wrote says nothing about this one; what this one wrote last is true before it is gone.
    told = record.get("updated", 0) > job.record.get("begun", 0)
    if job.state != "ended" and not (told and record.get("status") in ("finished", "stopped")):
        return _running(job, record if told else {}, events)
    kept = _kept(job)
    if record.get("status") == "finished":
        stopped = events.step < events.steps
        early = f" after {events.step} of {events.steps} steps, since it got no better" if stopped else ""
        return "finished", f"Finished{early}. The adapter is ready."
    if job.cancelled:
        return "cancelled", f"Cancelled. {kept}"
    if record.get("status") == "stopped":
        if (job.run / "adapter").is_dir():
            return "stopped", f"Stopped at step {record.get('step', events.step)}. The adapter is ready. {kept}"
        return "stopped", f"Stopped before the first step. {kept}"
    return "failed", f"{_cause(job, record, log)} {kept}"


def _seconds(job: Job) -> float | None:
    begun = job.record.get("begun")
    ended = time.time() if job.state == "running" else job.exit.get("ended")
    return None if job.state == "queued" or not begun or not ended else max(0.0, ended - begun)


def _running(job: Job, record: Mapping[str, Any], events: Events) -> tuple[Status, str]:
    if job.stopping:
        return "stopping", "Stopping: the step is finished and a checkpoint saved."
    work = _working(events)
    if record.get("status") == "training" and events.steps:
        return "training", f"Step {events.step} of {events.steps}.{work and ' '}{work}"
    if work:
        return "preparing", work
    if events.labelled:
        done, count = events.labelled
        return "preparing", f"Finding regions: {done} of {count} questions."
    return "preparing", f"{events.stage or 'Starting'} …"


def _working(events: Events) -> str:
    """What the run does between two steps, as a sentence; "" when it told something else since."""
    what, done, count = events.work or ("", 0, 0)
    return f"{what}: {done:,} of {count:,}." if count else what and f"{what} …"


def _kept(job: Job) -> str:
    """What remains, and how to go on."""
    folder = job.run / "checkpoints"
    saved = [entry.name.rpartition("-")[2] for entry in folder.glob("checkpoint-*")] if folder.is_dir() else []
    steps = sorted(int(step) for step in saved if step.isdigit())
    return f"Resume goes on at step {steps[-1]}." if steps else "Resume starts it again."


def _cause(job: Job, record: Mapping[str, Any], log: str) -> str:
    """Why a run ended that nobody ended, in words."""
    if record.get("status") == "failed" and record.get("error"):
        return str(record["error"])
    lowered = log.lower()
    if "outofmemoryerror" in lowered or "out of memory" in lowered or "memoryerror" in lowered:
        return f"The device ran out of memory. {LESS_MEMORY}, in a new run."
    if "no space left on device" in lowered or "disk quota exceeded" in lowered:
        return "The disk is full. Delete runs or data that are no longer needed."
    number = job.exit.get("signal")
    if job.exit.get("out_of_memory"):
        return f"The system ended the process, since the machine ran out of memory. {LESS_MEMORY}, in a new run."
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


def _tail(path: Path) -> str:
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
