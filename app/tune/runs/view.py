"""Where a run stands and how it ended, read from what it wrote; the run knows nothing of the page."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from a3tune.memory_advice import TO_MAKE_A_STEP
from a3tune.progress import duration
from a3tune.storage import read_json_or_empty
from app.jobs.endings import OVER_TIME, number_in, tail_of, waiting_words, why_it_ended
from app.jobs.jobs import WEIGHTS_NAME, Job
from app.tune.runs.event_reader import EventReader, Events

Status = Literal[
    "queued", "preparing", "training", "stopping", "finished", "stopped", "cancelled", "failed", "elsewhere"
]


@dataclass(frozen=True, eq=False)
class RunView:
    """One run as the page shows it.

    Attributes:
        job: the run.
        status: where it stands.
        words: the same in a sentence or two, with the cause and the way on when it ended early.
        events: what it told.
        log: the end of what it printed.
        seconds: how long its last start has been at work, or was; None when it waits, or that is not known.
    """

    job: Job
    status: Status
    words: str
    events: Events
    log: str
    seconds: float | None = None

    @property
    def live(self) -> bool:
        """Whether more is to come by itself."""
        return self.job.state != "ended" and self.status not in ("finished", "elsewhere")

    @property
    def can_resume(self) -> bool:
        """Whether it can be put into the queue again."""
        return self.job.state == "ended" and self.status not in ("finished", "elsewhere")

    @property
    def stamp(self) -> list[Any]:
        """What tells whether a page's buttons and lists are out of date."""
        # The status says how a run ended a moment before its process is gone and it can go on.
        return [self.job.id, self.status, self.live, (self.job.adapter / WEIGHTS_NAME).is_file()]

    @property
    def spent(self) -> str:
        """The time that its last start has taken, in words; "" when it waits, or that is not known."""
        return "" if self.seconds is None else f"{duration(self.seconds)}{' so far' if self.live else ''}"

    @property
    def left(self) -> str:
        """The time that is left, in words; "" when it is not known."""
        seconds = self.events.seconds_left if self.status == "training" else None
        return f"about {duration(seconds)} left" if seconds else ""

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
    log = tail_of(job.log)
    status, words = _status(job, record, events, log)
    return RunView(job, status, words, events, log, _seconds(job))


def _status(job: Job, record: Mapping[str, Any], events: Events, log: str) -> tuple[Status, str]:
    if job.record.get("elsewhere"):
        return "elsewhere", f"Made on another machine; it stood at {record.get('status', 'unknown')} there."
    if job.state == "queued":
        return "queued", waiting_words(job)
    # What an earlier start wrote says nothing about this one; what this one wrote last is true before it is gone.
    told = number_in(record.get("updated")) > number_in(job.record.get("begun"))
    if job.state != "ended" and not (told and record.get("status") in ("finished", "stopped")):
        return _running(job, record if told else {}, events)
    kept = _kept(job)
    if record.get("status") == "finished":
        stopped = events.step < events.steps
        early = f" after {events.step} of {events.steps} steps, since it got no better" if stopped else ""
        verdict = record["verdict"].get("words") if isinstance(record.get("verdict"), dict) else None
        return "finished", f"Finished{early}. The adapter is ready.{f' {verdict}' if verdict else ''}"
    if job.cancelled:
        return "cancelled", f"Cancelled. {kept}"
    if job.record.get("over_time"):
        return "stopped", f"{OVER_TIME} {kept}"
    if record.get("status") == "stopped":
        if job.adapter.is_dir():
            return "stopped", f"Stopped at step {record.get('step', events.step)}. The adapter is ready. {kept}"
        return "stopped", f"Stopped before the first step. {kept}"
    why = record.get("error") if record.get("status") == "failed" else ""
    return "failed", f"{why or why_it_ended(job, log, TO_MAKE_A_STEP)} {kept}"


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
