"""Where an evaluation stands and how it ended, read from what it wrote."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from a3tune.memory_advice import TO_EVALUATE
from a3tune.progress import duration
from a3tune.storage import read_json_or_empty
from app.jobs.endings import OVER_TIME, number_in, tail_of, waiting_words, why_it_ended
from app.jobs.job import Job
from app.jobs.worker import run_record

Status = Literal["queued", "preparing", "asking", "stopping", "finished", "stopped", "failed"]
STATES: dict[Status, tuple[str, str]] = {
    "queued": ("Waiting", ""),
    "preparing": ("Preparing", ""),
    "asking": ("Asking", ""),
    "stopping": ("Stopping", ""),
    "finished": ("Finished", "good"),
    "stopped": ("Stopped, kept", "good"),
    "failed": ("Ended early", "bad"),
}
"""Words and tone of each."""
_KEPT = "What was answered is kept: Resume goes on there."


@dataclass(frozen=True)
class EvaluationView:
    """One evaluation as the page shows it.

    Attributes:
        job: the run.
        status: where it stands.
        words: the same in a sentence or two, with the cause and the way on when it ended early.
        share: share of the questions that were asked, 0 to 1.
        left: the time that is left, in words; "" when it is not known.
        log: the end of what it printed.
    """

    job: Job
    status: Status
    words: str
    share: float
    left: str
    log: str

    @property
    def live(self) -> bool:
        """Whether more is to come by itself."""
        return self.job.state != "ended"

    @property
    def can_resume(self) -> bool:
        """Whether it can be put into the queue again."""
        return self.job.state == "ended" and self.status != "finished"

    @property
    def stamp(self) -> list[Any]:
        """What tells whether a page's buttons and lists are out of date."""
        return [self.job.id, self.status, self.live]

    @property
    def head(self) -> dict[str, Any]:
        """What a page is told of it, as plain JSON values."""
        state, tone = STATES[self.status]
        return {
            "name": self.job.id,
            "title": self.job.title,
            "status": self.status,
            "state": state,
            "tone": tone,
            "words": self.words,
            "share": round(self.share, 4),
            "left": self.left,
            "live": self.live,
            "stamp": self.stamp,
            "log": self.log,
        }


def view_evaluation(job: Job) -> EvaluationView:
    """Where an evaluation stands."""
    told = read_json_or_empty(job.run / "work" / "progress.json")
    log = tail_of(job.log)
    # What an earlier start wrote says nothing about this one's time.
    fresh = number_in(told.get("updated")) > number_in(job.record.get("begun"))
    share = min(1.0, max(0.0, number_in(told.get("share"))))
    status, words = _status(job, fresh, str(told.get("at", "")), log)
    left = (
        f"about {duration(told['seconds_left'])} left"
        if status == "asking" and number_in(told.get("seconds_left"))
        else ""
    )
    return EvaluationView(job, status, words, 1.0 if status == "finished" else share, left, log)


def _status(job: Job, fresh: bool, system: str, log: str) -> tuple[Status, str]:
    if job.state == "queued":
        return "queued", waiting_words(job)
    record = run_record(job.run)
    if job.state == "running":
        if job.stopping:
            return "stopping", "Stopping: the batch that is being asked is finished."
        if record.get("status") == "finished":
            return "asking", "Writing the report …"
        return ("asking", f"Asking {system}.") if fresh else ("preparing", "Reading the data and loading the model …")
    if record.get("status") == "finished" and job.exit.get("code") == 0:
        return "finished", "Finished."
    if job.cancelled:
        return "stopped", f"Cancelled. {_KEPT}"
    if job.record.get("over_time"):
        return "stopped", f"{OVER_TIME} {_KEPT}"
    if record.get("status") == "stopped":
        return "stopped", f"Stopped. {_KEPT}"
    return "failed", f"{why_it_ended(job, log, TO_EVALUATE)} {_KEPT}"
