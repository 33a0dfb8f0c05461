"""Whose run comes next, and when one has to make room or end: the queue's rules, apart from processes and files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

Record = Mapping[str, Any]


class Standing(NamedTuple):
    """A run as the queue sees it.

    Attributes:
        folder: its folder; the visitor's is its grandparent.
        record: its ``job.json``.
    """

    folder: Path
    record: Record

    @property
    def owner(self) -> str:
        """Whose it is."""
        return self.folder.parent.parent.name


def in_turn(runs: Iterable[Standing]) -> list[Path]:
    """The folders of the runs that wait, the next one first: visitors take turns, whoever was served longest ago
    comes first, and a visitor's own runs keep their order."""
    known = list(runs)
    served: dict[str, float] = {}
    for run in known:
        last = max(_number(run.record.get("begun")), _number(run.record.get("served")))
        served[run.owner] = max(served.get(run.owner, 0.0), last)
    waiting = sorted((run for run in known if run.record.get("queued")), key=lambda run: _number(run.record["queued"]))
    place: dict[str, int] = {}
    ordered = []
    for run in waiting:
        place[run.owner] = place.get(run.owner, -1) + 1
        ordered.append((place[run.owner], served[run.owner], _number(run.record["queued"]), run.folder))
    return [folder for *_, folder in sorted(ordered)]


def seconds_at_work(record: Record, end: float) -> float:
    """How long a run has been at work over all its starts.

    Args:
        record: its ``job.json``.
        end: when the last start ended, or now.
    """
    begun = _number(record.get("begun"))
    return _number(record.get("spent")) + (max(0.0, end - begun) if begun else 0.0)


def has_to_stop(
    run: Standing, runs: Iterable[Standing], now: float, longest: float | None, turn: float | None
) -> Literal["over_time", "makes_room", ""]:
    """Why a run at work has to stop: it was at work for too long, or long enough while somebody else's run waits.

    Args:
        run: the run.
        runs: all of them.
        now: the time, in seconds.
        longest, turn: how long it may be at work altogether, and at once while others wait, in minutes; None for
            ever.
    """
    if longest is not None and seconds_at_work(run.record, now) > 60 * longest:
        return "over_time"
    if turn is not None and now - _number(run.record.get("begun")) > 60 * turn:
        kind = run.record.get("kind")
        others = (other for other in runs if other.record.get("queued") and other.record.get("kind") == kind)
        if any(other.owner != run.owner for other in others):
            return "makes_room"
    return ""


def _number(value: Any) -> float:
    """A time of a record that may be damaged."""
    return float(value) if isinstance(value, (int, float)) else 0.0
